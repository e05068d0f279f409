"""The problems of `benchmarks/work_precision.py` are what they are said to be. Nothing is timed."""

import importlib.util
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from impindiff import InputError

_FILE = Path(__file__).parents[2] / "benchmarks" / "work_precision.py"
_SPEC = importlib.util.spec_from_file_location("work_precision", _FILE)
assert _SPEC is not None and _SPEC.loader is not None
work_precision = importlib.util.module_from_spec(_SPEC)
# Where dataclasses look for the names in their annotations.
sys.modules["work_precision"] = work_precision
_SPEC.loader.exec_module(work_precision)


@pytest.mark.parametrize("name", work_precision.PROBLEMS)
def test_both_right_hand_sides_are_the_same(name):
    """At a state nearby, which has no symmetry that could hide a difference."""
    problem = work_precision.PROBLEMS[name]()
    random = np.random.default_rng(0)
    state = {
        field: jnp.asarray(u + 0.1 * problem.scales[field] * random.random(np.shape(u)))
        for field, u in problem.start.items()
    }
    prepared = problem.system(problem.number).prepare(jnp.dtype(jnp.float64))
    rates = prepared.at(jnp.zeros(()))(state)
    vector = np.concatenate([np.ravel(state[field]) for field in problem.start])
    for xp in (np, jnp):
        plain = problem.split(np.asarray(problem.rates(xp, 0.0, vector, problem.number)))
        for field, rate in zip(problem.start, plain, strict=True):
            size = np.abs(rate).max()
            np.testing.assert_allclose(rates[field], rate, rtol=1e-10, atol=1e-12 * size)


@pytest.mark.parametrize("name", ["van der Pol", "Robertson", "HIRES"])
def test_published_values_are_what_another_solver_finds(name):
    problem = work_precision.PROBLEMS[name]()
    found = work_precision.scipy_solve(problem, "Radau", 1e-7).y[:, -1]
    assert problem.error(found, problem.reference()) < 1e-4


def test_an_error_is_relative_and_the_largest_of_a_field():
    problem = work_precision.robertson()
    reference = problem.reference()
    assert problem.error(reference, reference) == 0
    assert problem.error(reference * [1, 1.5, 1.1], reference) == pytest.approx(0.5)


def test_another_problem_is_refused():
    with pytest.raises(InputError, match="no problem 'Lorenz'; allowed: van der Pol, Robertson"):
        next(work_precision.rows(case="Lorenz"))
