"""The memory of a gradient: against iterations allowed, the unrolled way, and peers.

Bytes are the temporaries of the compiled gradient, by XLA's own account; nothing need be run for
them. First one backward-Euler step of periodic advection-diffusion on 128 x 64 cells in float32,
with 5, 50 and 500 iterations allowed. Then one implicit step of a nonlinear reaction-diffusion
equation on 3,000 cells, beside diffrax's `ImplicitEuler` with Newton's method and GMRES.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import impindiff as ipd
from impindiff.benchmark import announce, leave_out
from impindiff.implicit import UnrolledAdjoint, root

CELLS = 3000


def temporaries(function, *arguments) -> int:
    """Bytes that XLA sets aside for a compiled function, beyond arguments and results."""
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return analysis.temp_size_in_bytes


def one_step(max_steps: int, unrolled: bool, velocity, state):
    """The loss of one step of advection-diffusion."""
    grid = ipd.Grid.uniform((128, 64), ((0.0, 1.0), (0.0, 1.0)), periodic=True)
    system = ipd.advection_diffusion(grid, velocity, 1e-3, field="c")
    linear = ipd.solvers.BiCGStab(1e-6, max_steps=max_steps)
    solver = ipd.solvers.Affine(linear, UnrolledAdjoint() if unrolled else linear)
    time_grid = ipd.TimeGrid.build(0.0, [1e-2], 1e-2)
    trajectory = ipd.simulate(system, {"c": state}, time_grid, ipd.BackwardEuler(solver))
    return jnp.mean(trajectory.states["c"][-1] ** 2)


def reaction_diffusion(unknown, diffusivity):
    """A stiff nonlinear right-hand side on a line."""
    second = jnp.roll(unknown, 1) - 2 * unknown + jnp.roll(unknown, -1)
    return diffusivity * second * CELLS**2 + unknown - unknown**3


def residual(unknown, inputs):
    """One backward-Euler step of it."""
    diffusivity, known = inputs
    return unknown - known - 1e-2 * reaction_diffusion(unknown, diffusivity)


def ours(diffusivity, state):
    """The loss of our step."""
    linear = ipd.solvers.GMRES(1e-6, max_steps=100, restart=20)
    found, _ = root(residual, state, (diffusivity, state), ipd.solvers.Newton(linear, linear))
    return jnp.sum(found**2)


def diffrax_step(diffusivity, state):
    """The loss of the same step by diffrax."""
    import diffrax
    import lineax as lx
    import optimistix as optx

    finder = optx.Newton(rtol=1e-6, atol=1e-6, linear_solver=lx.GMRES(rtol=1e-6, atol=1e-6))
    term = diffrax.ODETerm(lambda t, y, args: reaction_diffusion(y, args))
    found = diffrax.diffeqsolve(
        term,
        diffrax.ImplicitEuler(root_finder=finder),
        0.0,
        1e-2,
        1e-2,
        state,
        args=diffusivity,
        max_steps=4,
        throw=False,
    )
    return jnp.sum(found.ys[-1] ** 2)


def rows() -> Iterator[dict[str, Any]]:
    """First those of advection-diffusion, then those of reaction-diffusion."""
    velocity = jnp.full((2, 128, 64), 0.5)
    field = jnp.sin(jnp.arange(128 * 64.0)).reshape(128, 64)
    for unrolled in (False, True):
        for max_steps in (5, 50, 500):
            name = "impindiff, unrolled" if unrolled else "impindiff"
            announce(f"{name}, {max_steps} iterations allowed")
            step = partial(one_step, max_steps, unrolled)
            yield {
                "work": "advection-diffusion, 128 x 64",
                "solver": name,
                "iterations_allowed": max_steps,
                "forward_mib": temporaries(step, velocity, field) / 2**20,
                "gradient_mib": temporaries(jax.grad(step), velocity, field) / 2**20,
            }
    line = jnp.cos(jnp.arange(float(CELLS)))
    for name, step in (("impindiff", ours), ("diffrax ImplicitEuler", diffrax_step)):
        announce(name)
        try:
            forward = temporaries(step, jnp.array(1e-3), line)
        except ImportError as missing:
            leave_out(name, missing)
            continue
        yield {
            "work": "reaction-diffusion, 3,000",
            "solver": name,
            "forward_mib": forward / 2**20,
            "gradient_mib": temporaries(jax.grad(step), jnp.array(1e-3), line) / 2**20,
        }
