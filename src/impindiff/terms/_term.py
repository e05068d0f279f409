"""What a term of a conservation law is.

A term does not care where its coefficients come from: by the time it computes, every latent and
every function has been evaluated to an array.
"""

import abc
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Self

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.grid import Grid
from impindiff.linear import Stencil
from impindiff.terms._boundary_face import AbstractBoundary, BoundaryFace, OuterFace
from impindiff.terms._face_fluxes import Correction, FaceCoefficients, FaceFluxes
from impindiff.terms._limiter import OuterValues

OuterFaces = Sequence[tuple[OuterFace | None, OuterFace | None]]
"""For each axis what is at its lower and its upper end; None where unknown, or no end."""


class AbstractTerm(eqx.Module):
    """A contribution to the rate of change of one field.

    Whatever stands in an attribute is a coefficient, plain functions included; what is to stay a
    function must be static, `equinox.field(static=True)`.

    Attributes:
        is_explicit: whether implicit-explicit methods only evaluate it, and solve for the others:
            so for what is slow, but expensive to solve for. A subclass overrides it by a property,
            or a field with `eqx.field(static=True)`.
    """

    # Without an annotation: annotated, it would stand in the order of a subclass's fields.
    is_explicit = False


class AbstractTwoPointFlux(AbstractTerm):
    r"""A conservative term whose flux is linear in the two cells that share a face.

    $f = a\,u_\mathrm{lower} + b\,u_\mathrm{upper}$ at every face, and the cell's rate of change is
    $-\sum (f_\mathrm{out} A_\mathrm{out} - f_\mathrm{in} A_\mathrm{in}) / V$. Each face's flux is
    computed once: what leaves a cell enters its neighbour, and the total is conserved by
    construction.
    """

    @property
    def is_conservative(self) -> bool:
        r"""Whether it is the flux that counts, and not what it changes, $v\cdot\nabla u$.

        If not, $(a + b)\,u$ with the cell's own $u$ is taken from the flux through each of its
        faces: a uniform field stays uniform, and no total is conserved.
        """
        return True

    @property
    def is_exchange(self) -> bool:
        """Whether nothing passes a face between equal cells, $b = -a$; True allows no other pair.

        Where it is not said, $a + b$ is formed, and compiled may be the round-off of either, which
        an offset of the field enlarges.
        """
        return False

    @property
    def diffusivities(self) -> tuple[Any, ...]:
        """The coefficients that make its problem ill-posed where they are negative."""
        return ()

    @property
    def is_oblique(self) -> bool:
        """Whether gradients along a face move something through it, as those of a tensor do."""
        return False

    @property
    def may_oscillate(self) -> bool:
        """Whether it may make new extremes where it moves more than diffusion across a face."""
        return False

    @abc.abstractmethod
    def face_coefficients(self, grid: Grid, axis: int) -> FaceCoefficients:
        """The pair $(a, b)$ at the upper face of every cell along an axis.

        What it is at the last cells matters only on a periodic axis.
        """

    def boundary_face(self, grid: Grid, axis: int, side: int) -> BoundaryFace:
        """The flux through the outer faces at one end of an axis: 0 is the lower, 1 the upper."""
        raise InputError(
            f"{type(self).__name__} does not say what passes an outer face: give it a method "
            "boundary_face(grid, axis, side), or use it on periodic axes only."
        )

    def boundary_face_at(
        self, at_faces: Any, grid: Grid, axis: int, side: int, is_held: bool
    ) -> BoundaryFace:
        """The same where coefficients that depend on the state are known at the outer faces.

        By default `boundary_face`, which knows them in the cells.

        Args:
            at_faces: the term with such coefficients evaluated at the faces, as arrays of the
                grid's shape with one cell along the axis, and None for all others.
            grid: where.
            axis: that ends.
            side: 0 is the lower end, 1 the upper.
            is_held: whether the condition gives the field a value at the faces, and `at_faces` is
                of that value. If not it is of the value that the functions in the condition see.
        """
        return self.boundary_face(grid, axis, side)

    def settled(self, varying: frozenset[str]) -> Self:
        """The term with what it leaves open chosen, where the names of what varies are known.

        A term that is made of others settles them.

        Args:
            varying: fields, and coefficients that depend on them.
        """
        return _with_settled(self, varying, lambda node: node is not self and _is_flux(node))

    def fluxes(self, grid: Grid) -> FaceFluxes:
        """The coefficients at all faces between cells, evaluated."""
        each = [self.face_coefficients(grid, axis) for axis in range(grid.num_axes)]
        return FaceFluxes.inside(
            grid, each, conservative=self.is_conservative, exchange=self.is_exchange
        )

    def stencil(self, grid: Grid) -> Stencil:
        """The term as one linear map, its coefficients evaluated; ends let nothing pass."""
        return self.fluxes(grid).stencil()


