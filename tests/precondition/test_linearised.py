"""Preconditioners of right-hand sides no term assembled: nonlinear, and with coupled fields."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate

from impindiff.implicit import Newton
from impindiff.integrate import AbstractDynamics, AbstractTendency, BackwardEuler
from impindiff.linear import BiCGStab
from impindiff.precondition import BlockJacobi, Fourier, Jacobi, Line, LinearisedStep, Multigrid
from impindiff.rollout import TimeGrid, simulate

STRICT = Newton(BiCGStab(1e-10, max_steps=4000), BiCGStab(1e-10, max_steps=4000), rtol=1e-10)
STEPS = TimeGrid.build(0.0, [0.02], 1e-2)


class Equations(AbstractDynamics, AbstractTendency):
    is_affine = False
    is_steady = True

    def at(self, time):
        return self


def laplacian(u, conductance):
    """Conductance of faces, on a periodic grid."""
    total = jnp.zeros_like(u)
    for axis in range(u.ndim):
        ahead = conductance(u, jnp.roll(u, -1, axis)) * (jnp.roll(u, -1, axis) - u)
        total += (ahead - jnp.roll(ahead, 1, axis)) * u.shape[axis] ** 2
    return total


class PorousMedium(Equations):
    """u_t = div(k (1 + u^2) grad u) - u^3."""

    diffusivity: Any

    def __call__(self, state):
        u = state["u"]
        faces = lambda a, b: self.diffusivity * (1 + (a * a + b * b) / 2)  # noqa: E731
        return {"u": laplacian(u, faces) - u**3}


class Reacting(Equations):
    """Three fields that exchange far faster than they spread; names out of their sorted order."""

    rate: Any

    def __call__(self, state):
        exchange = self.rate * (state["c"] * state["a"] - 2 * state["b"])
        slow = {name: laplacian(u, lambda a, b: 1e-2) for name, u in state.items()}
        return {
            "c": slow["c"] - exchange,
            "a": slow["a"] - exchange,
            "b": slow["b"] + exchange,
        }


def smooth(shape, seed=0):
    random = np.random.default_rng(seed)
    return jnp.asarray(1 + 0.3 * random.uniform(size=shape))


def run(system, state, preconditioner):
    stepper = BackwardEuler(STRICT, preconditioner)
    trajectory = jax.jit(lambda s, u: simulate(s, u, STEPS, stepper))(system, state)
    assert bool(trajectory.outcome.converged.all())
    last = jax.tree.map(lambda u: u[-1], trajectory.states)
    return last, int(trajectory.outcome.iterations.max())


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "preconditioner, shape, saves",
    [
        (Fourier(), (24, 18), 4),
        pytest.param(Multigrid(), (24, 18), 4, marks=pytest.mark.slow),
        (Multigrid(), (7, 6, 5), 2),
        (Line(0), (64,), 8),
        (Jacobi(), (24, 18), 0.9),
    ],
)
def test_a_nonlinear_step_is_solved_in_fewer_iterations(preconditioner, shape, saves):
    system, state = PorousMedium(jnp.array(1.0)), {"u": smooth(shape)}
    plain, many = run(system, state, None)
    found, few = run(system, state, preconditioner)
    np.testing.assert_allclose(found["u"], plain["u"], rtol=1e-8)
    assert few * saves <= many, (few, many)


@pytest.mark.parametrize("weight", [1e-3, 0.05])
def test_they_are_made_of_the_matrix_of_the_step(weight: float):
    """Its diagonal, or the blocks of its cells: of I - w F', written out."""
    shape, w = (3, 4), jnp.asarray(weight)
    state = {"a": smooth(shape, 1), "b": smooth(shape, 2), "c": smooth(shape, 3)}
    system = Reacting(jnp.array(7.0))
    jacobian = jax.jacfwd(lambda u: jnp.stack([system(u)[name] for name in "abc"]))(state)
    slopes = np.stack([np.asarray(jacobian[name]).reshape(3, 12, 12) for name in "abc"], 1)
    own = np.eye(3)[..., None] - weight * np.diagonal(slopes, axis1=2, axis2=3)
    vector = {name: smooth(shape, seed) for name, seed in (("a", 4), ("b", 5), ("c", 6))}
    flat = np.stack([np.asarray(vector[name]).ravel() for name in "abc"])
    step = LinearisedStep(system, w, state)
    jacobi, blocks = Jacobi().make(step).inner, BlockJacobi().make(step).inner
    for k, name in enumerate("abc"):
        found = jacobi.apply(vector)[name].ravel()
        np.testing.assert_allclose(found, flat[k] / own[k, k], rtol=1e-12)
    expected = np.linalg.solve(np.moveaxis(own, -1, 0), flat.T[..., None])[..., 0].T
    found = blocks.apply(vector)
    np.testing.assert_allclose(
        np.stack([found[name].ravel() for name in "abc"]), expected, rtol=1e-10
    )


@pytest.mark.thorough
def test_fast_reactions_are_solved_cell_by_cell():
    shape = (9, 8)
    system = Reacting(jnp.array(1e5))
    state = {"c": smooth(shape, 1), "a": smooth(shape, 2), "b": smooth(shape, 3)}
    plain, many = run(system, state, None)
    found, few = run(system, state, BlockJacobi())
    for name in state:
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-7)
    assert few * 3 <= many, (few, many)


@pytest.mark.slow
def test_gradients_do_not_see_the_preconditioner():
    state = {"c": smooth((5, 4), 1), "a": smooth((5, 4), 2), "b": smooth((5, 4), 3)}

    def loss(point):
        rate, state = point
        trajectory = simulate(Reacting(rate), state, STEPS, BackwardEuler(STRICT, BlockJacobi()))
        return sum(jnp.sum(jnp.sin(u[-1])) for u in trajectory.states.values())

    assert taylor_rate(loss, (jnp.array(30.0), state), step=1e-2) >= 1.9


class Decay(AbstractTendency):
    """u' = -u, for fields of any shape."""

    def __call__(self, state):
        return jax.tree.map(jnp.negative, state)


def test_fields_of_different_shapes_are_refused():
    state = {"a": jnp.ones(4), "b": jnp.ones(5)}
    with pytest.raises(ValueError, match="one 1-D"):
        BlockJacobi().make(LinearisedStep(Decay(), jnp.array(1.0), state))
