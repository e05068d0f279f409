r"""Where does it leak, and how much? A source's place and strength, from eight sensors.

$$ c_t + \nabla\cdot(\mathbf v\,c) = \nabla\cdot(D\,\nabla c) + \frac{q}{2\pi r^2}
   \exp\Bigl(-\frac{(x - x_0)^2 + (y - y_0)^2}{2 r^2}\Bigr) $$

in a wind that turns, with open ends. Wind, diffusivity and the extent $r$ of the source are known;
unknown are three numbers, $x_0$, $y_0$ and $q$, found by Levenberg and Marquardt's method from
noisy readings. Data are made on a grid twice as fine, by shorter steps.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import image, picture
from _example import command_line, noisy

import impindiff as ipd

TRUTH = {"x0": 0.62, "y0": 1.21, "q": 2.5}
NOISE = 0.05


# --- The problem ---
def make_grid(refine: int = 1) -> ipd.Grid:
    """Three by two kilometres."""
    return ipd.Grid.uniform((48 * refine, 32 * refine), ((0.0, 3.0), (0.0, 2.0)))


def source(x, y, x0, y0, q):
    """What leaks, in a spot of known extent."""
    return q / (2 * jnp.pi * 0.1**2) * jnp.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 0.1**2))


def equations(unknown: dict, grid: ipd.Grid) -> ipd.System:
    """Advection by a wind that turns, diffusion, a source."""
    wind = ipd.Advection(lambda t: (0.8, 0.4 * jnp.sin(2 * t)), "central")
    terms = [wind, ipd.Diffusion(0.02), ipd.Source(source)]
    return ipd.System(
        grid,
        {"c": ipd.Field(terms, {"x": ipd.Outflow(), "y": ipd.Outflow()})},
        coefficients=unknown,
    )


GRID, TIMES = make_grid(), np.linspace(0.0, 2.0, 11)
PLACES = [(x, y) for x in (0.4, 1.1, 1.8, 2.5) for y in (0.6, 1.4)]
SENSORS = ipd.Sensors("c", "readings", NOISE, positions=PLACES)
FIT = {
    "samples": ":",
    "times": TIMES[1:],
    "dt": 0.1,
    "observe": [SENSORS],
}


def untrained() -> ipd.System:
    """Somewhere in the middle, and something."""
    x0, y0 = ipd.Parameter("x0", 1.5, (0.0, 3.0)), ipd.Parameter("y0", 1.0, (0.0, 2.0))
    return equations({"x0": x0, "y0": y0, "q": ipd.Parameter("q", 1.0, (0.0, jnp.inf))}, GRID)


def learn(data: xr.Dataset) -> ipd.System:
    """Fit the three numbers to what was read."""
    return ipd.fit(untrained(), data, stages=[ipd.Stage(ipd.LevenbergMarquardt(), 15)], **FIT)


# --- What was measured, and what was found ---
def make_data() -> xr.Dataset:
    """Readings on a finer grid; the air is clean at first."""
    fine = make_grid(2)
    first = ipd.to_dataset(fine, [0.0], {"c": np.zeros((1, 1, *fine.shape))})
    exact = ipd.predict(equations(TRUTH, fine), first, times=TIMES, dt=0.02)
    readings = ipd.observations.measure(exact, fine, [SENSORS])["readings"]
    clean = np.full((1, len(TIMES), *GRID.shape), np.nan)
    clean[:, 0] = 0.0
    return ipd.to_dataset(GRID, TIMES, {"c": clean}).assign(
        readings=readings.copy(data=noisy(readings.values, NOISE))
    )


def main(plot: Path | None = None) -> dict[str, float]:
    """Find the source, and say how far off it is."""
    data = make_data()
    system = learn(data)
    found = {name: float(values.mean()) for name, values in system.latents().items()}
    first = {name: float(values.mean()) for name, values in untrained().latents().items()}
    if plot:
        draw(plot, data, system, found)

    def apart(numbers):
        return float(np.hypot(numbers["x0"] - TRUTH["x0"], numbers["y0"] - TRUTH["y0"]))

    return {
        "error_of_the_place": apart(found),
        "error_of_the_strength": abs(found["q"] / TRUTH["q"] - 1),
        "untrained": apart(first),
    }


def draw(file: Path, data: xr.Dataset, system: ipd.System, found: dict[str, float]) -> None:
    """The plume as modelled, with sensors and source; readings and model at the sensors."""
    model = ipd.predict(system, data, times=TIMES, dt=FIT["dt"])
    read = ipd.observations.measure(model, GRID, [SENSORS])["readings"].values[0]
    with picture(file, 2) as (left, right):
        image(left, model["c"].values[0, -1], (0, 3, 0, 2), "concentration at t = 2, as modelled")
        left.plot(*np.transpose(PLACES), "w^", markersize=5)
        left.plot(TRUTH["x0"], TRUTH["y0"], "rx", found["x0"], found["y0"], "w+", markersize=9)
        right.plot(TIMES, data["readings"].values[0], "k.", markersize=4)
        right.plot(TIMES, read)
        right.set_title("readings (dots) and model (lines)", fontsize=9)
        right.set_xlabel("t", fontsize=8)
        right.tick_params(labelsize=7)


if __name__ == "__main__":
    command_line(main, __doc__)
