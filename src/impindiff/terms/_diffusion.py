"""Diffusion as the divergence of a Fickian face flux."""

from dataclasses import replace
from typing import Any, Literal, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import as_array, as_real
from impindiff.coefficients import depends_on
from impindiff.grid import Grid
from impindiff.linear import neighbour
from impindiff.terms._boundary_face import BoundaryFace
from impindiff.terms._face_fluxes import FaceCoefficients
from impindiff.terms._metric import (
    as_metric,
    between_centres,
    cells_at,
    end_distance,
    extrapolate,
)
from impindiff.terms._term import AbstractTwoPointFlux, check_coefficient, check_not_negative

MEANS = ("harmonic", "arithmetic")


@final
class Diffusion(AbstractTwoPointFlux):
    r"""Fickian diffusion, $\nabla\cdot(D\,\nabla u)$.

    Args:
        diffusivity: $D \ge 0$ at cell centres: a number, an array of the grid's shape, a learned
            field, or a function of time, position and the state.
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

    Accuracy: second order in the cell width for smooth $D$ and smoothly stretched cells.
    Raises: InputError for a known value that is negative or not finite, what is no coefficient, or
        an array of another shape.
    Reference: Patankar (1980), section 4.2, for the harmonic face mean.
    """

    diffusivity: Any = eqx.field(converter=as_real)
    mean: Literal["harmonic", "arithmetic"] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Refuse a diffusivity that makes the problem ill-posed, where it is known already."""
        if self.mean not in (None, *MEANS):
            raise InputError(f"the mean {self.mean!r} at faces is not one of {', '.join(MEANS)}.")
        check_coefficient(self.diffusivity, "the diffusivity")
        check_not_negative(self.diffusivity, "the diffusivity")

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
    def diffusivities(self) -> tuple[Any, ...]:
        """See `AbstractTwoPointFlux.diffusivities`."""
        return (self.diffusivity,)

    def face_coefficients(self, grid: Grid, axis: int) -> FaceCoefficients:
        """See `AbstractTwoPointFlux.face_coefficients`."""
        here, between = self._on(grid), between_centres(grid, axis)
        distance = as_metric(between.distance, here)
        if here.ndim == 0:
            at_face = here
        else:
            above = neighbour(here, axis, +1)
            shares = as_metric(between.above, here), as_metric(between.below, here)
            at_face = self._mean(here, above, *shares)
        conductance = at_face / distance
        return conductance, -conductance

    def boundary_face(self, grid: Grid, axis: int, side: int) -> BoundaryFace:
        """See `AbstractTwoPointFlux.boundary_face`."""
        here, distance = self._on(grid), end_distance(grid, axis, side)
        at_face = here
        if here.ndim:
            nearest = here[cells_at(grid, axis, side)]
            at_face = jnp.clip(extrapolate(here, grid, axis, side), nearest / 2, 2 * nearest)
        return BoundaryFace(at_face / distance, 0.0, 0.0, distance)

    def boundary_face_at(
        self, at_faces: Any, grid: Grid, axis: int, side: int, is_held: bool
    ) -> BoundaryFace:
        """See `AbstractTwoPointFlux.boundary_face_at`.

        The half cell is treated as the way between two centres is, so that its flux is as accurate:
        an arithmetic mean is the trapezoidal rule for the integral of $D$ from one value to the
        other, and open if the cell is empty.
        """
        if at_faces.diffusivity is None:
            return self.boundary_face(grid, axis, side)
        at_face, distance = jnp.asarray(at_faces.diffusivity), end_distance(grid, axis, side)
        if is_held:
            here = self._on(grid)
            here = here[cells_at(grid, axis, side)] if here.ndim else here
            here, at_face = jnp.broadcast_arrays(here, at_face)
            at_face = self._mean(here, at_face, jnp.asarray(0.5), jnp.asarray(0.5))
        return BoundaryFace(at_face / distance, 0.0, 0.0, distance)

    def _mean(self, here: Array, above: Array, share: Array, share_above: Array) -> Array:
        # Beside a near-impermeable cell the arithmetic mean stays half open, and leaks through what
        # should be a wall.
        mean = _arithmetic if self.mean == "arithmetic" else _harmonic
        return mean(here, above, share, share_above)

    def _on(self, grid: Grid) -> Float[Array, "..."]:
        shape = jnp.shape(self.diffusivity)
        if shape not in ((), grid.shape):
            raise InputError(
                f"the diffusivity has shape {shape}: it must be one number or of the grid's "
                f"shape {grid.shape}."
            )
        return as_array(self.diffusivity)


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
