"""What one evaluation of the loss sees, and how training data are divided for it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from impindiff._errors import InputError, as_count
from impindiff._types import Scalar, State
from impindiff.observe import AbstractOperator, AbstractPenalty, misfit_scale
from impindiff.rollout import TimeGrid
from impindiff.train._observations import Observations


def window_grids(observations: Observations, dt: float, window: int) -> list[TimeGrid]:
    """The steps of every window of so many observed times; as many in each."""
    if window == len(observations.times):
        return [observations.time_grid(dt)]
    clock = (observations.start, *observations.times)
    whole = observations.time_grid(dt)
    # As many steps in each: programs have shapes.
    most = max(
        TimeGrid.build(start, end, dt).num_steps
        for start, end in zip(clock, clock[1:], strict=False)
    )
    return [
        TimeGrid.even(clock[first], np.array(clock[first + 1 : first + 1 + window]), most, whole)
        for first in range(len(clock) - window)
    ]


def window_starts(observations: Observations, num_windows: int) -> State:
    """The states at which the windows begin, `(sample, window, *grid)` for each field.

    Raises: InputError as `later_starts`.
    """
    return {
        field: jnp.concatenate(
            [initial[:, None], later_starts(observations, field, num_windows)], axis=1
        )
        for field, initial in observations.initial.items()
    }


def later_starts(observations: Observations, field: str, num_windows: int) -> Array:
    """The observed states at which the windows after the first begin, `(sample, window, *grid)`.

    Raises: InputError for a field that is not observed itself, or not everywhere, or times that
        were observed more than once.
    """
    if num_windows == 1:
        return observations.initial[field][:, None][:, :0]
    if observations.rows:
        raise InputError(
            "some times were observed more than once, and a window begins at one observed state: "
            "leave the window out, so that all times are predicted from the initial state."
        )
    if field not in observations.observed or field in observations.operators:
        raise InputError(
            f"windows begin at observed states, but {field!r} is not observed cell by cell "
            f"(observed are {', '.join(map(repr, observations.observed))}). Leave the window out, "
            "so that all times are predicted from the initial state."
        )
    states = observations.states(field)[:, : num_windows - 1]
    if (unknown := np.isnan(np.asarray(states))).any():
        sample, time = np.argwhere(unknown)[0][:2]
        raise InputError(
            f"a window would begin at t = {observations.times[time]:.10g}, but there {field!r} of "
            f"training sample {sample} was not observed in every cell. Leave the window out, "
            "so that all times are predicted from the initial state."
        )
    return states


@final
class Batch(eqx.Module):
    """Samples over one span of time: where they start, what was observed, the steps between.

    Attributes:
        initial: for each field an array `(sample, *grid)`.
        observed: see `Observations.observed`.
        time_grid: steps through the observed times.
        operators: see `Observations.operators`.
        deviations: see `Observations.deviations`.
        penalties, sample parameters, rows: see `Observations`.
    """

    initial: State
    observed: State
    time_grid: TimeGrid
    operators: dict[str, AbstractOperator] = eqx.field(default_factory=dict)
    deviations: State = eqx.field(default_factory=dict)
    penalties: tuple[AbstractPenalty, ...] = ()
    sample_parameters: State = eqx.field(default_factory=dict)
    rows: tuple[int, ...] = eqx.field(static=True, default=())

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(jax.tree.leaves(self.initial)[0])


@final
class Batching(eqx.Module):
    """How training data are divided; each part is one update of an epoch, in random order.

    A reading weighs the same in every part, however few the part has: the mean over the parts of an
    epoch is the misfit of all samples at once, or of all windows.

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
            if count is not None:
                as_count(count, f"{name} of Batching", 1)

    @property
    def is_whole(self) -> bool:
        """Whether all data are one batch."""
        return self.samples is None and self.window is None

    def check(self, observations: Observations) -> None:
        """Refuse parts that hold more than there is.

        Raises: InputError.
        """
        for name, count, most, of in (
            ("samples", self.samples, observations.num_samples, "samples"),
            ("window", self.window, len(observations.times), "observed times"),
        ):
            if count is not None and count > most:
                raise InputError(
                    f"batches with {name} = {count} of {most} {of}: give at most {most}."
                )


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
    """Training data as batches; undivided data are one.

    Attributes:
        starts: for each field an array `(sample, window, *grid)`: where the windows begin.
        observations: what was observed, at all times.
        time_grids: of every window, along a leading axis of each array; as many steps in each.
        is_whole: whether there is one batch of all samples at all times, in their order.
        num_windows: how many windows there are.
        num_samples: in all.
        batch_samples: in each batch.
        window: observed times in each.
    """

    starts: State
    observations: Observations
    time_grids: TimeGrid
    is_whole: bool = eqx.field(static=True)
    num_windows: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True)
    batch_samples: int = eqx.field(static=True)
    window: int = eqx.field(static=True)

    @classmethod
    def make(
        cls,
        observations: Observations,
        steps: float | Sequence[TimeGrid],
        batching: Batching,
    ) -> "Batches":
        """Divide observations.

        Args:
            observations: what is fitted.
            steps: the longest, or those of each window.
            batching: how to divide.

        Raises: InputError for more samples or times in a batch than there are, or a window that
            would begin at a state that was not observed everywhere.
        """
        batching.check(observations)
        num_samples, num_times = observations.num_samples, len(observations.times)
        window = batching.window or num_times
        num_windows = num_times - window + 1
        starts = window_starts(observations, num_windows)
        if not isinstance(steps, Sequence):
            steps = window_grids(observations, steps, window)
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *steps)
        counts = num_windows, num_samples, batching.samples or num_samples, window
        return cls(starts, observations, stacked, batching.is_whole, *counts)

    def order(self, key: tuple[int, ...]) -> Order:
        """The batches of an epoch: every sample in every window once, in random order if several.

        Args:
            key: of the random numbers.
        """
        if self.is_whole:
            all_samples = jnp.arange(self.num_samples)[None]
            return Order(jnp.zeros(1, int), all_samples, jnp.ones_like(all_samples, bool))
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
        """The only batch of undivided data; of others one, for its shapes."""
        if self.is_whole:
            return whole(self.observations, self.grids[0])
        return self.take(0, np.arange(self.batch_samples))

    def scale(self, order: Order, active: Bool[Array, " samples"] | None) -> dict[str, Scalar]:
        """What errors in each batch are divided by: such that the mean over batches is that of all.

        Args:
            order: of the batches.
            active: which samples count; all where None.
        """
        times = np.arange(self.num_windows + self.window - 1)
        first, last = (
            np.maximum(times - self.window + 1, 0),
            np.minimum(times, self.num_windows - 1),
        )
        repeats = None if self.num_windows == 1 else (last - first + 1).astype(float)
        counts, observed = order.active, self.observations.observed
        if active is not None:
            counts = counts & active[order.samples]
            observed = {
                name: jnp.where(active.reshape(-1, *(1,) * (data.ndim - 1)), data, jnp.nan)
                for name, data in observed.items()
            }
        whole = misfit_scale(observed, self.observations.deviations, repeats)
        num_batches = jnp.maximum(jnp.sum(counts.any(axis=1)), 1)
        return {
            name: scale / jnp.sqrt(num_batches).astype(scale.dtype) for name, scale in whole.items()
        }

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

        def start(starts: Array) -> Array:
            some = jnp.asarray(starts)[samples]
            return jax.lax.dynamic_index_in_dim(some, window, 1, keepdims=False)

        observed = self.observations

        def later(values: Array) -> Array:
            some = jnp.asarray(values)[samples]
            count = len(observed.rows) or self.window
            return jax.lax.dynamic_slice_in_dim(some, window, count, 1)

        return Batch(
            jax.tree.map(start, self.starts),
            jax.tree.map(later, observed.observed),
            _of(window, jax.tree.map(jnp.asarray, self.time_grids)),
            observed.operators,
            jax.tree.map(later, observed.deviations),
            observed.penalties,
            {
                name: jnp.asarray(values)[samples]
                for name, values in observed.sample_parameters.items()
            },
            observed.rows,
        )


