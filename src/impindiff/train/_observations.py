"""What a model is trained on: initial fields and later observations, taken from a dataset.

Readings may be repeated: several at one time, each in a row of its own. The simulation saves the
state once, and all of them are compared with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, DTypeLike

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.data import (
    Start,
    as_dataset,
    check_observed,
    check_once,
    in_precision,
    readings,
    select_times,
    times_of,
)
from impindiff.grid import Grid
from impindiff.observe import (
    AbstractObservation,
    AbstractOperator,
    AbstractPenalty,
    Cells,
    deviations_of,
    readings_shape,
)
from impindiff.rollout import TimeGrid
from impindiff.systems import (
    InitialTime,
    Samples,
    System,
    check_readings,
    initial_time,
    learned_starts,
)

T = TypeVar("T")


def listed(given: Any, kind: type[T], what: str, example: str) -> list[T]:
    """The things given, as a list.

    Args:
        given: what was given.
        kind: of which each must be.
        what: they are given as, for messages.
        example: such a list, as it is written.

    Raises: InputError for a single thing that is in no list, or one of another kind.
    """
    found = [given] if isinstance(given, str) or not isinstance(given, Sequence) else given
    strange = [each for each in found if not isinstance(each, kind)]
    if strange or found is not given:
        raise InputError(
            f"{what} must be a list such as {example}; found {(strange or found)[0]!r:.80}"
            f"{'' if strange else ' in no list'}."
        )
    return list(found)


def check_names(observations: Sequence[AbstractObservation]) -> None:
    """Refuse observations of nothing, or two of one variable.

    Raises: InputError.
    """
    names = [each.data for each in observations]
    if not names:
        raise InputError("observe is empty: name at least one observation, or leave it out.")
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"the data {', '.join(map(repr, sorted(repeated)))} are observed twice: every variable "
            "is data once. Name another with data=, or leave one of the observations out."
        )


def check_start(
    system: System, dataset: xr.Dataset, begin: InitialTime, times: Any = None
) -> InitialTime:
    """Refuse data that begin before initial values of the system hold: what is their past to it?

    Raises: InputError.
    """
    # A start between two of the data's times leaves nothing out of times that are named.
    is_named = begin.position is None and times is not None
    first = times_of(dataset)[0]
    if system.initial and begin.position != 0 and begin.time > first and not is_named:
        raise InputError(
            f"start is {begin.time:.12g}, when the initial values of the system hold, but the data "
            f"begin earlier, at {first:.12g}: leave the times before the start out, "
            f"dataset.sel(time=slice({begin.time:.12g}, None))."
        )
    return begin


@final
class Selection(NamedTuple):
    """Times to train on.

    Attributes:
        positions: of the readings along the data's `time`.
        clock: the times of all data.
    """

    positions: list[int]
    clock: np.ndarray

    @property
    def times(self) -> tuple[float, ...]:
        """Times of the states, increasing, each once."""
        return tuple(np.unique(self.clock[self.positions]).tolist())

    @property
    def rows(self) -> tuple[int, ...]:
        """For each reading its state, counted in `times`; empty where there is one for each."""
        if len(self.times) == len(self.positions):
            return ()
        return tuple(np.searchsorted(self.times, self.clock[self.positions]).tolist())

    @classmethod
    def of(
        cls,
        dataset: xr.Dataset,
        times: Sequence[float] | np.ndarray | None,
        begin: InitialTime,
        learned_start: bool,
    ) -> "Selection":
        """Select and check.

        Args:
            dataset: the data.
            times: which times, those read again included; all after the start by default.
            begin: when samples start.
            learned_start: whether something is learned of where they start, so that what was read
                then says something.

        Raises: InputError for times that the data do not have, none at all, or one at or before
            the start.
        """
        clock, start = times_of(dataset), begin.time
        if begin.position is not None:
            # Of times that went through float32 the start is the one that it was taken for.
            clock = np.where(clock == clock[begin.position], start, clock)
        if times is None:
            when = np.flatnonzero(clock > start).tolist()
        else:
            first = select_times(dataset, times)
            when = np.flatnonzero(np.isin(clock, clock[first])).tolist()
        if when and clock[when[0]] < start:
            raise InputError(
                f"training time {clock[when[0]]:g} lies before the start, {start:g}: leave it out "
                "of the training times, or start earlier."
            )
        if when and clock[when[0]] == start and not learned_start:
            raise InputError(
                f"training time {start:g} is the initial time, whose fields are given and not "
                "predicted: leave it out of the training times, or learn where a field begins, "
                "Field(..., initial=...)."
            )
        if not when:
            raise InputError(
                f"the data end at their initial time, {start:g}: there is nothing to fit."
            )
        return cls(when, clock)

    def observed(self, found: Mapping[str, np.ndarray]) -> tuple["Selection", dict]:
        """Without times at which nothing was read; all where nothing was at any."""
        known = [
            (~np.isnan(values)).any(axis=(0, *range(2, values.ndim))) for values in found.values()
        ]
        some = np.any(known, axis=0)
        kept = np.flatnonzero(some if some.any() else ~some)
        left = Selection([self.positions[k] for k in kept], self.clock)
        return left, {name: values[:, kept] for name, values in found.items()}

    def check_fields_once(
        self, dataset: xr.Dataset, operators: Mapping[str, AbstractOperator]
    ) -> None:
        """Refuse fields on a grid that were observed, cell by cell, twice at one time.

        Raises: InputError.
        """
        fields = [name for name, of in operators.items() if of.is_cellwise]
        check_once(dataset, fields)


@final
class Observations(eqx.Module):
    """Readings of some samples at some times, and where those samples started.

    Attributes:
        initial: for each field, and each integral over time that is read, an array `(sample,
            *grid)`.
        observed: by the name of its variable an array `(sample, time, ...)`, NaN where not
            observed.
        start: time of the initial fields.
        times: of the states that are compared with observations, increasing.
        operators: how what is observed follows from the fields; what is not named here is the field
            of its name, cell by cell.
        deviations: standard deviation of the noise, `(sample, time, ...)`, axes of length one in
            place of those along which it does not vary; of all that is observed, or of nothing.
        penalties: what of the learned coefficients is held against them, beside the observations.
        sample_parameters: what is known of each sample, `(sample,)`, see `System`.
        rows: for each entry along the observations' `time` its state, counted in `times`; empty
            where no time was observed more than once.
        grid: of the fields, if there is one.
    """

    initial: State
    observed: State
    start: float = eqx.field(static=True)
    times: tuple[float, ...] = eqx.field(static=True)
    operators: dict[str, AbstractOperator] = eqx.field(default_factory=dict)
    deviations: State = eqx.field(default_factory=dict)
    penalties: tuple[AbstractPenalty, ...] = ()
    sample_parameters: State = eqx.field(default_factory=dict)
    rows: tuple[int, ...] = eqx.field(static=True, default=())
    grid: Grid | None = eqx.field(static=True, default=None)

    @property
    def reading_times(self) -> tuple[float, ...]:
        """The time of each entry along the observations' `time`."""
        return tuple(self.times[row] for row in self.rows) or self.times

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.initial.values())))

    def states(self, field: str) -> Array:
        """The states of a field that was observed cell by cell, `(sample, time, *grid)`.

        NaN where it was not. In solid cells stands what stood there at the start.
        """
        observed, solid = self.observed[field], None if self.grid is None else self.grid.solid
        if solid is None:
            return observed
        return jnp.where(solid, self.initial[field][:, None], observed)

    def time_grid(self, dt: float) -> TimeGrid:
        """Steps of at most `dt` through all observed times."""
        return TimeGrid.build(self.start, np.array(self.times), dt)

    @classmethod
    def of(
        cls,
        system: System,
        data: xr.Dataset,
        samples: str | Sequence[int] | None = None,
        times: Sequence[float] | np.ndarray | None = None,
        dtype: DTypeLike | None = None,
        observe: Sequence[AbstractObservation] | None = None,
        regularise: Sequence[AbstractPenalty] = (),
        start: Start | None = None,
    ) -> "Observations":
        """What a system is fitted to from a start on, see `fit`.

        Raises: InputError as `Samples.of`, for times that the data do not have, and for what cannot
            be observed on the system's grid, was not in this shape, or has readings outside of the
            system's limits.
        """
        data = as_dataset(data)
        begin = check_start(system, data, initial_time(system, data, start), times)
        chosen = Samples.of(system, data, samples, begin, dtype)
        selected = Selection.of(data, times, begin, bool(learned_starts(system)))
        instruments, found, selected = _instruments(chosen, observe, selected, times is None)
        at, when = chosen.positions, selected.positions
        check_observed(data, found, at, when)
        grid, dtype = system.grid, chosen.dtype
        operators = {each.data: each.prepare(grid, data) for each in instruments}
        read = {name for operator in operators.values() for name in operator.reads}
        integrals = tuple(name for name in system.integrals if name in read)
        if grid is not None:
            selected.check_fields_once(data, operators)
        for name, operator in operators.items():
            wanted = readings_shape(operator, grid, (*system.fields, *integrals), dtype)
            if found[name].shape[2:] != wanted:
                raise InputError(
                    f"{name!r} has readings of shape {found[name].shape[2:]} at one instant, but "
                    f"what observes it gives {wanted}: its dimensions after 'sample' and 'time' "
                    "must be as many and as long."
                )
        if grid is not None and grid.solid is not None:
            # What stands in a solid cell is no reading.
            found = {
                name: np.where(grid.solid, np.nan, values)
                if operators[name].is_cellwise
                else values
                for name, values in found.items()
            }
        deviations = deviations_of(instruments, data, found, at, when)
        made = cls(
            chosen.initial | _initial_integrals(chosen, integrals),
            {name: in_precision(values, dtype, repr(name)) for name, values in found.items()},
            begin.time,
            selected.times,
            {name: op for name, op in operators.items() if not _is_plain(name, op)},
            {name: jnp.asarray(values, dtype) for name, values in deviations.items()},
            tuple(listed(regularise, AbstractPenalty, "regularise", "[Smoothness('k', 1e-3)]")),
            chosen.sample_parameters,
            selected.rows,
            grid,
        )
        _check_limits(system, made, chosen.ids)
        return made


