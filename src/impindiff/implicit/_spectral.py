"""A preconditioner that is diagonal in the modes of a grid: waves, sines and cosines.

What constant coefficients do to a mode is a multiplication. Which modes those are, the two ends of
each axis decide: along a periodic axis complex waves, else sines or cosines that fulfil the
boundary conditions.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar, Vector
from impindiff.implicit._preconditioner import AbstractPreconditioner

PERIODIC = "periodic"
# Mode k at cell i is trig(pi (k + shift) (i + 1/2) / N).
_MODES = {
    "neumann": (np.cos, 0.0),
    "dirichlet": (np.sin, 1.0),
    "dirichlet-neumann": (np.sin, 0.5),
    "neumann-dirichlet": (np.cos, 0.5),
}
KINDS = (PERIODIC, *_MODES)

# A product with the matrix of modes against Fourier transforms of twice the length, measured: ten
# times as fast at 64 cells, still the faster at 512.
_LONGEST_PRODUCT = 512


@final
class Spectral(AbstractPreconditioner):
    r"""Exact inverse of an operator with constant coefficients on a uniform grid.

    $P^{-1} v = \mathcal T^{-1}(\mathcal T v / \hat a)$ with the operator's symbol $\hat a$ and the
    transform $\mathcal T$ into modes. Where coefficients vary, the inverse for their mean leaves
    what varies for the iteration, whose count then does not grow as the grid is refined.

    Args:
        symbol: for each leaf of the unknown the eigenvalues of the operator, in the layout of
            `jnp.fft.rfftn` over the periodic axes, of full length along the others; see
            `laplacian_symbol`. Complex where the operator is not symmetric along a periodic axis.
            Where one is zero, that component is left as it is.
        kinds: what each axis ends in, one word for all axes or a tuple of a word an axis; a PyTree
            of those, of the unknown's structure, where leaves differ. `periodic`; `neumann`, no
            flux at both ends; `dirichlet`, zero on both outer faces, half a cell from the first
            and last centres; `dirichlet-neumann` and `neumann-dirichlet`, one at the lower and the
            other at the upper end.

    Raises: InputError for another word, for a number of words that is not the number of axes, and
        for a complex symbol without a periodic axis.
    Reference: G. Strang, SIAM Review 41 (1999) 135, for the transforms.
    """

    symbol: PyTree[Inexact[Array, "..."]]
    kinds: tuple[str | tuple[str, ...], ...] = eqx.field(static=True)

    def __init__(self, symbol: PyTree[Inexact[Array, "..."]], kinds: Any = PERIODIC) -> None:
        leaves, structure = jax.tree.flatten(symbol)
        for_all = isinstance(kinds, str) or (
            isinstance(kinds, tuple) and all(isinstance(kind, str) for kind in kinds)
        )
        each = [kinds] * len(leaves) if for_all else structure.flatten_up_to(kinds)
        self.symbol = symbol
        self.kinds = tuple(kind if isinstance(kind, str) else tuple(kind) for kind in each)
        for leaf, kind in zip(leaves, self.kinds, strict=True):
            words = (kind,) if isinstance(kind, str) else kind
            check_kinds(words)
            if PERIODIC not in words and jnp.iscomplexobj(leaf):
                raise InputError(
                    f"Spectral(kinds={kind!r}) with a complex symbol: without a periodic axis the "
                    "modes are real, and so are the eigenvalues. Give the real part, or 'periodic' "
                    "for the axes that are."
                )

    def apply(self, vector: Vector) -> Vector:
        """Divide by the symbol in the space of modes."""
        leaves, structure = jax.tree.flatten(vector)
        symbols = structure.flatten_up_to(self.symbol)
        applied = map(_divide, leaves, symbols, self.kinds)
        return structure.unflatten(applied)

    def transpose(self) -> Self:
        """The symbol of a real operator's transpose is the complex conjugate."""
        return eqx.tree_at(lambda p: p.symbol, self, jax.tree.map(jnp.conj, self.symbol))


def eigenvalues(kind: str, cells: int) -> np.ndarray:
    r"""Eigenvalues of the second difference $u_{i-1} - 2 u_i + u_{i+1}$ along one axis.

    Args:
        kind: what the axis ends in, see `Spectral`.
        cells: number of cells $N$.

    Returns:
        The $N$ eigenvalues, none positive, in the order of the axis' modes: for a periodic axis
        that of `np.fft.fft`.

    Raises: InputError for another word.
    """
    check_kinds((kind,))
    shift = 0.0 if kind == PERIODIC else _MODES[kind][1]
    halves = 1 if kind == PERIODIC else 2
    return -4 * np.sin(np.pi * (np.arange(cells) + shift) / (halves * cells)) ** 2


