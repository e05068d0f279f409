"""Where a forecast begins, and the dataset that it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, DTypeLike
from numpy.typing import ArrayLike

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.coefficients import Coarse, Instant, real_precision, time_parts
from impindiff.data import (
    BEGUN,
    Start,
    begun_of,
    check_is_dataset,
    check_once,
    check_units,
    in_precision,
    initial_state,
    is_later,
    precision_of,
    select_samples,
    settings_of,
    start_of,
    to_dataset,
    without_dates,
)
from impindiff.forecast._balances import BalanceScore, Ledger
from impindiff.forecast._tables import closure_tables
from impindiff.latent import Parameter, check_spans, latents_of
from impindiff.systems import System, check_within, initial_time, starts_of

TITLE = "forecast by impindiff"


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
    return _begins_at(system, dataset, start, False)[1]


def _begins_at(
    system: System, dataset: xr.Dataset, start: Start | None, goes_on: bool
) -> tuple[int | None, float, bool]:
    """Position and time of the start, and whether the fields are there as the data have them.

    Later than their first time, it is the data that know where the fields are.
    """
    first = start_of(dataset)
    holds_fields = all(field in dataset.data_vars for field in system.fields)

    def is_on_the_way(position: int) -> bool:
        there = dataset.isel(time=[position])
        return goes_on or is_later(dataset, position) or _has_come_far(system, there)

    if start is None and holds_fields and is_on_the_way(0):
        return *first, True
    position, time = initial_time(system, dataset, start)
    return position, time, position is not None and is_on_the_way(position)


def _integrals(
    system: System, source: xr.Dataset, samples: list[int], fields: State, goes_on: bool
) -> State:
    """Integrals begin at 0, unless a forecast goes on that knows where they are."""
    like = next(iter(fields.values()))
    known = [name for name in system.integrals if goes_on and name in source.data_vars]
    held = initial_state(source, system.grid, known, samples)
    given = {name: jnp.asarray(values, like.dtype) for name, values in held.items()}
    return {name: given.get(name, jnp.zeros_like(like)) for name in system.integrals}


@dataclass(frozen=True)
class Beginning:
    """The initial fields of a forecast, with what describes them.

    Attributes:
        system: the equations.
        time: the initial time.
        state: for each field and integral an array `(sample, *grid)`.
        settings: of each sample, see `System`.
        samples: the samples' ids.
        source: where the fields come from, at the initial time alone.
        begun: when the forecast or the data began that this goes on with, if it does and that is
            known.
    """

    system: System
    time: float
    state: State
    settings: State
    samples: np.ndarray
    source: xr.Dataset
    begun: float | None

    @classmethod
    def of(
        cls,
        system: System,
        dataset: xr.Dataset,
        start: Start | None,
        samples: str | Sequence[int] | None,
        dtype: DTypeLike | None,
        goes_on: bool = False,
    ) -> "Beginning":
        """Take the initial fields from a dataset; see `predict`.

        `goes_on` where these are known to be states of a forecast, be it of their first time.
        """
        check_is_dataset(dataset)
        dataset = without_dates(dataset)
        dtype = precision_of(dataset) if dtype is None else real_precision(dtype)
        at = select_samples(dataset, samples)
        position, time, goes_on = _begins_at(system, dataset, start, goes_on)
        source = dataset.isel(time=[position or 0])
        check_units(dataset, dict(system.units))
        known = settings_of(dataset, system.awaited, at)
        settings = {name: jnp.asarray(values, dtype) for name, values in known.items()}
        begins = {}
        if not goes_on:
            begins = starts_of(system, lambda one: one.start(time, dtype), settings, len(at))
        in_data = [field for field in system.fields if field not in begins]
        state = {
            field: in_precision(values, dtype, repr(field))
            for field, values in initial_state(source, system.grid, in_data, at).items()
        } | begins
        check_once(dataset, in_data, position=position or 0)
        ids = dataset["sample"].values[at] if "sample" in dataset.coords else np.array(at)
        check_within(system.limits, system.grid, state, time, ids)
        state |= _integrals(system, source, at, state, goes_on)
        first, given = jax.tree.map(lambda values: values[0], (state, settings))
        system.with_settings(given).check(first, time)
        begun = begun_of(dataset, position or 0) if goes_on else time
        return cls(system, time, state, settings, ids, source, begun)

    @cached_property
    def latents(self) -> dict[str, np.ndarray]:
        """Values of the steady learned coefficients on the grid, and of those that are numbers."""
        values = {name: np.asarray(value) for name, value in self.system.latents().items()}
        numbers = [each for each in latents_of(self.system) if isinstance(each, Parameter)]
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
        return Ledger(self.system, self.state, self.settings, self.time, before)

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
        names = (*fields, *latents, *self.settings, "time", *axes)
        return to_dataset(
            grid,
            times,
            {field: np.asarray(values) for field, values in states.items()},
            latents,
            {name: self._attributes(name) for name in names},
            samples=self.samples,
            attrs={"title": TITLE, **self._begun, **(attrs or {})},
            settings=self.settings,
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
        }
