"""Twenty implicit steps and their gradient, beside the solvers that others offer in JAX.

The work: periodic advection-diffusion, 128 x 64 cells, 10 samples, 20 Crank-Nicolson steps of
1e-2, float32; the gradient is that of the mean square of the last state with respect to the
velocity field. Once with D = 1e-3, where an explicit method would do as well, and once stiff, with
D = 1. Same stencil, same loop; only the solver of the step differs. Others take a tolerance of 1e-6
of the state; ours is of what a step changes, here about a hundredth of the state: 1e-4, and 1e-5 by
default. "chosen" is what `fit`, and `simulate` outside of `jit`, take where no solver is named;
"traced" is what is left where the coefficients are not known when the choice is made. Errors are
against our own solver in float64 with tolerances of 1e-12. GMRES of lineax and picardax are left
out where D = 1: they take minutes there. What takes a second a call is repeated less often, see
`median_seconds`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce, leave_out, median_seconds
from impindiff.cases import CASES

STEPS, DT, RTOL, OF_CHANGE = 20, 1e-2, 1e-6, 1e-4
TOO_SLOW_WHERE_STIFF = ("lineax GMRES", "picardax Newton, BiCGStab")


def rollout_with(solve):
    """The same steps around a linear solver `solve(operator, rhs, guess)`."""

    def run(dynamics, initial):
        tendency = dynamics.at(jnp.zeros(()))

        def operator(u):
            return u - DT / 2 * tendency({"c": u})["c"]

        def step(u, _):
            rhs = u + DT / 2 * tendency({"c": u})["c"]
            return solve(operator, rhs, u), None

        return jax.lax.scan(step, initial["c"], None, length=STEPS)[0]

    return run


def impindiff_run(rtol, adjoint_rtol, system, initial, preconditioner=None):
    """Our own rollout."""
    solver = ipd.solvers.Affine(ipd.solvers.BiCGStab(rtol), ipd.solvers.BiCGStab(adjoint_rtol))
    time_grid = ipd.TimeGrid.build(0.0, np.array([STEPS * DT]), DT)
    stepper = ipd.CrankNicolson(solver, preconditioner)
    return ipd.simulate(system, initial, time_grid, stepper).states["c"][-1]


def default_run(stepper, system, initial):
    """Our own rollout with default tolerances."""
    time_grid = ipd.TimeGrid.build(0.0, np.array([STEPS * DT]), DT)
    return ipd.simulate(system, initial, time_grid, stepper).states["c"][-1]


def lineax_solve(operator, rhs, guess):
    """Solve with lineax's BiCGStab."""
    function = lx.FunctionLinearOperator(operator, jax.eval_shape(lambda: rhs))
    # With an absolute tolerance near zero its adjoint ends in a breakdown here; with this one the
    # adjoint may stop early, since its right-hand sides are small. No guess is given: it would be
    # handed to the adjoint solve, too, where it is far from the solution.
    solver = lx.BiCGStab(rtol=RTOL, atol=RTOL)
    return lx.linear_solve(function, rhs, solver, throw=False).value


def lineax_gmres(operator, rhs, guess):
    """Solve with lineax's GMRES."""
    function = lx.FunctionLinearOperator(operator, jax.eval_shape(lambda: rhs))
    return lx.linear_solve(function, rhs, lx.GMRES(RTOL, RTOL), throw=False).value


def picardax_run(dynamics, initial):
    """The same steps by picardax: one Newton step a time step, its system by its BiCGStab."""
    import picardax

    class Transport(picardax.RHS):
        tendency: Any

        def linearized_operator(self, u, u_linearized):
            return self.tendency({"c": u})["c"]

    class Step(picardax.Residuum):
        known: jax.Array

        def linearized_residual(self, u_next, u_prev, u_linearized):
            return u_next - DT / 2 * self.rhs.linearized_operator(u_next, u_next) - self.known

    tendency = dynamics.at(jnp.zeros(()))
    linear = picardax.BiCGStab(tol=RTOL, throw=False)
    solver = picardax.Newton(linear_solver=linear, tol=RTOL, throw=False, diff_mode="implicit")

    def step(u, _):
        known = u + DT / 2 * tendency({"c": u})["c"]
        return solver(Step(rhs=Transport(tendency), known=known), u), None

    return jax.lax.scan(step, initial["c"], None, length=STEPS)[0]


