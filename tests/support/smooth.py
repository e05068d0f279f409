"""Smooth periodic fields on any grid, and the exact evolution of semi-discrete systems on it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array

from impindiff.grid import Grid


def box(*shape: int) -> Grid:
    """A grid on a box whose sides are 1, 1.5 and 2 long, away from the origin."""
    return Grid.uniform(shape, ((0.5, 1.5), (-1.0, 0.5), (0.0, 2.0))[: len(shape)], periodic=True)


def phases(grid: Grid) -> list[np.ndarray]:
    """One turn along each axis, at every cell."""
    centred = zip(grid.axes, grid.centres(), strict=True)
    return [2 * np.pi * (x - axis.lower) / axis.length for axis, x in centred]


def wave(grid: Grid, shift: float = 0.0) -> Array:
    """A smooth positive periodic field between 0.2 and 1.8 that varies along every axis."""
    turns = phases(grid)
    waves = [np.sin(turn + shift + k) for k, turn in enumerate(turns)]
    return jnp.asarray(1 + 0.8 * np.prod(waves, axis=0))


def winds(grid: Grid) -> Array:
    """A smooth velocity field; every component changes sign within the box."""
    return jnp.stack([1.5 * (wave(grid, 0.7 + k) - 1) for k in range(grid.num_axes)])


def matrix_of(linear: Callable[[Any], Any], shape: tuple[int, ...]) -> np.ndarray:
    """A linear map of fields as a dense matrix."""
    size = int(np.prod(shape))
    return np.asarray(jax.jacfwd(linear)(jnp.zeros(shape))).reshape(size, size)


def evolve(matrix: np.ndarray, initial: Any, time: float) -> np.ndarray:
    """The exact solution of $\\dot u = M u$."""
    initial = np.asarray(initial)
    return (scipy.linalg.expm(time * matrix) @ initial.ravel()).reshape(initial.shape)
