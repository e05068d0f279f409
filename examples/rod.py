r"""How well does a rod conduct? A conductivity as a function of temperature, from thermocouples.

$$ T_t = (k(T)\,T_x)_x, \qquad -k\,T_x = q \text{ at } x = 0, \qquad
   -k\,T_x = h\,(T - T_\infty) \text{ at } x = 1 $$

A heater drives the left end, and air cools the right one; cells are narrow where it is hot.
Unknown are two numbers of the law $k(T) = k_0 \exp(b\,T)$ and the transfer $h$ to the air, found by
Levenberg and Marquardt's method from five noisy thermocouples. Data are made on a grid four
times as fine, by shorter steps of another method.
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import label, picture
from _example import command_line, noisy, relative_error

import impindiff as ipd

TRUTH = {"k0": 0.3, "b": -0.6, "h": 0.8}
NOISE = 0.01


# --- The problem ---
class Heater(ipd.AbstractBoundary):
    """A given flux into the rod."""

    power: Any

    def flux(self, face):
        """Outward is positive."""
        return -self.power, 0.0


def make_grid(refine: int = 1) -> ipd.Grid:
    """The last cell is five times as wide as the first."""
    return ipd.Grid([ipd.Axis.graded("x", 0, 1, 24 * refine, ratio=5)])


def heating(t):
    """What the heater gives, which is known: on for a while, then off."""
    return 0.5 * (1 - jnp.tanh((t - 1.5) / 0.1))


def equations(unknown: dict, grid: ipd.Grid) -> ipd.System:
    """Conduction between a heater and the air, whose temperature is the zero of the scale."""
    terms = [ipd.Diffusion(lambda k0, b, T: k0 * jnp.exp(b * T))]
    ends = {"x": (Heater(heating), ipd.Robin(lambda h: h, 0.0))}
    return ipd.System(grid, {"T": terms}, {"T": ends}, coefficients=unknown)


LINE = ipd.Newton(ipd.Tridiagonal(), ipd.Tridiagonal())
GRID, TIMES = make_grid(), np.linspace(0.0, 3.0, 31)
THERMOCOUPLES = ipd.Sensors("T", "read", NOISE, positions=[[0.05], [0.2], [0.4], [0.65], [0.95]])
FIT = {"samples": ":", "times": TIMES[1:], "dt": 0.1, "stepper": ipd.SDIRK2(LINE)}
FIT |= {"observe": [THERMOCOUPLES]}


def untrained() -> ipd.System:
    """A conductivity that does not depend on temperature, and a guess of the transfer."""
    k0, h = (ipd.Parameter(name, 1.0, (0.0, jnp.inf)) for name in ("k0", "h"))
    return equations({"k0": k0, "b": ipd.Parameter("b", 0.0, (-2.0, 2.0)), "h": h}, GRID)


def learn(data: xr.Dataset) -> ipd.System:
    """Fit the three numbers to what was read."""
    return ipd.fit(untrained(), data, stages=[ipd.LevenbergMarquardt(15)], **FIT)


# --- What was measured, and what was found ---
def make_data() -> xr.Dataset:
    """Readings of a rod that is as cold as the air at first."""
    fine = make_grid(4)
    first = ipd.to_dataset(fine, [0.0], {"T": np.zeros((1, 1, *fine.shape))})
    steps = {"times": TIMES, "dt": 0.01, "stepper": ipd.CrankNicolson(LINE)}
    exact = ipd.predict(equations(TRUTH, fine), first, **steps)
    read = ipd.measure(exact, fine, [THERMOCOUPLES])["read"]
    cold = np.full((1, len(TIMES), *GRID.shape), np.nan)
    cold[:, 0] = 0.0
    return ipd.to_dataset(GRID, TIMES, {"T": cold}).assign(
        read=read.copy(data=noisy(read.values, NOISE))
    )


def conductivity(numbers: dict, temperature: np.ndarray) -> np.ndarray:
    """The law."""
    return numbers["k0"] * np.exp(numbers["b"] * temperature)


def main(plot: Path | None = None) -> dict[str, float]:
    """Find the numbers, and compare the conductivity where temperatures were measured."""
    data = make_data()
    system = learn(data)
    found, first = (
        {name: float(values.mean()) for name, values in each.latents().items()}
        for each in (system, untrained())
    )
    seen = np.linspace(0.0, float(data["read"].max()), 50)
    if plot:
        draw(plot, data, system, found)
    true = conductivity(TRUTH, seen)
    return {
        "error_of_the_conductivity": relative_error(conductivity(found, seen), true),
        "error_of_the_transfer": abs(found["h"] / TRUTH["h"] - 1),
        "untrained": relative_error(conductivity(first, seen), true),
    }


def draw(file: Path, data: xr.Dataset, system: ipd.System, found: dict[str, float]) -> None:
    """Readings and model at the thermocouples; the conductivity as learned and as it is."""
    model = ipd.predict(system, data, times=TIMES, dt=FIT["dt"], stepper=FIT["stepper"])
    with picture(file, 2) as (left, right):
        left.plot(TIMES, data["read"].values[0], "k.", markersize=3)
        lines = left.plot(TIMES, ipd.measure(model, GRID, [THERMOCOUPLES])["read"].values[0])
        for line, (place,) in zip(lines, THERMOCOUPLES.positions, strict=True):
            line.set_label(f"x = {place:g}")
        label(left, "temperature: readings (dots), model (lines)", "t", "T")
        seen = np.linspace(0.0, float(data["read"].max()), 50)
        right.plot(seen, conductivity(TRUTH, seen), "k--", label="truth")
        right.plot(seen, conductivity(found, seen), "C3", label="learned")
        label(right, "conductivity", "T", "k(T)")


if __name__ == "__main__":
    command_line(main, __doc__)
