"""Diffusion as the divergence of a Fickian face flux."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import as_array, as_real, is_list_of_numbers
from impindiff.coefficients import depends_on
from impindiff.grid import Grid
from impindiff.linear import neighbour
from impindiff.terms._boundary_face import AbstractBoundary, BoundaryFace, OuterFace
from impindiff.terms._face_fluxes import Correction, FaceCoefficients
from impindiff.terms._limiter import OuterValues
from impindiff.terms._metric import (
    as_metric,
    between_centres,
    cells_at,
    end_distance,
    extrapolate,
)
from impindiff.terms._oblique import FaceRoots, oblique_fluxes, safe_root
from impindiff.terms._tensor import Components
from impindiff.terms._term import (
    AbstractCorrectedFlux,
    OuterFaces,
    check_coefficient,
    check_not_negative,
)

MEANS = ("harmonic", "arithmetic")


_WHAT = "the diffusivity"


def _as_diffusivity(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Components.of(value, _WHAT)
    if isinstance(value, list | tuple) and not is_list_of_numbers(value):
        return [as_real(part) for part in value]
    return as_real(value)


@final
class Diffusion(AbstractCorrectedFlux):
    r"""Fickian diffusion, $\nabla\cdot(D\,\nabla u)$, of one diffusivity or a symmetric tensor.

    Args:
        diffusivity: $D \ge 0$ at cell centres: a number, an array of the grid's shape, a learned
            field, or a function of time, position and the state. Or a mapping of components to such
            coefficients: `{"x": 2.0, "y": 0.1}` along the axes; `{"x": 2.0, "y": 1.0, "xy": 0.3}`
            besides what a gradient along either axis moves along the other, on Cartesian grids.
            What is left out of these is zero. `"xx"` is the same as `"x"`; axes with longer names
            make pairs such as `"x depth"`. Or one coefficient for each axis along a leading axis of
            the grid's number of dimensions, as the velocity of `Advection`: an array, a learned
            field with as many components, a list or tuple.
        mean: of the two cells of a face, weighted by the way through either. "harmonic" closes the
            face of a cell with $D = 0$, as it must be for material that differs from place to
            place; "arithmetic" leaves it open, as it must be for a $D(u)$ that vanishes with $u$,
            or no front would ever advance. By default arithmetic where $D$ depends on the state,
            and otherwise harmonic. What another term makes of values that are evaluated already
            cannot know and is harmonic: say which, or keep the diffusion as an attribute.

    At an outer face stands what the two cells before it lead to, at most twice and at least half of
    the last. A function of the state is evaluated there with the value that the condition gives
    (Dirichlet, Robin, Inflow); between the centre of the cell and the face stands the mean of both.
    Where no value is given, but a gradient that depends on the state, both are of the same values.

    A tensor's part between two axes reaches beyond the two cells of a face. It is symmetric,
    dissipates whatever is positive definite, and is exact for linear fields; it makes small new
    extremes beside steep fronts, as every such scheme that is linear in the field.

    Accuracy: second order in the cell width for smooth $D$ and smoothly stretched cells.
    Raises: InputError for a known value that is negative or not finite, a known tensor that is not
        positive definite, what is no coefficient, names of no axis or component, or an array of
        another shape.
    Reference: Patankar (1980), section 4.2, for the harmonic face mean; M. Shashkov and S.
        Steinberg, J. Comput. Phys. 129 (1996) 383, for tensors.
    """

    diffusivity: Any = eqx.field(converter=_as_diffusivity)
    mean: Literal["harmonic", "arithmetic"] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Refuse a diffusivity that makes the problem ill-posed, where it is known already."""
        if self.mean not in (None, *MEANS):
            raise InputError(f"the mean {self.mean!r} at faces is not one of {', '.join(MEANS)}.")
        if isinstance(self.diffusivity, Components):
            return
        for part in self.diffusivity if isinstance(self.diffusivity, list) else [self.diffusivity]:
            check_coefficient(part, _WHAT)
            check_not_negative(part, _WHAT)

    def check_on(self, grid: Grid) -> None:
        """Refuse named components that do not go with a grid, or a tensor known to be wrong.

        Raises: InputError.
        """
        if isinstance(self.diffusivity, Components):
            self.diffusivity.check(grid, _WHAT)

    def settled(self, varying: frozenset[str]) -> Self:
        """See `AbstractTwoPointFlux.settled`."""
        if self.mean is not None:
            return self
        state = depends_on(self.diffusivity, varying)
        return replace(self, mean="arithmetic" if state else "harmonic")

    @property
    def is_exchange(self) -> bool:
        """See `AbstractTwoPointFlux.is_exchange`."""
        return True

    @property
    def is_oblique(self) -> bool:
        """See `AbstractTwoPointFlux.is_oblique`."""
        return isinstance(self.diffusivity, Components) and self.diffusivity.may_cross

    @property
    def is_linear(self) -> bool:
        """See `AbstractCorrectedFlux.is_linear`."""
        return not self.is_oblique

    @property
    def is_affine(self) -> bool:
        """See `AbstractCorrectedFlux.is_affine`."""
        return True

    @property
    def diffusivities(self) -> tuple[Any, ...]:
        """See `AbstractTwoPointFlux.diffusivities`."""
        if isinstance(self.diffusivity, Components):
            return self.diffusivity.not_negative
        return (
            tuple(self.diffusivity) if isinstance(self.diffusivity, list) else (self.diffusivity,)
        )

    def face_coefficients(self, grid: Grid, axis: int) -> FaceCoefficients:
        """See `AbstractTwoPointFlux.face_coefficients`."""
        at_face = self._at_upper_faces(grid, axis)
        conductance = at_face / as_metric(between_centres(grid, axis).distance, at_face)
        return conductance, -conductance

    def boundary_face(self, grid: Grid, axis: int, side: int) -> BoundaryFace:
        """See `AbstractTwoPointFlux.boundary_face`."""
        distance = end_distance(grid, axis, side)
        return BoundaryFace(self._at_outer_faces(grid, axis, side) / distance, 0.0, 0.0, distance)

    def boundary_face_at(
        self, at_faces: Any, grid: Grid, axis: int, side: int, is_held: bool
    ) -> BoundaryFace:
        """See `AbstractTwoPointFlux.boundary_face_at`.

        The half cell is treated as the way between two centres is, so that its flux is as accurate:
        an arithmetic mean is the trapezoidal rule for the integral of $D$ from one value to the
        other, and open if the cell is empty.
        """
        found = _along(at_faces.diffusivity, grid, axis)
        if found is None:
            return self.boundary_face(grid, axis, side)
        at_face, distance = jnp.asarray(found), end_distance(grid, axis, side)
        if is_held:
            here = self._on(grid, axis)
            here = here[cells_at(grid, axis, side)] if here.ndim else here
            here, at_face = jnp.broadcast_arrays(here, at_face)
            at_face = self._mean(here, at_face, jnp.asarray(0.5), jnp.asarray(0.5))
        return BoundaryFace(at_face / distance, 0.0, 0.0, distance)

    def outer_face(self, condition: AbstractBoundary, face: BoundaryFace) -> OuterFace:
        """See `AbstractCorrectedFlux.outer_face`.

        A flow is taken to carry the cell's value out: that is first order beside a gradient, and
        makes no pole where it is as fast as diffusion.
        """
        still = replace(face, from_cell=face.speed, from_face=0.0)
        value = condition.face_value(face)
        value = condition.value_at_face(still) if value is None else value
        return OuterFace(value, condition.made_up(still))

    def correction(
        self, grid: Grid, axis: int, field: Float[Array, "..."], outer: OuterValues
    ) -> Float[Array, "..."]:
        """See `AbstractCorrectedFlux.correction`; `corrections` has those of all axes."""
        lower, upper = (None if value is None else OuterFace(value) for value in outer)
        nothing = (None, None)
        known = [(lower, upper) if k == axis else nothing for k in range(grid.num_axes)]
        return self.corrections(grid, field, known)[axis].upper

    def corrections(
        self, grid: Grid, field: Float[Array, "..."], outer: OuterFaces
    ) -> list[Correction]:
        """See `AbstractCorrectedFlux.corrections`: what gradients along the faces move."""
        self.check_on(grid)

        def at_end(axis: int, side: int) -> Array | None:
            if not grid.has_end(axis, side):
                return None
            return safe_root(self._at_outer_faces(grid, axis, side))

        roots = [
            FaceRoots(
                safe_root(self._at_upper_faces(grid, axis)), (at_end(axis, 0), at_end(axis, 1))
            )
            for axis in range(grid.num_axes)
        ]
        correlations = self.diffusivity.on(grid, _WHAT).correlations
        return oblique_fluxes(grid, roots, correlations, field, outer)

    def _at_upper_faces(self, grid: Grid, axis: int) -> Float[Array, "..."]:
        here = self._on(grid, axis)
        if here.ndim == 0:
            return here
        above, between = neighbour(here, axis, +1), between_centres(grid, axis)
        shares = as_metric(between.above, here), as_metric(between.below, here)
        return self._mean(here, above, *shares)

    def _at_outer_faces(self, grid: Grid, axis: int, side: int) -> Float[Array, "..."]:
        here = self._on(grid, axis)
        if here.ndim == 0:
            return here
        nearest = here[cells_at(grid, axis, side)]
        return jnp.clip(extrapolate(here, grid, axis, side), nearest / 2, 2 * nearest)

    def _mean(self, here: Array, above: Array, share: Array, share_above: Array) -> Array:
        # Beside a near-impermeable cell the arithmetic mean stays half open, and leaks through what
        # should be a wall.
        mean = _arithmetic if self.mean == "arithmetic" else _harmonic
        return mean(here, above, share, share_above)

    def _on(self, grid: Grid, axis: int) -> Float[Array, "..."]:
        """What gradients along an axis move along it, in the cells."""
        if isinstance(self.diffusivity, Components):
            return self.diffusivity.on(grid, _WHAT).diagonal[axis]
        parts, count = self.diffusivity, grid.num_axes
        if isinstance(parts, list) and len(parts) != count:
            raise InputError(
                f"the diffusivity has {len(parts)} components: give one for each of the grid's "
                f"{count} axes, or name them, {{'x': ..., 'y': ...}}."
            )
        found = _along(parts, grid, axis)
        if jnp.shape(found) not in ((), grid.shape):
            raise InputError(
                f"the diffusivity has shape {jnp.shape(found)}: it "
                f"must be one number or of the grid's shape {grid.shape}, or have one component "
                f"for each axis first, {(count,)} or {(count, *grid.shape)}."
            )
        return as_array(found)


