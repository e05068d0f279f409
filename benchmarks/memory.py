"""Memory and time of a gradient against the time step: the paper's figure, on this machine.

The work: one gradient of a training loss, five samples on 128 x 64 periodic cells in float32 from
t = 0 to 0.1, where their fields are observed. The unknown has a value of its own in every cell; a
network in its place would add the same to every row. Cases (arXiv 2504.02260, section 3):

- advection-diffusion: the velocity unknown, upwind fluxes, D = 1e-3;
- Burgers' equation, u_t + u u_x + u u_y = div(k grad u): the diffusivity k unknown, between 1e-3
  and 1e-2, central fluxes, each step by Newton's method with BiCGStab.

Methods: forward Euler and Crank-Nicolson, each step's state kept, as training does; Crank-Nicolson
with the square root of the number of steps as snapshots; Crank-Nicolson differentiated through its
iterations, room for 20 of the linear solver in each of 3 of Newton's method.

Temporaries are XLA's own account of the compiled gradient. Where they exceed 6 GiB nothing is run;
through iterations they are compiled at the two longest steps only, being in proportion to their
number. Seconds are the median of three, of a thousand steps one, after one that does not count.
The peak resident set is that of a process for this row alone, compiling included: some 500 MiB
belong to Python, JAX and the compiler. Errors are relative L1 errors at the last time with the true
coefficient, against the same equations in float64 by Runge-Kutta 4. What begins with `paper` are
the paper's own figures, taken on a GPU and to other last times: shapes compare, values do not.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce, median_seconds
from impindiff.implicit import AbstractRootSolver
from impindiff.integrate import AbstractDynamics, AbstractTendency

GRID = ipd.Grid.uniform((128, 64), ((-1.0, 1.0), (0.0, 1.0)), periodic=True)
WIDTH = 1 / 64  # of a cell, along both axes
LAST, TIME_STEPS, SAMPLES = 0.1, (1e-4, 2e-4, 5e-4, 1e-3, 2e-3), 5
# Nothing is run that needs more than this.
MOST_BYTES = 6 * 2**30
METHODS = ("explicit", "implicit", "implicit, snapshots", "implicit, unrolled")

# MB and seconds an epoch, in the order of the time steps.
PAPER = {
    "advection-diffusion": {
        "explicit": ((35266,), (0.45,)),
        "implicit": ((35266, 18882, 5570, 3522, 2498), (0.54, 0.34, 0.21, 0.16, 0.15)),
        "implicit, snapshots": ((4546, 2498, 1474, 1474, 1474), (0.64, 0.39, 0.23, 0.17, 0.16)),
    },
    "Burgers": {
        "explicit": ((34240,), (0.40,)),
        "implicit": ((34246, 17862, 9670, 5060, 3010), (3.51, 1.88, 0.99, 0.66, 0.33)),
        "implicit, snapshots": ((2498, 2498, 1474, 1474, 962), (4.60, 2.24, 1.18, 0.75, 0.39)),
    },
}


class Burgers(AbstractDynamics, AbstractTendency):
    """Burgers' equation for one field; its own right-hand side, the same at all times."""

    is_affine = False
    is_steady = True
    diffusivity: Any

    def at(self, time):
        """The same at all times."""
        return self

    def __call__(self, state):
        """Central differences; the quadratic flux keeps the energy."""
        u, rate = state["u"], 0
        for axis in (0, 1):
            ahead = jnp.roll(u, -1, axis)
            between = (self.diffusivity + jnp.roll(self.diffusivity, -1, axis)) / 2
            flux = (u * u + u * ahead + ahead * ahead) / 6 - between * (ahead - u) / WIDTH
            rate = rate + (jnp.roll(flux, 1, axis) - flux) / WIDTH
        return {"u": rate}


class Case(NamedTuple):
    """The system around an unknown, a first guess of it, and what finds a step's root."""

    make: Callable
    guess: float
    solver: AbstractRootSolver
    unrolled: AbstractRootSolver


TWENTY = ipd.solvers.BiCGStab(max_steps=20)
CASES = {
    "advection-diffusion": Case(
        lambda velocity: ipd.advection_diffusion(GRID, velocity, 1e-3, field="u"),
        0.5,
        ipd.solvers.Affine(),
        ipd.solvers.Affine(TWENTY, ipd.solvers.UnrolledAdjoint()),
    ),
    "Burgers": Case(
        Burgers,
        5.5e-3,
        ipd.solvers.Newton(),
        ipd.solvers.Newton(TWENTY, ipd.solvers.UnrolledAdjoint(), max_steps=3),
    ),
}


def write_problem(case: str, file: str) -> None:
    """The true coefficient, initial fields and observations, as an .npz file."""
    data = ipd.CASES["advection-diffusion-steady"].generate(SAMPLES, 0)
    velocity = np.stack([data[f"advection_{axis}"].values for axis in "xy"])
    unknown = velocity if case == "advection-diffusion" else 1e-3 + 9e-3 * velocity[1]
    initial = data["concentration"].values[:, 0].astype(np.float64)
    with jax.enable_x64(True):
        run = partial(
            last_states, CASES[case].make, ipd.steppers.RungeKutta4(), 2e-4, ipd.memory.KeepAll()
        )
        observed, _ = jax.jit(run)(jnp.asarray(unknown), jnp.asarray(initial))
    np.savez(file, unknown=unknown, initial=initial, observed=observed)


