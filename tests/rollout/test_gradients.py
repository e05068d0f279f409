"""Gradients of rollouts: to second order, rematerialised, in little memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import random_like
from smooth import box, wave, winds

from impindiff.implicit import Affine
from impindiff.integrate import CrankNicolson, RungeKutta4
from impindiff.linear import AdjointOutcome, BiCGStab
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import advection_diffusion

GRID = box(5, 4)
TIGHT = Affine(BiCGStab(1e-13), BiCGStab(1e-13))
TIMES = TimeGrid.build(0.0, np.array([0.03, 0.1]), 0.02)


IMPLICIT = CrankNicolson(TIGHT)


def rollout_loss(given, stepper=IMPLICIT, probe=None):
    initial, wind, diffusivity = given
    system = advection_diffusion(GRID, wind, diffusivity)
    found = simulate(system, {"concentration": initial}, TIMES, stepper, probe=probe)
    return jnp.sum(jnp.exp(found.states["concentration"]))


def given():
    return wave(GRID), winds(GRID) + 0.15, 0.05 * wave(GRID, 1.0)


@pytest.mark.slow
def test_a_hessian_vector_product_is_the_slope_of_the_gradient():
    direction = random_like(given(), 1)
    gradient = jax.jit(jax.grad(rollout_loss))
    _, product = jax.jit(partial(jax.jvp, jax.grad(rollout_loss)))((given(),), (direction,))

    def moved(h: float):
        return gradient(jax.tree.map(lambda p, d: p + h * d, given(), direction))

    slope = jax.tree.map(lambda a, b: (a - b) / 2e-5, moved(1e-5), moved(-1e-5))
    for found, expected in zip(product, slope, strict=True):
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(found, expected, atol=1e-5 * scale)


@pytest.mark.thorough
def test_a_hessian_vector_product_with_respect_to_the_initial_field_alone():
    """The operator has no tangent then, which is a path of its own through the layer."""
    initial, *rest = given()
    direction = random_like(initial, 1)

    def loss(initial):
        return rollout_loss((initial, *rest))

    gradient = jax.jit(jax.grad(loss))
    _, product = jax.jit(partial(jax.jvp, jax.grad(loss)))((initial,), (direction,))
    slope = (gradient(initial + 1e-5 * direction) - gradient(initial - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(product, slope, rtol=1e-4, atol=1e-6)


@pytest.mark.thorough
def test_rematerialisation_and_batching_change_no_gradient():
    initial, *rest = given()

    def loss(initial):
        return rollout_loss((initial, *rest))

    several = jnp.stack([initial, 2 - initial])
    plain = jax.jit(jax.vmap(jax.grad(loss)))(several)
    again = jax.jit(jax.vmap(jax.grad(jax.checkpoint(loss))))(several)
    np.testing.assert_allclose(again, plain, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(initial), plain[0], rtol=1e-9)


@pytest.mark.thorough
def test_the_adjoint_of_every_step_is_counted():
    def report(stepper):
        cotangent = jax.jit(jax.grad(lambda probe: rollout_loss(given(), stepper, probe)))(
            AdjointOutcome.probe()
        )
        return AdjointOutcome.from_cotangent(cotangent)

    implicit = report(CrankNicolson(TIGHT))
    assert (implicit.solves, implicit.failures) == (TIMES.num_steps, 0)
    assert implicit.iterations >= TIMES.num_steps and implicit.relative_residual < 1e-12
    explicit = report(RungeKutta4())
    assert (explicit.solves, explicit.iterations, explicit.failures) == (0, 0, 0)


@pytest.mark.thorough
def test_a_failed_adjoint_spoils_the_gradient_and_is_counted():
    hasty = CrankNicolson(Affine(BiCGStab(1e-13), BiCGStab(1e-13, max_steps=1)))
    gradient, cotangent = jax.jit(jax.grad(lambda g, probe: rollout_loss(g, hasty, probe), (0, 1)))(
        given(), AdjointOutcome.probe()
    )
    assert AdjointOutcome.from_cotangent(cotangent).failures > 0
    assert all(np.isnan(part).all() for part in gradient)


@pytest.mark.thorough
@pytest.mark.parametrize("num_steps", [50, 100])
def test_memory_is_that_of_a_few_trajectories(num_steps: int):
    """One state a step is kept for the backward pass, and a few more states to work with."""
    grid = box(48, 32)
    times = TimeGrid.build(0.0, np.array([num_steps * 0.01]), 0.01)

    def loss(wind):
        system = advection_diffusion(grid, wind, 1e-3)
        start = {"concentration": wave(grid).astype(jnp.float32)}
        return jnp.sum(simulate(system, start, times, CrankNicolson()).states["concentration"] ** 2)

    wind = winds(grid).astype(jnp.float32)
    analysis = jax.jit(jax.grad(loss)).lower(wind).compile().memory_analysis()
    assert analysis is not None
    trajectory = num_steps * 48 * 32 * 4
    assert analysis.temp_size_in_bytes < 4 * trajectory