def _along(diffusivity: Any, grid: Grid, axis: int) -> Any:
    """The part of an evaluated diffusivity along an axis; None where that is not known."""
    if isinstance(diffusivity, Components):
        return diffusivity.along(grid, axis, _WHAT)
    if diffusivity is None or isinstance(diffusivity, list):
        return None if diffusivity is None else diffusivity[axis]
    shape, count = jnp.shape(diffusivity), grid.num_axes
    has_components = len(shape) in (1, 1 + count) and shape[0] == count and shape != grid.shape
    return jnp.asarray(diffusivity)[axis] if has_components else diffusivity


def _arithmetic(here: Array, above: Array, share: Array, share_above: Array) -> Array:
    return share * here + share_above * above


def _harmonic(here: Array, above: Array, share: Array, share_above: Array) -> Array:
    """The harmonic mean, zero where both are."""
    # In units of the larger one: in single precision the product of two diffusivities of 1e-20, as
    # of a solid in square metres a second, is zero, and the slope of their quotient not a number.
    # Whatever the unit, the mean is the same, and so is its derivative.
    unit = jax.lax.stop_gradient(jnp.maximum(jnp.abs(here), jnp.abs(above)))
    unit = jnp.maximum(unit, jnp.finfo(here.dtype).tiny)
    here, above = here / unit, above / unit
    mean = _arithmetic(here, above, share, share_above)
    return unit * jnp.where(mean == 0, 0, here * above / jnp.where(mean == 0, 1, mean))