def scipy_solve(operator, rhs, guess):
    """Solve with jax.scipy's bicgstab, which differentiates by `custom_linear_solve` itself."""
    return jax.scipy.sparse.linalg.bicgstab(operator, rhs, x0=guess, tol=RTOL)[0]


def rows() -> Iterator[dict[str, Any]]:
    """One for each diffusivity and solver."""
    data = CASES["advection-diffusion-steady"].generate(10, 0)
    grid = ipd.grid_of(data, "concentration")
    fields = {}
    for dtype in (jnp.float32, jnp.float64):
        with jax.enable_x64(dtype == jnp.float64):
            velocity = np.stack([data["advection_x"].values, data["advection_y"].values])
            initial = jnp.asarray(data["concentration"].values[:, 0], dtype)
            fields[dtype] = jnp.asarray(velocity, dtype), initial

    def system_of(diffusivity, velocity):
        return ipd.System(grid, {"c": [ipd.Advection(velocity), ipd.Diffusion(diffusivity)]})

    def loss(run, diffusivity, velocity, initial):
        system = system_of(diffusivity, velocity)
        return jnp.mean(jax.vmap(lambda u: run(system, {"c": u}))(initial) ** 2)

    def chosen(diffusivity):
        velocity, initial = fields[jnp.float32]
        return ipd.solvers.select_solver(
            system_of(diffusivity, velocity), {"c": initial[0]}, DT
        ).stepper

    def prepared(run):
        return lambda system, initial: run(system.prepare(jnp.float32), initial)

    runs: dict[str, Any] = {
        "impindiff": partial(impindiff_run, OF_CHANGE, OF_CHANGE),
        "impindiff, chosen": None,
        "impindiff, traced": partial(default_run, ipd.CrankNicolson()),
        "impindiff, fourier": partial(
            impindiff_run, OF_CHANGE, OF_CHANGE, preconditioner=ipd.preconditioners.Fourier()
        ),
        "impindiff, multigrid": partial(
            impindiff_run,
            OF_CHANGE,
            OF_CHANGE,
            preconditioner=ipd.preconditioners.Multigrid("V", 1),
        ),
        "lineax BiCGStab": prepared(rollout_with(lineax_solve)),
        "lineax GMRES": prepared(rollout_with(lineax_gmres)),
        "jax.scipy bicgstab": prepared(rollout_with(scipy_solve)),
        "picardax Newton, BiCGStab": prepared(picardax_run),
    }
    for diffusivity in (1e-3, 1.0):
        announce(f"D = {diffusivity}: the reference in float64")
        with jax.enable_x64(True):
            tight = partial(
                impindiff_run, 1e-12, 1e-12, preconditioner=ipd.preconditioners.Fourier()
            )
            exact = jax.jit(jax.grad(partial(loss, tight, diffusivity)))
            reference = np.asarray(exact(*fields[jnp.float64]))
        runs["impindiff, chosen"] = partial(default_run, chosen(diffusivity))
        for name, run in runs.items():
            if diffusivity == 1 and name in TOO_SLOW_WHERE_STIFF:
                continue
            announce(f"D = {diffusivity}: {name}")
            objective = partial(loss, run, diffusivity)
            forward = jax.jit(objective)
            try:
                gradient = jax.jit(jax.grad(objective)).lower(*fields[jnp.float32]).compile()
            except ImportError as missing:
                leave_out(name, missing)
                continue
            found = np.asarray(gradient(*fields[jnp.float32]), np.float64)
            error = np.linalg.norm(found - reference) / np.linalg.norm(reference)
            yield {
                "diffusivity": diffusivity,
                "solver": name,
                "forward_seconds": median_seconds(partial(forward, *fields[jnp.float32])),
                "gradient_seconds": median_seconds(partial(gradient, *fields[jnp.float32])),
                "temporaries_mib": gradient.memory_analysis().temp_size_in_bytes / 2**20,
                "gradient_error": float(error),
            }
