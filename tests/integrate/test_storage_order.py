"""Diagonally implicit methods keep their order with a storage and an algebraic field."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from impindiff.implicit import Newton
from impindiff.integrate import ESDIRK3, ESDIRK4, ESDIRK5
from impindiff.linear import DenseLU
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, Reaction, System

UNTIL = 2.0


@pytest.mark.many
@pytest.mark.parametrize("make, order", [(ESDIRK3, 3), (ESDIRK4, 4), (ESDIRK5, 5)])
def test_order_with_storage_and_an_algebraic_field(make, order: int):
    """$(x + x^3)' = -z x + cos t$ with $z = 1 + x^2$: for scipy, an equation of $x$ alone."""
    system = System(
        None,
        {
            "x": Field([Reaction(lambda x, z, t: jnp.cos(t) - z * x)], storage=lambda x: x + x**3),
            "z": Field([Reaction(lambda x, z: 1 + x**2 - z)], storage=0),
        },
    )
    start = {"x": jnp.array(1.0), "z": jnp.array(2.0)}
    eliminated = solve_ivp(
        lambda t, x: (np.cos(t) - (1 + x**2) * x) / (1 + 3 * x**2),
        (0, UNTIL),
        [1.0],
        method="DOP853",
        rtol=1e-13,
        atol=1e-13,
    )
    x = eliminated.y[0, -1]
    stepper = make(Newton(DenseLU(), rtol=1e-13))

    @jax.jit
    def end(times: TimeGrid) -> dict[str, jax.Array]:
        return {f: u[-1] for f, u in simulate(system, start, times, stepper).states.items()}

    def errors(num_steps: int) -> np.ndarray:
        found = end(TimeGrid.build(0.0, [UNTIL], UNTIL / num_steps))
        return np.abs([found["x"] - x, found["z"] - (1 + x**2)])

    coarse, fine = errors(10), errors(20)
    np.testing.assert_allclose(np.log2(coarse / fine), order, atol=0.2)
