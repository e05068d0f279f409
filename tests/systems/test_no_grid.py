"""Systems without a grid: ordinary differential equations, and with algebraic ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate

from impindiff._errors import InputError
from impindiff.implicit import Newton
from impindiff.integrate import SDIRK2, CrankNicolson, RungeKutta4
from impindiff.latent import Parameter
from impindiff.linear import DenseLU
from impindiff.rollout import Snapshots, TimeGrid, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Diffusion, Source

DIRECT = Newton(DenseLU(1e-13), DenseLU(1e-13), rtol=1e-14)


def robertson(slow=0.04) -> System:
    """Three species, three rates that differ by nine orders of magnitude."""
    return System(
        None,
        {
            "a": [Reaction(lambda first, second: second - first)],
            "b": Field([Reaction(lambda first, second, third: first - second - third)], scale=1e-5),
            "c": [Reaction(lambda third: third)],
        },
        coefficients={
            "first": lambda a, slow: slow * a,
            "second": lambda b, c: 1e4 * b * c,
            "third": lambda b: 3e7 * b**2,
            "slow": slow,
        },
    )


START = {"a": jnp.array(1.0), "b": jnp.array(0.0), "c": jnp.array(0.0)}


@pytest.mark.thorough
def test_robertson_at_the_end_of_seventeen_decades():
    """Published in the IVP test set; SDIRK-2 reaches it at its order."""
    published = np.array([0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050])

    def end(num_steps: int) -> np.ndarray:
        times = TimeGrid.build(0.0, np.geomspace(1e-6, 1e11, num_steps), 1e12)
        found = jax.jit(lambda u: simulate(robertson(), u, times, SDIRK2(DIRECT)))(START)
        found.check(times)
        return np.array([found.states[name][-1] for name in "abc"])

    coarse, fine = end(200), end(400)
    assert fine.sum() == pytest.approx(1, abs=1e-12)
    errors = [np.abs(values / published - 1)[:2] for values in (coarse, fine)]
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), 2, atol=0.1)
    np.testing.assert_allclose((4 * fine - coarse) / 3, published, rtol=5e-5)


@pytest.mark.thorough
def test_the_default_solver_takes_stiff_steps_in_single_precision():
    times = TimeGrid.build(0.0, [40.0], 0.5)
    start = jax.tree.map(lambda u: u.astype(jnp.float32), START)
    found = jax.jit(lambda u: simulate(robertson(), u, times, SDIRK2()))(start)
    found.check(times)
    # Hairer and Wanner's reference at t = 40.
    assert float(found.states["a"][-1]) == pytest.approx(0.7158, abs=2e-3)


@pytest.mark.slow
def test_gradients_with_respect_to_an_unknown_rate():
    """In all of its memory policies."""
    times = TimeGrid.build(0.0, np.geomspace(1e-3, 1e2, 6), 1e3)
    unknown = jax.tree.map(lambda a: a.astype(jnp.float64), Parameter("slow", 0.04, (0.0, jnp.inf)))

    def loss(rate, memory=None):
        options = {} if memory is None else {"memory": memory}
        found = simulate(robertson(rate), START, times, SDIRK2(DIRECT), **options).states
        return jnp.sum(found["a"] ** 2) + jnp.sum(found["c"] ** 3)

    assert taylor_rate(loss, unknown, step=1e-1) == pytest.approx(2, abs=0.1)
    kept, recomputed = (
        jax.jit(jax.grad(lambda rate, m=memory: loss(rate, m)))(unknown).raw
        for memory in (None, Snapshots(2))
    )
    assert float(recomputed) == pytest.approx(float(kept), rel=1e-9)


def test_fields_may_be_small_vectors():
    """A pendulum in Cartesian coordinates, linearised: x'' = -x by two vectors."""
    system = System(None, {"x": [Reaction(lambda v: v)], "v": [Reaction(lambda x: -x)]})
    start = {"x": jnp.array([1.0, 0.0]), "v": jnp.array([0.0, 1.0])}
    times = TimeGrid.build(0.0, [1.0], 0.05)
    found = simulate(system, start, times, RungeKutta4()).states["x"][-1]
    np.testing.assert_allclose(found, [np.cos(1), np.sin(1)], atol=1e-6)
    assert system.latents() == {}


def test_forces_may_vary_in_time():
    system = System(None, {"u": [Reaction(lambda t, u: -u + jnp.sin(t))]})
    times = TimeGrid.build(0.0, [2.0], 0.01)
    found = simulate(system, {"u": jnp.array(0.0)}, times, CrankNicolson()).states["u"][-1]
    assert float(found) == pytest.approx((np.sin(2) - np.cos(2) + np.exp(-2)) / 2, abs=1e-5)


def test_an_unknown_constant_is_a_latent_of_shape_one_number():
    system = System(None, {"u": [Reaction(lambda u, k: -k * u, k=Parameter("k", 0.5, (0, 1)))]})
    assert system.latents()["k"].shape == ()


@pytest.mark.parametrize(
    "terms, state, said",
    [
        ([Diffusion(1.0)], {"u": jnp.ones(())}, "Diffusion, which needs a grid"),
        ([Reaction(lambda u: u)], {"w": jnp.ones(())}, "the state has the fields w, the system u"),
        (
            [Reaction(lambda u: jnp.stack([u, u]))],
            {"u": jnp.ones(())},
            r"a term of 'u' gives a rate of shape \(2,\), the field has \(\)",
        ),
        ([Source(jnp.ones(3))], {"u": jnp.ones(2)}, r"a rate of shape \(3,\)"),
    ],
)
def test_terms_that_make_no_sense_are_refused(terms, state, said: str):
    with pytest.raises(InputError, match=said):
        simulate(System(None, {"u": terms}), state, TimeGrid.build(0.0, [1.0], 1.0), RungeKutta4())