def _initial_integrals(chosen: Samples, names: tuple[str, ...]) -> State:
    """Zero, unless the data have other values of them at the start: see `predict`."""
    there = chosen.data.isel(time=[chosen.begin.position or 0])
    held = [there[name].values for name in names if name in there.data_vars]
    is_under_way = any(np.any(np.nan_to_num(values)) for values in held)
    return chosen.initial_integrals(names, continued=is_under_way)


def _instruments(
    chosen: Samples,
    observe: Sequence[AbstractObservation] | None,
    selected: Selection,
    is_all_times: bool,
) -> tuple[Sequence[AbstractObservation], dict[str, np.ndarray], Selection]:
    """Observations, their readings by name, and the times at which there are any.

    By default each field that the data have, cell by cell; what is not observed at all is hidden,
    unless nothing is observed.
    """
    if observe is None:
        in_data = (f for f in chosen.system.fields if f in chosen.data.data_vars)
        instruments = [Cells(field) for field in in_data]
    else:
        instruments = listed(observe, AbstractObservation, "observe", "[Sensors('c', 'wells')]")
    check_names(instruments)
    at, when = chosen.positions, selected.positions
    found = {each.data: readings(chosen.data, each.data, at, when) for each in instruments}
    if observe is None:
        seen = {name: u for name, u in found.items() if not np.isnan(u).all()}
        found = seen or found
        instruments = [each for each in instruments if each.data in found]
    if is_all_times:
        selected, found = selected.observed(found)
    return instruments, found, selected


def _check_limits(system: System, made: Observations, ids: np.ndarray) -> None:
    """Refuse readings outside of the limits of fields where noise does not carry them there.

    A reading of one field is one of its values, or an average of some.
    """
    for name, values in made.observed.items():
        field = made.operators[name].values_of if name in made.operators else name
        for limit in system.limits:
            if limit.name == field:
                spread = made.deviations.get(name)
                check_readings(limit, name, values, spread, made.reading_times, ids)


def _is_plain(name: str, operator: AbstractOperator) -> bool:
    """Whether an operator is that which is taken where none is named."""
    return operator.is_cellwise and operator.values_of == name
