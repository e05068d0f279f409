"""Capacities that depend on the state: $c(u)\\,\\dot u = F$."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smooth import box, wave

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.implicit import Newton
from impindiff.integrate import SDIRK2, BackwardEuler, RungeKutta4
from impindiff.latent import Parameter
from impindiff.linear import DenseLU
from impindiff.precondition import Fourier, TransformLine
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Diffusion, NoFlux

DIRECT = Newton(DenseLU(1e-13), DenseLU(1e-13), rtol=1e-13)


def end(system, initial, until, num_steps, stepper):
    times = TimeGrid.build(0.0, [until], until / num_steps)
    found = simulate(system, initial, times, stepper)
    found.check(times)
    return {field: np.asarray(u[-1]) for field, u in found.states.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("stepper, order", [(SDIRK2(DIRECT), 2), (RungeKutta4(), 4)])
def test_order_with_a_capacity(stepper, order):
    """u u' = -u^3: u = u0 / (1 + u0 t)."""
    system = System(box(4), {"u": Field([Reaction(lambda u: -(u**3))], capacity=lambda u: u)})
    start = wave(box(4))

    def error(num_steps):
        return float(
            np.linalg.norm(
                end(system, {"u": start}, 1.0, num_steps, stepper)["u"] - start / (1 + start)
            )
        )

    assert np.log2(error(16) / error(32)) == pytest.approx(order, abs=0.15)


@pytest.mark.thorough
def test_a_steady_capacity_is_a_storage():
    """Where it does not depend on the state, both say the same."""
    grid, terms = box(6), [Diffusion(0.1)]
    start = {"u": wave(grid)}
    weight = Parameter("weight", 2.0, (0.0, 5.0))
    divided = System(grid, {"u": Field(terms, capacity=lambda w: w)}, coefficients={"w": weight})
    stored = System(grid, {"u": Field(terms, storage=2.0)})
    one, other = (end(s, start, 0.5, 3, BackwardEuler(DIRECT))["u"] for s in (divided, stored))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert list(divided.latents()) == ["weight", "w"]


def test_what_is_refused():
    grid = box(4)

    def divided(capacity, **more) -> System:
        return System(grid, {"u": Field([Diffusion(0.1)], capacity=capacity, **more)})

    for wrong, message in (
        (0, "other than 0"),
        (True, "capacity of 'u' is True"),
        (lambda z: z, "the capacity of 'u'"),
    ):
        with pytest.raises(InputError, match=message):
            divided(wrong)
    with pytest.raises(InputError, match="a storage and a capacity"):
        divided(2.0, storage=2.0)
    with pytest.raises(InputError, match="the capacity of 'u' is inf"):
        divided(lambda u: 1 / (u - u)).check({"u": wave(grid)})


@pytest.mark.thorough
@pytest.mark.parametrize("make", [Fourier(), TransformLine(0)])
def test_preconditioners_know_the_ends_of_nonlinear_systems(make):
    """The modes of a field between two walls are cosines: one iteration where all is constant."""
    grid = Grid.uniform((12,), ((0.0, 1.0),))
    ends = {name: NoFlux() for name in grid.names}
    system = System(
        grid,
        {"u": Field([Diffusion(lambda u: 2.0 + 0 * u)], ends, capacity=lambda u: 3.0 + 0 * u)},
    )
    times = TimeGrid.build(0.0, [1.0], 0.5)
    found = simulate(system, {"u": wave(grid)}, times, BackwardEuler(Newton(), make))
    found.check(times)
    assert np.all(np.asarray(found.outcome.iterations) <= 1)


def test_a_capacity_may_be_differentiated_where_it_is_a_number():
    r"""$c\,\dot u = -u$: at $t = 1$ is $u = e^{-1/c}$."""
    times = TimeGrid.build(0.0, [1.0], 0.02)

    def end(capacity):
        system = System(None, {"u": Field([Reaction(lambda u: -u)], capacity=capacity)})
        return simulate(system, {"u": jnp.array(1.0)}, times, SDIRK2()).states["u"][-1]

    value, slope = jax.jit(jax.value_and_grad(end))(2.0)
    assert float(value) == pytest.approx(np.exp(-0.5), rel=1e-4)
    assert float(slope) == pytest.approx(np.exp(-0.5) / 4, rel=1e-4)

    def scaled(scale):
        return System(None, {"u": Field([Reaction(lambda u: -u)], scale=scale)})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equinox, on what is static
        with pytest.raises(InputError, match="the scale of 'u' is traced"):
            jax.eval_shape(scaled, 2.0)
