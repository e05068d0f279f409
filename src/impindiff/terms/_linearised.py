"""The stencils of a right-hand side: its own, or those of its Jacobian, probed."""

from collections.abc import Mapping
from typing import Protocol, final, runtime_checkable

import equinox as eqx
import jax

from impindiff._types import State, Tendency
from impindiff.implicit import Stencil, probe


@runtime_checkable
class Assembled(Protocol):
    """A right-hand side whose linear part is one stencil for each field."""

    @property
    def stencils(self) -> Mapping[str, Stencil | None]:
        """The stencils; None for a field without linear terms."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid's shape."""
        ...

    @property
    def spacing(self) -> tuple[float, ...]:
        """Cell widths, an axis each."""
        ...


@final
class ProbedJacobian(eqx.Module):
    """What each field does to itself in a right-hand side near a state; cells taken for cubes."""

    stencils: dict[str, Stencil]
    shape: tuple[int, ...] = eqx.field(static=True)
    spacing: tuple[float, ...] = eqx.field(static=True)


def linearised(tendency: Tendency, state: State) -> Assembled:
    r"""The stencils of $\partial F/\partial u$, field by field.

    Args:
        tendency: the right-hand side. One that is not `Assembled` is linearised at the state and
            its coefficients found by coloured products, see `impindiff.implicit.probe`; what
            reaches beyond face neighbours is misread, which costs iterations and nothing else.
        state: where to linearise.

    Raises: ValueError for fields of different shapes.
    """
    if isinstance(tendency, Assembled):
        return tendency
    _, product = jax.linearize(tendency, jax.lax.stop_gradient(state))
    jacobian = probe(product, state)
    # The leaves of a dictionary come in the order of its sorted names.
    stencils = {field: jacobian.stencil(k) for k, field in enumerate(sorted(state))}
    shape = jacobian.centre.shape[2:]
    return ProbedJacobian(stencils, shape, (1.0,) * len(shape))
