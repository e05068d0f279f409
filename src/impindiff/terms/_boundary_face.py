r"""What passes an outer face, and what a boundary condition makes of it.

Outward is positive, on either end of an axis: the flux through a boundary face counts what leaves,
a gradient is that along the outward normal, $\partial u/\partial n$, and a speed is that of the
flow out of the domain.
"""

import abc
from typing import Any, ClassVar, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Affine = tuple[Float[Array, "..."] | float, Float[Array, "..."] | float]
"""A pair $(a, b)$ that stands for $a + b\\,u$, with $u$ the value in the boundary's cell."""


@final
class BoundaryFace(eqx.Module):
    r"""The outward flux between a cell's value $u$ and the value $u_b$ at its outer face.

    $f = k\,(u - u_b) + c\,u + s\,u_b - d\,u$.

    Attributes:
        conductance: $k$, diffusivity over the distance from the cell's centre to the face.
        from_cell: $c$, what the flow takes from the cell.
        from_face: $s$, what it takes from the face. $c + s$ is the outward speed.
        distance: from the cell's centre to the face.
        uncarried: $d$, that part of the outward speed for which not the flow of the field is told
            but what it changes in the cell, see `impindiff.Advection`.

    Arrays have the grid's shape with one cell along the boundary's axis, or none.
    """

    conductance: Float[Array, "..."] | float
    from_cell: Float[Array, "..."] | float
    from_face: Float[Array, "..."] | float
    distance: float = eqx.field(static=True)
    uncarried: Float[Array, "..."] | float = 0.0

    def __add__(self, other: Self) -> "BoundaryFace":
        """Two fluxes through the same face."""
        return BoundaryFace(
            self.conductance + other.conductance,
            self.from_cell + other.from_cell,
            self.from_face + other.from_face,
            self.distance,
            self.uncarried + other.uncarried,
        )

    @property
    def speed(self) -> Float[Array, "..."] | float:
        """The outward speed of the flow."""
        return self.from_cell + self.from_face

    def flux_for(self, value: Affine) -> Affine:
        """The outward flux where the face has this value."""
        const, slope = value
        flux = (
            (self.from_face - self.conductance) * const,
            self.conductance * (1 - slope)
            + (self.from_cell - self.uncarried)
            + self.from_face * slope,
        )
        return _FluxForValue(flux, value)

    def value_for(self, flux: Affine) -> Affine:
        """The value that the face has where this is the outward flux; else see `flux_for`.

        That of the cell where the flux does not depend on it: no diffusion, and no flow inwards.
        """
        const, slope = flux
        towards = jnp.asarray(self.conductance - self.from_face)
        open_to_it = towards != 0
        towards = jnp.where(open_to_it, towards, 1)
        own = (self.conductance + self.from_cell - self.uncarried - slope) / towards
        return jnp.where(open_to_it, -const / towards, 0), jnp.where(open_to_it, own, 1)


@jax.tree_util.register_pytree_node_class
class _FluxForValue(tuple):
    """A flux that remembers the value of the face that it was computed for."""

    value: Affine

    def __new__(cls, flux: Affine, value: Affine) -> "_FluxForValue":
        found = super().__new__(cls, flux)
        found.value = value
        return found

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        return (tuple(self), self.value), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any, Any]) -> "_FluxForValue":
        return cls(*children)


class AbstractBoundary(eqx.Module):
    """A boundary condition: the flux through an outer face as an affine function of the cell.

    A condition of your own says what value its face has, or what passes it:

        class Held(AbstractBoundary):
            value: Any

            def flux(self, face):
                return face.flux_for((self.value, 0.0))

    Attributes named in it may be numbers, arrays with a value for each of the boundary's cells,
    functions of time, position and the state, or learned; `flux` sees numbers and arrays.
    """

    holds_value: ClassVar[bool] = False
    """Whether it is the value that is given, more than the gradient: for preconditioners."""

    @abc.abstractmethod
    def flux(self, face: BoundaryFace) -> Affine:
        """The outward flux per unit of area and time, diffusive and advective together."""

    def face_value(self, face: BoundaryFace) -> Affine | None:
        """The value at the face, at which coefficients that depend on the state are evaluated.

        By default the one that `flux` passes to `face.flux_for`, if that makes all of the flux.
        None if the condition gives no value: then functions see the value of the cell.
        """
        flux = self.flux(face)
        return flux.value if isinstance(flux, _FluxForValue) else None

    @property
    def entering_value(self) -> Any:
        """What a flow would bring in, if that is given, else None.

        A speed that depends on the state is first evaluated there: at the value of an empty cell
        it may be zero, and nothing would ever enter.
        """
        return None

    def value_at_face(self, face: BoundaryFace) -> Affine:
        """The value at the face, from which limited schemes take slopes: that of the flux."""
        return face.value_for(self.flux(face))
