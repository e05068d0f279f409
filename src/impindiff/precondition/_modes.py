"""The modes of a grid: waves, sines and cosines, and what constant coefficients are to them.

What constant coefficients do to a mode is a multiplication. Which modes those are, the two ends of
each axis decide: along a periodic axis complex waves, else sines or cosines that fulfil the
boundary conditions.
"""

from collections.abc import Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from impindiff._errors import InputError
from impindiff._types import Scalar

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


def eigenvalues(kind: str, cells: int) -> np.ndarray:
    r"""Eigenvalues of the second difference $u_{i-1} - 2 u_i + u_{i+1}$ along one axis.

    Args:
        kind: what the axis ends in, see `SpectralInverse`.
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
    r"""Eigenvalues of $\sum_a w_a\,\delta_a^2$ on a grid, in the layout of `SpectralInverse`.

    Args:
        kinds: what each axis ends in, see `SpectralInverse`.
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


# Fewer cells than this are all at an end.
_SHORTEST = 3


def exchange_symbol(
    lower: Inexact[Array, "..."],
    upper: Inexact[Array, "..."],
    kind: str,
    modes: tuple[int, ...],
    cells: int,
    *,
    half: bool,
) -> Inexact[Array, "..."]:
    r"""What constant exchange with both neighbours along one axis is to each mode of it.

    To be added to the mean of the row sums, of the cells that `clear_of_ends` tells.

    Args:
        lower: mean coefficient of the lower neighbours; broadcast against the modes.
        upper: that of the upper ones. On an axis with ends their mean serves both.
        kind: what the axis ends in, see `SpectralInverse`.
        modes: shape of the modes: -1 for the axis, 1 for others.
        cells: number of cells.
        half: whether a periodic axis has the first half of its modes only, as in `rfft`.
    """
    if kind == PERIODIC:
        turns = np.fft.rfftfreq(cells) if half else np.fft.fftfreq(cells)
        dtype = jnp.result_type(lower, jnp.complex64)
        wave = jnp.asarray(np.exp(2j * np.pi * turns.reshape(modes)), dtype)
        return lower * (wave.conj() - 1) + upper * (wave - 1)
    # Between two cells, of which there are one less than cells.
    coupling = (lower + upper) / 2 * cells / max(cells - 1, 1)
    second = jnp.asarray(eigenvalues(kind, cells).reshape(modes), coupling.dtype)
    if cells >= _SHORTEST:
        return coupling * second
    # No cell is clear of the ends. One at an end has one coupling less than others, or one more
    # where a value is held at half the distance; their mean, which holds these, is brought to that
    # of a cell inside.
    excess = sum(1 if word == "dirichlet" else -1 for word in _both_ends(kind))
    return coupling * (second + 2 + excess / cells) - (lower + upper)


def clear_of_ends(kinds: Sequence[str], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The cells whose row sums are not raised by a value that is held at an end beside them.

    The modes vanish there by themselves. With what these ends add to their own cells averaged over
    all, the slowest modes would be wrong by more the finer the grid is, wherever the coefficient at
    the ends is not the mean one. What other ends take, a Robin condition's for instance, the modes
    do not know, and its average is right.
    """

    def clear(kind: str, cells: int) -> slice:
        if cells < _SHORTEST or kind == PERIODIC:
            return slice(None)
        lower, upper = (word == "dirichlet" for word in _both_ends(kind))
        return slice(int(lower), cells - int(upper))

    return tuple(clear(*pair) for pair in zip(kinds, shape, strict=True))


def _both_ends(kind: str) -> tuple[str, str]:
    lower, _, upper = kind.partition("-")
    return lower, upper or lower
