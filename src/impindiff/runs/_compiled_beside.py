"""Compiling the forecast on one core while training compiles on another."""

from concurrent.futures import ThreadPoolExecutor, wait
from typing import final

from impindiff.runs._validator import Validator
from impindiff.systems import System


@final
class CompiledBeside:
    """A validator whose program is compiled in a thread, from now on.

    A first training spends more time on compiling than on all else. The forecast is needed only
    some epochs later, and its program does not depend on what is learned until then.
    """

    def __init__(self, validator: Validator, system: System) -> None:
        """Begin.

        Args:
            validator: what to call.
            system: of the shapes that it will be called with; its values do not matter.
        """
        self._validator = validator
        pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._compiled = pool.submit(validator.compile, system)
        pool.shutdown(wait=False)

    def __call__(self, system: System) -> float:
        """The error of a system's forecast."""
        # Called while the thread compiles, JAX would compile the same once more. If that failed,
        # the call says how.
        wait([self._compiled])
        return self._validator(system)
