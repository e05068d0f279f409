"""What exchange between neighbours is to the modes of an axis."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from impindiff.implicit._spectral import PERIODIC, eigenvalues

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
        kind: what the axis ends in, see `Spectral`.
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
