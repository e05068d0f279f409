"""The steps of a training: of at most `dt`, or as long as their error allows.

Steps that follow their error are found by a rollout with what has been learned by then, and are
held fixed until they are found again, after 1, 2, 4, 8, ... epochs of a stage. In between the loss
is a function of what is learned alone, and its gradient exact. Their number is rounded up, the
longest being cut in halves, so that other steps seldom need another program.
"""

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from impindiff._errors import NumericsError
from impindiff._types import State
from impindiff.integrate import AbstractStepper
from impindiff.rollout import (
    ControlledTrajectory,
    StepControl,
    TimeGrid,
    control_samples,
    spans_of,
    time_error,
)
from impindiff.systems import System, starts_of
from impindiff.train._batches import WHOLE, Batching, window_grids, window_starts
from impindiff.train._observations import Observations

Steps = tuple[tuple[tuple[float, ...], ...], ...]
"""For each window, and each observed time in it, the lengths of the steps that lead there."""

# By how much of the noise a step may be wrong, and the loosest tolerance that noise gives.
_OF_NOISE, _LOOSEST = 0.03, 1e-3
# So many times the tolerance the errors of all steps may come to without a word.
_MUCH = 30
# When steps are found again, they may become so many times as many; and where they become more,
# room is left, since they are likely to go on so.
_MOST_GROWTH, _SLACK = 8, 1.25
# Where stability limits the steps, there are so many times as many.
_MARGIN = 2
# The number of steps is rounded up to this many binary digits.
_DIGITS = 4


def control_by_noise(observations: Observations, control: StepControl | None = None) -> StepControl:
    """How exact steps are where nobody says: as the precision, or as what was read is.

    A step's error is then at most 3 % of the least noise, relative to how far the readings range,
    and 1e-3.

    Args:
        observations: what was read.
        control: what is said; one with a tolerance stays as it is.
    """
    control = control or StepControl()
    if control.rtol is not None or control.atol is not None:
        return control
    dtype = jnp.result_type(*observations.initial.values())
    shares = []
    for name, deviations in observations.deviations.items():
        least, spread = (
            float(found)
            for found in (np.nanmin(deviations), np.ptp(_known(observations.observed[name])))
        )
        if np.isfinite(least) and spread > 0:
            shares.append(least / spread)
    if not shares:
        return control
    by_precision = control.relative(dtype)
    return replace(control, rtol=max(by_precision, min(_OF_NOISE * min(shares), _LOOSEST)))


def _known(values: jax.Array) -> np.ndarray:
    found = np.asarray(values)[np.isfinite(values)]
    return found if found.size else np.zeros(1)


def is_due(epochs: int) -> bool:
    """Whether steps are found again after so many epochs of a stage."""
    return epochs > 0 and epochs & (epochs - 1) == 0


class AbstractSteps(abc.ABC):
    """How the steps of a stage come about, for the way in which it divides the data."""

    @abc.abstractmethod
    def find(self, system: System, masked: Sequence[int] = ()) -> Steps:
        """What the steps are while a system is trained on; nothing where they never change.

        Args:
            system: the equations, with what has been learned by now.
            masked: samples that are left out.

        Raises: as `simulate_controlled`.
        """

    @abc.abstractmethod
    def find_again(self, system: System, steps: Steps, masked: Sequence[int] = ()) -> Steps:
        """The same some epochs later."""

    @abc.abstractmethod
    def grids(self, steps: Steps) -> list[TimeGrid]:
        """The steps of each window; as many in each."""

    @abc.abstractmethod
    def whole(self, steps: Steps) -> TimeGrid:
        """The steps from the start on: to the last time, or the end of the first window."""

    def remarks(self, system: System) -> tuple[str, ...]:
        """What is to be said of them once a system is trained."""
        return ()


