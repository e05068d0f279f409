"""The boundary conditions that come with the package."""

from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp

from impindiff._types import as_real
from impindiff.terms._boundary_face import AbstractBoundary, Affine, BoundaryFace
from impindiff.terms._given import check_given


@final
class Dirichlet(AbstractBoundary):
    r"""A given value at the face, $u_b = g$.

    Args:
        value: $g$: a number, an array of the boundary's cells, a function of `t` and `x`, `y`, `z`,
            or learned.

    With an upwind scheme what the flow takes out is the cell's value.
    """

    value: Any = eqx.field(converter=as_real)
    holds_value: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_given(self.value, "the value of Dirichlet")

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_for((self.value, 0.0))


@final
class Neumann(AbstractBoundary):
    r"""A given outward derivative, $\partial u/\partial n = g$.

    Args:
        gradient: $g$, positive where $u$ grows towards the outside; see `Dirichlet` for its kinds.

    What diffuses in is $D g$. The flow carries $u_b = u + g\,\delta$ besides, with the distance
    $\delta$ from the cell's centre.
    """

    gradient: Any = eqx.field(converter=as_real)

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_given(self.gradient, "the gradient of Neumann")

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_for((face.distance * self.gradient, 1.0))


@final
class Robin(AbstractBoundary):
    r"""Exchange with the outside, $-D\,\partial u/\partial n = h\,(u_b - u_\infty)$.

    Args:
        transfer: $h \ge 0$, per unit of area and time.
        ambient: $u_\infty$.

    See `Dirichlet` for their kinds, and `Inflow` (Danckwerts) for what a flow carries in.
    """

    transfer: Any = eqx.field(converter=as_real)
    ambient: Any = eqx.field(converter=as_real)

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_given(self.transfer, "the transfer of Robin")
        check_given(self.ambient, "the ambient of Robin")

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        total = face.conductance + jnp.asarray(self.transfer)
        # Neither diffusion nor transfer: nothing is exchanged, and the face has the cell's value.
        share = jnp.where(total == 0, 0, self.transfer / jnp.where(total == 0, 1, total))
        return face.flux_for((share * self.ambient, 1 - share))


@final
class Outflow(AbstractBoundary):
    r"""The flow leaves with what it carries, and nothing diffuses: $\partial u/\partial n = 0$.

    Where it enters nonetheless, it brings the value it finds.
    """

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_for((0.0, 1.0))


@final
class Inflow(AbstractBoundary):
    r"""What enters is given, diffusion included: $v_n u_b - D\,\partial u/\partial n = v_n\,g$.

    Args:
        value: $g$, the value far upstream; see `Dirichlet` for its kinds.

    Where the flow leaves it is `Outflow`. Unlike with a Dirichlet condition nothing diffuses
    upstream, so that what enters is known.
    Reference: P. V. Danckwerts, Chem. Eng. Sci. 2 (1953) 1.
    """

    value: Any = eqx.field(converter=as_real)

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_given(self.value, "the value of Inflow")

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        entering = jnp.minimum(face.speed, 0)
        leaving = Outflow().flux(face)[1]
        found = jnp.where(jnp.asarray(face.speed) < 0, -face.uncarried, leaving)
        return entering * self.value, found


@final
class NoFlux(AbstractBoundary):
    """A wall: nothing passes, whatever the flow."""

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return 0.0, 0.0
