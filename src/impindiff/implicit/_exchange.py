"""What exchange between neighbours is to the modes of an axis."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from impindiff.implicit._spectral import PERIODIC, eigenvalues


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

    To be added to the mean of the centre's coefficients, which holds what the ends make of them.

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
        return lower * wave.conj() + upper * wave
    # Between two cells, of which there are one less than cells.
    coupling = (lower + upper) / 2 * cells / max(cells - 1, 1)
    # A cell at an end has one coupling less than others, or one more where a value is held at half
    # the distance; their mean, which holds these, is brought to that of a cell inside.
    excess = sum(1 if word == "dirichlet" else -1 for word in _both_ends(kind))
    second = jnp.asarray(eigenvalues(kind, cells).reshape(modes), coupling.dtype)
    return coupling * (second + 2 + excess / cells)


def _both_ends(kind: str) -> tuple[str, str]:
    lower, _, upper = kind.partition("-")
    return lower, upper or lower
