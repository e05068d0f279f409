"""Error against seconds where steps follow their error, beside diffrax and scipy, with gradients.

The work: six problems from the literature in float64, from a start to an end, at several
tolerances; the gradient is that of the sum of squares of the last state with respect to one number
of the equations. The right-hand side is the same for all: as an `ipd.System` for ours, as a plain
function of one vector for the others. The absolute tolerance of a field is `rtol` times its scale.

Errors are the largest of a field over the largest of its values, then the largest of all fields;
against published values, or scipy's Radau at a tolerance of 1e-11. Seconds are of a second call,
compiled where a library compiles: ours of `simulate_controlled`, which finds its steps outside of
`jit`, and for a gradient that and `jax.grad` of `simulate` with the steps found, together.

`--case` takes one problem, `--quick` one tolerance and one method of each library.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

import impindiff as ipd
from impindiff import InputError, NumericsError
from impindiff.benchmark import announce, leave_out, median_seconds
from impindiff.steppers import ESDIRK3, ESDIRK4, ESDIRK5, StepControl, simulate_controlled

TOLERANCES, QUICK = (1e-3, 1e-4, 1e-5, 1e-6), (1e-4,)
MOST_STEPS = 20_000


@dataclass(frozen=True)
class Problem:
    """A right-hand side, written twice.

    Attributes:
        system: the equations, from the number that the gradient is with respect to.
        plain: `plain(xp, time, fields, number)`, the same as a list of rates, by `numpy` or
            `jax.numpy`.
        number: the value of that number.
        start: of each field.
        end: time.
        scales: of each field, for absolute tolerances.
        published: the values at the end, where somebody has published them.
        is_stiff: whether explicit methods are out of the question.
    """

    system: Callable[[Any], ipd.System]
    plain: Callable[[Any, Any, list[Any], Any], list[Any]]
    number: float
    start: dict[str, np.ndarray]
    end: float
    scales: dict[str, float]
    published: tuple[float, ...] | None = None
    is_stiff: bool = True

    @property
    def vector(self) -> np.ndarray:
        """The start as one vector."""
        return np.concatenate([np.ravel(u) for u in self.start.values()])

    def split(self, vector: Any) -> list[Any]:
        """The fields of a vector."""
        shapes = [np.shape(u) for u in self.start.values()]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        parts = zip(np.split(np.arange(len(self.vector)), ends), shapes, strict=True)
        return [vector[part[0] : part[-1] + 1].reshape(shape) for part, shape in parts]

    def rates(self, xp: Any, time: Any, vector: Any, number: Any) -> Any:
        """The right-hand side as a function of one vector."""
        rates = self.plain(xp, time, self.split(vector), number)
        return xp.concatenate([xp.reshape(xp.asarray(rate), (-1,)) for rate in rates])

    def tolerances(self, rtol: float) -> np.ndarray:
        """The absolute tolerance of each entry of the vector."""
        return rtol * np.concatenate(
            [np.full(u.size, self.scales[f]) for f, u in self.start.items()]
        )

    def reference(self) -> np.ndarray:
        """The state at the end as one vector."""
        if self.published is not None:
            return np.array(self.published)
        return scipy_solve(self, "Radau", 1e-11).y[:, -1]

    def error(self, vector: Any, reference: np.ndarray) -> float:
        """The largest relative error of a field."""
        pairs = zip(self.split(np.asarray(vector)), self.split(reference), strict=True)
        return max(float(np.abs(u - v).max() / np.abs(v).max()) for u, v in pairs)


def reactions(rates: dict[str, Callable], **coefficients: Any) -> ipd.System:
    """Equations without a grid."""
    terms = {field: [ipd.Reaction(rate)] for field, rate in rates.items()}
    return ipd.System(None, terms, coefficients=coefficients)


def van_der_pol() -> Problem:
    """Two fast changes at mu = 1e6; values of Hairer & Wanner II, section IV.10."""

    def system(mu):
        return reactions({"y": lambda z: z, "z": lambda y, z, mu: mu * ((1 - y**2) * z - y)}, mu=mu)

    def plain(xp, time, fields, mu):
        y, z = fields
        return [z, mu * ((1 - y**2) * z - y)]

    start = {"y": np.array(2.0), "z": np.array(-0.66)}
    published = (1.706167732170483, -0.8928097010247975)
    return Problem(system, plain, 1e6, start, 2.0, {"y": 1.0, "z": 1.0}, published)


def robertson() -> Problem:
    """Robertson's reaction to t = 1e11; values of the IVP test set."""

    def system(slow):
        rates = {
            "a": lambda a, b, c, slow: 1e4 * b * c - slow * a,
            "b": lambda a, b, c, slow: slow * a - 1e4 * b * c - 3e7 * b**2,
            "c": lambda b: 3e7 * b**2,
        }
        return reactions(rates, slow=slow)

    def plain(xp, time, fields, slow):
        a, b, c = fields
        first, second, third = slow * a, 1e4 * b * c, 3e7 * b**2
        return [second - first, first - second - third, third]

    start = {"a": np.array(1.0), "b": np.array(0.0), "c": np.array(0.0)}
    scales = {"a": 1e-8, "b": 1e-12, "c": 1e-2}
    published = (0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050)
    return Problem(system, plain, 0.04, start, 1e11, scales, published)