def _of(window: Any, time_grids: TimeGrid) -> TimeGrid:
    return jax.tree.map(lambda stacked: stacked[window], time_grids)


def whole(observations: Observations, steps: float | TimeGrid) -> Batch:
    """All samples at all times, by given steps or such of at most a length."""
    return Batch(
        observations.initial,
        observations.observed,
        steps if isinstance(steps, TimeGrid) else observations.time_grid(steps),
        observations.operators,
        observations.deviations,
        observations.penalties,
        observations.sample_parameters,
        observations.rows,
    )


@final
class Part(eqx.Module):
    """Some samples of a batch; attributes as there."""

    initial: State
    observed: State
    deviations: State
    sample_parameters: State

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(jax.tree.leaves(self.initial)[0])


def in_parts(
    evaluate: Callable[[Part], tuple[PyTree, PyTree]], batch: Batch, at_once: int | None
) -> tuple[PyTree, PyTree]:
    """Evaluate some samples after others.

    Args:
        evaluate: gives what is summed over parts, and what there is of each sample.
        batch: all samples.
        at_once: most samples in a part; all where None.
    """

    def add(total: PyTree, part: Part) -> tuple[PyTree, PyTree]:
        summed, each = evaluate(part)
        return jax.tree.map(jnp.add, total, summed), each

    if at_once is None or at_once >= batch.num_samples:
        return evaluate(
            Part(batch.initial, batch.observed, batch.deviations, batch.sample_parameters)
        )
    parts = parts_of(batch, at_once)
    first = jax.tree.map(lambda u: u[0], parts)
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(evaluate, first)[0]
    )
    total, each = jax.lax.scan(add, zero, parts)
    return total, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: batch.num_samples], each)


def parts_of(batch: Batch, at_once: int | None) -> Part:
    """Parts along a leading axis, the last filled up with samples that are not observed."""
    at_once = min(at_once or batch.num_samples, batch.num_samples)
    count = -(-batch.num_samples // at_once)
    fill = count * at_once - batch.num_samples

    def parted(values: Array, instead: Any) -> Array:
        more = jnp.broadcast_to(jnp.asarray(instead, values.dtype), (fill, *values.shape[1:]))
        return jnp.concatenate([values, more]).reshape(count, at_once, *values.shape[1:])

    return Part(
        {field: parted(u, u[0]) for field, u in batch.initial.items()},
        {name: parted(u, jnp.nan) for name, u in batch.observed.items()},
        {name: parted(u, 1.0) for name, u in batch.deviations.items()},
        {name: parted(u, u[0]) for name, u in batch.sample_parameters.items()},
    )
