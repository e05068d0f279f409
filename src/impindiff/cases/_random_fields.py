"""Random smooth fields on periodic grids: initial conditions and coefficients to make data from."""

import numpy as np

from impindiff.grid import Grid


def gaussian_process(grid: Grid, count: int, length: float, rng: np.random.Generator) -> np.ndarray:
    r"""Draws of a periodic Gaussian process, each scaled to [0, 1].

    White noise through the spectrum of the squared-exponential covariance $\exp(-r^2 / 2 \ell^2)$,
    its amplitude $\exp(-\ell^2 k^2 / 4)$ at wave number $k$.

    Args:
        grid: of any dimension.
        count: number of draws.
        length: correlation length $\ell$, in the grid's units.
        rng: source of randomness.

    Shapes: returns `(count, *grid.shape)`, float64.
    """
    waves = [2 * np.pi * np.fft.fftfreq(axis.num_cells, axis.cell_width) for axis in grid.axes]
    squared = sum(k**2 for k in np.meshgrid(*waves, indexing="ij"))
    axes = tuple(range(1, grid.num_axes + 1))
    noise = np.fft.fftn(rng.standard_normal((count, *grid.shape)), axes=axes)
    fields = np.fft.ifftn(noise * np.exp(-(length**2) * squared / 4), axes=axes).real
    return unit_range(fields, axes)


def sine_waves(grid: Grid, count: int, max_mode: int, rng: np.random.Generator) -> np.ndarray:
    r"""A sum of sine waves of whole wave numbers, scaled to [0, 1].

    $\sum_j a_j \sin(2\pi\,\mathbf m_j\cdot\mathbf x + \varphi_j)$ with random $a$, $\mathbf m$,
    $\varphi$.

    Args:
        grid: axes of whole length, so that the waves are periodic on it.
        count: number of waves.
        max_mode: largest wave number along an axis, per unit of length.
        rng: source of randomness.

    Shapes: returns `grid.shape`, float64.
    """
    modes = rng.integers(0, max_mode + 1, (count, grid.num_axes))
    amplitudes = rng.uniform(-1, 1, count)
    phases = rng.uniform(0, 2 * np.pi, count)
    total = np.zeros(grid.shape)
    for mode, amplitude, phase in zip(modes, amplitudes, phases, strict=True):
        angle = sum(m * x for m, x in zip(mode, grid.centres(), strict=True))
        total += amplitude * np.sin(2 * np.pi * angle + phase)
    return unit_range(total, tuple(range(grid.num_axes)))


def unit_range(fields: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Shift and scale so that the values over `axes` span [0, 1]."""
    low, high = fields.min(axes, keepdims=True), fields.max(axes, keepdims=True)
    return (fields - low) / (high - low)