def settle(term: AbstractTerm, varying: frozenset[str]) -> AbstractTerm:
    """A term, and whatever fluxes it is made of, with what they leave open chosen.

    Args:
        term: of any kind.
        varying: see `AbstractTwoPointFlux.settled`.
    """
    return _with_settled(term, varying, _is_flux)


def _with_settled(whole: Any, varying: frozenset[str], is_part: Callable[[Any], bool]) -> Any:
    return jax.tree.map(
        lambda node: node.settled(varying) if is_part(node) else node, whole, is_leaf=is_part
    )


def _is_flux(node: Any) -> bool:
    return isinstance(node, AbstractTwoPointFlux)


class AbstractCorrectedFlux(AbstractTwoPointFlux):
    """A flux with a part beyond its two cells, or not linear in them: what corrects the linear one.

    The linear part is what an implicit step is preconditioned by, and passes outer faces alone.
    """

    @property
    @abc.abstractmethod
    def is_linear(self) -> bool:
        """Whether there is nothing to correct."""

    @property
    def is_affine(self) -> bool:
        """Whether what corrects is affine in the field, though it reaches beyond two cells."""
        return self.is_linear

    def outer_face(self, condition: AbstractBoundary, face: BoundaryFace) -> OuterFace:
        """What it needs to know of the outer faces of an end.

        Args:
            condition: there, evaluated.
            face: what all fluxes of the field send through the faces.
        """
        return OuterFace(condition.value_at_face(face))

    @abc.abstractmethod
    def correction(
        self, grid: Grid, axis: int, field: Float[Array, "..."], outer: OuterValues
    ) -> Float[Array, "..."]:
        """What is added to the linear flux at the upper face of every cell.

        Args:
            grid: where.
            axis: across which the faces lie.
            field: in the cells.
            outer: in the outer faces at the lower and the upper end.
        """

    def corrected_rate(
        self, grid: Grid, field: Float[Array, "..."], outer: OuterFaces | None = None
    ) -> Float[Array, "..."]:
        """What the correction does to the field.

        Args:
            grid: where.
            field: in the cells.
            outer: at the lower and the upper end of each axis, evaluated; unknown by default.
        """
        known = outer or ((None, None),) * grid.num_axes
        first, *others = (
            part.rate(grid, axis) for axis, part in enumerate(self.corrections(grid, field, known))
        )
        return sum(others, start=first)

    def corrections(
        self, grid: Grid, field: Float[Array, "..."], outer: OuterFaces
    ) -> list[Correction]:
        """What is added to the linear fluxes across each axis; by default of each by itself.

        Args:
            grid: where.
            field: in the cells.
            outer: see `corrected_rate`.
        """
        values = [tuple(None if end is None else end.value for end in pair) for pair in outer]
        return [
            Correction(self.correction(grid, axis, field, (lower, upper)))
            for axis, (lower, upper) in enumerate(values)
        ]


class AbstractSource(AbstractTerm):
    """A term that does not depend on the state, once its coefficients are evaluated."""

    @abc.abstractmethod
    def rate(self, grid: Grid | None) -> Float[Array, "..."]:
        """What is added to each cell per unit of time; without a grid, to the field's numbers."""


class AbstractStateTerm(AbstractTerm):
    """Any other function of the state: of several fields, of neighbours further away.

    A system with such a term is taken for nonlinear.
    """

    @abc.abstractmethod
    def rate(self, grid: Grid | None, state: State, field: str) -> Float[Array, "..."]:
        """What is added to each cell of a field per unit of time.

        Args:
            grid: where.
            state: all fields.
            field: the one in whose equation the term stands.
        """


def check_coefficient(value: Any, what: str, *, text_too: bool = False) -> None:
    """Refuse what is no coefficient of any kind.

    Args:
        value: what stands where a coefficient does.
        what: how messages call it, such as "the diffusivity".
        text_too: whether text is refused here. `System` does it otherwise, and says whose it is.

    Raises: InputError.
    """
    holds_text = isinstance(value, list | tuple) and any(isinstance(v, str) for v in value)
    unfit = (Mapping, Set, type, *([str] if text_too else []))
    if value is None or holds_text or isinstance(value, unfit):
        raise InputError(
            f"{what} is {value!r:.80}: it must be a number, an array of the grid's shape, a "
            "function such as lambda t, x: ..., or learned (Parameter, CellField, SineField, "
            "NeuralClosure)."
        )


def check_not_negative(value: Any, what: str) -> None:
    """Refuse a number, or array, that is known to be negative or not finite somewhere.

    Raises: InputError.
    """
    if isinstance(value, Tracer) or not eqx.is_array_like(value):
        return
    values = np.ravel(value)
    wrong = values[~((values >= 0) & (values < np.inf))]
    if wrong.size:
        raise InputError(f"{what} is {wrong[0]}: it must be finite and not negative.")