def hires() -> Problem:
    """High irradiance responses of plants, eight species; values of the IVP test set."""

    def system(k):
        rates = {
            "y1": lambda y1, y2, y3, k: -k * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
            "y2": lambda y1, y2, k: k * y1 - 8.75 * y2,
            "y3": lambda y3, y4, y5: -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
            "y4": lambda y2, y3, y4, k: 8.32 * y2 + k * y3 - 1.12 * y4,
            "y5": lambda y5, y6, y7: -1.745 * y5 + 0.43 * y6 + 0.43 * y7,
            "y6": lambda y4, y5, y6, y7, y8, k: (
                -280 * y6 * y8 + 0.69 * y4 + k * y5 - 0.43 * y6 + 0.69 * y7
            ),
            "y7": lambda y6, y7, y8: 280 * y6 * y8 - 1.81 * y7,
            "y8": lambda y6, y7, y8: -280 * y6 * y8 + 1.81 * y7,
        }
        return reactions(rates, k=k)

    def plain(xp, time, fields, k):
        y1, y2, y3, y4, y5, y6, y7, y8 = fields
        bound = 280 * y6 * y8
        return [
            -k * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
            k * y1 - 8.75 * y2,
            -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
            8.32 * y2 + k * y3 - 1.12 * y4,
            -1.745 * y5 + 0.43 * y6 + 0.43 * y7,
            -bound + 0.69 * y4 + k * y5 - 0.43 * y6 + 0.69 * y7,
            bound - 1.81 * y7,
            -bound + 1.81 * y7,
        ]

    start = dict.fromkeys([f"y{n}" for n in range(2, 8)], np.array(0.0))
    start = {"y1": np.array(1.0)} | start | {"y8": np.array(0.0057)}
    published = """
        0.7371312573325668e-3 0.1442485726316185e-3 0.5888729740967575e-4 0.1175651343283149e-2
        0.2386356198831331e-2 0.6238968252742796e-2 0.2849998395185769e-2 0.2850001604814231e-2
    """
    published = tuple(map(float, published.split()))
    return Problem(system, plain, 1.71, start, 321.8122, dict.fromkeys(start, 1e-2), published)


