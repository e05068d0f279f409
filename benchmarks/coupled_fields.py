"""Three coupled fields: what a preconditioner saves where they react faster than they spread.

The work: A + B <-> C on the unit square, periodic, each field with a diffusivity of its own, five
backward Euler steps by Newton's method in float64, and the gradient of the mean square of the last
state with respect to the rate. Once where only the reaction is stiff, once where diffusion is, too.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce, median_seconds
from impindiff.integrate import AbstractDynamics, AbstractTendency

CELLS, STEPS, DT = 64, 5, 1e-2
DIFFUSIVITY = {"a": 1.0, "b": 0.5, "c": 0.2}
PRECONDITIONERS = {
    "none": None,
    "jacobi": ipd.preconditioners.Jacobi(),
    "block_jacobi": ipd.preconditioners.BlockJacobi(),
    "fourier": ipd.preconditioners.Fourier(),
    "multigrid": ipd.preconditioners.Multigrid("V", 1),
}


class Reacting(AbstractDynamics, AbstractTendency):
    """Its own right-hand side, nonlinear and the same at all times."""

    is_affine = False
    is_steady = True
    rate: Any
    spread: float = eqx.field(static=True)

    def at(self, time):
        """The same at all times."""
        return self

    def __call__(self, state):
        """The rate of change of the three fields."""
        made = self.rate * (state["a"] * state["b"] - 2 * state["c"])
        reaction = {"a": -made, "b": -made, "c": made}
        return {
            name: self.spread * DIFFUSIVITY[name] * laplacian(u) + reaction[name]
            for name, u in state.items()
        }


def laplacian(u):
    """Five points."""
    total = -4 * u
    for axis in (0, 1):
        total = total + jnp.roll(u, 1, axis) + jnp.roll(u, -1, axis)
    return total * CELLS**2


def measure(name: str, spread: float) -> dict[str, Any]:
    """One row of the table."""
    announce(f"{name}, spread {spread:g}")
    linear = ipd.solvers.BiCGStab(1e-8, max_steps=2000)
    solver = ipd.solvers.Newton(linear, linear, rtol=1e-8)
    stepper = ipd.BackwardEuler(solver, PRECONDITIONERS[name])
    time_grid = ipd.TimeGrid.build(0.0, [STEPS * DT], DT)
    random = np.random.default_rng(0)
    start = {field: jnp.asarray(random.uniform(0.5, 1.5, (CELLS, CELLS))) for field in DIFFUSIVITY}

    def loss(rate, start):
        found = ipd.simulate(Reacting(rate, spread), start, time_grid, stepper, on_failure="keep")
        return sum(jnp.mean(u[-1] ** 2) for u in found.states.values()), found.outcome

    rate = jnp.asarray(1e4)
    forward, gradient = jax.jit(loss), jax.jit(jax.grad(loss, has_aux=True))
    _, outcome = forward(rate, start)
    return {
        "preconditioner": name,
        "diffusion_number": spread * CELLS**2 * DT,
        "newton_steps": int(outcome.steps.sum()),
        "iterations": int(outcome.iterations.sum()),
        "converged": bool(outcome.converged.all()),
        "forward_seconds": median_seconds(partial(forward, rate, start), 5),
        "gradient_seconds": median_seconds(partial(gradient, rate, start), 5),
    }


def rows() -> Iterator[dict[str, Any]]:
    """One for each preconditioner and spread."""
    for spread in (1e-3, 1.0):
        for name in PRECONDITIONERS:
            with jax.enable_x64(True):
                row = measure(name, spread)
            yield row
