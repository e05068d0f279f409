"""The boundary conditions that come with the package."""

from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import as_real
from impindiff.terms._boundary_face import AbstractBoundary, Affine, BoundaryFace
from impindiff.terms._term import check_coefficient, check_not_negative


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
        check_coefficient(self.value, "the value of Dirichlet")

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_for((self.value, 0.0))

    def made_up(self, face: BoundaryFace) -> float:
        """See `AbstractBoundary.made_up`."""
        return 0.0

    @property
    def entering_value(self) -> Any:
        """See `AbstractBoundary.entering_value`."""
        return self.value


@final
class Neumann(AbstractBoundary):
    r"""A given outward derivative, $\partial u/\partial n = g$.

    Args:
        gradient: $g$, positive where $u$ grows towards the outside; see `Dirichlet` for its kinds.

    What diffuses in is $D g$. The flow carries $u_b = u + g\,\delta$ besides, with the distance
    $\delta$ from the cell's centre. If $g$ depends on the state, $D$ is evaluated from the same
    values, those of the cell. `Flux` gives what passes, whatever $D$ is.
    """

    gradient: Any = eqx.field(converter=as_real)

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_coefficient(self.gradient, "the gradient of Neumann")

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_for((face.distance * self.gradient, 1.0))

    def made_up(self, face: BoundaryFace) -> float:
        """See `AbstractBoundary.made_up`; the gradient alone does not tell what passes."""
        raise InputError(
            "Neumann gives the gradient across its faces, but a diffusivity with components such "
            "as 'xy' moves what the gradient along them does, too: give all that passes, "
            "Flux(outward), or NoFlux() for a wall."
        )

    def face_value(self, face: BoundaryFace) -> None:
        """See `AbstractBoundary.face_value`; it is the gradient that is given."""


@final
class Robin(AbstractBoundary):
    r"""Exchange with the outside, $-D\,\partial u/\partial n = h\,(u_b - u_\infty)$.

    Args:
        transfer: $h \ge 0$, per unit of area and time.
        ambient: $u_\infty$.

    See `Dirichlet` for their kinds, and `Inflow` (Danckwerts) for what a flow carries in.
    Raises: InputError for a known transfer that is negative: it would feed on what it takes out.
    """

    transfer: Any = eqx.field(converter=as_real)
    ambient: Any = eqx.field(converter=as_real)

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_coefficient(self.transfer, "the transfer of Robin")
        check_coefficient(self.ambient, "the ambient of Robin")
        check_not_negative(self.transfer, "the transfer of Robin")

    @property
    def transfers(self) -> tuple[Any, ...]:
        """See `AbstractBoundary.transfers`."""
        return (self.transfer,)

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_towards(self.ambient, self._share(face))

    def made_up(self, face: BoundaryFace) -> Float[Array, "..."]:
        """See `AbstractBoundary.made_up`."""
        return 1 - self._share(face)

    def _share(self, face: BoundaryFace) -> Float[Array, "..."]:
        """How far the value of the face is on its way from the cell's to that outside."""
        # A diffusivity below zero, as an iterate may have it, makes no pole of a small transfer.
        total = jnp.maximum(face.conductance, 0) + jnp.asarray(self.transfer)
        # Neither diffusion nor transfer: nothing is exchanged, and the face has the cell's value.
        return jnp.where(total == 0, 0, self.transfer / jnp.where(total == 0, 1, total))


@final
class Flux(AbstractBoundary):
    r"""A given flux, $v_n u_b - D\,\partial u/\partial n = f$, diffusion and flow together.

    Args:
        outward: $f$, per unit of area and time: positive leaves, negative enters, on either end
            of an axis. `Flux(-0.2)` lets 0.2 enter. See `Dirichlet` for its kinds.

    Exact to round-off, whatever $D$ and $v$ are. Functions of the field see the value of the cell.
    """

    outward: Any

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_coefficient(self.outward, "the flux of Flux")

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return self.outward, -face.uncarried

    def made_up(self, face: BoundaryFace) -> float:
        """See `AbstractBoundary.made_up`."""
        return 1.0


@final
class Outflow(AbstractBoundary):
    r"""The flow leaves with what it carries, and nothing diffuses: $\partial u/\partial n = 0$.

    Where it enters nonetheless, it brings the value it finds.
    """

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_for((0.0, 1.0))

    def made_up(self, face: BoundaryFace) -> float:
        """See `AbstractBoundary.made_up`: nothing diffuses along the faces, either."""
        return 1.0

    def face_value(self, face: BoundaryFace) -> None:
        """See `AbstractBoundary.face_value`; the face takes what the cell has."""


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
    needs_flow: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_coefficient(self.value, "the value of Inflow")

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return face.flux_entering(self.value)

    def made_up(self, face: BoundaryFace) -> float:
        """See `AbstractBoundary.made_up`."""
        return 1.0

    def face_value(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.face_value`."""
        entering = -jnp.minimum(jnp.asarray(face.speed), 0)
        total = face.conductance + entering
        share = jnp.where(total == 0, 0, entering / jnp.where(total == 0, 1, total))
        return share * self.value, 1 - share

    @property
    def entering_value(self) -> Any:
        """See `AbstractBoundary.entering_value`."""
        return self.value


@final
class NoFlux(AbstractBoundary):
    """A wall: nothing passes, whatever the flow."""

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return 0.0, 0.0

    def made_up(self, face: BoundaryFace) -> float:
        """See `AbstractBoundary.made_up`."""
        return 1.0

    def value_at_face(self, face: BoundaryFace) -> Affine:
        """That of the cell: a flow out of a wall, be it of round-off, says nothing of the field."""
        return 0.0, 1.0
