"""What enters a domain through its ends."""

from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.grid import Grid
from impindiff.systems._flux_of import FluxOf
from impindiff.terms import AbstractStateTerm


@final
class Supply(AbstractStateTerm):
    r"""What enters through the domain's ends, per volume of the cells beside them.

    Its integral over the grid is $-\oint \mathbf j\cdot\mathbf n$: that of a field's own flux,
    `Supply(FluxOf("c"))`, is all that the field gets but by reactions. As an integral over time it
    closes balances: `integrals={"supplied": [Supply(FluxOf("c"))]}`.

    Args:
        flux: through all faces, for each axis: `FluxOf`.

    Raises: InputError for what is no `FluxOf`; in a system without a grid.
    """

    flux: Any

    def __check_init__(self) -> None:
        """Refuse what is no flux through faces."""
        if not isinstance(self.flux, FluxOf):
            raise InputError(
                f"Supply({self.flux!r:.80}): what enters is the flux of a field, "
                "Supply(FluxOf('c')). A rate that is known is a Source or Reaction."
            )

    def rate(self, grid: Grid | None, state: State, field: str) -> Float[Array, "..."]:
        """See `AbstractStateTerm.rate`."""
        if grid is None:
            raise InputError("Supply is about the ends of a domain, but the system has no grid.")
        total = jnp.zeros(grid.shape, self.flux[0].dtype)
        for axis, through in enumerate(self.flux):
            if grid.axes[axis].periodic:
                continue
            areas, widths = grid.face_measures(axis), grid.cell_measures(axis)
            inwards = jnp.moveaxis(through, axis, 0)
            cells = jnp.moveaxis(total, axis, 0)
            cells = cells.at[0].add(float(areas[0] / widths[0]) * inwards[0])
            cells = cells.at[-1].add(-float(areas[-1] / widths[-1]) * inwards[-1])
            total = jnp.moveaxis(cells, 0, axis)
        return total
