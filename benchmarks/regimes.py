"""Implicit and explicit steps where problems are mild, and where they are stiff.

The work: five samples in float32 from smooth random fields, carried on for twice as long as their
case is trained; forward, and the gradient of a loss at the last time with respect to the unknown
coefficient, a value in each cell. Problems:

- the paper's advection-diffusion, D = 1e-3, and Burgers' equation, 128 x 64 cells: mild;
- the former with D = 1: stiff;
- the former on 512 x 256 cells with D = 1e-2: stiff by its cells.

Methods, with `limit` the longest stable step of forward Euler at the first state:

- implicit steps of the case's dt, Crank-Nicolson or, where that would ring, SDIRK-2; and of four
  times the limit, unless that is shorter;
- Runge-Kutta 4 in as many parts of the case's dt as are stable;
- forward Euler at four times the limit: it blows up, and the row says when.

The last row is vapour infiltration, one sample in one dimension over six days in float64: SDIRK-2,
and what explicit steps would take: their number, by the limit, times the time that one takes.

Errors are relative L1 errors at the last time in percent, means over samples, against the same
equations in float64 by Runge-Kutta 4 at a third of its longest stable step. `growth` is the largest
magnitude at the last time over the largest at first. Seconds are medians of three, temporaries
XLA's own account of the compiled gradient.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce, median_seconds
from impindiff.cases.vapour_infiltration import system as slab_of

# No gradient is taken that needs more than this.
MOST_BYTES = 6 * 2**30


class Problem(NamedTuple):
    """A system around an unknown, and how it is stepped."""

    cells: tuple[int, int]
    make: Callable[[ipd.Grid, Any], ipd.System]
    unknown: Callable[[Any, Any], Any]
    last: float
    dt: float
    implicit: Any


def transport(diffusivity: float) -> Callable[[ipd.Grid, Any], ipd.System]:
    """Advection by an unknown velocity, and diffusion."""
    return lambda grid, velocity: ipd.advection_diffusion(grid, velocity, diffusivity, field="u")


def burgers(grid: ipd.Grid, diffusivity: Any) -> ipd.System:
    """The paper's scalar equation."""
    carry = ipd.Advection(lambda u: (u / 2, u / 2), "central")
    return ipd.System(grid, {"u": [carry, ipd.Diffusion(diffusivity)]})


def wind(x, y):
    """Between 0 and 1, as the paper's."""
    along = 0.5 + 0.3 * jnp.sin(jnp.pi * (x + 2 * y)) + 0.2 * jnp.cos(2 * jnp.pi * x)
    across = 0.5 + 0.3 * jnp.cos(jnp.pi * (x - 2 * y)) + 0.2 * jnp.sin(2 * jnp.pi * (x + y))
    return jnp.stack([along, across])


def conductivity(x, y):
    """Between 1e-3 and 1e-2, as the paper's."""
    return 5.5e-3 + 4.5e-3 * jnp.sin(jnp.pi * x) * jnp.cos(2 * jnp.pi * y)


KRYLOV = ipd.solvers.Affine(ipd.solvers.BiCGStab(rtol=1e-5))
PROBLEMS = {
    "advection-diffusion": Problem(
        (128, 64), transport(1e-3), wind, 0.4, 1e-2, ipd.CrankNicolson(KRYLOV)
    ),
    "Burgers": Problem((128, 64), burgers, conductivity, 0.7, 1e-2, ipd.CrankNicolson()),
    "advection-diffusion, D = 1": Problem(
        (128, 64),
        transport(1.0),
        wind,
        0.1,
        1e-2,
        ipd.steppers.SDIRK2(KRYLOV, ipd.preconditioners.Fourier()),
    ),
    "advection-diffusion, 512 x 256, D = 1e-2": Problem(
        (512, 256),
        transport(1e-2),
        wind,
        0.1,
        1e-2,
        ipd.CrankNicolson(KRYLOV, ipd.preconditioners.Fourier()),
    ),
}


def smooth_fields(grid: ipd.Grid, samples: int = 5, seed: int = 0) -> np.ndarray:
    """Sums of a few waves with random amplitudes, scaled to [0, 1]."""
    rng = np.random.default_rng(seed)
    waves = np.zeros((samples, *grid.shape))
    phase = [np.indices(grid.shape)[k] * 2 * np.pi / n for k, n in enumerate(grid.shape)]
    for i in range(-4, 5):
        for j in range(5):
            size = rng.standard_normal((2, samples, 1, 1)) * math.exp(-(i * i + j * j) / 8)
            angle = i * phase[0] + j * phase[1]
            waves += size[0] * np.cos(angle) + size[1] * np.sin(angle)
    low, high = waves.min((1, 2), keepdims=True), waves.max((1, 2), keepdims=True)
    return (waves - low) / (high - low)


def last_states(problem: Problem, grid, stepper, dt, unknown, initial):
    """Of all samples, and whether every solve on the way converged."""
    system = problem.make(grid, unknown)
    steps = ipd.TimeGrid.build(0.0, [problem.last], dt)
    policy = ipd.memory.Snapshots(min(steps.num_steps, max(40, math.isqrt(steps.num_steps))))

    def run(u):
        return ipd.simulate(system, {"u": u}, steps, stepper, memory=policy, on_failure="keep")

    found = jax.vmap(run)(initial)
    return found.states["u"][:, -1], found.outcome.converged.all()