def brusselator() -> Problem:
    """Hairer & Wanner II, section IV.1: two fields on a line of 64 cells, held at the ends."""
    cells, spread = 64, 0.02

    def system(surplus):
        grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, cells)])
        u = [ipd.Diffusion(spread), ipd.Reaction(lambda u, v, b: 1 + u**2 * v - (b + 1) * u)]
        v = [ipd.Diffusion(spread), ipd.Reaction(lambda u, v, b: b * u - u**2 * v)]
        fields = {
            "u": ipd.Field(u, {"x": ipd.Dirichlet(1.0)}),
            "v": ipd.Field(v, {"x": ipd.Dirichlet(3.0)}),
        }
        return ipd.System(grid, fields, coefficients={"b": surplus})

    def spreading(xp, u, at_ends):
        # The value at an outer face is given: half a cell away.
        padded = xp.concatenate([2 * at_ends - u[:1], u, 2 * at_ends - u[-1:]])
        return spread * cells**2 * (padded[2:] - 2 * u + padded[:-2])

    def plain(xp, time, fields, b):
        u, v = fields
        made = u**2 * v
        of_u = 1 + made - (b + 1) * u + spreading(xp, u, 1.0)
        return [of_u, b * u - made + spreading(xp, v, 3.0)]

    x = (np.arange(cells) + 0.5) / cells
    start = {"u": 1 + np.sin(2 * np.pi * x), "v": np.full(cells, 3.0)}
    return Problem(system, plain, 3.0, start, 10.0, {"u": 1.0, "v": 1.0})


def burgers() -> Problem:
    """Burgers' equation on a ring of 128 cells, into a front."""
    cells = 128
    width = 2 / cells

    def system(viscosity):
        grid = ipd.Grid([ipd.Axis("x", -1.0, 1.0, cells, periodic=True)])
        carried = ipd.Advection(lambda u: 0.5 * u, scheme="central")
        return ipd.System(
            grid, {"u": [carried, ipd.Diffusion(lambda nu: nu)]}, coefficients={"nu": viscosity}
        )

    def plain(xp, time, fields, viscosity):
        (u,) = fields
        ahead = xp.roll(u, -1)
        flux = (u**2 + ahead**2) / 4 - viscosity * (ahead - u) / width
        return [(xp.roll(flux, 1) - flux) / width]

    x = -1 + width * (np.arange(cells) + 0.5)
    start = {"u": -np.sin(np.pi * x)}
    return Problem(system, plain, 0.02, start, 1.0, {"u": 1.0}, is_stiff=False)


def gray_scott() -> Problem:
    """Two fields on 16 x 16 cells, periodic: a spot that feeds on what flows in."""
    cells, feed, spread = 16, 0.04, (0.16, 0.08)

    def system(kill):
        axes = [ipd.Axis(name, 0.0, 16.0, cells, periodic=True) for name in "xy"]
        u = [ipd.Diffusion(spread[0]), ipd.Reaction(lambda u, v: feed * (1 - u) - u * v**2)]
        v = [
            ipd.Diffusion(spread[1]),
            ipd.Reaction(lambda u, v, kill: u * v**2 - (feed + kill) * v),
        ]
        return ipd.System(ipd.Grid(axes), {"u": u, "v": v}, coefficients={"kill": kill})

    def spreading(xp, u):
        return sum(xp.roll(u, shift, axis) for axis in (0, 1) for shift in (1, -1)) - 4 * u

    def plain(xp, time, fields, kill):
        u, v = fields
        made = u * v**2
        of_u = feed * (1 - u) - made + spread[0] * spreading(xp, u)
        return [of_u, made - (feed + kill) * v + spread[1] * spreading(xp, v)]

    x = np.arange(cells) + 0.5 - cells / 2
    spot = np.exp(-(x[:, None] ** 2 + (x[None, :] - 1) ** 2) / 8)
    start = {"u": 1 - 0.5 * spot, "v": 0.5 * spot}
    return Problem(system, plain, 0.06, start, 100.0, {"u": 1.0, "v": 1.0}, is_stiff=False)