def laplacian_symbol(
    kinds: str | tuple[str, ...], shape: tuple[int, ...], weights: Sequence[Scalar | float]
) -> Float[Array, "..."]:
    r"""Eigenvalues of $\sum_a w_a\,\delta_a^2$ on a grid, in the layout that `Spectral` takes.

    Args:
        kinds: what each axis ends in, see `Spectral`.
        shape: the grid's.
        weights: for each axis the factor of its second difference, diffusivity over the square of
            the cell width.

    Raises: InputError for another word, or another number of them or of weights than of axes.
    """
    kinds = for_axes(kinds, len(shape))
    half = max((a for a, kind in enumerate(kinds) if kind == PERIODIC), default=None)
    total = jnp.zeros(())
    for axis, (kind, cells, weight) in enumerate(zip(kinds, shape, weights, strict=True)):
        along = eigenvalues(kind, cells)[: cells // 2 + 1 if axis == half else cells]
        place = [-1 if a == axis else 1 for a in range(len(shape))]
        total = total + weight * jnp.asarray(along.reshape(place), jnp.result_type(weight, float))
    return total


def to_modes(v: Array, kinds: Sequence[str | None]) -> Array:
    """The transform of each axis into its modes; those of kind None stay as they are."""
    for axis, kind in enumerate(kinds):
        if kind not in (PERIODIC, None):
            v = _along(v, axis, kind, inverse=False)
    waves = [axis for axis, kind in enumerate(kinds) if kind == PERIODIC]
    return jnp.fft.rfftn(v, axes=waves) if waves else v


def from_modes(modes: Array, kinds: Sequence[str | None], shape: tuple[int, ...]) -> Array:
    """The way back from `to_modes`, to an array of the given shape."""
    waves = [axis for axis, kind in enumerate(kinds) if kind == PERIODIC]
    if waves:
        modes = jnp.fft.irfftn(modes, s=[shape[axis] for axis in waves], axes=waves)
    for axis, kind in enumerate(kinds):
        if kind not in (PERIODIC, None):
            modes = _along(modes, axis, kind, inverse=True)
    return modes


def _divide(v: Array, symbol: Array, kind: str | tuple[str, ...]) -> Array:
    kinds = for_axes(kind, v.ndim)
    modes = to_modes(v, kinds) / jnp.where(symbol == 0, 1, symbol)
    return from_modes(modes, kinds, v.shape).astype(v.dtype)


def _along(v: Array, axis: int, kind: str, *, inverse: bool) -> Array:
    """The orthonormal transform into the modes of one axis, or back."""
    cells = v.shape[axis]
    if cells > _LONGEST_PRODUCT:
        return _by_fourier(v, axis, kind, inverse=inverse)
    matrix = _mode_matrix(kind, cells)
    matrix = jnp.asarray(matrix.T if inverse else matrix, v.dtype)
    # Accelerators round products to a few digits unless told not to.
    product = jnp.tensordot(matrix, v, (1, axis), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(product, 0, axis)


@lru_cache(maxsize=64)
def _mode_matrix(kind: str, cells: int) -> np.ndarray:
    """A row for each mode; orthogonal."""
    trig, shift = _MODES[kind]
    modes, centres = np.arange(cells) + shift, np.arange(cells) + 0.5
    return _norms(kind, cells)[:, None] * trig(np.pi * modes[:, None] * centres / cells)


def _norms(kind: str, cells: int) -> np.ndarray:
    norms = np.full(cells, np.sqrt(2 / cells))
    # A constant, and the mode that alternates from cell to cell, have twice the norm squared.
    shift = _MODES[kind][1]
    if shift != 0.5:
        norms[0 if shift == 0 else -1] /= np.sqrt(2)
    return norms


def _by_fourier(v: Array, axis: int, kind: str, *, inverse: bool) -> Array:
    r"""The same transform in $N \log N$ operations.

    $\cos(\pi (k + a)(i + b)/N)$ is the real part of $e^{-\mathrm i\pi b(k + a)/N}\,
    e^{-2\pi\mathrm i\,k i/2N}\,e^{-\mathrm i\pi a i/N}$, the middle factor that of a Fourier
    transform over $2N$ cells, half of them empty; the sine is that of $\mathrm i$ times it. The
    sum over $k$ instead of $i$ is the way back.
    """
    cells = v.shape[axis]
    trig, shift = _MODES[kind]
    count = np.arange(cells)
    of_mode = np.exp(-0.5j * np.pi * (count + shift) / cells) * _norms(kind, cells)
    of_cell = np.exp(-1j * np.pi * shift * count / cells) * (1j if trig is np.sin else 1)
    before, after = (of_mode, of_cell) if inverse else (of_cell, of_mode)
    place = [-1 if a == axis else 1 for a in range(v.ndim)]
    dtype = jnp.result_type(v.dtype, jnp.complex64)
    transformed = jnp.fft.fft(v * jnp.asarray(before.reshape(place), dtype), n=2 * cells, axis=axis)
    kept = jax.lax.slice_in_dim(transformed, 0, cells, axis=axis)
    return (kept * jnp.asarray(after.reshape(place), dtype)).real


def for_axes(kind: str | tuple[str, ...], num_axes: int) -> tuple[str, ...]:
    """A word for each axis.

    Raises: InputError for another number of words.
    """
    kinds = (kind,) * num_axes if isinstance(kind, str) else kind
    if len(kinds) != num_axes:
        raise InputError(
            f"kinds {kinds} name {len(kinds)} axes, but the grid has {num_axes}: give a word for "
            "each axis, or one word for all."
        )
    return kinds


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuse words that name no modes.

    Raises: InputError.
    """
    if strange := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"an axis ends in {strange[0]!r}: it must be one of {', '.join(KINDS)}.")
