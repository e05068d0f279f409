r"""Observation operators: what an instrument would read, were the state the true one.

An operator $H$ maps the fields at one instant to an array of readings. What the user states, an
`AbstractObservation`, names no cell; it is prepared once for a grid, and what comes of that is a
PyTree of constants that costs no more than to read the cells which a reading involves.
"""

import abc
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from impindiff._errors import InputError, as_text, blamed_on
from impindiff._types import State, without_mask
from impindiff.coefficients import HeldFunction
from impindiff.data import BEGUN
from impindiff.grid import Axis, Grid

Numbers = float | np.ndarray | Array | Sequence[Any]
"""What numpy makes an array of real numbers of."""

Noise = Numbers | str | None
"""Standard deviation of a reading: a number, an array that broadcasts to the data, or the name of
the variable that holds it; None where it is not known."""


class AbstractOperator(eqx.Module):
    """A prepared observation: readings as a function of the fields at one instant.

    Attributes:
        is_cellwise: whether there is a reading for each cell, which is the field there.
    """

    is_cellwise: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, state: State) -> Float[Array, "..."]:
        """The readings, in the shape that the data have behind `sample` and `time`."""

    @property
    def values_of(self) -> str | None:
        """The field whose values, or averages of them, the readings are; None for all others."""
        return None

    @property
    def reads(self) -> tuple[str, ...]:
        """What it reads of the state.

        An integral over time is computed in training where some instrument names it here.
        """
        return () if self.values_of is None else (self.values_of,)


class AbstractObservation(eqx.Module):
    """What was measured and how.

    Attributes:
        data: the variable of the dataset that holds the readings, NaN where nothing was read.
        noise: their standard deviation, see `Noise`.

    Raises: InputError for noise that is nowhere positive and finite.
    """

    data: eqx.AbstractVar[str]
    noise: eqx.AbstractVar[Noise]

    def __check_init__(self) -> None:
        """Refuse noise that is no standard deviation anywhere."""
        as_text(self.data, f"the name of the data of {type(self).__name__}")
        if self.noise is None or isinstance(self.noise, str):
            return
        try:
            given = np.asarray(without_mask(self.noise), np.float64)
        except (TypeError, ValueError):
            given = np.array([])
        # Of an array some entries may stand where there is no datum: those are no matter.
        if not np.any((given > 0) & np.isfinite(given)):
            raise InputError(
                f"the noise of {self.data!r} is {self.noise!r:.80}: a standard deviation must be "
                "positive and finite. Leave it out where it is not known."
            )

    @abc.abstractmethod
    def prepare(self, grid: Grid | None, dataset: xr.Dataset | None = None) -> AbstractOperator:
        """The operator on one grid.

        Args:
            grid: where the fields live; None in a system without.
            dataset: holds what the observation itself leaves out, such as where sensors stand.

        Raises: InputError for what cannot be observed on this grid.
        """


@final
class WeightedSums(AbstractOperator):
    r"""Readings $\sum_k w_{jk}\,u_{c(j,k)}$ of one field: a few cells and their weights for each.

    Attributes:
        field: whose cells are read.
        cells: positions in the flattened array; those of weight zero only fill up.
        weights: of each.
    """

    field: str = eqx.field(static=True)
    cells: Int[Array, "*readings entries"]
    weights: Float[Array, "*readings entries"]

    @property
    def values_of(self) -> str | None:
        """See `AbstractOperator.values_of`."""
        return self.field

    def __call__(self, state: State) -> Float[Array, "..."]:
        """See `AbstractOperator.__call__`."""
        values = read(state, self.field).ravel()[self.cells]
        return jnp.sum(jnp.asarray(self.weights, values.dtype) * values, axis=-1)

    @classmethod
    def make(cls, field: str, cells: np.ndarray, weights: np.ndarray) -> "WeightedSums":
        """From positions and weights on the host."""
        return cls(field, jnp.asarray(cells, jnp.int32), jnp.asarray(weights, float))


def read(state: State, field: str) -> Float[Array, "..."]:
    """One field of a state.

    Raises: InputError for a field that there is not.
    """
    if field not in state:
        raise InputError(
            f"an observation is of {field!r}, but the fields are {', '.join(map(repr, state))}: "
            "name one of these."
        )
    return state[field]


def on_grid(grid: Grid | None, what: str) -> Grid:
    """The grid, for what lies somewhere on it.

    Raises: InputError where there is none.
    """
    if grid is None:
        raise InputError(
            f"{what} is about positions in space, but the system has no grid: its fields are "
            "observed by Cells or Measured."
        )
    return grid


