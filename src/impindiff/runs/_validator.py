"""How good a forecast is while its system is being trained, as one number."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, final

import jax.numpy as jnp
import numpy as np

from impindiff._types import State
from impindiff.forecast import carry_forward, compile_forward
from impindiff.integrate import AbstractStepper
from impindiff.observe import relative_error
from impindiff.rollout import TimeGrid
from impindiff.systems import System, starts_of


@final
@dataclass(frozen=True)
class Validator:
    """Mean relative L1 error [%] of a forecast at one time, over samples and observed fields.

    Attributes:
        initial: the fields as the data begin; what the system itself says of them goes before.
        truth: at the end.
        time_grid: the steps.
        stepper: advances one.
        settings: of each sample, see `System`.
    """

    initial: State
    truth: Mapping[str, np.ndarray]
    time_grid: TimeGrid
    stepper: AbstractStepper
    settings: State = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        truth: Mapping[str, np.ndarray],
        times: np.ndarray,
        start: float,
        dt: float,
        stepper: AbstractStepper,
        dtype: jnp.dtype,
        settings: Mapping[str, np.ndarray] | None = None,
    ) -> Self | None:
        """At the last time at which all samples of all fields that are observed were observed.

        Args:
            truth: for each field an array `(sample, time, *grid)`, NaN where not observed; the
                fields at the start are known, unless the system gives them.
            times: its times, and maybe later ones.
            start: when the forecast begins: the first of its times, or earlier where the system
                gives all initial values.
            dt: longest step.
            stepper: advances one step.
            dtype: precision.
            settings: what is known of each sample, `(sample,)`.

        Returns: None where that is never after the start.
        """
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
        return cls(
            {field: jnp.asarray(values[:, 0], dtype) for field, values in truth.items()},
            {field: truth[field][:, last] for field in observed},
            # Through the times before it, as the forecast at the end goes: often one program does
            # for both, and compiling it is much of a small training.
            TimeGrid.build(start, times[: last + 1], dt),
            stepper,
            {name: jnp.asarray(values, dtype) for name, values in (settings or {}).items()},
        )

    def __call__(self, system: System) -> float:
        """The error of a system's forecast."""
        states = carry_forward(*self._forecast(system))
        errors = [
            relative_error(np.asarray(states[field])[:, -1], known, 1, known.ndim - 1).mean()
            for field, known in self.truth.items()
        ]
        return float(100 * np.mean(errors))

    def compile(self, system: System) -> None:
        """Compile what a call with such a system runs, so that it finds it ready."""
        compile_forward(*self._forecast(system))

    def _forecast(self, system: System) -> tuple[System, State, AbstractStepper, TimeGrid, State]:
        """What `carry_forward` is given."""
        like, start = next(iter(self.initial.values())), float(self.time_grid.starts[0])
        begins = starts_of(
            system, lambda one: one.start(start, like.dtype), self.settings, len(like)
        )
        # Integrals go along only so that this is the program of the forecast at the end.
        nothing = {name: jnp.zeros_like(like) for name in system.integrals}
        initial = self.initial | begins | nothing
        return system, initial, self.stepper, self.time_grid, self.settings
