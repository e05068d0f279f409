"""The same problem told otherwise has the same answer, but for what solves leave over and rounding.

Other units of length, time and field; a constant added; an axis reversed; times counted from
elsewhere; samples among others. Over steppers, solvers, preconditioners, precisions and ends.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from retold import (
    PLAIN,
    RTOL,
    STEPS,
    Structure,
    Telling,
    answer,
    batch,
    draw,
    first_residual,
    mean_of,
    random_structures,
)

TELLINGS = {
    "units": Telling(length=2.54e-2, time=3600.0, scale=1e3),
    "tiny units": Telling(length=2.54e-2, time=1e-6, scale=1e-9),
    "offset": Telling(offset=290.0),
    "reversed": Telling(is_reversed=True),
    "origin": Telling(origin=1e6),
}
# Of the part of a change that a solve may leave: errors add up over steps and through the solve.
UNITS = 100
EXACT = ("default", "direct", "Newton, direct")

QUICK = [
    Structure((16,), "even", ("held", "slope"), "BE"),
    Structure((9,), "graded", ("inflow", "open"), "CN", dtype="float32"),
    Structure((16,), "periodic", ("held", "held"), "SDIRK2", is_nonlinear=True),
    Structure((40,), "even", ("exchange", "held"), "SDIRK2", is_nonlinear=True, dtype="float32"),
    Structure((6, 5), "graded", ("held", "open"), "CN", "BiCGStab", "multigrid"),
    Structure((1,), "even", ("held", "exchange"), "BE", "Newton, direct", is_nonlinear=True),
]


def change_of(structure: Structure, numbers: dict) -> float:
    """How far the field moves; what was solved for is of this size."""
    found = answer(structure, PLAIN, numbers)
    sizes = [jnp.max(jnp.abs(found - numbers["initial"])), jnp.max(numbers["source"]) * 0.1]
    return float(max(sizes))


@pytest.fixture(autouse=True)
def forget_programs():
    """Each structure has its own: kept for hundreds of them, a process runs out of memory maps."""
    yield
    jax.clear_caches()


def most_diffusion(structure: Structure) -> float:
    """What an iteration can be expected to solve: fixed points contract below a half."""
    if structure.solver == "Anderson":
        return 0.4
    is_plain = structure.solver in ("BiCGStab", "Newton", "GMRES")
    return 2.0 if is_plain and structure.preconditioner == "none" else np.inf


def is_closed(structure: Structure, peclet: float) -> bool:
    """Whether nothing passes the ends."""
    shut = {"slope", "open"} if peclet == 0 else set()
    return structure.kind == "periodic" or set(structure.ends) <= shut


def check(structure: Structure, seed: int, diffusion: float, peclet: float) -> None:
    """All tellings of one problem agree."""
    numbers = draw(structure, seed, min(diffusion, most_diffusion(structure)), peclet)
    plain = np.asarray(answer(structure, PLAIN, numbers))
    assert np.isfinite(plain).all(), "a solve failed"
    rtol, eps = RTOL[structure.dtype], float(jnp.finfo(structure.dtype).eps)
    change, first = change_of(structure, numbers), first_residual(structure, numbers)
    kept = mean_of(structure, numbers["initial"] + 0.1 * STEPS * numbers["source"])
    for name, telling in TELLINGS.items():
        found = np.asarray(answer(structure, telling, numbers))
        rounding = 4 * STEPS * eps * (1 + telling.offset / telling.scale)
        allowed = UNITS * rtol * change + rounding
        if is_closed(structure, peclet):
            # Whatever the iteration leaves, it is not of the total.
            assert abs(mean_of(structure, found) - kept) <= allowed, (name, kept)
        # An iteration may leave so much of what a step begins with, where a direct solve does not.
        allowed += 0 if structure.solver in EXACT else rtol * first
        assert np.abs(found - plain).max() <= allowed, (name, np.abs(found - plain).max(), allowed)


numbers_of = {
    "seed": st.integers(0, 2**31 - 1),
    "diffusion": st.sampled_from([1e-2, 0.5, 10.0, 1e3]),
    "peclet": st.sampled_from([0.0, 0.3, -1.0]),
}


def drawn(count: int):
    """So many problems of random numbers, the same in every run."""
    slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=slow)


@pytest.mark.thorough
@pytest.mark.parametrize("structure", QUICK, ids=str)
@drawn(9)
@given(**numbers_of)
def test_every_telling_has_the_same_answer(structure, seed, diffusion, peclet):
    check(structure, seed, diffusion, peclet)


@pytest.mark.slow
@pytest.mark.parametrize("structure", random_structures(50), ids=str)
@drawn(10)
@given(**numbers_of)
def test_every_telling_of_many_structures(structure, seed, diffusion, peclet):
    check(structure, seed, diffusion, peclet)


@pytest.mark.thorough
@pytest.mark.parametrize("structure", QUICK[1:4], ids=str)
def test_a_sample_among_others_is_as_it_is_alone(structure):
    """And so whatever their order: a hard member changes nothing in the rest."""
    members = [draw(structure, seed, d, 0.3) for seed, d in enumerate((1e-2, 1.0, 1e3, 1.0))]
    together = np.asarray(batch(structure, members))
    backwards = np.asarray(batch(structure, members[::-1]))
    np.testing.assert_array_equal(together, backwards[::-1])
    alone = np.stack([answer(structure, PLAIN, numbers) for numbers in members])
    allowed = UNITS * RTOL[structure.dtype] + 4 * STEPS * float(jnp.finfo(structure.dtype).eps)
    np.testing.assert_allclose(together, alone, atol=allowed, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("structure", random_structures(50, seed=1), ids=str)
def test_the_default_answer_is_that_of_a_direct_solve(structure):
    """Of whatever size the step: what is told by default is right, not only consistent."""
    numbers = draw(structure, 5, 1e2, 0.3)
    found = Structure(
        structure.cells, structure.kind, structure.ends, structure.stepper,
        is_nonlinear=structure.is_nonlinear, dtype=structure.dtype,
    )  # fmt: skip
    exact = Structure(
        structure.cells, structure.kind, structure.ends, structure.stepper,
        "Newton, direct", is_nonlinear=structure.is_nonlinear,
    )  # fmt: skip
    double = {name: value.astype(jnp.float64) for name, value in numbers.items()}
    difference = np.abs(
        np.asarray(answer(found, PLAIN, numbers)) - np.asarray(answer(exact, PLAIN, double))
    )
    assert difference.max() <= 10 * UNITS * RTOL[structure.dtype]
