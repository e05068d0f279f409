"""Every linear solver with every preconditioner, in both precisions, periodic and closed.

The gradient under test is that of our solve, in its precision. The values that it has to predict
are NumPy's, of dense matrices in double precision: what remains of the prediction falls by four
where the step is halved, unless the gradient is wrong.
"""

import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from gradients import random_like

from impindiff.implicit import Affine, root
from impindiff.linear import CG, GMRES, BiCGStab, DenseLU, Lineax, Stencil, Tridiagonal
from impindiff.precondition import (
    BlockInverse,
    DiagonalInverse,
    LineInverse,
    MultigridCycle,
    SpectralInverse,
    laplacian_symbol,
)

CELLS, COUPLING = 12, 0.7
RTOL = {"float64": 1e-12, "float32": 2e-6}
BOUNDARIES = {"periodic": 1.0, "closed": 0.0}
# What a closed end is to fast diagonalisation.
KINDS = {"periodic": "periodic", "closed": "neumann"}

Fields = dict[str, jax.Array]


def faces(log_conductance, boundary: str, numeric=jnp):
    """Conductance of the face below each cell; the lowest is the one that closes the ring."""
    conductance = numeric.exp(log_conductance)
    return conductance * numeric.where(np.arange(CELLS) == 0, BOUNDARIES[boundary], 1.0)


def stencil(log_conductance, boundary: str) -> Stencil:
    """A field's own part of the operator: implicit diffusion, and what the other field takes."""
    below = faces(log_conductance, boundary)
    above = jnp.roll(below, -1)
    return Stencil(1 + COUPLING + below + above, ((-below, -above),))


def residual(unknown: Fields, inputs, boundary: str) -> Fields:
    own = {n: stencil(inputs["log"][n], boundary)(unknown[n]) for n in unknown}
    other = {"a": unknown["b"], "b": unknown["a"]}
    return {n: own[n] - COUPLING * other[n] - inputs["rhs"][n] for n in unknown}


def exact_loss(point, boundary: str) -> float:
    """The loss by a dense solve."""
    identity = np.eye(CELLS)
    matrix = np.kron([[COUPLING, -COUPLING], [-COUPLING, COUPLING]], identity)
    for number, name in enumerate("ab"):
        below = faces(np.asarray(point["log"][name], float), boundary, np)
        jump = identity - np.roll(identity, 1, 0)
        block = slice(number * CELLS, (number + 1) * CELLS)
        # Row i of `jump` is the difference across the face below cell i.
        matrix[block, block] += identity + jump.T @ np.diag(below) @ jump
    rhs = np.concatenate([np.asarray(point["rhs"][name], float) for name in "ab"])
    return float(np.sum(np.linalg.solve(matrix, rhs) ** 3))


def blocks(log: Fields, boundary: str):
    centre = [stencil(log[name], boundary).centre for name in "ab"]
    between = jnp.full_like(centre[0], -COUPLING)
    return jnp.stack([jnp.stack([centre[0], between]), jnp.stack([between, centre[1]])])


def line(log: Fields, boundary: str) -> LineInverse:
    parts = {name: stencil(log[name], boundary) for name in log}
    lower = {name: part.sides[0][0] for name, part in parts.items()}
    upper = {name: part.sides[0][1] for name, part in parts.items()}
    return LineInverse(lower, {name: part.centre for name, part in parts.items()}, upper, 0)


def spectral(log: Fields, boundary: str) -> SpectralInverse:
    kind = KINDS[boundary]
    symbols = {}
    for name, values in log.items():
        mean = jnp.exp(values).mean()
        symbols[name] = 1 + COUPLING - laplacian_symbol((kind,), (CELLS,), (mean,))
    return SpectralInverse(jax.tree.map(lambda s, v: s.astype(v.dtype), symbols, log), kind)


def multigrid(log: Fields, boundary: str) -> MultigridCycle:
    return MultigridCycle.build(
        {name: stencil(log[name], boundary) for name in log}, (CELLS,), cycle="V", sweeps=1
    )


PRECONDITIONERS: dict[str, Callable] = {
    "none": lambda log, boundary: None,
    "Jacobi": lambda log, boundary: DiagonalInverse(
        {n: stencil(log[n], boundary).centre for n in log}
    ),
    "BlockJacobi": lambda log, boundary: BlockInverse(blocks(log, boundary)),
    "Line": line,
    "Spectral": spectral,
    "Multigrid": multigrid,
}
ITERATIVE: dict[str, Callable] = {
    "BiCGStab": BiCGStab,
    "CG": CG,
    "GMRES": GMRES,
    "lineax.GMRES": lambda rtol: Lineax(lx.GMRES(rtol / 10, 0.0), rtol),
}
DIRECT: dict[str, Callable] = {
    "DenseLU": DenseLU,
    "Tridiagonal": Tridiagonal,
    "lineax.LU": lambda rtol: Lineax(lx.LU(), rtol),
}
# A direct solver asks for no preconditioner.
COMBINATIONS = [(solver, other) for solver in ITERATIVE for other in PRECONDITIONERS]
COMBINATIONS += [(solver, "none") for solver in DIRECT]


# At every run all that is solved by the default method, and each of the others in one setting. What
# MultigridCycle does is the same to all of them, and takes long to compile.
QUICK = {("float32", "periodic"), ("float64", "closed")}
CASES = [
    pytest.param(
        *case,
        id="-".join(case),
        marks=[pytest.mark.slow]
        * (
            case[2:] not in QUICK
            or (case[0] != "BiCGStab" and (case[2] == "float32" or case[1] == "Multigrid"))
        ),
    )
    for case in (
        (*combination, precision, boundary)
        for combination, precision, boundary in itertools.product(COMBINATIONS, RTOL, BOUNDARIES)
    )
]


@pytest.mark.thorough
@pytest.mark.parametrize("solver, preconditioner, precision, boundary", CASES)
def test_gradients_predict_what_a_dense_solve_finds(solver, preconditioner, precision, boundary):
    linear = (ITERATIVE | DIRECT)[solver](RTOL[precision])
    fields = {"a": jnp.zeros(CELLS), "b": jnp.zeros(CELLS)}
    point = {"log": random_like(fields, 0), "rhs": random_like(fields, 1)}
    start = jax.tree.map(lambda leaf: leaf.astype(precision), point)

    @jax.jit
    @jax.grad
    def gradient_at(inputs):
        made = PRECONDITIONERS[preconditioner](jax.lax.stop_gradient(inputs["log"]), boundary)
        guess = jax.tree.map(jnp.zeros_like, inputs["rhs"])
        equation = partial(residual, boundary=boundary)
        found, _ = root(equation, guess, inputs, Affine(linear, linear), preconditioner=made)
        return sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(found))

    gradient = gradient_at(start)
    assert all(leaf.dtype == precision for leaf in jax.tree.leaves(gradient))
    # From the point as it was rounded, or the gradient would be that of another.
    start = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), start)
    value = exact_loss(start, boundary)
    for part, seed in (("log", 2), ("rhs", 3)):
        direction = jax.tree.map(np.asarray, random_like(fields, seed))
        slope = sum(np.vdot(gradient[part][name], direction[name]) for name in fields)

        def remainder(h: float, part=part, direction=direction, slope=slope) -> float:
            moved = {name: start[part][name] + h * direction[name] for name in fields}
            return abs(exact_loss(start | {part: moved}, boundary) - value - h * slope)

        assert np.log2(remainder(2e-2) / remainder(1e-2)) >= 1.9
