"""Advection as the divergence of a transported flux."""

from functools import partial
from typing import Any, Literal, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError, as_flag
from impindiff._types import as_array, as_real
from impindiff.grid import Grid
from impindiff.linear import neighbour
from impindiff.terms._boundary_face import BoundaryFace
from impindiff.terms._face_fluxes import FaceCoefficients
from impindiff.terms._limiter import OuterValues, limited_step
from impindiff.terms._metric import (
    as_metric,
    between_centres,
    cells_at,
    end_distance,
    extrapolate,
)
from impindiff.terms._term import AbstractCorrectedFlux, check_coefficient

SCHEMES = ("upwind", "central", "limited")
FORMS = ("conservative", "advective")


def _components(velocity: Any) -> Any:
    # A tuple is what a velocity at faces becomes when it is evaluated: see `_is_at_faces`.
    if isinstance(velocity, list | tuple):
        return list(map(as_real, velocity))
    return as_real(velocity)


@final
class Advection(AbstractCorrectedFlux):
    r"""Advection, conservative, $-\nabla\cdot(\mathbf v\,u)$, or not, $-\mathbf v\cdot\nabla u$.

    Args:
        velocity: components of $\mathbf v$ at cell centres along a leading axis of the grid's
            number of dimensions: an array of shape `(num_axes, *grid.shape)`, `(num_axes,)` for a
            uniform wind, a function of `t` and `x`, `y`, `z` that returns a tuple, a learned field
            with as many components, or a list or tuple of one coefficient of any kind for each
            axis. On a grid of one axis the leading axis may be left out, so that a uniform wind is
            one number. Or a `FaceVelocity` or `StreamFunction`.
        scheme: `upwind` is the donor-cell scheme, velocity and value both from the cell the flow
            comes from, $f = \max(v_l, 0)\,u_l + \min(v_u, 0)\,u_u$; first order, monotone.
            `central` interpolates $v u$ between the two cells; second order, and oscillates where
            the cell Peclet number exceeds 2: rollouts warn where it shows. `limited` takes the
            value from the cell the flow comes from, with van Leer's limited slope within it: second
            order where $u$ is smooth and monotone, ends where the flow enters included, no new
            extremes, and not linear in $u$, so that an implicit step needs `Newton`.
        form: `conservative`; or `advective` for $-\nabla\cdot(\mathbf v\,u) + u\,\nabla\cdot\mathbf
            v$, with the divergence that the scheme itself gives a uniform field. That stays uniform
            to round-off, whatever the velocity; what leaves a cell is not what enters the next. The
            flow through an end is left out of both parts where a wall stops it.
        is_explicit: see `AbstractTerm`; False for flow that is fast beside the steps.

    Accuracy: order one or two in the cell width for smooth fields and smoothly stretched cells.
    Raises: InputError for another scheme or form, or a velocity whose number of components is not
        the grid's.
    Reference: Patankar (1980), section 5.2; arXiv 2504.02260, section 3; for `limited` B. van Leer,
        J. Comput. Phys. 32 (1979) 101.
    """

    velocity: Any = eqx.field(converter=_components)
    scheme: Literal["upwind", "central", "limited"] = eqx.field(static=True, default="upwind")
    form: Literal["conservative", "advective"] = eqx.field(static=True, default="conservative")
    is_explicit: bool = eqx.field(
        static=True, default=True, kw_only=True, converter=partial(as_flag, what="is_explicit")
    )

    def __check_init__(self) -> None:
        """Refuse a scheme or a form that does not exist."""
        if self.form not in FORMS:
            raise InputError(f"advection form {self.form!r} is not one of {', '.join(FORMS)}.")
        if self.scheme not in SCHEMES:
            raise InputError(
                f"advection scheme {self.scheme!r} is not one of {', '.join(SCHEMES)}."
            )
        for part in self.velocity if isinstance(self.velocity, list) else [self.velocity]:
            check_coefficient(part, "the advection velocity")

    def face_coefficients(self, grid: Grid, axis: int) -> FaceCoefficients:
        """See `AbstractTwoPointFlux.face_coefficients`."""
        if self.scheme == "upwind" and not self._is_at_faces:
            here = self._at_cells(grid, axis)
            return jnp.maximum(here, 0), jnp.minimum(neighbour(here, axis, +1), 0)
        if self.scheme != "central":
            at_face = self._at_upper_faces(grid, axis)
            return jnp.maximum(at_face, 0), jnp.minimum(at_face, 0)
        if self._is_at_faces:
            here = above = self._at_upper_faces(grid, axis)
        else:
            here = self._at_cells(grid, axis)
            above = neighbour(here, axis, +1)
        between = between_centres(grid, axis)
        return as_metric(between.above, here) * here, as_metric(between.below, here) * above

    def boundary_face(self, grid: Grid, axis: int, side: int) -> BoundaryFace:
        """See `AbstractTwoPointFlux.boundary_face`."""
        if self._is_at_faces:
            normal = self.velocity[axis][_face_index(grid, axis, side)]
        elif self.scheme == "upwind":
            normal = self._at_cells(grid, axis)[cells_at(grid, axis, side)]
        else:
            normal = extrapolate(self._at_cells(grid, axis), grid, axis, side)
        speed = normal if side else -normal
        return self._passing(speed, speed, end_distance(grid, axis, side))

    def boundary_face_at(
        self, at_faces: Any, grid: Grid, axis: int, side: int, is_held: bool
    ) -> BoundaryFace:
        """See `AbstractTwoPointFlux.boundary_face_at`: the face is a donor with its own speed."""
        at_face = None
        if is_held and not self._is_at_faces:
            at_face = _component(at_faces.velocity, grid, axis)
        if at_face is None:
            return self.boundary_face(grid, axis, side)
        own = self._at_cells(grid, axis)[cells_at(grid, axis, side)]
        sign = 1 if side else -1
        from_cell = own if self.scheme == "upwind" else at_face
        return self._passing(sign * from_cell, sign * at_face, end_distance(grid, axis, side))

    def _passing(self, of_cell: Array, of_face: Array, distance: float) -> BoundaryFace:
        """By the outward speeds at which the cell and the face send out their values."""
        if self.scheme == "central":
            out, into = 0.0, of_face
        else:
            out, into = jnp.maximum(of_cell, 0), jnp.minimum(of_face, 0)
        uncarried = 0.0 if self.is_conservative else out + into
        return BoundaryFace(0.0, out, into, distance, uncarried)

    @property
    def is_conservative(self) -> bool:
        """See `AbstractTwoPointFlux.is_conservative`."""
        return self.form == "conservative"

    @property
    def may_oscillate(self) -> bool:
        """See `AbstractTwoPointFlux.may_oscillate`."""
        return self.scheme == "central"

    @property
    def is_linear(self) -> bool:
        """See `AbstractCorrectedFlux.is_linear`."""
        return self.scheme != "limited"

    def correction(
        self, grid: Grid, axis: int, field: Float[Array, "..."], outer: OuterValues
    ) -> Float[Array, "..."]:
        """See `AbstractCorrectedFlux.correction`."""
        step, at_face = limited_step(field, grid, axis, outer), self._at_upper_faces(grid, axis)
        return jnp.maximum(at_face, 0) * step - jnp.minimum(at_face, 0) * neighbour(step, axis, +1)

    @property
    def _is_at_faces(self) -> bool:
        return isinstance(self.velocity, tuple)

    def _at_upper_faces(self, grid: Grid, axis: int) -> Float[Array, "..."]:
        if self._is_at_faces:
            all_faces = self.velocity[axis]
            if grid.axes[axis].periodic:
                return neighbour(all_faces, axis, +1)
            return all_faces[tuple(slice(int(k == axis), None) for k in range(grid.num_axes))]
        here, between = self._at_cells(grid, axis), between_centres(grid, axis)
        above = neighbour(here, axis, +1)
        return as_metric(between.above, here) * here + as_metric(between.below, here) * above

    def _at_cells(self, grid: Grid, axis: int) -> Float[Array, "..."]:
        velocity = self._stacked(grid)
        if grid.num_axes == 1 and velocity.shape in ((), grid.shape):
            velocity = velocity[None]
        shape = velocity.shape
        if shape not in ((grid.num_axes,), (grid.num_axes, *grid.shape)):
            raise InputError(
                f"the advection velocity has shape {shape}: on a grid of shape {grid.shape} it "
                f"must be ({grid.num_axes},) or {(grid.num_axes, *grid.shape)}, one component for "
                "each axis first. Values at the faces are given by FaceVelocity."
            )
        return jnp.broadcast_to(velocity[axis], grid.shape)

    def _stacked(self, grid: Grid) -> Float[Array, "..."]:
        if not isinstance(self.velocity, list):
            return as_array(self.velocity)
        parts = [as_array(part) for part in self.velocity]
        if len(parts) != grid.num_axes or any(p.shape not in ((), grid.shape) for p in parts):
            raise InputError(
                f"the advection velocity has components of shapes {[p.shape for p in parts]}: on a "
                f"grid of shape {grid.shape} there must be {grid.num_axes}, each one number or of "
                "that shape. Values at the faces are given by FaceVelocity."
            )
        return jnp.stack(jnp.broadcast_arrays(*parts))


def _component(velocity: Any, grid: Grid, axis: int) -> Array | None:
    """The velocity along an axis at outer faces, as far as it depends on the state."""
    if velocity is None or isinstance(velocity, list):
        return None if velocity is None or velocity[axis] is None else jnp.asarray(velocity[axis])
    velocity = jnp.asarray(velocity)
    return velocity if velocity.ndim == grid.num_axes else velocity[axis]


def _face_index(grid: Grid, axis: int, side: int) -> tuple[slice, ...]:
    place = slice(-1, None) if side else slice(0, 1)
    return tuple(place if k == axis else slice(None) for k in range(grid.num_axes))
