"""Compiling the forecast on one core while training compiles on another."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import final

from impindiff.runs._validator import Validator
from impindiff.systems import System


@final
class CompiledBeside:
    """A validator whose program can be compiled in a thread.

    A first training spends more time on compiling than on all else. The forecast is needed only
    some epochs later, and its program does not depend on what is learned until then.
    """

    def __init__(self, validator: Validator) -> None:
        self._validator = validator
        self._compiled: Future[None] | None = None

    def begin(self, system: System) -> None:
        """Compile in a thread, from now on.

        Args:
            system: of the shapes that it will be called with; its values do not matter.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._compiled = pool.submit(self._validator.compile, system)
        pool.shutdown(wait=False)

    def __call__(self, system: System) -> float:
        """The error of a system's forecast."""
        # Called while the thread compiles, JAX would compile the same once more. If that failed,
        # the call says how.
        if self._compiled:
            wait([self._compiled])
        return self._validator(system)
