"""The initial condition of a forecast, and the dataset that the forecast becomes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, DTypeLike
from numpy.typing import ArrayLike

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.coefficients import AbstractClosure, Coarse, Instant, check_spans, time_parts
from impindiff.data import (
    BEGUN,
    Start,
    as_dataset,
    begun_of,
    check_dataset,
    check_numeric,
    is_later,
    start_of,
    to_dataset,
)
from impindiff.forecast._ledger import BalanceScore, Ledger
from impindiff.latent import latents_of, tabulate
from impindiff.systems import InitialTime, Samples, System, initial_time

# Points along each input, by how many inputs there are; of more than two no table is made.
_POINTS = {1: 201, 2: 41}


def closure_tables(
    system: System, attributes: Callable[[str], Mapping[str, str]]
) -> dict[str, xr.DataArray]:
    """The learned closures of a system that have one or two inputs, by name.

    Over the ranges that the inputs are expected in, with a dimension for each: `NAME_INPUT`.

    Args:
        system: the equations.
        attributes: units and a long name of whatever has a name.
    """
    learned = (name for latent in latents_of(system) for name in latent.names)
    taken = {*system.fields, *system.sample_parameters, *learned}
    tables: dict[str, xr.DataArray] = {}
    for closure in latents_of(system):
        arguments = tuple(closure.input_ranges)
        # One that sees more than its cell has no value for a number.
        if not (isinstance(closure, AbstractClosure) and closure.is_local):
            continue
        if len(arguments) not in _POINTS:
            continue
        values = tabulate(closure, num=_POINTS[len(arguments)])
        for name in closure.names:
            dims = {argument: f"{name}_{argument}" for argument in arguments}
            for argument in dims:
                while dims[argument] in taken:
                    dims[argument] += "_"
            coords = {dims[a]: (dims[a], values[a], attributes(a)) for a in arguments}
            tables[name] = xr.DataArray(
                values[name], coords, tuple(dims.values()), attrs=dict(attributes(name))
            )
    return tables


def is_table(variable: xr.DataArray) -> bool:
    """Whether a variable of a forecast is the table of a closure."""
    return bool(variable.dims) and all(
        str(dim).startswith(f"{variable.name}_") for dim in variable.dims
    )


def truth_at(table: xr.DataArray, truth: xr.DataArray) -> xr.DataArray | None:
    """A closure's truth at the points of its table, linearly between its own, NaN beyond them.

    None for a truth of other dimensions than the table's, or without their coordinates.
    Raises: InputError for a truth that cannot be read between its points.
    """
    if truth.dims != table.dims or not set(truth.dims) <= set(truth.coords):
        return None
    _check_points(truth)
    return truth.interp({dim: table[dim] for dim in table.dims}, method="linear")


def _check_points(truth: xr.DataArray) -> None:
    """Refuse values that are no numbers, and points that are not in order."""
    check_numeric(truth, f"the truth of {truth.name!r}")
    for dim in truth.dims:
        points = truth[dim]
        check_numeric(points, f"coordinate {str(dim)!r} of the truth of {truth.name!r}")
        steps = np.diff(points.values.astype(np.float64))
        if not points.size or np.isnan(points).any() or not (all(steps > 0) or all(steps < 0)):
            raise InputError(
                f"coordinate {str(dim)!r} of the truth of {truth.name!r} is "
                f"{np.array2string(points.values, threshold=6)}: it must hold numbers that "
                "increase, or fall, without repetition. Sort it, or leave the truth out."
            )


def check_truths(system: System, dataset: xr.Dataset) -> None:
    """Refuse truths of integrals and closures that a forecast cannot be compared with.

    Args:
        system: the equations.
        dataset: with the truth of any of them, whose fields are checked elsewhere.

    Raises: InputError.
    """
    if held := [name for name in system.integrals if name in dataset.data_vars]:
        fields = [field for field in system.fields if field in dataset.data_vars]
        check_dataset(dataset, fields=[*fields, *held])
    learned = (name for latent in latents_of(system) for name in latent.names)
    for truth in (dataset[name] for name in learned if name in dataset.data_vars):
        if is_table(truth) and set(truth.dims) <= set(dataset.coords):
            _check_points(truth)


TITLE = "forecast by impindiff"
# Of an integral over time, in the words of the CF conventions.
CUMULATIVE = {"cell_methods": "time: sum"}


@eqx.filter_jit
def _latents_at(
    system: System, elapsed: Array, origin: Array, coarse: Coarse | None, names: tuple[str, ...]
) -> dict[str, Array]:
    # One time after the other: a network evaluated at all of them at once might not fit.
    return jax.lax.map(lambda e: _only(names, system.latents(Instant(e, origin, coarse))), elapsed)


def _only(names: tuple[str, ...], values: dict[str, Array]) -> dict[str, Array]:
    return {name: values[name] for name in names}


def _has_come_far(system: System, source: xr.Dataset) -> bool:
    """Whether there are integrals that are not 0 any more."""
    held = [source[name].values for name in system.integrals if name in source.data_vars]
    return any(np.any(np.nan_to_num(values)) for values in held)


def forecast_start(system: System, dataset: xr.Dataset, start: Start | None = None) -> float:
    """The initial time of a forecast, see `predict`.

    Raises: InputError as `predict`.
    """
    return _find_start(system, dataset, start, False)[1]


def _find_start(
    system: System, dataset: xr.Dataset, start: Start | None, is_under_way: bool
) -> tuple[int | None, float, bool]:
    """Position and time of the start, and whether the fields are there as the data have them.

    Later than their first time, it is the data that know where the fields are.
    """
    first = start_of(dataset)
    holds_fields = all(field in dataset.data_vars for field in system.fields)

    def is_on_the_way(position: int) -> bool:
        there = dataset.isel(time=[position])
        return is_under_way or is_later(dataset, position) or _has_come_far(system, there)

    if start is None and holds_fields and is_on_the_way(0):
        return *first, True
    position, time = initial_time(system, dataset, start)
    return position, time, position is not None and is_on_the_way(position)


class ForecastStart(TypedDict, total=False):
    """The keyword arguments of `predict` that say which samples start when; see there."""

    start: Start | None
    samples: str | Sequence[int] | None
    dtype: DTypeLike | None


@dataclass(frozen=True)
class InitialCondition:
    """The initial fields of a forecast, with what describes them.

    Attributes:
        samples: those that are forecast.
        state: for each field and integral an array `(sample, *grid)`.
        source: where the fields come from, at the initial time alone.
        begun: when the forecast or the data began that this continues; None where that is not
            known.
    """

    samples: Samples
    state: State
    source: xr.Dataset
    begun: float | None

    @classmethod
    def of(
        cls,
        system: System,
        data: xr.Dataset,
        start: Start | None = None,
        samples: str | Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        *,
        is_under_way: bool = False,
    ) -> "InitialCondition":
        """Take the initial fields from a dataset; see `predict`.

        `is_under_way` where these are known to be states of a forecast, be it of their first time.
        """
        data = as_dataset(data)
        position, time, is_under_way = _find_start(system, data, start, is_under_way)
        begin = InitialTime(position, time)
        chosen = Samples.of(system, data, samples, begin, dtype, is_under_way=is_under_way)
        source = data.isel(time=[position or 0])
        # Integrals start at 0; a forecast that is continued keeps their values.
        state = chosen.initial | chosen.initial_integrals(
            tuple(system.integrals), continued=is_under_way
        )
        return cls(chosen, state, source, begun_of(data, position or 0) if is_under_way else time)

    @property
    def system(self) -> System:
        """The equations."""
        return self.samples.system

    @property
    def time(self) -> float:
        """The initial time."""
        return self.samples.time

    @property
    def sample_parameters(self) -> State:
        """Of each sample, see `System`."""
        return self.samples.sample_parameters

    @cached_property
    def latents(self) -> dict[str, np.ndarray]:
        """Values of the steady learned coefficients on the grid, and of those that are numbers."""
        values = {name: np.asarray(value) for name, value in self.system.latents().items()}
        numbers = [each for each in latents_of(self.system) if each.is_number and each.is_steady]
        return values | {
            each.names[0]: values[each.names[0]].ravel()[0:1].reshape(()) for each in numbers
        }

    def varying_latents(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Values of the learned coefficients that vary in time, `(time, *grid)`."""
        if not self._varying:
            return {}
        elapsed, origin = times - self.time, time_parts(self.time)
        given = jnp.asarray(elapsed, self.dtype), jnp.asarray(origin, self.dtype)
        clock = np.unique(np.append(times, self.time))
        coarse = Coarse.among(clock[:-1], np.diff(clock))
        found = _latents_at(self.system, *given, coarse, self._varying)
        return {name: np.asarray(values) for name, values in found.items()}

    @cached_property
    def _varying(self) -> tuple[str, ...]:
        """Names of the learned coefficients that vary in time."""
        return tuple(n for n in self.system.latents(self.time) if n not in self.latents)

    @property
    def dtype(self) -> jnp.dtype:
        """Precision of the fields."""
        return jnp.result_type(*self.state.values())

    @cached_property
    def tables(self) -> dict[str, xr.DataArray]:
        """The learned closures."""
        return closure_tables(self.system, self._attributes)

    def ledger(self, before: Mapping[str, BalanceScore] | None = None) -> Ledger:
        """For the balances of what is forecast from here, after those of what led here."""
        return Ledger(self.system, self.state, self.sample_parameters, self.time, before)

    def check_times(self, times: np.ndarray) -> None:
        """Refuse times before the initial one, and beyond the spans of fields that vary in time."""
        if times.size and np.min(times) < self.time:
            raise InputError(
                f"a forecast to t = {np.min(times):.10g} was asked for, but the initial fields are "
                f"those at t = {self.time:.10g}."
            )
        if times.size:
            check_spans(self.system, self.time, float(np.max(times)), "the forecast")

    def dataset(
        self,
        times: np.ndarray,
        states: Mapping[str, ArrayLike],
        attrs: Mapping[str, object] | None = None,
    ) -> xr.Dataset:
        """States `(sample, time, *grid)` in the documented layout, with learned coefficients."""
        grid, latents = self.system.grid, self.latents | self.varying_latents(times)
        axes = () if grid is None else grid.names
        fields = (*self.system.fields, *self.system.integrals)
        names = (*fields, *latents, *self.sample_parameters, "time", *axes)
        return to_dataset(
            grid,
            times,
            {field: np.asarray(values) for field, values in states.items()},
            latents,
            {name: self._attributes(name) for name in names},
            samples=self.samples.ids,
            attrs={"title": TITLE, **self._begun, **(attrs or {})},
            sample_parameters=self.sample_parameters,
        ).assign(self.tables)

    @property
    def _begun(self) -> dict[str, float]:
        return {} if self.begun is None else {BEGUN: float(self.begun)}

    def _attributes(self, name: str) -> dict[str, str]:
        known = self.source[name].attrs if name in self.source.variables else {}
        units = dict(self.system.units).get(name, "1")
        return {
            "units": str(known.get("units", units)),
            "long_name": str(known.get("long_name", name.replace("_", " "))),
            **(CUMULATIVE if name in self.system.integrals else {}),
        }
