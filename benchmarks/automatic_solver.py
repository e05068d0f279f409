"""What is chosen for a stepper that names no solver, beside every choice by hand.

Ten backward Euler steps in float32, compiled once, of problems from mild to stiff, in one to three
dimensions, with coefficients that vary, jump or couple fields. The error is against the same steps
in float64 with tolerances of 1e-12. The ratio compares the automatic choice with the fastest choice
by hand whose solves all converged.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce

STEPS, ROUNDS = 10, 9
BY_HAND = {
    "none": None,
    "jacobi": ipd.preconditioners.Jacobi(),
    "fourier": ipd.preconditioners.Fourier(),
    "line 0": ipd.preconditioners.Line(0),
    "line 1": ipd.preconditioners.Line(1),
    "multigrid V1": ipd.preconditioners.Multigrid("V", 1),
    "multigrid W2": ipd.preconditioners.Multigrid(),
    "block jacobi": ipd.preconditioners.BlockJacobi(),
    "block line 0": ipd.preconditioners.BlockLine(0),
    "block line 1": ipd.preconditioners.BlockLine(1),
    "transform line 0": ipd.preconditioners.TransformLine(0),
    "transform line 1": ipd.preconditioners.TransformLine(1),
}
# What is tried by hand. Along one axis multigrid and transforms across lines have nothing to do.
ON_A_LINE = ("none", "fourier", "line 0", "block line 0", "tridiagonal")
FOR_ONE_FIELD = (
    "none",
    "jacobi",
    "fourier",
    "block line 0",
    "block line 1",
    "multigrid V1",
    "transform line 0",
    "transform line 1",
)
IN_WIND = (*FOR_ONE_FIELD, "multigrid W2")
FOR_SEVERAL = (*FOR_ONE_FIELD, "block jacobi")
IN_SPACE = ("none", "jacobi", "fourier", "block line 0", "multigrid V1", "transform line 0")


class Problem(NamedTuple):
    """A system, where it starts, the length of its steps, and what is tried by hand."""

    system: ipd.System
    initial: dict[str, np.ndarray]
    dt: float
    by_hand: tuple[str, ...] = FOR_ONE_FIELD
    reaches: bool = False


def blob(grid: ipd.Grid, wide: float = 0.15) -> np.ndarray:
    """A smooth hill in the middle, on a rough floor."""
    total = np.zeros(grid.shape)
    for axis, x in zip(grid.axes, grid.centres(), strict=True):
        total += ((x - (axis.lower + axis.upper) / 2) / (wide * axis.length)) ** 2
    return np.exp(-total) + 0.01 * np.random.default_rng(0).random(grid.shape)


def square(cells: int, periodic: bool = False) -> ipd.Grid:
    """The unit square."""
    return ipd.Grid.uniform((cells, cells), ((0, 1), (0, 1)), periodic=periodic)


def held(grid: ipd.Grid) -> dict[str, Any]:
    """Zero at all ends."""
    return dict.fromkeys(grid.names, ipd.Dirichlet(0.0))


def closed(grid: ipd.Grid) -> dict[str, Any]:
    """No flux at any end."""
    return dict.fromkeys(grid.names, ipd.NoFlux())


def diffusing(grid: ipd.Grid, diffusivity: Any, dt: float, ends: Any = held) -> Problem:
    """Diffusion alone."""
    system = ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(diffusivity)], ends(grid))})
    return Problem(system, {"u": blob(grid)}, dt)


def mild() -> Problem:
    """Transport that hardly needs an implicit step."""
    grid = square(128, periodic=True)
    terms = [ipd.Advection(np.array([1.0, 0.5])), ipd.Diffusion(1e-3)]
    return Problem(ipd.System(grid, {"u": terms}), {"u": blob(grid)}, 0.01)


def stiff() -> Problem:
    """A constant coefficient and a long step."""
    return diffusing(square(128), 1.0, 0.1)


def varied() -> Problem:
    """A coefficient that varies smoothly by a factor of four."""
    grid = square(128)
    x, y = grid.centres()
    return diffusing(grid, np.exp(np.log(2) * np.sin(6 * x) * np.cos(5 * y)), 0.1)


def jump() -> Problem:
    """Blocks of 1 and 1e-4."""
    grid = square(128)
    blocks = np.random.default_rng(1).integers(0, 2, (4, 4)).repeat(32, 0).repeat(32, 1)
    return diffusing(grid, np.where(blocks, 1.0, 1e-4), 0.01, closed)


def layered() -> Problem:
    """Layers across one axis, 1 and 1e-4."""
    grid = square(96)
    layers = np.where(np.arange(96) // 12 % 2, 1.0, 1e-4)
    return diffusing(grid, layers[None, :] * np.ones((96, 1)), 0.1)


def wind() -> Problem:
    """From one end to the other at cell Peclet number 10, many cells a step."""
    grid = square(128)
    ends = {"x": (ipd.Inflow(1.0), ipd.Outflow()), "y": ipd.NoFlux()}
    terms = [ipd.Advection(np.array([1.0, 0.0])), ipd.Diffusion(1 / 1280)]
    return Problem(ipd.System(grid, {"u": ipd.Field(terms, ends)}), {"u": blob(grid)}, 0.1, IN_WIND)


def graded() -> Problem:
    """Both axes finer by 50 at one end."""
    axes = [ipd.Axis.graded(name, 0.0, 1.0, 64, 50.0) for name in "xy"]
    return diffusing(ipd.Grid(axes), 1.0, 0.1)


def wall() -> Problem:
    """One axis finer by 100 at a wall."""
    axes = [ipd.Axis("x", 0, 1, 64), ipd.Axis.graded("y", 0.0, 1.0, 64, 100.0)]
    return diffusing(ipd.Grid(axes), 1e-2, 0.1)


def log_radius() -> Problem:
    """From a well of 0.1 m to 1 km, in logarithmic cells."""
    axis = ipd.Axis.from_faces("r", np.geomspace(0.1, 1e3, 201))
    grid = ipd.Grid([axis], "cylindrical")
    ends = {"r": (ipd.Neumann(-1.0), ipd.Dirichlet(0.0))}
    system = ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(0.1)], ends)})
    return Problem(system, {"u": np.zeros(200)}, 1000.0, ON_A_LINE)


def cylinder() -> Problem:
    """Around an axis of symmetry."""
    axes = [ipd.Axis("r", 0.0, 1.0, 96), ipd.Axis("z", 0.0, 2.0, 96)]
    grid = ipd.Grid(axes, "cylindrical")
    ends = {"r": ipd.Dirichlet(0.0), "z": ipd.NoFlux()}
    system = ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(1.0)], ends)})
    return Problem(system, {"u": blob(grid)}, 0.1)


def obstacle() -> Problem:
    """Around a solid disc."""
    grid = ipd.Grid.uniform(
        (96, 96), ((0, 1), (0, 1)), solid=lambda x, y: (x - 0.4) ** 2 + (y - 0.5) ** 2 < 0.04
    )
    return diffusing(grid, 1.0, 0.1)


def coupled() -> Problem:
    """A + B <-> C, faster than they spread, nonlinear."""
    grid = square(64, periodic=True)
    rate = 1e3

    def made(a, b, c):
        return rate * (a * b - 2 * c)

    equations = {
        "a": [ipd.Diffusion(1.0), ipd.Reaction(lambda a, b, c: -made(a, b, c))],
        "b": [ipd.Diffusion(0.5), ipd.Reaction(lambda a, b, c: -made(a, b, c))],
        "c": [ipd.Diffusion(0.2), ipd.Reaction(made)],
    }
    initial = {"a": 1 + blob(grid), "b": 1.5 - blob(grid), "c": 0.5 + 0 * blob(grid)}
    return Problem(ipd.System(grid, equations), initial, 1e-2, FOR_SEVERAL)


def reacting() -> Problem:
    """The same with little spread: stiff in each cell alone."""
    slow = coupled()
    grid = slow.system.grid
    equations = {
        field: [ipd.Diffusion(1e-4), *terms[1:]] for field, terms in slow.system.equations.items()
    }
    return Problem(ipd.System(grid, equations), slow.initial, 1e-2, FOR_SEVERAL)


def space() -> Problem:
    """Three dimensions, a long step."""
    grid = ipd.Grid.uniform((32, 32, 32), ((0, 1),) * 3)
    return diffusing(grid, 1.0, 0.1)._replace(by_hand=IN_SPACE)


def space_jump() -> Problem:
    """Three dimensions, a sphere of another material."""
    grid = ipd.Grid.uniform((32, 32, 32), ((0, 1),) * 3)
    inside = sum((x - 0.5) ** 2 for x in grid.centres()) < 0.09
    return diffusing(grid, np.where(inside, 1e-3, 1.0), 0.1)._replace(by_hand=IN_SPACE)


def darcy() -> Problem:
    """A pressure that is in balance at all times, and what its flow carries."""
    grid = square(64)
    x, y = grid.centres()
    mobility = np.exp(np.sin(9 * x + 2) * np.sin(7 * y))
    pressure = [ipd.Diffusion(mobility), ipd.Source(np.cos(3 * x))]
    fields = {
        "p": ipd.Field(pressure, held(grid), storage=0),
        "u": ipd.Field([ipd.Diffusion(0.1)], held(grid)),
    }
    system = ipd.System(grid, fields)
    return Problem(system, {"p": 0 * x, "u": blob(grid)}, 0.01)


def burgers() -> Problem:
    """A steepening wave in a row, mild."""
    grid = ipd.Grid.uniform((1024,), ((-1, 1),), periodic=True)
    terms = [ipd.Advection(lambda u: u / 2, "central"), ipd.Diffusion(0.01 / np.pi)]
    (x,) = grid.centres()
    return Problem(ipd.System(grid, {"u": terms}), {"u": -np.sin(np.pi * x)}, 1e-3, ON_A_LINE)


def row() -> Problem:
    """Heat in 400 cells between cold ends."""
    grid = ipd.Grid.uniform((400,), ((0, 1),))
    return diffusing(grid, 1.0, 0.1)._replace(by_hand=ON_A_LINE)


def coupled_row() -> Problem:
    """Two fields in a row that react and spread fast, nonlinear."""
    grid = ipd.Grid.uniform((400,), ((0, 1),))
    a = [ipd.Diffusion(1.0), ipd.Reaction(lambda a, b: -50 * (a - b**2))]
    b = [ipd.Diffusion(0.1), ipd.Reaction(lambda a, b: 50 * (a - b**2))]
    system = ipd.System(grid, {"a": ipd.Field(a, held(grid)), "b": ipd.Field(b, held(grid))})
    initial = {"a": blob(grid), "b": 1 - blob(grid) / 2}
    return Problem(system, initial, 0.01, ON_A_LINE)


def limited() -> Problem:
    """Limited advection in a row: the Jacobian reaches beyond neighbours."""
    grid = ipd.Grid.uniform((400,), ((0, 1),))
    ends = {"x": (ipd.Inflow(0.0), ipd.Outflow())}
    terms = [ipd.Advection(1.0, "limited"), ipd.Diffusion(0.02)]
    return Problem(
        ipd.System(grid, {"u": ipd.Field(terms, ends)}), {"u": blob(grid)}, 0.01, ON_A_LINE, True
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    function.__name__: function
    for function in (
        mild,
        stiff,
        varied,
        jump,
        layered,
        wind,
        graded,
        wall,
        log_radius,
        cylinder,
        obstacle,
        coupled,
        reacting,
        space,
        space_jump,
        darcy,
        burgers,
        row,
        coupled_row,
        limited,
    )
}


def stepper_of(name: str, is_affine: bool) -> ipd.steppers.Theta:
    """Backward Euler with what is named."""
    method = ipd.solvers.Affine if is_affine else ipd.solvers.Newton
    if name == "tridiagonal":
        return ipd.BackwardEuler(method(ipd.solvers.Tridiagonal()))
    return ipd.BackwardEuler(method(ipd.solvers.BiCGStab(max_steps=1000)), BY_HAND[name])


def program(
    problem: Problem, stepper: ipd.steppers.Theta, dtype: Any = jnp.float32
) -> Callable[[], Any]:
    """The rollout, compiled."""
    times = ipd.TimeGrid.build(0.0, [STEPS * problem.dt], problem.dt)
    initial = {field: jnp.asarray(u, dtype) for field, u in problem.initial.items()}

    @jax.jit
    def run(u: Any) -> Any:
        return ipd.simulate(problem.system, u, times, stepper, on_failure="keep")

    compiled = run.lower(initial).compile()
    return lambda: compiled(initial)


def reference(problem: Problem, is_affine: bool) -> dict[str, np.ndarray]:
    """The last state in float64, as tight as can be."""
    with jax.enable_x64(True):
        tridiagonal = "tridiagonal" in problem.by_hand and not problem.reaches
        linear = (
            ipd.solvers.Tridiagonal(1e-12)
            if tridiagonal
            else ipd.solvers.BiCGStab(1e-12, max_steps=20000)
        )
        solver = ipd.solvers.Affine(linear) if is_affine else ipd.solvers.Newton(linear, rtol=1e-11)
        found = program(problem, ipd.BackwardEuler(solver), jnp.float64)()
        return {field: np.asarray(u[-1]) for field, u in found.states.items()}


def seconds_of(programs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of each, all of them taken in turn, so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, run in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in times.items()}


def measure(name: str) -> Iterator[dict[str, Any]]:
    """A row for the automatic choice and for each by hand."""
    problem = PROBLEMS[name]()
    is_affine = problem.system.prepare(jnp.dtype("float32")).is_affine
    announce(f"{name}: the reference in float64")
    exact = reference(problem, is_affine)
    initial = {field: jnp.asarray(u, jnp.float32) for field, u in problem.initial.items()}
    chosen = ipd.solvers.select_solver(
        problem.system, initial, problem.dt, ipd.BackwardEuler(), num_steps=STEPS
    )
    announce(f"{name}: {chosen.reason}")
    programs = {"automatic": program(problem, chosen.stepper)}
    for choice in problem.by_hand:
        announce(f"{name}: {choice}")
        programs[choice] = program(problem, stepper_of(choice, is_affine))
    found = {choice: jax.device_get(run()) for choice, run in programs.items()}
    good = {choice for choice, one in found.items() if bool(one.outcome.converged.all())}
    seconds = seconds_of(programs)
    best = min((seconds[choice] for choice in good - {"automatic"}), default=float("nan"))
    for choice, one in found.items():
        errors = [
            np.linalg.norm(np.asarray(one.states[field][-1], float) - u) / np.linalg.norm(u)
            for field, u in exact.items()
        ]
        yield {
            "problem": name,
            "choice": f"automatic: {chosen.name}" if choice == "automatic" else choice,
            "seconds": seconds[choice],
            "ratio_to_best_by_hand": seconds[choice] / best,
            "iterations": float(one.outcome.iterations.mean()),
            "converged": choice in good,
            "error": float(max(errors)),
        }


def rows(only: str = "") -> Iterator[dict[str, Any]]:
    """One for each problem and choice; only: a problem, or some with commas between."""
    for name in only.split(",") if only else PROBLEMS:
        yield from measure(name)
