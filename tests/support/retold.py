"""Small problems of random numbers, and the same problems told in another way.

One equation serves: u_t = div(D(u) grad u) - div(v u) + s with a uniform wind v, and D = d or
D = d (1 + ((u - o) / U)^2). It keeps its form in other units of length, time and field U, with a
constant o added to the field, along a reversed axis, and with its times counted from elsewhere.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd

STEPS = 3
# What a step may leave of its change, see docs/accuracy.md, and rounding of a state.
RTOL = {"float32": 1e-5, "float64": 1e-10}


@dataclass(frozen=True)
class Structure:
    """What of a problem is not a number: a program is compiled for each.

    Attributes:
        cells: of each axis.
        kind: of the first axis, "even", "graded" or "periodic". The others are even.
        ends: of the first axis, names of `ENDS`. The second axis is closed.
        stepper: a name of `STEPPERS`.
        solver: a name of `SOLVERS`.
        preconditioner: a name of `PRECONDITIONERS`.
        is_nonlinear: whether $D$ depends on $u$.
        dtype: precision.
    """

    cells: tuple[int, ...]
    kind: str
    ends: tuple[str, str]
    stepper: str
    solver: str = "default"
    preconditioner: str = "none"
    is_nonlinear: bool = False
    dtype: str = "float64"


@dataclass(frozen=True)
class Telling:
    """How a problem is told.

    Attributes:
        length: unit of length, the domain being 1 long.
        time: unit of time.
        scale: unit of the field.
        offset: added to the field.
        is_reversed: whether the first axis is.
        origin: the time at which it starts, in steps.
    """

    length: float = 1.0
    time: float = 1.0
    scale: float = 1.0
    offset: float = 0.0
    is_reversed: bool = False
    origin: float = 0.0


PLAIN = Telling()

ENDS = {
    "held": lambda value, gradient: ipd.Dirichlet(value),
    "exchange": lambda value, gradient: ipd.Robin(gradient, value),
    "open": lambda value, gradient: ipd.Outflow(),
    "inflow": lambda value, gradient: ipd.Inflow(value),
    "slope": lambda value, gradient: ipd.Neumann(0.0),
}
STEPPERS = {"BE": ipd.BackwardEuler, "CN": ipd.CrankNicolson, "SDIRK2": ipd.steppers.SDIRK2}
SOLVERS = {
    "default": lambda: None,
    "BiCGStab": lambda: ipd.solvers.Affine(ipd.solvers.BiCGStab(max_steps=1000)),
    "GMRES": lambda: ipd.solvers.Affine(ipd.solvers.GMRES(max_steps=1000)),
    "direct": lambda: ipd.solvers.Affine(ipd.solvers.DenseLU()),
    "Newton": lambda: ipd.solvers.Newton(ipd.solvers.BiCGStab(max_steps=1000)),
    "Newton, direct": lambda: ipd.solvers.Newton(ipd.solvers.DenseLU()),
    "Anderson": lambda: ipd.solvers.Anderson(memory=8, max_steps=300),
}
PRECONDITIONERS = {
    "none": None,
    "jacobi": ipd.preconditioners.Jacobi(),
    "fourier": ipd.preconditioners.Fourier(),
    "line": ipd.preconditioners.Line(0),
    "block_line": ipd.preconditioners.BlockLine(0),
    "multigrid": ipd.preconditioners.Multigrid("V", 1),
}


def draw(structure: Structure, seed: int, diffusion: float, peclet: float) -> dict[str, Any]:
    """The numbers of a problem.

    Args:
        structure: of the problem.
        seed: of what is random.
        diffusion: $D \\Delta t/\\Delta x^2$ of equal cells, about.
        peclet: $v \\Delta x/D$.
    """
    random = np.random.default_rng(seed)
    cells, dt = structure.cells, 0.1
    width = 1 / cells[0]
    strength = diffusion * width**2 / dt
    wind = np.zeros(len(cells))
    wind[0] = peclet * strength / width
    # Multiples of 1/64: exact in single precision, with an offset of some hundreds, too.
    numbers = {
        "initial": random.integers(0, 64, cells) / 64,
        "diffusivity": strength * 2.0 ** random.uniform(-1, 1, cells),
        "wind": wind,
        "source": random.integers(0, 64, cells) / 64,
        "lower": random.integers(0, 64) / 64,
        "upper": random.integers(0, 64) / 64,
        "transfer": strength / width,
    }
    return {name: jnp.asarray(value, structure.dtype) for name, value in numbers.items()}


def answer(structure: Structure, telling: Telling, numbers: dict[str, Any]) -> jax.Array:
    """The field at the end, told plainly; NaN where a solve failed."""
    return _program(structure, telling.length, telling.is_reversed)(
        numbers, *_traced(structure, telling)
    )


def batch(structure: Structure, numbers: list[dict[str, Any]]) -> jax.Array:
    """The same of many problems of one structure at once."""
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *numbers)
    return _program(structure, batched=True)(stacked, *_traced(structure, PLAIN))


def _traced(structure: Structure, told: Telling) -> tuple[dict[str, jax.Array], ipd.TimeGrid]:
    """What of a telling is an argument of a program."""
    units = {"time": told.time, "scale": told.scale, "offset": told.offset}
    dt = 0.1 * told.time
    start = told.origin * dt
    times = ipd.TimeGrid.build(start, [start + STEPS * dt], dt * (1 + 1e-9))
    return {name: jnp.asarray(value, structure.dtype) for name, value in units.items()}, times


@cache
def _program(
    structure: Structure, length: float = 1.0, is_reversed: bool = False, batched: bool = False
) -> Any:
    def run(numbers, units, times):
        return _answer(structure, length, is_reversed, numbers, units, times)

    return eqx.filter_jit(eqx.filter_vmap(run, in_axes=(0, None, None)) if batched else run)


def first_residual(structure: Structure, numbers: dict[str, Any]) -> float:
    """The largest entry of $\\Delta t\\,F(u_0)$, which tolerances are relative to."""
    units, _ = _traced(structure, PLAIN)
    system = _system(structure, 1.0, False, numbers, units)
    tendency = system.prepare(jnp.dtype(structure.dtype)).at(jnp.zeros((), structure.dtype))
    return 0.1 * float(jnp.max(jnp.abs(tendency({"u": numbers["initial"]})["u"])))


def mean_of(structure: Structure, field: Any) -> float:
    """Its mean over the domain, told plainly."""
    volumes = _grid(structure, 1.0, False).cell_volumes()
    return float(np.average(np.asarray(field, np.float64), weights=volumes))


def _answer(
    structure: Structure,
    length: float,
    is_reversed: bool,
    numbers: dict[str, Any],
    units: dict[str, jax.Array],
    times: ipd.TimeGrid,
) -> jax.Array:
    scale, offset = units["scale"], units["offset"]

    def along(values: jax.Array) -> jax.Array:
        return jnp.flip(values, 0) if is_reversed else values

    system = _system(structure, length, is_reversed, numbers, units)
    make = STEPPERS[structure.stepper]
    stepper = make(SOLVERS[structure.solver](), PRECONDITIONERS[structure.preconditioner])
    initial = {"u": along(numbers["initial"]) * scale + offset}
    found = ipd.simulate(system, initial, times, stepper)
    last = jnp.where(jnp.all(found.outcome.converged), found.states["u"][-1], jnp.nan)
    return along((last - offset) / scale)


def _system(
    structure: Structure,
    length: float,
    is_reversed: bool,
    numbers: dict[str, Any],
    units: dict[str, jax.Array],
) -> ipd.System:
    scale, offset, per_time = units["scale"], units["offset"], 1 / units["time"]

    def along(values: jax.Array) -> jax.Array:
        return jnp.flip(values, 0) if is_reversed else values

    diffusivity = along(numbers["diffusivity"]) * (length**2 * per_time)
    sign = np.ones(len(structure.cells))
    sign[0] = -1 if is_reversed else 1
    wind = numbers["wind"] * (jnp.asarray(sign * length, structure.dtype) * per_time)
    values = [numbers[side] * scale + offset for side in ("lower", "upper")]
    transfer = numbers["transfer"] * (length * per_time)
    ends = [ENDS[end](v, transfer) for end, v in zip(structure.ends, values, strict=True)]
    boundaries: dict[str, Any] = {"y": ipd.Neumann(0.0)} if len(structure.cells) > 1 else {}
    if structure.kind != "periodic":
        boundaries["x"] = tuple(reversed(ends) if is_reversed else ends)
    coefficients = {"d": diffusivity, "offset": offset, "scale": scale}

    def of_state(u, d, offset, scale):
        return d * (1 + ((u - offset) / scale) ** 2)

    diffusion = ipd.Diffusion(of_state if structure.is_nonlinear else diffusivity)
    source = ipd.Source(along(numbers["source"]) * (scale * per_time))
    return ipd.System(
        _grid(structure, length, is_reversed),
        {"u": ipd.Field([diffusion, source, ipd.Advection(wind)], boundaries)},
        coefficients=coefficients,
    )


def _grid(structure: Structure, length: float, is_reversed: bool) -> ipd.Grid:
    first, *rest = structure.cells
    if structure.kind == "graded":
        ratio = 1 / 6 if is_reversed else 6.0
        axes = [ipd.Axis.graded("x", 0, length, first, ratio=ratio)]
    else:
        axes = [ipd.Axis("x", 0, length, first, periodic=structure.kind == "periodic")]
    axes += [ipd.Axis(name, 0, length, n) for name, n in zip("yz", rest, strict=False)]
    return ipd.Grid(axes)


def random_structures(count: int, seed: int = 0) -> list[Structure]:
    """So many that differ in whatever goes together."""
    random = np.random.default_rng(seed)

    def pick(of: Any) -> Any:
        of = list(of)
        return of[random.integers(len(of))]

    found: list[Structure] = []
    while len(found) < count:
        cells = pick([(1,), (2,), (9,), (16,), (40,), (6, 5), (8, 8)])
        nonlinear = bool(random.integers(2))
        kind = pick(["even", "even", "graded", "periodic"]) if cells[0] > 2 else "even"
        # What is linear may be solved by all, what is not by some.
        solvers = [
            s for s in SOLVERS if not (nonlinear and isinstance(SOLVERS[s](), ipd.solvers.Affine))
        ]
        solver = pick(solvers)
        uses = solver in ("default", "BiCGStab", "Newton", "GMRES") and cells[0] > 2
        structure = Structure(
            cells,
            kind,
            (pick(ENDS), pick(ENDS)),
            pick(STEPPERS),
            solver,
            pick(PRECONDITIONERS) if uses else "none",
            nonlinear,
            pick(["float32", "float64", "float64"]),
        )
        if structure not in found:
            found.append(structure)
    return found