def steps_of(
    observations: Observations,
    batches: Batching,
    dt: float | None,
    stepper: AbstractStepper,
    control: StepControl | None = None,
) -> "AbstractSteps":
    """How steps come about.

    Args:
        observations: what is fitted.
        batches: how they are divided.
        dt: the longest; they follow their error where None.
        stepper: advances one step.
        control: how exact steps without `dt` are to be.
    """
    if dt is None:
        control = control_by_noise(observations, control)
        return FollowingSteps(observations, batches, stepper, control)
    return FixedSteps(observations, batches, dt)


@final
@dataclass(frozen=True)
class FixedSteps(AbstractSteps):
    """Steps of at most a length.

    Attributes:
        observations: what is fitted.
        batches: how they are divided.
        dt: the longest.
    """

    observations: Observations
    batches: Batching
    dt: float

    def find(self, system: System, masked: Sequence[int] = ()) -> Steps:
        """Nothing: they are known."""
        return ()

    def find_again(self, system: System, steps: Steps, masked: Sequence[int] = ()) -> Steps:
        """Nothing, as before."""
        return steps

    def grids(self, steps: Steps) -> list[TimeGrid]:
        """See `AbstractSteps`."""
        window = self.batches.window or len(self.observations.times)
        return window_grids(self.observations, self.dt, window)

    def whole(self, steps: Steps) -> TimeGrid:
        """To the last time."""
        return self.observations.time_grid(self.dt)


@final
@dataclass(frozen=True)
class FollowingSteps(AbstractSteps):
    """Steps that follow their error.

    Attributes:
        observations: what is fitted.
        batches: how they are divided.
        stepper: a method with an estimate of its error.
        control: how exact steps are to be.
    """

    observations: Observations
    batches: Batching
    stepper: AbstractStepper
    control: StepControl

    def find(self, system: System, masked: Sequence[int] = ()) -> Steps:
        """The steps in each window, see `AbstractSteps`."""
        found, count = self._found(system, masked)
        return _evened(found, _rounded_up(count))

    def find_again(self, system: System, steps: Steps, masked: Sequence[int] = ()) -> Steps:
        """The same after others, as many as these where they are enough and not twice too many.

        Where none are found, it is left with these: what was learned last may be at a bad place,
        of which training will say more.
        """
        before = _most(steps)
        try:
            found, count = self._found(system, masked, _MOST_GROWTH * before)
        except NumericsError:
            return steps
        if count > before:
            return _evened(found, _rounded_up(ceil(_SLACK * count)))
        return _evened(found, before if before < 2 * count else _rounded_up(count))

    def grids(self, steps: Steps) -> list[TimeGrid]:
        """See `AbstractSteps`."""
        windows = list(zip(self._windows(), steps, strict=True))
        grids = [TimeGrid.from_lengths(*span, lengths) for span, lengths in windows]
        if len(grids) == 1:
            return grids
        # Counted from one origin, and as well resolved: they are to be stacked.
        starts = np.concatenate([grid.starts for grid in grids])
        lengths = np.concatenate([grid.lengths for grid in grids])
        whole = TimeGrid(starts, lengths, grids[0].saved, grids[0].slots, False)
        return [TimeGrid.from_lengths(*span, lengths, like=whole) for span, lengths in windows]

    def whole(self, steps: Steps) -> TimeGrid:
        """See `AbstractSteps`."""
        return self.grids(steps)[0]

    def remarks(self, system: System) -> tuple[str, ...]:
        """Where small errors of steps add up to large ones."""
        dtype = jnp.result_type(*self.observations.initial.values())
        rtol = self.control.relative(dtype)
        try:
            error = self.time_error(system)
        except NumericsError as failure:
            return (f"the steps of what was learned could not be looked at: {failure}",)
        if error <= _MUCH * rtol:
            return ()
        return (
            f"steps whose errors are below {rtol:g} each add up to {error:.2g} of how far a field "
            f"ranges (compared with half the tolerance): lower it, "
            f"FitOptions(control=StepControl({rtol / 10:.1g})).",
        )

    def time_error(self, system: System) -> float:
        """About what the errors of all steps come to, see there; windows do not matter.

        Raises: as `simulate_controlled`.
        """
        whole = replace(self, batches=WHOLE)
        starts, given = whole._starts(system, ())
        initial = {field: u[:, 0] for field, u in starts.items()}
        ((start, times),) = whole._windows()
        spans = spans_of(start, times)
        return time_error(system, initial, spans, self.stepper, self.control, given)

    def _windows(self) -> Iterator[tuple[float, np.ndarray]]:
        """Where each begins, and its observed times."""
        times = self.observations.times
        window = self.batches.window or len(times)
        clock = (self.observations.start, *times)
        for first in range(len(times) - window + 1):
            yield clock[first], np.array(times[first : first + window])

    def _starts(self, system: System, masked: Sequence[int]) -> tuple[State, State]:
        """Where the windows begin, `(sample, window, *grid)`, and the sample parameters."""
        observed = self.observations
        num_windows = len(observed.times) + 1 - (self.batches.window or len(observed.times))
        starts, given = window_starts(observed, num_windows), observed.sample_parameters
        dtype = jnp.result_type(*observed.initial.values())
        begun = starts_of(
            system, lambda one: one.start(observed.start, dtype), given, observed.num_samples
        )
        starts |= {field: u[:, None] for field, u in begun.items()}
        left = np.setdiff1d(np.arange(observed.num_samples), masked)
        return jax.tree.map(lambda values: jnp.asarray(values)[left], (starts, given))

    def _found(
        self, system: System, masked: Sequence[int], at_most: int | None = None
    ) -> tuple[Steps, int]:
        """Steps, and how many there are to be in each window."""
        rollouts = list(self._rollouts(system, masked, at_most))
        found = tuple(
            tuple(tuple(part.tolist()) for part in rollout.time_grid.lengths_by_time)
            for rollout in rollouts
        )
        # An explicit method at its limit: learned coefficients must be able to grow.
        margin = _MARGIN if any(rollout.is_limited for rollout in rollouts) else 1
        return found, margin * _most(found)

    def _rollouts(
        self,
        system: System,
        masked: Sequence[int] = (),
        at_most: int | None = None,
    ) -> Iterator[ControlledTrajectory]:
        starts, given = self._starts(system, masked)
        for number, (start, times) in enumerate(self._windows()):
            initial: State = {field: u[:, number] for field, u in starts.items()}
            spans = spans_of(start, times)
            yield control_samples(
                system, initial, spans, self.stepper, self.control, given, at_most
            )


