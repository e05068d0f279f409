"""Readings that a function of the user's own makes of the fields."""

import inspect
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from impindiff._errors import InputError, blamed_on
from impindiff._types import State
from impindiff.grid import Grid
from impindiff.observe._operator import AbstractObservation, AbstractOperator, Noise, read


@final
class Computed(AbstractOperator):
    """Readings by a function of some fields."""

    function: Callable = eqx.field(static=True)
    fields: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, state: State) -> Float[Array, "..."]:
        """See `AbstractOperator.__call__`."""
        values = [read(state, field) for field in self.fields]
        name = getattr(self.function, "__name__", type(self.function).__name__)
        with blamed_on(f"the function {name}({', '.join(self.fields)}) of what was measured"):
            return jnp.asarray(self.function(*values))


@final
class Measured(AbstractObservation):
    """Readings by a function of the fields at one instant.

    Args:
        function: its parameters are fields, by name, each an array of the grid's shape; it returns
            the readings as JAX can trace and differentiate them.
        data: the variable with the dimensions `sample`, `time`, and those of what is returned.
        noise: see `Noise`.

    Raises: InputError for a function whose parameters cannot be told, and, when it is used, for one
        that is not the name of a field.
    Example: `Measured(lambda u, v: (u * v).sum(), data="signal")`.
    """

    function: Callable = eqx.field(static=True)
    data: str = eqx.field(static=True)
    noise: Noise

    def __init__(self, function: Callable, data: str, noise: Noise = None) -> None:
        self.function, self.data, self.noise = function, data, noise

    def prepare(self, grid: Grid | None, dataset: xr.Dataset | None = None) -> Computed:
        """See `AbstractObservation.prepare`."""
        plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(self.function).parameters.values()
        if not parameters or any(each.kind not in plain for each in parameters):
            raise InputError(
                f"the function that computes {self.data!r} must name the fields that it needs as "
                "its parameters, such as lambda u, v: u * v."
            )
        return Computed(self.function, tuple(each.name for each in parameters))


def readings_shape(
    operator: AbstractOperator, grid: Grid | None, fields: tuple[str, ...], dtype: jnp.dtype | type
) -> tuple[int, ...]:
    """The shape of the readings at one instant; nothing is computed."""
    shape = () if grid is None else grid.shape
    state = {field: jax.ShapeDtypeStruct(shape, dtype) for field in fields}
    return jax.eval_shape(operator, state).shape
