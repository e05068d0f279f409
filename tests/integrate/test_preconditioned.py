"""How often a stepper makes its preconditioner."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from smooth import box

from impindiff.implicit import Affine, Newton
from impindiff.integrate import AbstractDynamics, AbstractTendency, Theta
from impindiff.precondition import AbstractPreconditioner, Jacobi
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import advection_diffusion

NUM_STEPS = 5
STEPS = TimeGrid.build(0.0, [0.5], 0.1)


class Growth(AbstractDynamics, AbstractTendency):
    """u' = a u, said to be affine or steady or not."""

    is_affine: bool = eqx.field(static=True)
    is_steady: bool = eqx.field(static=True)

    def at(self, time):
        return self

    def __call__(self, state):
        return {"u": -0.5 * state["u"]}


class Counting(AbstractPreconditioner):
    """Calls back wherever it makes an approximate inverse."""

    called: Callable[[], None] = eqx.field(static=True)

    def make(self, operator):
        jax.debug.callback(self.called)
        return Jacobi().make(operator)


def times_made(system, state, keep=None) -> int:
    """How often the preconditioner is made, as seen when the program runs."""
    made = []

    solver = Affine() if system.prepare(jnp.dtype("float64")).is_affine else Newton()
    stepper = Theta(1.0, solver, Counting(lambda: made.append(1)), keep)
    run = jax.jit(lambda state: simulate(system, state, STEPS, stepper).states)
    jax.block_until_ready(run(state))
    jax.effects_barrier()
    return len(made)


@pytest.mark.many
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


@pytest.mark.thorough
def test_it_is_made_once_for_all_steps_of_an_assembled_system():
    grid = box(8, 6)
    system = advection_diffusion(grid, jnp.array([0.3, 0.2]), 0.1)
    assert times_made(system, {"concentration": jnp.ones(grid.shape)}) == 1
