"""What one evaluation of the loss sees, and how training data are divided for it."""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.rollout import TimeGrid
from impindiff.train._observations import Observations


@final
class Batch(eqx.Module):
    """Samples over one span of time: where they start, what was observed, the steps between.

    Attributes:
        initial: for each field an array `(sample, *grid)`.
        observed: for each field an array `(sample, time, *grid)`, NaN where not observed.
        time_grid: steps through the observed times.
    """

    initial: State
    observed: State
    time_grid: TimeGrid

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(jax.tree.leaves(self.initial)[0])


@final
class Batching(eqx.Module):
    """How training data are divided; each part is one update of an epoch, in random order.

    Args:
        samples: samples in a part; all where None.
        window: observed times in a part, which begins at an observed state; all, from the initial
            state, where None. Short windows are solved faster, and do not see errors grow over
            long times.

    Raises: InputError for fewer than one.
    """

    samples: int | None = eqx.field(static=True, default=None)
    window: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Refuse parts that hold nothing."""
        for name, count in (("samples", self.samples), ("window", self.window)):
            if count is not None and count < 1:
                raise InputError(f"Batching({name}={count}): at least 1 must be in a batch.")

    @property
    def is_whole(self) -> bool:
        """Whether all data are one batch."""
        return self.samples is None and self.window is None


WHOLE = Batching()


class Order(NamedTuple):
    """The batches of one epoch, along a leading axis.

    Attributes:
        window: of each batch.
        samples: its samples.
        active: which of them count; one that does not fills the last batch up.
    """

    window: Int[Array, " batches"]
    samples: Int[Array, "batches samples"]
    active: Bool[Array, "batches samples"]


@final
class Batches(eqx.Module):
    """Training data, divided.

    Attributes:
        states: for each field an array `(sample, time, *grid)` with the initial time in front.
        time_grids: of every window, along a leading axis of each array; as many steps in each.
        num_windows: how many there are.
        num_samples: in all.
        batch_samples: in each batch.
        window: observed times in each.
    """

    states: State
    time_grids: TimeGrid
    num_windows: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True)
    batch_samples: int = eqx.field(static=True)
    window: int = eqx.field(static=True)

    @classmethod
    def make(
        cls, observations: Observations, dt: float, batching: Batching, halvings: tuple[int, ...]
    ) -> "Batches":
        """Divide observations.

        Args:
            observations: what is fitted.
            dt: longest step.
            batching: how to divide.
            halvings: how often to halve each step; none is where this is empty.

        Raises: InputError for more samples or times in a batch than there are, or a window that
            would begin at a state that was not observed everywhere.
        """
        num_samples, num_times = observations.num_samples, len(observations.times)
        window = batching.window or num_times
        batch_samples = batching.samples or num_samples
        for name, count, most, of in (
            ("samples", batch_samples, num_samples, "samples"),
            ("window", window, num_times, "observed times"),
        ):
            if count > most:
                raise InputError(
                    f"batches with {name} = {count} of {most} {of}: give at most {most}."
                )
        num_windows = num_times - window + 1
        _check_starts(observations, num_windows)
        states = {
            field: jnp.concatenate([observations.initial[field][:, None], observed], axis=1)
            for field, observed in observations.observed.items()
        }
        grids = [grid.halved(halvings) for grid in _time_grids(observations, dt, window)]
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *grids)
        return cls(states, stacked, num_windows, num_samples, batch_samples, window)

    def order(self, key: tuple[int, ...]) -> Order:
        """The batches of an epoch: every sample in every window once, in random order.

        Args:
            key: of the random numbers.
        """
        random = np.random.default_rng(key)
        count = -(-self.num_samples // self.batch_samples)
        fill = count * self.batch_samples - self.num_samples
        windows, samples, active = [], [], []
        for window in range(self.num_windows):
            drawn = random.permutation(self.num_samples)
            samples.append(np.append(drawn, drawn[:fill]).reshape(count, -1))
            active.append(np.arange(count * self.batch_samples) < self.num_samples)
            windows.append(np.full(count, window))
        shuffled = random.permutation(count * self.num_windows)
        return Order(
            jnp.asarray(np.concatenate(windows)[shuffled]),
            jnp.asarray(np.concatenate(samples)[shuffled]),
            jnp.asarray(np.concatenate(active).reshape(-1, self.batch_samples)[shuffled]),
        )

    @property
    def grids(self) -> list[TimeGrid]:
        """The steps of each window."""
        return [_of(window, self.time_grids) for window in range(self.num_windows)]

    @property
    def first(self) -> Batch:
        """One of the batches, for its shapes."""
        return self.take(0, np.arange(self.batch_samples))

    def by_sample(self, order: Order, results: PyTree) -> PyTree:
        """What came of each sample in each batch, `(batch, sample, ...)`, by window and sample."""
        rows = order.window[:, None] * self.num_samples + order.samples
        num_rows = self.num_windows * self.num_samples
        # What only filled a batch up is written beyond the end, that is nowhere.
        rows = jnp.where(order.active, rows, num_rows).ravel()

        def sort(result: Array) -> Array:
            flat = result.reshape(-1, *result.shape[2:])
            return (
                jnp.zeros((num_rows, *flat.shape[1:]), flat.dtype).at[rows].set(flat, mode="drop")
            )

        return jax.tree.map(sort, results)

    def take(self, window: Any, samples: Any) -> Batch:
        """One batch; both arguments may be traced."""

        def chosen(states: Array) -> tuple[Array, Array]:
            some = jnp.asarray(states)[samples]
            first = jax.lax.dynamic_index_in_dim(some, window, 1, keepdims=False)
            return first, jax.lax.dynamic_slice_in_dim(some, window + 1, self.window, 1)

        pairs = {field: chosen(states) for field, states in self.states.items()}
        initial, observed = ({field: pair[i] for field, pair in pairs.items()} for i in range(2))
        time_grids = jax.tree.map(jnp.asarray, self.time_grids)
        return Batch(initial, observed, _of(window, time_grids))


def _of(window: Any, time_grids: TimeGrid) -> TimeGrid:
    return jax.tree.map(lambda stacked: stacked[window], time_grids)


def divided(
    observations: Observations, dt: float, batching: Batching, halvings: tuple[int, ...] = ()
) -> Batch | Batches:
    """Training data as one batch or as many, see `Batches.make`."""
    if batching.is_whole:
        return whole(observations, dt, halvings)
    return Batches.make(observations, dt, batching, halvings)


def whole(observations: Observations, dt: float, halvings: tuple[int, ...] = ()) -> Batch:
    """All samples at all times, by steps of at most `dt`, some of them halved."""
    time_grid = observations.time_grid(dt).halved(halvings)
    return Batch(observations.initial, observations.observed, time_grid)


def _time_grids(observations: Observations, dt: float, window: int) -> list[TimeGrid]:
    if window == len(observations.times):
        return [observations.time_grid(dt)]
    clock = (observations.start, *observations.times)
    # As many steps in each: programs have shapes.
    most = max(
        TimeGrid.build(start, end, dt).num_steps
        for start, end in zip(clock, clock[1:], strict=False)
    )
    return [
        TimeGrid.even(clock[first], np.array(clock[first + 1 : first + 1 + window]), most)
        for first in range(len(clock) - window)
    ]


def _check_starts(observations: Observations, num_windows: int) -> None:
    for field, observed in observations.observed.items():
        starts = np.isnan(np.asarray(observed[:, : num_windows - 1]))
        if starts.any():
            sample, time = np.argwhere(starts)[0][:2]
            raise InputError(
                f"a window would begin at t = {observations.times[time]:g}, but there {field!r} of "
                f"training sample {sample} was not observed in every cell. Leave the window out, "
                "so that all times are predicted from the initial state."
            )
