"""Two hundred nonlinear steps and their gradient, beside the root finders that others offer in JAX.

The work: Burgers' equation on [-1, 1], periodic, 1,024 cells, 200 Crank-Nicolson steps of 1e-3,
float32; the gradient is that of the mean square of the last state with respect to a viscosity of
its own at every face (0.01 / pi throughout). Same residual, same loop over steps; only what finds
the root differs. Others take a tolerance of 1e-6 of the state; ours is of what a step changes, here
a six hundredth of the state: 6e-4, and 1e-6 for the adjoint. Errors are against our own
solver in float64 with tolerances of 1e-12.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce, leave_out, median_seconds
from impindiff.implicit import root

CELLS, STEPS, DT, VISCOSITY = 1024, 200, 1e-3, 0.01 / np.pi
RTOL, OF_CHANGE = 1e-6, 6e-4


def tendency(u, viscosity):
    """Conservative central differences; the quadratic flux keeps the energy."""
    ahead = jnp.roll(u, -1)
    width = 2 / CELLS
    flux = (u * u + u * ahead + ahead * ahead) / 6 - viscosity * (ahead - u) / width
    return (jnp.roll(flux, 1) - flux) / width


def residual(unknown, inputs):
    """One Crank-Nicolson step as a root."""
    viscosity, known = inputs
    return unknown - DT / 2 * tendency(unknown, viscosity) - known


def loss(find_root, viscosity, initial):
    """The mean square of the last state; `find_root(guess, inputs)` finds a step's root."""

    def step(u, _):
        known = u + DT / 2 * tendency(u, viscosity)
        return find_root(u, (viscosity, known)), None

    return jnp.mean(jax.lax.scan(step, initial, None, length=STEPS)[0] ** 2)


def ours(solver, guess, inputs):
    """Our implicit layer."""
    return root(residual, guess, inputs, solver)[0]


def optimistix_root():
    """Newton's method of optimistix, its systems by lineax's GMRES."""
    import lineax as lx
    import optimistix as optx

    linear = lx.GMRES(rtol=RTOL, atol=RTOL)
    solver = optx.Newton(rtol=RTOL, atol=RTOL, linear_solver=linear)
    adjoint = optx.ImplicitAdjoint(linear_solver=linear)

    def find_root(guess, inputs):
        return optx.root_find(
            residual, solver, guess, inputs, adjoint=adjoint, max_steps=30, throw=False
        ).value

    return find_root


def jaxopt_root():
    """Anderson's acceleration of jaxopt, with its implicit differentiation."""
    import jaxopt

    solver = jaxopt.AndersonAcceleration(
        lambda u, inputs: u - residual(u, inputs), tol=RTOL, maxiter=100, implicit_diff=True
    )
    return lambda guess, inputs: solver.run(guess, inputs).params


def picardax_root():
    """Newton's method of picardax, its systems by jax.scipy's BiCGStab."""
    import picardax

    class Burgers(picardax.RHS):
        viscosity: jax.Array

        def linearized_operator(self, u, u_linearized):
            return tendency(u, self.viscosity)

    class Step(picardax.Residuum):
        known: jax.Array

        def linearized_residual(self, u_next, u_prev, u_linearized):
            return u_next - DT / 2 * self.rhs.linearized_operator(u_next, u_next) - self.known

    linear = picardax.BiCGStab(tol=RTOL, throw=False)
    solver = picardax.Newton(linear_solver=linear, tol=RTOL, throw=False, diff_mode="implicit")

    def find_root(guess, inputs):
        viscosity, known = inputs
        return solver(Step(rhs=Burgers(viscosity), known=known), guess)

    return find_root


def solvers(rtol: float) -> dict[str, Callable[[], Callable]]:
    """What finds the roots, by name; ours first."""

    def newton(linear):
        return partial(ours, ipd.solvers.Newton(linear(rtol), linear(RTOL), rtol))

    return {
        "impindiff Newton, tridiagonal": lambda: newton(ipd.solvers.Tridiagonal),
        "impindiff Newton, BiCGStab": lambda: newton(ipd.solvers.BiCGStab),
        "impindiff Anderson": lambda: partial(
            ours, ipd.solvers.Anderson(ipd.solvers.BiCGStab(RTOL), rtol=rtol)
        ),
        "optimistix Newton, GMRES": optimistix_root,
        "jaxopt Anderson": jaxopt_root,
        "picardax Newton, BiCGStab": picardax_root,
    }


def rows() -> Iterator[dict[str, Any]]:
    """One for each root finder."""
    x = -1 + 2 / CELLS * (np.arange(CELLS) + 0.5)
    start, viscosity = -np.sin(np.pi * x), np.full(CELLS, VISCOSITY)
    with jax.enable_x64(True):
        exact = partial(
            ours,
            ipd.solvers.Newton(
                ipd.solvers.Tridiagonal(1e-12), ipd.solvers.Tridiagonal(1e-12), 1e-12
            ),
        )
        given = jnp.asarray(viscosity), jnp.asarray(start)
        reference = np.asarray(jax.jit(jax.grad(partial(loss, exact)))(*given))
    given = jnp.asarray(viscosity, jnp.float32), jnp.asarray(start, jnp.float32)
    for name, make in solvers(OF_CHANGE).items():
        announce(name)
        try:
            find_root = make()
        except ImportError as missing:
            leave_out(name, missing)
            continue
        objective = partial(loss, find_root)
        forward = jax.jit(objective)
        gradient = jax.jit(jax.grad(objective)).lower(*given).compile()
        found = np.asarray(gradient(*given), np.float64)
        error = np.linalg.norm(found - reference) / np.linalg.norm(reference)
        yield {
            "solver": name,
            "forward_seconds": median_seconds(partial(forward, *given), 7),
            "gradient_seconds": median_seconds(partial(gradient, *given), 7),
            "temporaries_mib": gradient.memory_analysis().temp_size_in_bytes / 2**20,
            "gradient_error": float(error),
        }
