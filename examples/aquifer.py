r"""Where does the groundwater flow? A velocity field, from twenty wells.

$$ c_t + \nabla\cdot(\mathbf v\,c) = \nabla\cdot(D\,\nabla c) $$

Water enters on the left with a known concentration of a tracer and leaves on the right; nothing
passes the two sides, nor an impermeable block. The dispersion $D$ is known, the velocity
$\mathbf v(x, y)$ is not: it is that through even rock, times an unknown number, and a deviation
which a network stands for, held to be smooth and free of divergence. The data are noisy readings
at twenty wells, and nothing else. The truth is Darcy's flow through rock of uneven permeability,
on a grid twice as fine.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from _darcy import darcy, in_cells
from _draw import image, picture
from _example import command_line, noisy, relative_error

import impindiff as ipd

NOISE = 0.03
UNTIL = 2.4
LATER = np.linspace(2.8, 4.0, 4)


def rock(x, y):
    """Permeability of the rock, which nobody is told."""
    return np.exp(0.6 * np.sin(4 * x + 1) * np.cos(3 * y) + 0.5 * np.sin(7 * y - 2 * x))


# --- The problem ---
def make_grid(refine: int = 1) -> ipd.Grid:
    """Two by one, an impermeable block in it."""
    box = ipd.Grid.uniform((40 * refine, 20 * refine), ((0.0, 2.0), (0.0, 1.0)))
    x, y = box.centres()
    return ipd.Grid(box.axes, solid=(abs(x - 0.8) < 0.15) & (abs(y - 0.55) < 0.15))


def inlet(t, y):
    """A strip of tracer enters, and wanders up and down."""
    return jnp.exp(-(((y - 0.5 - 0.4 * jnp.sin(4 * t)) / 0.25) ** 2))


def equations(velocity, grid: ipd.Grid) -> ipd.System:
    """Advection and dispersion between an inlet, an outlet and two walls."""
    terms = [ipd.Advection(velocity, "central"), ipd.Diffusion(0.02)]
    ends = {"x": (ipd.Inflow(inlet), ipd.Outflow()), "y": ipd.NoFlux()}
    return ipd.System(grid, {"c": ipd.Field(terms, ends)})


GRID, TIMES = make_grid(), np.linspace(0.0, UNTIL, 31)
EVEN = jnp.asarray(in_cells(darcy(GRID, np.ones(GRID.shape), drop=2.0)))
PLACES = [(0.2 + 0.4 * (k // 4), 0.1 + 0.2 * (k % 4) + 0.1 * (k // 4 % 2)) for k in range(20)]
WELLS = ipd.Sensors("c", "wells", NOISE, positions=PLACES)
W = ("w_x", "w_y")
SMOOTH = [ipd.observations.DivergenceFree(W, 0.3, walls="y"), ipd.observations.Smoothness(W, 0.05)]
FIT = {"samples": ":", "times": TIMES[1:], "dt": 0.08}
FIT |= {"observe": [WELLS], "regularise": SMOOTH}


def around_even(w, k):
    """The velocity. Not a lambda: two systems of the same functions share a compiled forecast."""
    return k * EVEN + w


def untrained() -> ipd.System:
    """The flow through even rock, and a deviation that is first near zero."""
    options = {"width": 32, "depth": 2, "frequency": 4.0, "output_range": (-0.1, 0.1)}
    deviation = ipd.SineField(2, W, key=jax.random.key(0), **options)
    rate = ipd.Parameter("rate", 1.0, (0.0, jnp.inf))
    return equations(ipd.latents.Closure(around_even, w=deviation, k=rate), GRID)


def learn(data: xr.Dataset) -> ipd.System:
    """Fit the velocity to what was read at the wells."""
    return ipd.fit(untrained(), data, stages=[ipd.Stage(ipd.LBFGS(), 100)], **FIT)


# --- What was measured, and what was found ---
def coarsened(values: np.ndarray) -> np.ndarray:
    """Means over two by two cells."""
    *rest, nx, ny = values.shape
    return values.reshape(*rest, nx // 2, 2, ny // 2, 2).mean(axis=(-3, -1))


def make_truth() -> tuple[xr.Dataset, np.ndarray]:
    """All concentrations and the velocity: what nobody is told."""
    fine = make_grid(2)
    flow = darcy(fine, rock(*fine.centres()), drop=2.0)
    system = equations(ipd.latents.FaceVelocity(*(jnp.asarray(v, jnp.float32) for v in flow)), fine)
    first = ipd.to_dataset(fine, [0.0], {"c": np.zeros((1, 1, *fine.shape))})
    exact = ipd.predict(system, first, times=np.append(TIMES, LATER), dt=0.01)
    return exact, coarsened(in_cells(flow))


def make_data(exact: xr.Dataset | None = None) -> xr.Dataset:
    """Readings at the wells, and an aquifer that is clean at first."""
    exact = make_truth()[0] if exact is None else exact
    seen = exact.isel(time=slice(len(TIMES)))
    wells = ipd.observations.measure(seen, make_grid(2), [WELLS])["wells"]
    clean = np.full((1, len(TIMES), *GRID.shape), np.nan)
    clean[:, 0] = 0.0
    data = ipd.to_dataset(GRID, TIMES, {"c": clean})
    return data.assign(wells=wells.copy(data=noisy(wells.values, NOISE)))


def velocity_of(system: ipd.System) -> np.ndarray:
    """The learned velocity in the cells."""
    found = system.latents()
    return np.asarray(found["rate"] * EVEN + jnp.stack([found[name] for name in W]))


def main(plot: Path | None = None) -> dict[str, float]:
    """Learn the velocity; compare it with the true one, and its forecast with what came later."""
    exact, velocity = make_truth()
    data = make_data(exact)
    system = learn(data)
    is_open = ~GRID.solid
    truth = coarsened(exact["c"].values[0])[len(TIMES) :]
    constant = velocity[:, is_open].mean(axis=1)

    def forecast(system: ipd.System) -> np.ndarray:
        return ipd.predict(system, data, times=LATER, dt=FIT["dt"])["c"].values[0]

    def error_of(found: np.ndarray, true: np.ndarray = velocity) -> float:
        return relative_error(found[:, is_open], true[:, is_open])

    if plot:
        draw(plot, velocity_of(system), velocity, forecast(system)[1], truth[1])
    mean = jnp.asarray(constant, jnp.float32)
    return {
        "error_of_the_velocity": error_of(velocity_of(system)),
        "untrained": error_of(velocity_of(untrained())),
        "error_of_the_mean_velocity": error_of(np.broadcast_to(mean[:, None, None], EVEN.shape)),
        "error_of_the_forecast": error_of(forecast(system), truth),
        "forecast_with_even_rock": error_of(forecast(untrained()), truth),
        "forecast_with_the_mean_velocity": error_of(forecast(equations(mean, GRID)), truth),
    }


def draw(
    file: Path, found: np.ndarray, true: np.ndarray, forecast: np.ndarray, later: np.ndarray
) -> None:
    """Velocity and forecast, above as learned and below as they are."""
    extent = (0.0, 2.0, 0.0, 1.0)
    x, y = (centres[::3, 1::3] for centres in GRID.centres())
    pairs = ("learned", found, forecast), ("true", true, later)
    with picture(file, 4, height=2.3) as panels:
        for k, (kind, velocity, field) in enumerate(pairs):
            speed = np.where(GRID.solid, np.nan, np.hypot(*velocity))
            image(panels[k], speed, extent, f"{kind} speed", vmin=0, vmax=2)
            arrows = np.where(GRID.solid, np.nan, velocity)[:, ::3, 1::3]
            panels[k].quiver(x, y, *arrows, color="w", width=0.006)
            panels[k].plot(*np.transpose(PLACES), "r.", markersize=3)
            shown = np.where(GRID.solid, np.nan, field)
            image(panels[2 + k], shown, extent, f"{kind} c, t = {LATER[1]:g}", vmin=0, vmax=1)


if __name__ == "__main__":
    command_line(main, __doc__)
