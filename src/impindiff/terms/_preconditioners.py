r"""Preconditioners for implicit steps, made from the terms' stencils.

A step of the theta method inverts $I - w S$ with the stencil $S$ of all linear terms and a weight
$w$.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.implicit import AbstractPreconditioner, Jacobi, Line, Multigrid, Spectral, Stencil


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


Preconditioning = Callable[[Assembled, Scalar], AbstractPreconditioner]
"""Makes the preconditioner of a step from its right-hand side and the weight $w$."""


def jacobi(tendency: Assembled, weight: Scalar) -> Jacobi:
    """The diagonal of $I - w S$: for coefficients that differ by orders of magnitude."""

    def diagonal(stencil: Stencil | None) -> Array:
        centre = jnp.zeros(()) if stencil is None else stencil.centre
        return jnp.broadcast_to(1 - weight * centre, tendency.shape)

    return Jacobi(jax.lax.stop_gradient({n: diagonal(s) for n, s in tendency.stencils.items()}))


def fourier(tendency: Assembled, weight: Scalar) -> Spectral:
    r"""The inverse of $I - w \bar S$, each coefficient replaced by its mean: for stiff steps.

    Exact where coefficients are constant. Where they vary by a factor of a few, the number of
    iterations depends on how much they vary and not on the step or the grid; where they jump by
    orders of magnitude it is no help.
    """

    def symbol(stencil: Stencil | None) -> Array:
        if stencil is None:
            return jnp.ones((), jnp.result_type(weight, jnp.complex64))
        return 1 - weight * mean_symbol(stencil, tendency.shape)

    return Spectral(jax.lax.stop_gradient({n: symbol(s) for n, s in tendency.stencils.items()}))


# Kept, for a stepper with another function of the same work would be compiled again.
@cache
def line(axis: int) -> Preconditioning:
    """Exact solves along one axis: for cells much thinner along it, or coefficients much larger.

    Args:
        axis: number of the axis, counted from zero.

    Returns:
        What makes the preconditioner; `CrankNicolson(preconditioner=line(1))`.

    Raises: InputError where it is used on a grid without that axis.
    """

    def along_axis(tendency: Assembled, weight: Scalar) -> Line:
        num_axes = len(tendency.shape)
        if not 0 <= axis < num_axes:
            raise InputError(
                f"line(axis={axis}) on a grid of {num_axes} axes: the axis must lie in "
                f"0...{num_axes - 1}."
            )
        parts = {name: _parts(s, axis, weight) for name, s in tendency.stencils.items()}
        lower, diagonal, upper = ({name: part[i] for name, part in parts.items()} for i in range(3))
        return jax.lax.stop_gradient(Line(lower, diagonal, upper, axis))

    return along_axis


@cache
def multigrid(cycle: str = "W", sweeps: int = 2) -> Preconditioning:
    """One multigrid cycle: for stiff steps with coefficients that vary or jump, and for advection.

    Args:
        cycle: "V" or "W", see `impindiff.implicit.Multigrid`.
        sweeps: smoothing before and after each coarser grid.

    Returns:
        What makes the preconditioner; `CrankNicolson(preconditioner=multigrid())`. For diffusion
        without advection `multigrid("V", 1)` is cheaper.

    Raises: ValueError for another cycle, or no sweeps.
    """

    def make(tendency: Assembled, weight: Scalar) -> Multigrid:
        def shifted(stencil: Stencil | None) -> Stencil:
            if stencil is None:
                zero = jnp.zeros_like(weight)
                return Stencil(jnp.ones_like(weight), ((zero, zero),) * len(tendency.shape))
            return stencil.shifted_identity(weight)

        operators = {name: shifted(stencil) for name, stencil in tendency.stencils.items()}
        return Multigrid.build(
            operators, tendency.shape, tendency.spacing, cycle=cycle, sweeps=sweeps
        )

    return make


def _parts(
    stencil: Stencil | None, axis: int, weight: Scalar
) -> tuple[Array | float, Array | float, Array | float]:
    """The lower, own and upper coefficients of $I - w S$ along an axis."""
    if stencil is None:
        return jnp.zeros_like(weight), jnp.ones_like(weight), jnp.zeros_like(weight)
    shifted = stencil.shifted_identity(weight)
    lower, upper = shifted.sides[axis]
    return lower, shifted.centre, upper


def mean_symbol(stencil: Stencil, shape: tuple[int, ...]) -> Complex[Array, "..."]:
    """Eigenvalues of a stencil with each coefficient's mean, in the layout of `rfftn`."""
    symbol = jnp.mean(stencil.centre)
    for axis, (lower, upper) in enumerate(stencil.sides):
        last = axis == len(shape) - 1
        turns = np.fft.rfftfreq(shape[axis]) if last else np.fft.fftfreq(shape[axis])
        along = [-1 if a == axis else 1 for a in range(len(shape))]
        dtype = jnp.result_type(lower, jnp.complex64)
        wave = jnp.asarray(np.exp(2j * np.pi * turns.reshape(along)), dtype)
        symbol = symbol + jnp.mean(lower) * wave.conj() + jnp.mean(upper) * wave
    return symbol