def finest(several: Sequence[Steps]) -> Steps:
    """Of several, for each window and each time those of the one that takes most steps to it."""
    found = tuple(
        tuple(max(parts, key=len) for parts in zip(*windows, strict=True))
        for windows in zip(*several, strict=True)
    )
    return _evened(found, _rounded_up(_most(found))) if found else ()


def _most(steps: Steps) -> int:
    return max(sum(map(len, window)) for window in steps)


def _rounded_up(count: int) -> int:
    unit = 2 ** max(count.bit_length() - _DIGITS, 0)
    return -(-count // unit) * unit


def _evened(steps: Steps, count: int) -> Steps:
    """So many steps in each window: the longest are cut in halves, and again."""
    return tuple(_cut(window, count) for window in steps)


def _cut(window: tuple[tuple[float, ...], ...], count: int) -> tuple[tuple[float, ...], ...]:
    lengths = np.concatenate([np.asarray(part) for part in window])
    time = np.repeat(np.arange(len(window)), [len(part) for part in window])
    while missing := count - len(lengths):
        parts = np.ones(len(lengths), int)
        parts[np.argsort(-lengths, kind="stable")[:missing]] = 2
        lengths, time = np.repeat(lengths / parts, parts), np.repeat(time, parts)
    return tuple(tuple(lengths[time == number].tolist()) for number in range(len(window)))
