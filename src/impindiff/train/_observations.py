"""What a model is trained on: initial fields and later observations, taken from a dataset."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import DTypeLike

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.coefficients import real_precision
from impindiff.data import (
    Start,
    check_is_dataset,
    check_observed,
    check_once,
    check_units,
    in_precision,
    initial_state,
    precision_of,
    readings,
    select_samples,
    settings_of,
    start_of,
    without_dates,
)
from impindiff.grid import Grid
from impindiff.observe import (
    AbstractObservation,
    AbstractOperator,
    AbstractPenalty,
    Cells,
    CellValues,
    deviations_of,
    readings_shape,
)
from impindiff.rollout import TimeGrid
from impindiff.systems import (
    InitialTime,
    System,
    check_readings,
    check_within,
    initial_time,
    learned_starts,
    starts_of,
)
from impindiff.train._listed import check_names, listed
from impindiff.train._selection import Selection, check_start


@final
class Observations(eqx.Module):
    """Readings of some samples at some times, and where those samples started.

    Attributes:
        initial: for each field an array `(sample, *grid)`.
        observed: by the name of its variable an array `(sample, time, ...)`, NaN where not
            observed.
        start: time of the initial fields.
        times: of the states that are compared with observations, increasing.
        operators: how what is observed follows from the fields; what is not named here is the field
            of its name, cell by cell.
        deviations: standard deviation of the noise, `(sample, time, ...)`, axes of length one in
            place of those along which it does not vary; of all that is observed, or of nothing.
        penalties: what of the learned coefficients is held against them, beside the observations.
        settings: what is known of each sample, `(sample,)`, see `System`.
        rows: for each entry along the observations' `time` its state, counted in `times`; empty
            where no time was observed more than once.
    """

    initial: State
    observed: State
    start: float = eqx.field(static=True)
    times: tuple[float, ...] = eqx.field(static=True)
    operators: dict[str, AbstractOperator] = eqx.field(default_factory=dict)
    deviations: State = eqx.field(default_factory=dict)
    penalties: tuple[AbstractPenalty, ...] = ()
    settings: State = eqx.field(default_factory=dict)
    rows: tuple[int, ...] = eqx.field(static=True, default=())

    @property
    def reading_times(self) -> tuple[float, ...]:
        """The time of each entry along the observations' `time`."""
        return tuple(self.times[row] for row in self.rows) or self.times

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.initial.values())))

    def time_grid(self, dt: float) -> TimeGrid:
        """Steps of at most `dt` through all observed times."""
        return TimeGrid.build(self.start, np.array(self.times), dt)

    @classmethod
    def of(
        cls,
        system: System,
        dataset: xr.Dataset,
        samples: str | Sequence[int] | None = None,
        times: Sequence[float] | np.ndarray | None = None,
        dtype: DTypeLike | None = None,
        observe: Sequence[AbstractObservation] | None = None,
        regularise: Sequence[AbstractPenalty] = (),
        start: Start | None = None,
    ) -> "Observations":
        """What a system is fitted to from a start on, see `fit`.

        Raises: InputError besides for what is no dataset, a precision that JAX would not compute
            in, other units than the system's, starts and readings outside of its limits, and for
            functions in it that are not finite at the start.
        """
        check_is_dataset(dataset)
        dataset = without_dates(dataset)
        dtype = precision_of(dataset) if dtype is None else real_precision(dtype)
        check_units(dataset, dict(system.units))
        at = select_samples(dataset, samples)
        known = settings_of(dataset, system.awaited, at)
        settings = {name: jnp.asarray(values, dtype) for name, values in known.items()}
        begin = check_start(system, dataset, initial_time(system, dataset, start), times)
        begins = starts_of(system, lambda one: one.start(begin.time, dtype), settings, len(at))
        selection = (system.grid, system.fields, samples, times, dtype)
        learned = bool(learned_starts(system))
        given = begins, settings, learned, begin
        made = cls.from_dataset(dataset, *selection, observe, regularise, *given)
        _check_limits(system, made, at)
        initial, given = jax.tree.map(lambda values: values[0], (made.initial, settings))
        system.with_settings(given).check(initial, made.start)
        return made

    @classmethod
    def from_dataset(
        cls,
        dataset: xr.Dataset,
        grid: Grid | None,
        fields: Sequence[str],
        samples: str | Sequence[int] | None,
        times: Sequence[float] | np.ndarray | None = None,
        dtype: DTypeLike | None = None,
        observe: Sequence[AbstractObservation] | None = None,
        regularise: Sequence[AbstractPenalty] = (),
        begins: State | None = None,
        settings: State | None = None,
        learned_start: bool = False,
        begin: InitialTime | None = None,
    ) -> "Observations":
        """Select and check.

        Args:
            dataset: the data.
            grid: where the fields live.
            fields: all fields of the system.
            samples: which samples.
            times: which times; by default all after the start at which anything was observed. The
                start is one to train on where it is named and some field's start is learned.
            dtype: precision.
            observe: what was measured; by default each field, cell by cell, that was observed at
                all.
            regularise: see `penalties`.
            begins: initial values of fields that do not begin as the data say, `(sample, *grid)`.
            settings: see `settings`.
            learned_start: whether some of `begins` are to be learned, so that what was read at the
                start says something.
            begin: when samples start; at the first time by default.

        Raises: InputError for a dataset that is not of the documented layout or of another grid,
            for samples or times that it does not have, for values that are not finite where they
            must be, and for what cannot be observed on this grid or was not in this shape.
        """
        begins = begins or {}
        dtype = precision_of(dataset) if dtype is None else real_precision(dtype)
        begin = InitialTime(*start_of(dataset)) if begin is None else begin
        at = select_samples(dataset, samples) if fields else []
        position, from_data = begin.position or 0, [f for f in fields if f not in begins]
        there = dataset.isel(time=[position])
        initial = initial_state(there, grid, from_data, at)
        check_once(dataset, from_data, position=position)
        initial |= {field: np.asarray(values) for field, values in begins.items()}
        selected = Selection.of(dataset, times, begin, learned_start)
        when = selected.positions
        in_data = [f for f in fields if f not in begins or f in dataset.data_vars]
        given = (
            [Cells(field) for field in in_data]
            if observe is None
            else listed(observe, AbstractObservation, "observe", "[Sensors('c', 'wells')]")
        )
        check_names(given)
        found = {each.data: readings(dataset, each.data, at, when) for each in given}
        if observe is None:
            # What is not observed at all is hidden, unless nothing is observed.
            seen = {name: u for name, u in found.items() if not np.isnan(u).all()}
            found = seen or found
            given = [each for each in given if each.data in found]
        if times is None:
            selected, found = selected.observed(found)
            when = selected.positions
        check_observed(dataset, found, at, when)
        operators = {each.data: each.prepare(grid, dataset) for each in given}
        if grid is not None:
            selected.check_fields_once(dataset, operators)
        for name, operator in operators.items():
            wanted = readings_shape(operator, grid, tuple(fields), dtype)
            if found[name].shape[2:] != wanted:
                raise InputError(
                    f"{name!r} has readings of shape {found[name].shape[2:]} at one instant, but "
                    f"what observes it gives {wanted}: its dimensions after 'sample' and 'time' "
                    "must be as many and as long."
                )
        return cls(
            {field: in_precision(values, dtype, repr(field)) for field, values in initial.items()},
            {name: in_precision(values, dtype, repr(name)) for name, values in found.items()},
            begin.time,
            selected.times,
            {name: op for name, op in operators.items() if not _is_plain(name, op)},
            {
                name: jnp.asarray(values, dtype)
                for name, values in deviations_of(given, dataset, found, at, when).items()
            },
            tuple(listed(regularise, AbstractPenalty, "regularise", "[Smoothness('k', 1e-3)]")),
            settings or {},
            selected.rows,
        )


def _check_limits(system: System, made: Observations, samples: Sequence[int]) -> None:
    """Refuse starts outside of the limits of fields, and readings that noise does not carry there.

    A reading of one field is one of its values, or an average of some.
    """
    check_within(system.limits, system.grid, made.initial, made.start, samples)
    for name, values in made.observed.items():
        field = getattr(made.operators[name], "field", None) if name in made.operators else name
        for limit in system.limits:
            if limit.name == field:
                spread = made.deviations.get(name)
                check_readings(limit, name, values, spread, made.reading_times, samples)


def _is_plain(name: str, operator: AbstractOperator) -> bool:
    """Whether an operator is that which is taken where none is named."""
    return isinstance(operator, CellValues) and operator.field == name