PROBLEMS = {
    "van der Pol": van_der_pol,
    "Robertson": robertson,
    "HIRES": hires,
    "Brusselator": brusselator,
    "Burgers": burgers,
    "Gray-Scott": gray_scott,
}
# What is measured, the quick ones first. A method that is no use on a stiff problem has False.
OURS = {"ESDIRK4": (ESDIRK4, True), "ESDIRK3": (ESDIRK3, True), "ESDIRK5": (ESDIRK5, True)}
DIFFRAX = {"Kvaerno5": True, "Kvaerno3": True, "KenCarp4": True, "Tsit5": False}
SCIPY = ("Radau", "BDF")


def our_row(problem: Problem, name: str, rtol: float, reference: np.ndarray) -> dict[str, Any]:
    """A method of ours at one tolerance."""
    stepper, system = OURS[name][0](), problem.system(problem.number)
    start = {field: jnp.asarray(u) for field, u in problem.start.items()}
    scaled = {field: rtol * scale for field, scale in problem.scales.items()}
    control = StepControl(rtol, scaled, max_steps=MOST_STEPS)

    def search():
        return simulate_controlled(system, start, [problem.end], stepper, control, start=0.0)

    found = search()
    steps = found.time_grid

    def loss(number):
        states = ipd.simulate(problem.system(number), start, steps, stepper).states
        return sum(jnp.sum(u[-1] ** 2) for u in states.values())

    gradient = jax.jit(jax.grad(loss))
    forward = median_seconds(lambda: search().states)
    known = median_seconds(partial(gradient, problem.number))
    last = np.concatenate([np.ravel(found.states[field][-1]) for field in problem.start])
    return {
        "steps": steps.num_steps + found.num_refused,
        "relative_error": problem.error(last, reference),
        "forward_seconds": forward,
        "gradient_seconds": forward + known,
        "gradient_of_known_steps_seconds": known,
    }


def diffrax_rows(
    problem: Problem, name: str, rtols: tuple[float, ...], reference: np.ndarray
) -> Iterator[tuple[float, dict[str, Any]]]:
    """A method of diffrax, compiled once for all tolerances."""
    import diffrax

    term = diffrax.ODETerm(lambda time, y, number: problem.rates(jnp, time, y, number))
    start, scales = jnp.asarray(problem.vector), jnp.asarray(problem.tolerances(1.0))
    method, last_only = getattr(diffrax, name)(), diffrax.SaveAt(t1=True)
    if name.startswith("KenCarp"):  # with an explicit half, here of nothing
        nothing = diffrax.ODETerm(lambda time, y, number: jnp.zeros_like(y))
        term = diffrax.MultiTerm(nothing, term)

    def solve(number, rtol):
        control = diffrax.PIDController(rtol=rtol, atol=rtol * scales)
        options = {"stepsize_controller": control, "max_steps": MOST_STEPS, "throw": False}
        arguments = term, method, 0.0, problem.end, None, start, number
        found = diffrax.diffeqsolve(*arguments, saveat=last_only, **options)
        reached = found.result == diffrax.RESULTS.successful
        return jnp.where(reached, found.ys[-1], jnp.nan), found.stats["num_steps"]

    forward = jax.jit(solve)
    gradient = jax.jit(jax.grad(lambda number, rtol: jnp.sum(solve(number, rtol)[0] ** 2)))
    for rtol in rtols:
        last, steps = forward(problem.number, rtol)
        if not bool(jnp.isfinite(last).all()):
            announce(f"... which does not arrive at rtol = {rtol:g}")
            continue
        yield (
            rtol,
            {
                "steps": int(steps),
                "relative_error": problem.error(last, reference),
                "forward_seconds": median_seconds(partial(forward, problem.number, rtol)),
                "gradient_seconds": median_seconds(partial(gradient, problem.number, rtol)),
            },
        )


