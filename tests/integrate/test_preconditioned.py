"""How often a stepper makes its preconditioner."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from smooth import box

from impindiff.implicit import Affine, Newton
from impindiff.integrate import Theta
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import advection_diffusion
from impindiff.terms import jacobi

NUM_STEPS = 5
STEPS = TimeGrid.build(0.0, [0.5], 0.1)


class Growth(eqx.Module):
    """u' = a u, told to be affine or steady or not."""

    is_affine: bool = eqx.field(static=True)
    is_steady: bool = eqx.field(static=True)

    def prepare(self, dtype):
        return self

    def at(self, time):
        return lambda state: {"u": -0.5 * state["u"]}


def times_made(system, state, keep=None) -> int:
    """How often the preconditioner is made, as seen when the program runs."""
    made = []

    def counting(tendency, weight, state):
        jax.debug.callback(lambda: made.append(1))
        return jacobi(tendency, weight, state)

    solver = Affine() if system.prepare(jnp.dtype("float64")).is_affine else Newton()
    stepper = Theta(1.0, solver, counting, keep)
    run = jax.jit(lambda state: simulate(system, state, STEPS, stepper).states)
    jax.block_until_ready(run(state))
    jax.effects_barrier()
    return len(made)


@pytest.mark.parametrize(
    "affine, steady, keep, expected",
    [
        (True, True, None, 1),
        (True, False, None, NUM_STEPS),
        (False, True, None, NUM_STEPS),
        (True, False, True, 1),
        (False, True, True, 1),
        (True, True, False, NUM_STEPS),
    ],
)
def test_it_is_made_once_where_the_jacobian_stays(affine, steady, keep, expected):
    assert times_made(Growth(affine, steady), {"u": jnp.ones(6)}, keep) == expected


def test_it_is_made_once_for_all_steps_of_an_assembled_system():
    grid = box(8, 6)
    system = advection_diffusion(grid, jnp.array([0.3, 0.2]), 0.1)
    assert times_made(system, {"concentration": jnp.ones(grid.shape)}) == 1
