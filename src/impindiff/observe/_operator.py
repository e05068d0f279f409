r"""Observation operators: what an instrument would read, were the state the true one.

An operator $H$ maps the fields at one instant to an array of readings. What the user states, an
`AbstractObservation`, names no cell; it is prepared once for a grid, and what comes of that is a
PyTree of constants that costs no more than to read the cells which a reading involves.
"""

import abc
from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.grid import Grid

Numbers = float | np.ndarray | Array | Sequence[Any]
"""What numpy makes an array of real numbers of."""

Noise = Numbers | str | None
"""Standard deviation of a reading: a number, an array that broadcasts to the data, or the name of
the variable that holds it; None where it is not known."""


class AbstractOperator(eqx.Module):
    """A prepared observation: readings as a function of the fields at one instant."""

    @abc.abstractmethod
    def __call__(self, state: State) -> Float[Array, "..."]:
        """The readings, in the shape that the data have behind `sample` and `time`."""


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
        if self.noise is None or isinstance(self.noise, str):
            return
        try:
            given = np.asarray(self.noise, np.float64)
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