def scipy_solve(problem: Problem, method: str, rtol: float) -> Any:
    """A solution by scipy, with the exact Jacobian."""
    rates = partial(problem.rates, jnp, number=problem.number)
    jacobian = jax.jit(jax.jacfwd(rates, argnums=1))
    return solve_ivp(
        lambda time, y: problem.rates(np, time, y, problem.number),
        (0.0, problem.end),
        problem.vector,
        method,
        jac=lambda time, y: np.asarray(jacobian(time, y)),
        rtol=rtol,
        atol=problem.tolerances(rtol),
    )


def scipy_row(problem: Problem, name: str, rtol: float, reference: np.ndarray) -> dict[str, Any]:
    """A method of scipy at one tolerance; it has no gradient."""
    found = scipy_solve(problem, name, rtol)
    return {
        "steps": len(found.t) - 1,
        "relative_error": problem.error(found.y[:, -1], reference),
        "forward_seconds": median_seconds(lambda: scipy_solve(problem, name, rtol).t, 3),
    }


def rows(case: str | None = None, quick: bool = False) -> Iterator[dict[str, Any]]:
    """One for each problem, method and tolerance."""
    if case is not None and case not in PROBLEMS:
        raise InputError(f"there is no problem {case!r}; allowed: {', '.join(PROBLEMS)}.")
    rtols = QUICK if quick else TOLERANCES
    for name in [case] if case else PROBLEMS:
        with jax.enable_x64(True):
            found = list(_rows_of(name, rtols, 1 if quick else None))
        yield from found


def _rows_of(name: str, rtols: tuple[float, ...], most: int | None) -> Iterator[dict[str, Any]]:
    announce(f"{name}: the reference")
    problem = PROBLEMS[name]()
    reference = problem.reference()

    def row(library: str, method: str, rtol: float, figures: dict[str, Any]) -> dict[str, Any]:
        return {"problem": name, "method": f"{library} {method}", "rtol": rtol, **figures}

    for method in list(OURS)[:most]:
        if problem.is_stiff and not OURS[method][1]:
            continue
        for rtol in rtols:
            announce(f"{name}: {method} at {rtol:g}")
            try:
                yield row("impindiff", method, rtol, our_row(problem, method, rtol, reference))
            except NumericsError as error:
                announce(f"... which fails: {error}")
    for method in list(DIFFRAX)[:most]:
        if problem.is_stiff and not DIFFRAX[method]:
            continue
        announce(f"{name}: diffrax {method}")
        try:
            for rtol, figures in diffrax_rows(problem, method, rtols, reference):
                yield row("diffrax", method, rtol, figures)
        except ImportError as missing:
            leave_out(f"diffrax {method}", missing)
    for method in SCIPY[:most]:
        for rtol in rtols:
            announce(f"{name}: scipy {method} at {rtol:g}")
            yield row("scipy", method, rtol, scipy_row(problem, method, rtol, reference))


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Error against seconds, forward above and with its gradient below, a column each problem."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(row["problem"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    styles = {"impindiff": "o-", "diffrax": "s--", "scipy": "^:"}
    figure = Figure(figsize=(3.2 * len(problems) + 2, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(problems), squeeze=False)
    keys = {"forward_seconds": "forward [s]", "gradient_seconds": "gradient [s]"}
    for panels, (key, label) in zip(axes, keys.items(), strict=True):
        panels[0].set_ylabel(label)
        for panel, problem in zip(panels, problems, strict=True):
            for number, method in enumerate(methods):
                points = [
                    (row["relative_error"], row[key])
                    for row in rows
                    if (row["problem"], row["method"]) == (problem, method) and row.get(key)
                ]
                if points:
                    style, colour = styles[method.split()[0]], f"C{number % 10}"
                    xs, ys = zip(*points, strict=True)
                    panel.loglog(xs, ys, style, color=colour, label=method, markersize=4)
            panel.grid(alpha=0.3)
            panel.set_xlabel("relative error")
            panel.invert_xaxis()
    for panel, problem in zip(axes[0], problems, strict=True):
        panel.set_title(problem)
    handles = {
        label: handle
        for panel in axes.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8)
    figure.savefig(file, dpi=150)
