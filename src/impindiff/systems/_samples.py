"""Samples of a dataset as a system takes them: which, where they start, what is known of each.

Training, forecasts, plans, validation and gradient checks select their samples here, so that all of
them check the same things, and say the same where something does not fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import DTypeLike

from impindiff._types import State
from impindiff.coefficients import real_precision
from impindiff.data import (
    check_once,
    check_units,
    in_precision,
    initial_state,
    precision_of,
    sample_parameters_of,
    select_samples,
)
from impindiff.systems._bounds import check_within
from impindiff.systems._starts import InitialTime, initial_time, starts_of
from impindiff.systems._system import System


@final
@dataclass(frozen=True)
class Samples:
    """Some samples, checked.

    Attributes:
        system: the equations.
        data: the dataset, its times numbers.
        positions: of the samples along `sample`.
        begin: when they start.
        dtype: precision of the fields.
        initial: the fields at the start, `(sample, *grid)`.
        sample_parameters: known for each sample, `(sample,)`, see `System`.
        from_data: the fields whose initial values are those of the data.
    """

    system: System
    data: xr.Dataset
    positions: list[int]
    begin: InitialTime
    dtype: jnp.dtype
    initial: State
    sample_parameters: State
    from_data: tuple[str, ...]

    @classmethod
    def of(
        cls,
        system: System,
        data: xr.Dataset,
        samples: str | Sequence[int] | None = None,
        begin: InitialTime | None = None,
        dtype: DTypeLike | None = None,
        *,
        is_under_way: bool = False,
    ) -> "Samples":
        """Select and check.

        Args:
            system: the equations.
            data: see `impindiff.data.as_dataset`.
            samples: which samples; all where None.
            begin: when they start; at the time that `initial_time` finds where None.
            dtype: precision; where None that of the data, as far as JAX computes in it.
            is_under_way: whether the data hold states of a simulation that goes on: then also the
                fields are theirs whose initial values the system gives.

        Raises: InputError for a dataset of another layout, grid or units, samples that it does not
            have, fields or sample parameters that are not known at the start, a precision that JAX
            would not compute in, starts outside of the fields' limits, and for functions of the
            system that are not finite there.
        """
        dtype = precision_of(data) if dtype is None else real_precision(dtype)
        check_units(data, dict(system.units))
        positions = select_samples(data, samples)
        known = sample_parameters_of(data, system.missing_parameters, positions)
        sample_parameters = {name: jnp.asarray(values, dtype) for name, values in known.items()}
        begin = initial_time(system, data, None) if begin is None else begin
        given = (
            {}
            if is_under_way
            else _given_starts(system, begin.time, dtype, sample_parameters, positions)
        )
        from_data = tuple(field for field in system.fields if field not in given)
        position = begin.position or 0
        there = data.isel(time=[position])
        read = initial_state(there, system.grid, from_data, positions)
        check_once(data, from_data, position=position)
        initial = {name: in_precision(u, dtype, repr(name)) for name, u in read.items()} | given
        found = cls(system, data, positions, begin, dtype, initial, sample_parameters, from_data)
        check_within(system.limits, system.grid, initial, begin.time, found.ids)
        first, of_first = jax.tree.map(lambda values: values[0], (initial, sample_parameters))
        system.with_sample_parameters(of_first).check(first, begin.time)
        return found

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def ids(self) -> np.ndarray:
        """What the data call the samples; their positions where they have no names."""
        named = "sample" in self.data.coords
        return self.data["sample"].values[self.positions] if named else np.array(self.positions)

    @property
    def time(self) -> float:
        """When they start."""
        return self.begin.time

    def initial_integrals(self, names: Sequence[str], *, continued: bool) -> State:
        """Integrals over time at the start, `(sample, *grid)` each: zero, or as the data have them.

        Args:
            names: of the integrals.
            continued: whether the data hold a simulation that goes on; an integral that they do not
                have is zero.

        Raises: InputError for values in the data that are not known in every cell.
        """
        known = [name for name in names if continued and name in self.data.data_vars]
        there = self.data.isel(time=[self.begin.position or 0])
        held = initial_state(there, self.system.grid, known, self.positions) if known else {}
        like = next(iter(self.initial.values()))
        found = {name: jnp.asarray(values, like.dtype) for name, values in held.items()}
        return {name: found.get(name, jnp.zeros_like(like)) for name in names}

    def initial_of(self, system: System) -> State:
        """The initial fields, those that a system gives taken from this one, as it is by now."""
        read = {field: self.initial[field] for field in self.from_data}
        return read | _given_starts(
            system, self.time, self.dtype, self.sample_parameters, self.positions
        )


def _given_starts(
    system: System,
    time: float,
    dtype: jnp.dtype,
    sample_parameters: State,
    positions: Sequence[int],
) -> State:
    """The initial values that the system gives."""
    return starts_of(system, lambda one: one.start(time, dtype), sample_parameters, len(positions))