def measure(problem: Problem, grid, stepper, dt, unknown, initial, exact) -> dict[str, Any]:
    """A row's figures."""
    run = partial(last_states, problem, grid, stepper, dt)

    def loss(unknown):
        last, converged = run(unknown, initial)
        return jnp.mean((last - exact) ** 2), (last, converged)

    forward = jax.jit(run)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(unknown).compile()
    needed = gradient.memory_analysis().temp_size_in_bytes
    last, converged = forward(unknown, initial)
    error = np.abs(np.asarray(last, np.float64) - exact).sum((1, 2)) / np.abs(exact).sum((1, 2))
    figures = {
        "forward_seconds": median_seconds(lambda: forward(unknown, initial), 3, warm=True),
        "gradient_mib": needed / 2**20,
        "error_percent": float(100 * error.mean()),
        "growth": float(jnp.abs(last).max() / jnp.abs(initial).max()),
        "converged": bool(converged),
    }
    if needed < MOST_BYTES:
        figures["gradient_seconds"] = median_seconds(lambda: gradient(unknown), 3)
    return figures


def blow_up(problem: Problem, grid, dt, unknown, initial) -> dict[str, Any]:
    """When forward Euler exceeds a thousand times what it began with."""
    steps = ipd.TimeGrid.build(0.0, np.arange(1, round(problem.last / dt) + 1) * dt, dt)
    system = problem.make(grid, unknown)
    found = ipd.simulate(system, {"u": initial[0]}, steps, ipd.steppers.ForwardEuler())
    largest = np.abs(np.asarray(found.states["u"])).max((1, 2)) / np.abs(initial[0]).max()
    gone = ~(largest < 1e3)
    at = float(steps.saved[gone.argmax()]) if gone.any() else None
    return {"growth": float(largest[-1]), "blows_up_at": at}


def rows_of(name: str, problem: Problem) -> Iterator[dict[str, Any]]:
    """The rows of a problem."""
    grid = ipd.Grid.uniform(problem.cells, ((-1.0, 1.0), (0.0, 1.0)), periodic=True)
    initial = smooth_fields(grid)
    announce(f"{name}: the exact solution")
    with jax.enable_x64(True):
        x, y = (
            jnp.asarray(c)
            for c in np.meshgrid(*(axis.centres for axis in grid.axes), indexing="ij")
        )
        unknown = problem.unknown(x, y)
        system = problem.make(grid, unknown)
        first = {"u": jnp.asarray(initial[0])}
        limit = ipd.steppers.stable_dt(system, first, ipd.steppers.ForwardEuler())
        longest = ipd.steppers.stable_dt(system, first, ipd.steppers.RungeKutta4())
        exact = last_states(
            problem, grid, ipd.steppers.RungeKutta4(), longest / 3, unknown, jnp.asarray(initial)
        )
        exact = np.asarray(exact[0])
    unknown, initial = jnp.asarray(np.asarray(unknown), jnp.float32), jnp.float32(initial)
    # A tenth less: it is found to a few percent, at the first state.
    parts = max(1, math.ceil(problem.dt / (0.9 * longest)))
    methods = [
        ("implicit", problem.implicit, problem.dt),
        (f"Runge-Kutta 4, {parts} substeps", ipd.steppers.RungeKutta4(parts), problem.dt),
    ]
    if 4 * limit > problem.dt:
        methods.insert(1, ("implicit, 4 times the limit", problem.implicit, 4 * limit))
    for method, stepper, dt in methods:
        announce(f"{name}: {method}")
        steps = ipd.TimeGrid.build(0.0, [problem.last], dt).num_steps
        row = {"problem": name, "method": method, "dt": dt, "dt_over_limit": dt / limit}
        yield (
            row
            | {"steps": steps}
            | measure(problem, grid, stepper, dt, unknown, initial, jnp.float32(exact))
        )
    dt = 4 * limit
    announce(f"{name}: forward Euler, too long")
    row = {"problem": name, "method": "forward Euler, 4 times the limit", "dt": dt}
    yield row | {"dt_over_limit": 4.0} | blow_up(problem, grid, dt, unknown, initial)


def vapour_rows() -> Iterator[dict[str, Any]]:
    """Vapour infiltration, and what explicit steps would take."""
    announce("vapour infiltration")
    with jax.enable_x64(True):
        grid, days = slab_of.slab(), 6
        system = slab_of.build(grid, T_gas=1273.0, known=True)
        first = slab_of.start(system)
        dt = slab_of.DAY / 4
        steps = ipd.TimeGrid.build(0.0, [days * slab_of.DAY], dt)
        run = jax.jit(lambda u: ipd.simulate(system, u, steps, slab_of.stepper(grid)))
        limit = ipd.steppers.stable_dt(system, first, ipd.steppers.ForwardEuler())
        row = {"problem": "vapour infiltration, six days"}
        yield row | {
            "method": "SDIRK-2",
            "dt": dt,
            "dt_over_limit": dt / limit,
            "steps": steps.num_steps,
            "forward_seconds": median_seconds(lambda: run(first), 3),
            "converged": bool(run(first).outcome.converged.all()),
        }
        # Explicit steppers refuse what is stored in another form than it is computed: what is timed
        # is a right-hand side and an addition, the least that a step can be.
        rate = system.prepare(jnp.dtype(jnp.float64)).at(jnp.asarray(0.0))
        once = 1_000

        def add(_, u):
            return jax.tree.map(lambda a, b: a + limit * b, u, rate(u))

        march = jax.jit(lambda u: jax.lax.fori_loop(0, once, add, u))
        each = median_seconds(lambda: march(first), 3) / once
        number = days * slab_of.DAY / limit
        yield row | {
            "method": "forward Euler, by its limit and the time of one right-hand side",
            "dt": limit,
            "dt_over_limit": 1.0,
            "steps": round(number),
            "forward_seconds": number * each,
        }


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """A row for each problem and method, see above; quick: the mild problems only."""
    for name, problem in PROBLEMS.items():
        if not quick or "," not in name:
            yield from rows_of(name, problem)
    if not quick:
        yield from vapour_rows()
