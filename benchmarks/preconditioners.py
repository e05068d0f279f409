"""Iterations of one backward Euler step, as the grid is refined and the step grows stiff.

Three media on the unit square or cube, periodic: one constant coefficient, four by four blocks of
1 and 1e-4, and a wind at cell Peclet number 10. The diffusion number is D dt / dx^2 with the larger
coefficient. BiCGStab to a relative residual of 1e-6, float64, a random right-hand side.
"""

import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce, median_seconds
from impindiff.linear import BiCGStab
from impindiff.precondition import LinearisedStep
from impindiff.systems import System

RTOL, MAX_STEPS = 1e-6, 1000
SHAPES = [(64, 64), (256, 256), (1024, 1024), (32, 32, 32), (64, 64, 64)]
PRECONDITIONERS = {
    "none": None,
    "jacobi": ipd.preconditioners.Jacobi(),
    "fourier": ipd.preconditioners.Fourier(),
    "multigrid": ipd.preconditioners.Multigrid(),
    "multigrid V(1,1)": ipd.preconditioners.Multigrid("V", 1),
}


def system(shape: tuple[int, ...], medium: str) -> System:
    """Diffusion in one of the media."""
    grid = ipd.Grid.uniform(shape, ((0.0, 1.0),) * len(shape), periodic=True)
    diffusivity = np.ones(shape)
    if medium == "jump":
        blocks = np.random.default_rng(0).integers(0, 2, (4,) * len(shape))
        for axis, cells in enumerate(shape):
            blocks = np.take(blocks, 4 * np.arange(cells) // cells, axis)
        diffusivity = np.where(blocks, 1.0, 1e-4)
    terms = [ipd.Diffusion(jnp.asarray(diffusivity))]
    if medium == "wind":
        speed = np.array([1.0, 0.6, 0.3])[: len(shape)] * 10 * shape[0]
        velocity = np.stack([np.full(shape, component) for component in speed])
        terms.append(ipd.Advection(jnp.asarray(velocity)))
    return System(grid, {"c": terms})


def measure(shape: tuple[int, ...], medium: str, number: float, name: str) -> dict[str, Any]:
    """One row of the table."""
    announce(f"{medium}, {' x '.join(map(str, shape))}, diffusion number {number:g}: {name}")
    tendency = system(shape, medium).prepare(jnp.float64).at(jnp.zeros(()))
    weight = jnp.asarray(number / shape[0] ** 2)
    rhs = {"c": jnp.asarray(np.random.default_rng(1).normal(size=shape))}
    make = PRECONDITIONERS[name]

    @jax.jit
    def setup(tendency, weight, state):
        return None if make is None else make.make(LinearisedStep(tendency, weight, state))

    @jax.jit
    def solve(tendency, weight, rhs, preconditioner):
        def operator(u):
            return {"c": u["c"] - weight * tendency(u)["c"]}

        return BiCGStab(RTOL, max_steps=MAX_STEPS).solve(operator, rhs, None, preconditioner)

    preconditioner = setup(tendency, weight, rhs)
    began = time.perf_counter()
    compiled = solve.lower(tendency, weight, rhs, preconditioner).compile()
    compile_seconds = time.perf_counter() - began
    _, outcome = compiled(tendency, weight, rhs, preconditioner)
    repeats = 3 if rhs["c"].size > 1e5 else 9
    seconds = median_seconds(lambda: compiled(tendency, weight, rhs, preconditioner), repeats)
    return {
        "medium": medium,
        "diffusion_number": number,
        "grid": "x".join(map(str, shape)),
        "preconditioner": name,
        "iterations": int(outcome.iterations) if bool(outcome.converged) else None,
        "microseconds_per_cell": 1e6 * seconds / rhs["c"].size,
        "setup_seconds": median_seconds(lambda: setup(tendency, weight, rhs), 3),
        "compile_seconds": compile_seconds,
    }


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One for each medium, diffusion number, grid and preconditioner; quick: no large grids."""
    media, numbers = ("constant", "jump", "wind"), (1.0, 1e2, 1e4)
    for medium, number, shape, name in product(media, numbers, SHAPES, PRECONDITIONERS):
        # Without a multigrid the largest grids take minutes where it is needed.
        if np.prod(shape) > 1e5 and (quick or not name.startswith("multigrid")):
            continue
        with jax.enable_x64(True):
            row = measure(shape, medium, number, name)
        yield row
