"""What a model is trained on: initial fields and later observations, taken from a dataset."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import DTypeLike

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.data import (
    Start,
    as_dataset,
    check_observed,
    in_precision,
    readings,
)
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
    Samples,
    System,
    check_readings,
    initial_time,
    learned_starts,
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
        if grid is not None:
            selected.check_fields_once(data, operators)
        for name, operator in operators.items():
            wanted = readings_shape(operator, grid, tuple(system.fields), dtype)
            if found[name].shape[2:] != wanted:
                raise InputError(
                    f"{name!r} has readings of shape {found[name].shape[2:]} at one instant, but "
                    f"what observes it gives {wanted}: its dimensions after 'sample' and 'time' "
                    "must be as many and as long."
                )
        deviations = deviations_of(instruments, data, found, at, when)
        made = cls(
            chosen.initial,
            {name: in_precision(values, dtype, repr(name)) for name, values in found.items()},
            begin.time,
            selected.times,
            {name: op for name, op in operators.items() if not _is_plain(name, op)},
            {name: jnp.asarray(values, dtype) for name, values in deviations.items()},
            tuple(listed(regularise, AbstractPenalty, "regularise", "[Smoothness('k', 1e-3)]")),
            chosen.settings,
            selected.rows,
        )
        _check_limits(system, made, chosen.ids)
        return made


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
        field = getattr(made.operators[name], "field", None) if name in made.operators else name
        for limit in system.limits:
            if limit.name == field:
                spread = made.deviations.get(name)
                check_readings(limit, name, values, spread, made.reading_times, ids)


def _is_plain(name: str, operator: AbstractOperator) -> bool:
    """Whether an operator is that which is taken where none is named."""
    return isinstance(operator, CellValues) and operator.field == name
