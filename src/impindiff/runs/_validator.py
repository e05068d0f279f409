"""How good a forecast is while its system is being trained, as one number."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from impindiff._types import State
from impindiff.data import times_of
from impindiff.forecast import carry_forward, compile_forward
from impindiff.integrate import AbstractStepper
from impindiff.observe import relative_error
from impindiff.rollout import StepControl, TimeGrid, control_samples, spans_of
from impindiff.systems import Samples, System


@final
@dataclass(frozen=True)
class Validator:
    """Mean relative L1 error [%] of a forecast at one time, over samples and observed fields.

    Attributes:
        samples: those whose forecast is validated.
        truth: at the end.
        spans: steps through the times before the end, where they are given; else one to each.
        stepper: advances one.
        control: how exact steps are that follow their error; None where they are given.
    """

    samples: Samples
    truth: Mapping[str, np.ndarray]
    spans: TimeGrid
    stepper: AbstractStepper
    control: StepControl | None = None

    @classmethod
    def of(
        cls,
        samples: Samples,
        fields: Sequence[str],
        times: np.ndarray,
        dt: float | None,
        stepper: AbstractStepper,
        control: StepControl | None = None,
    ) -> Self | None:
        """At the last time at which all samples of all fields that are observed were observed.

        Args:
            samples: at their start: the first of the times, or earlier where the system gives all
                initial values.
            fields: those that may be observed.
            times: of the forecast; those of the data first.
            dt: longest step; steps follow their error where None.
            stepper: advances one step.
            control: how exact they then are.

        Returns: None where that is never after the start.
        """
        start, once = samples.time, samples.data.drop_duplicates("time")
        known = int(np.isin(times, times_of(samples.data)).sum())
        truth = {f: once[f].values[samples.positions][:, :known] for f in fields}
        seen = {
            field: np.asarray(~np.isnan(values).all(axis=tuple(range(2, values.ndim))))
            for field, values in truth.items()
        }
        first = int(times[0] == start)
        observed = [field for field, there in seen.items() if there[:, first:].any()]
        whole = np.array([seen[field].all(axis=0) for field in observed]).all(axis=0)
        last = int(np.flatnonzero(whole)[-1]) if observed and whole.any() else -1
        if last < first:
            return None
        # Through the times before it, as the forecast at the end goes: often one program does for
        # both, and compiling it is much of a small training.
        at_end, ahead = {f: truth[f][:, last] for f in observed}, times[: last + 1]
        if dt is None:
            return cls(samples, at_end, spans_of(start, ahead), stepper, control or StepControl())
        return cls(samples, at_end, TimeGrid.build(start, ahead, dt), stepper)

    def __call__(self, system: System) -> float:
        """The error of a system's forecast."""
        states = self._states(system)
        errors = [
            relative_error(np.asarray(states[field])[:, -1], known, 1, known.ndim - 1).mean()
            for field, known in self.truth.items()
        ]
        return float(100 * np.mean(errors))

    def compile(self, system: System) -> None:
        """Compile what a call with such a system runs, so that it finds it ready.

        Steps that follow their error have a program that training needs, too, and first.
        """
        if self.control is None:
            compile_forward(*self._forecast(system))

    def _states(self, system: System) -> Mapping[str, Array]:
        if self.control is None:
            return carry_forward(*self._forecast(system))
        _, initial, stepper, spans, given = self._forecast(system)
        return control_samples(system, initial, spans, stepper, self.control, given).states

    def _forecast(self, system: System) -> tuple[System, State, AbstractStepper, TimeGrid, State]:
        """What `carry_forward` is given."""
        initial = self.samples.initial_of(system)
        # Integrals go along only so that this is the program of the forecast at the end.
        like = next(iter(initial.values()))
        nothing = {name: jnp.zeros_like(like) for name in system.integrals}
        return (
            system,
            initial | nothing,
            self.stepper,
            self.spans,
            self.samples.sample_parameters,
        )


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
