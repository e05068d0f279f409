r"""Preconditioners for implicit steps, made from the terms' stencils.

A step of the theta method inverts $I - w S$ with the stencil $S$ of all linear terms and a weight
$w$.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from impindiff._types import Scalar
from impindiff.implicit import AbstractPreconditioner, Fourier, Jacobi, Stencil


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


Preconditioning = Callable[[Assembled, Scalar], AbstractPreconditioner]
"""Makes the preconditioner of a step from its right-hand side and the weight $w$."""


def jacobi(tendency: Assembled, weight: Scalar) -> Jacobi:
    """The diagonal of $I - w S$: for coefficients that differ by orders of magnitude."""

    def diagonal(stencil: Stencil | None) -> Array:
        centre = jnp.zeros(()) if stencil is None else stencil.centre
        return jnp.broadcast_to(1 - weight * centre, tendency.shape)

    return Jacobi(jax.lax.stop_gradient({n: diagonal(s) for n, s in tendency.stencils.items()}))


def fourier(tendency: Assembled, weight: Scalar) -> Fourier:
    r"""The inverse of $I - w \bar S$, each coefficient replaced by its mean: for stiff steps.

    Exact where coefficients are constant. Where they vary by a factor of a few, the number of
    iterations depends on how much they vary and not on the step or the grid; where they jump by
    orders of magnitude it is no help.
    """

    def symbol(stencil: Stencil | None) -> Array:
        if stencil is None:
            return jnp.ones((), jnp.result_type(weight, jnp.complex64))
        return 1 - weight * mean_symbol(stencil, tendency.shape)

    return Fourier(jax.lax.stop_gradient({n: symbol(s) for n, s in tendency.stencils.items()}))


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
