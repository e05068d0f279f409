r"""What passes an outer face, and what a boundary condition makes of it.

Outward is positive, on either end of an axis: the flux through a boundary face counts what leaves,
a gradient is that along the outward normal, $\partial u/\partial n$, and a speed is that of the
flow out of the domain.
"""

import abc
from typing import Any, ClassVar, NamedTuple, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError

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
        if isinstance(slope, float) and slope == 0:
            return self.flux_towards(const, 1.0)
        # A face whose value is the cell's, but for a given difference, has none that it draws to.
        is_drawn = jnp.asarray(slope) != 1
        share = 1 - jnp.asarray(slope)
        reference = jnp.where(is_drawn, const / jnp.where(is_drawn, share, 1), 0)
        fixed = jnp.where(is_drawn, 0, (self.from_face - self.conductance) * const)
        exchange = (self.conductance - self.from_face) * share
        parts = FluxParts(fixed, self.speed - self.uncarried, exchange, reference)
        return _PartedFlux.of(parts, value)

    def flux_towards(
        self, reference: Float[Array, "..."] | float, share: Float[Array, "..."] | float
    ) -> Affine:
        """The outward flux where the face's value is so much on the way from the cell's to one."""
        exchange = (self.conductance - self.from_face) * share
        parts = FluxParts(0.0, self.speed - self.uncarried, exchange, reference)
        return _PartedFlux.of(parts, (share * reference, 1 - share))

    def flux_entering(self, value: Float[Array, "..."] | float) -> Affine:
        """The outward flux where what enters has this value, and what leaves the cell's."""
        entering = -jnp.minimum(jnp.asarray(self.speed), 0)
        return _PartedFlux.of(FluxParts(0.0, self.speed - self.uncarried, entering, value))

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


class OuterFace(NamedTuple):
    """What a field has in the outer faces of an end, for fluxes that reach beyond two cells.

    Attributes:
        value: of the field, without any flux along the faces; affine in the cells beside them, or
            evaluated.
        share: of a flux along the faces, as a tensor has it, what the gradient across them makes up
            for: 0 where the condition gives the value, so that all of the flux passes the end; 1
            where it gives what passes.
    """

    value: Any
    share: Float[Array, "..."] | float = 0.0


class FluxParts(NamedTuple):
    r"""An outward flux $f = g + s\,u + k\,(u - r)$, in the form whose round-off is the smallest.

    As $a + b\,u$ it would be the small difference of two large numbers where $u$ and $r$ have an
    offset that is large beside what they differ by.

    Attributes:
        fixed: $g$, which does not depend on the field.
        carried: $s$, with which a flow takes the cell's own value out.
        exchange: $k$, by which the cell is drawn to $r$.
        reference: $r$.
    """

    fixed: Float[Array, "..."] | float
    carried: Float[Array, "..."] | float
    exchange: Float[Array, "..."] | float
    reference: Float[Array, "..."] | float

    @classmethod
    def of(cls, flux: Affine) -> Self:
        """The parts of a flux: those it was made of, if it knows them."""
        if isinstance(flux, _PartedFlux):
            return cls(*flux.parts)
        return cls(flux[0], flux[1], 0.0, 0.0)

    def outward(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """The flux for a value of the cell."""
        return self.fixed + self.carried * value + self.exchange * (value - self.reference)


@jax.tree_util.register_pytree_node_class
class _PartedFlux(tuple):
    """A flux that remembers its parts, and the face's value if it was computed for one."""

    parts: FluxParts
    value: Affine | None

    @classmethod
    def of(cls, parts: FluxParts, value: Affine | None = None) -> "_PartedFlux":
        fixed, carried, exchange, reference = parts
        found = cls((fixed - exchange * reference, carried + exchange))
        found.parts, found.value = parts, value
        return found

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        return tuple(self), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any, Any]) -> tuple[Any, Any]:
        # Whatever was made of the pair, its parts are others.
        return tuple(children)


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

    needs_flow: ClassVar[bool] = False
    """Whether it lets nothing pass where nothing flows, so that what it says has no effect."""

    @abc.abstractmethod
    def flux(self, face: BoundaryFace) -> Affine:
        """The outward flux per unit of area and time, diffusive and advective together."""

    def face_value(self, face: BoundaryFace) -> Affine | None:
        """The value at the face, at which coefficients that depend on the state are evaluated.

        By default the one that `flux` passes to `face.flux_for`, if that makes all of the flux.
        None if the condition gives no value: then functions see the value of the cell.
        """
        flux = self.flux(face)
        return flux.value if isinstance(flux, _PartedFlux) else None

    @property
    def transfers(self) -> tuple[Any, ...]:
        """The coefficients that make its problem ill-posed where they are negative."""
        return ()

    @property
    def entering_value(self) -> Any:
        """What a flow would bring in, if that is given, else None.

        A speed that depends on the state is first evaluated there: at the value of an empty cell
        it may be zero, and nothing would ever enter.
        """
        return None

    def made_up(self, face: BoundaryFace) -> Float[Array, "..."] | float:
        """The share of a flux along the faces that the gradient across them makes up for.

        For diffusivities that are tensors, see `OuterFace`.
        Raises: InputError where the condition does not say.
        """
        raise InputError(
            f"{type(self).__name__} does not say what becomes of a flux along its faces, which a "
            "diffusivity with components such as 'xy' has: give it a method made_up(face) that "
            "returns 0.0 where it holds the value, 1.0 where it holds the flux; or leave these "
            "components out."
        )

    def value_at_face(self, face: BoundaryFace) -> Affine:
        """The value at the face, from which limited schemes take slopes: that of the flux."""
        return face.value_for(self.flux(face))
