"""Algebraic fields that do not satisfy their equations at the start are spoken of where felt."""

import jax.numpy as jnp
import pytest

from impindiff.integrate import SDIRK2, BackwardEuler, CrankNicolson
from impindiff.rollout import TimeGrid, consistent, simulate
from impindiff.systems import Field, Reaction, System

# u' = -p with p = (1 + t) u.
SYSTEM = System(
    None,
    {
        "u": [Reaction(lambda p: -p)],
        "p": Field([Reaction(lambda u, p, t: u * (1 + t) - p)], storage=0),
    },
)
ROUGH = {"u": jnp.array(1.0), "p": jnp.array(0.0)}


def error(start, stepper, dt: float) -> float:
    found = simulate(SYSTEM, start, TimeGrid.build(0.0, [1.0], dt), stepper)
    return float(found.states["u"][-1] - jnp.exp(-1.5))


@pytest.mark.thorough
def test_a_start_that_costs_an_order_is_warned_of():
    with pytest.warns(RuntimeWarning, match="'p' does not satisfy its equation at the start"):
        coarse = error(ROUGH, CrankNicolson(), 0.1)
    with pytest.warns(RuntimeWarning, match="or use SDIRK2"):
        fine = error(ROUGH, CrankNicolson(), 0.05)
    assert coarse / fine == pytest.approx(2, abs=0.2)


@pytest.mark.thorough
def test_nothing_is_said_where_it_is_not_felt(recwarn):
    start, _ = consistent(SYSTEM, ROUGH)
    for begin, stepper, order in (
        (start, CrankNicolson(), 2),
        (ROUGH, SDIRK2(), 2),
        (ROUGH, BackwardEuler(), 1),
    ):
        coarse, fine = (error(begin, stepper, dt) for dt in (0.1, 0.05))
        assert coarse / fine == pytest.approx(2**order, rel=0.1)
    simulate(
        SYSTEM, {f: 0 * u for f, u in ROUGH.items()}, TimeGrid.build(0, [1], 0.5), CrankNicolson()
    )
    assert not recwarn.list