@final
class Computed(AbstractOperator):
    """Readings by a function of some fields."""

    held: HeldFunction
    fields: tuple[str, ...] = eqx.field(static=True)

    @property
    def reads(self) -> tuple[str, ...]:
        """See `AbstractOperator.reads`."""
        return self.fields

    def __call__(self, state: State) -> Float[Array, "..."]:
        """See `AbstractOperator.__call__`."""
        values = [read(state, field) for field in self.fields]
        function = self.held.function
        name = getattr(function, "__name__", type(function).__name__)
        with blamed_on(f"the function {name}({', '.join(self.fields)}) of what was measured"):
            return jnp.asarray(function(*values))


@final
class Measured(AbstractObservation):
    """Readings by a function of the fields at one instant.

    Args:
        function: its parameters are fields, or integrals over time of the system, by name, each an
            array of the grid's shape; it returns the readings as JAX can trace and differentiate
            them.
        data: the variable with the dimensions `sample`, `time`, and those of what is returned.
        noise: see `Noise`.

    Raises: InputError for a function whose parameters cannot be told, and, when it is used, for one
        that is not the name of a field.
    Example: `Measured(lambda u, v: (u * v).sum(), data="signal")`.
    """

    held: HeldFunction
    data: str = eqx.field(static=True)
    noise: Noise

    def __init__(self, function: Callable, data: str, noise: Noise = None) -> None:
        self.held, self.data, self.noise = HeldFunction(function), data, noise

    def prepare(self, grid: Grid | None, dataset: xr.Dataset | None = None) -> Computed:
        """See `AbstractObservation.prepare`."""
        plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(self.held.function).parameters.values()
        if not parameters or any(each.kind not in plain for each in parameters):
            raise InputError(
                f"the function that computes {self.data!r} must name the fields that it needs as "
                "its parameters, such as lambda u, v: u * v."
            )
        return Computed(self.held, tuple(each.name for each in parameters))


def readings_shape(
    operator: AbstractOperator, grid: Grid | None, fields: tuple[str, ...], dtype: jnp.dtype | type
) -> tuple[int, ...]:
    """The shape of the readings at one instant; nothing is computed."""
    shape = () if grid is None else grid.shape
    state = {field: jax.ShapeDtypeStruct(shape, dtype) for field in fields}
    return jax.eval_shape(operator, state).shape


def measure(
    forecast: xr.Dataset,
    grid: Grid | None,
    observe: Sequence[AbstractObservation],
    data: xr.Dataset | None = None,
) -> xr.Dataset:
    """Apply observations to a forecast, to be set beside what was measured.

    Args:
        forecast: as `predict` gives it.
        grid: its grid, as in the system, where there is one.
        observe: what to observe.
        data: what was measured: says where sensors stand that bring no positions, and lends the
            readings its dimensions and coordinates.

    Returns: a variable for each observation, under the name of its data, with the forecast's
        samples and times.
    Raises: InputError for a forecast of another grid or without a field that is observed, or what
        cannot be observed on the grid.
    """
    axes = () if grid is None else grid.axes
    space = ("sample", "time", *(axis.name for axis in axes))
    fields = {str(n): v.values for n, v in forecast.data_vars.items() if v.dims == space}
    if not fields or not all(_lies_on(forecast, axis) for axis in axes):
        raise InputError(
            f"the forecast has the sizes {dict(forecast.sizes)}: it holds no field at the centres "
            f"of the grid, {[axis.num_cells for axis in axes]} cells along {space[2:]}. Give the "
            "grid of the system that made it."
        )
    state = {name: jnp.asarray(values) for name, values in fields.items()}
    made = xr.Dataset(coords={k: forecast[k] for k in ("sample", "time") if k in forecast.coords})
    # When the forecast began, which its times need not show, is when that of its readings did.
    made.attrs |= {k: v for k, v in forecast.attrs.items() if k == BEGUN}
    for each in observe:
        values = np.array(jax.vmap(jax.vmap(each.prepare(grid, data)))(state))
        known = data is not None and each.data in data.variables
        like = data[each.data] if known else None  # pyright: ignore[reportOptionalSubscript]
        dims = [f"{each.data}_{k}" for k in range(values.ndim - 2)]
        if like is not None and like.shape[2:] == values.shape[2:]:
            dims = [str(dim) for dim in like.dims[2:]]
            made = made.assign_coords(
                {k: v for k, v in like.coords.items() if set(v.dims) <= set(dims) and v.dims}
            )
        attributes = {"units": "1", "long_name": each.data.replace("_", " ")}
        attributes |= like.attrs if like is not None else {}
        made[each.data] = (("sample", "time", *dims), values, attributes)
    return made


def _lies_on(forecast: xr.Dataset, axis: Axis) -> bool:
    at = forecast[axis.name].values
    slack = 1e-3 * axis.widths.min()
    return at.shape == axis.centres.shape and np.allclose(at, axis.centres, rtol=0, atol=slack)