def last_states(make, stepper, dt, memory, unknown, initial):
    """The samples' states at the last time, and whether every solve on the way converged."""
    time_grid = ipd.TimeGrid.build(0.0, [LAST], dt)
    system = make(unknown)

    def run(u):
        return ipd.simulate(system, {"u": u}, time_grid, stepper, memory=memory)

    found = jax.vmap(run)(initial)
    return found.states["u"][:, -1], found.outcome.converged.all()


def measure(case: str, method: str, dt: str, file: str) -> dict[str, Any]:
    """One row of the table."""
    make, guess, solver, unrolled = CASES[case]
    num_steps = ipd.TimeGrid.build(0.0, [LAST], float(dt)).num_steps
    every, few = (
        ipd.memory.Snapshots(num_steps),
        ipd.memory.Snapshots(math.ceil(math.sqrt(num_steps))),
    )
    stepper, memory = {
        "explicit": (ipd.steppers.ForwardEuler(), every),
        "implicit": (ipd.CrankNicolson(solver), every),
        "implicit, snapshots": (ipd.CrankNicolson(solver), few),
        "implicit, unrolled": (ipd.CrankNicolson(unrolled), ipd.memory.KeepAll()),
    }[method]
    run = partial(last_states, make, stepper, float(dt), memory)

    def loss(unknown, initial, observed):
        last, converged = run(unknown, initial)
        return jnp.mean((last - observed) ** 2), (last, converged)

    problem = np.load(file)
    truth, *given = (
        jnp.asarray(problem[name], jnp.float32) for name in ("unknown", "initial", "observed")
    )
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(truth, *given).compile()
    bytes_needed = gradient.memory_analysis().temp_size_in_bytes
    row = {
        "case": case,
        "method": method,
        "dt": float(dt),
        "steps": num_steps,
        "temporaries_mib": bytes_needed / 2**20,
    }
    if bytes_needed > MOST_BYTES:
        return row
    (_, (last, converged)), _ = gradient(truth, *given)
    difference = np.abs(np.asarray(last, np.float64) - problem["observed"]).sum((1, 2))
    error = difference / np.abs(problem["observed"]).sum((1, 2))
    start = jnp.full_like(truth, guess)
    repeats = 3 if num_steps <= 500 and bytes_needed < 2**30 else 1
    return {
        **row,
        "seconds_per_epoch": median_seconds(partial(gradient, start, *given), repeats, warm=True),
        "peak_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        "error_percent": float(100 * error.mean()),
        "converged": bool(converged),
    }


def apart(function: Callable, *arguments: object) -> Any:
    """What a function of this file returns, called in a process of its own."""
    command = [sys.executable, __file__, function.__name__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One for each case, method and time step; quick: the two longest steps only."""
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            announce(f"{case}: the exact solution")
            file = Path(folder) / f"{case}.npz"
            apart(write_problem, case, file)
            for method in METHODS:
                paper = zip(*PAPER[case].get(method, ((), ())), strict=True)
                of_paper = dict(zip(TIME_STEPS, paper, strict=False))
                few = quick or method == "implicit, unrolled"
                for dt in TIME_STEPS[-2 if few else 0 :]:
                    announce(f"{case}, {method}, dt = {dt:g}")
                    row = apart(measure, case, method, dt, file)
                    if dt in of_paper:
                        megabytes, seconds = of_paper[dt]
                        row |= {"paper_mb": megabytes, "paper_seconds_per_epoch": seconds}
                    yield row


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Memory above, time below, a column for each case; the paper's dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(CASES), sharex=True, sharey="row")
    quantities = (
        ("temporaries_mib", "paper_mb", "memory of a gradient [MiB]"),
        ("seconds_per_epoch", "paper_seconds_per_epoch", "seconds per epoch"),
    )
    for panels, (ours, papers, label) in zip(axes, quantities, strict=True):
        panels[0].set_ylabel(label, fontsize=9)
        for panel, case in zip(panels, CASES, strict=True):
            for number, method in enumerate(METHODS):
                for key, style, said in ((ours, "o-", method), (papers, "x--", None)):
                    points = [
                        (row["dt"], row[key])
                        for row in rows
                        if (row["case"], row["method"]) == (case, method) and row.get(key)
                    ]
                    if points:
                        options = {"label": said} if said else {"linewidth": 0.8, "alpha": 0.6}
                        panel.loglog(
                            *zip(*points, strict=True),
                            style,
                            color=f"C{number}",
                            markersize=4,
                            **options,
                        )
            panel.grid(alpha=0.3)
            panel.tick_params(labelsize=8)
    for top, bottom, case in zip(*axes, CASES, strict=True):
        top.set_title(case, fontsize=10)
        top.axhline(MOST_BYTES / 2**20, color="grey", linewidth=0.8, linestyle=":")
        bottom.set_xlabel("time step", fontsize=9)
        bottom.set_xticks(TIME_STEPS, [f"{dt:g}" for dt in TIME_STEPS], minor=False)
        bottom.minorticks_off()
    axes[0][0].plot([], [], "x--", color="grey", linewidth=0.8, label="the paper's, on a GPU")
    axes[0][0].plot([], [], ":", color="grey", linewidth=0.8, label="more is not run")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8
    )
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps(globals()[name](*arguments)))
