r"""How well does a rod conduct, and where is its joint? Four numbers, from five thermocouples.

$$ T_t = (k(x)\,T_x)_x, \qquad -k\,T_x = q \text{ at } x = 0, \qquad
   -k\,T_x = h\,(T - T_\infty) \text{ at } x = 1 $$

A heater drives the left end, and air cools the right one; cells are narrow where it is hot.
Two metals are joined somewhere. Unknown are both conductivities, the place of the joint and the
transfer $h$ to the air, found by Levenberg and Marquardt's method from noisy readings. Data are
made on a grid four times as fine, by shorter steps of another method.
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import label, picture
from _example import command_line, noisy, relative_error

import impindiff as ipd

TRUTH = {"k_left": 0.5, "k_right": 0.1, "joint": 0.45, "h": 0.8}
NOISE = 0.01


# --- The problem ---
class Heater(ipd.boundaries.AbstractBoundary):
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


def conductivity(x, k_left, k_right, joint):
    """Two metals, and a weld between them."""
    return k_left + (k_right - k_left) * (1 + jnp.tanh((x - joint) / 0.05)) / 2


def equations(unknown: dict, grid: ipd.Grid) -> ipd.System:
    """Conduction between a heater and the air, whose temperature is the zero of the scale."""
    ends = {"x": (Heater(heating), ipd.Robin(lambda h: h, 0.0))}
    return ipd.System(
        grid, {"T": ipd.Field([ipd.Diffusion(conductivity)], ends)}, coefficients=unknown
    )


GRID, TIMES = make_grid(), np.linspace(0.0, 3.0, 31)
THERMOCOUPLES = ipd.Sensors("T", "read", NOISE, positions=[[0.05], [0.2], [0.4], [0.65], [0.95]])
FIT = {"samples": ":", "times": TIMES[1:], "dt": 0.05}
FIT |= {"observe": [THERMOCOUPLES]}


def untrained() -> ipd.System:
    """One metal, a joint in the middle, a guess of the transfer."""
    bounds = {name: (0.0, jnp.inf) for name in ("k_left", "k_right", "h")} | {"joint": (0.0, 1.0)}
    first = {"k_left": 0.3, "k_right": 0.3, "h": 0.3, "joint": 0.6}
    return equations({n: ipd.Parameter(n, first[n], bounds[n]) for n in bounds}, GRID)


def learn(data: xr.Dataset) -> ipd.System:
    """Fit the four numbers to what was read."""
    return ipd.fit(untrained(), data, stages=[ipd.Stage(ipd.LevenbergMarquardt(), 20)], **FIT)


# --- What was measured, and what was found ---
def make_data() -> xr.Dataset:
    """Readings of a rod that is as cold as the air at first."""
    fine = make_grid(4)
    first = ipd.to_dataset(fine, [0.0], {"T": np.zeros((1, 1, *fine.shape))})
    steps = {"times": TIMES, "dt": 0.01, "stepper": ipd.steppers.SDIRK2()}
    exact = ipd.predict(equations(TRUTH, fine), first, **steps)
    read = ipd.observations.measure(exact, fine, [THERMOCOUPLES])["read"]
    cold = np.full((1, len(TIMES), *GRID.shape), np.nan)
    cold[:, 0] = 0.0
    return ipd.to_dataset(GRID, TIMES, {"T": cold}).assign(
        read=read.copy(data=noisy(read.values, NOISE))
    )


def numbers_of(system: ipd.System) -> dict[str, float]:
    """The unknowns by name."""
    return {name: float(system.latents()[name].mean()) for name in TRUTH}


def along(numbers: dict[str, float]) -> np.ndarray:
    """The conductivity in the cells."""
    return np.asarray(conductivity(GRID.centres()[0], *(numbers[n] for n in list(TRUTH)[:3])))


def main(plot: Path | None = None) -> dict[str, float]:
    """Find the numbers, and compare them with the truth."""
    data = make_data()
    system = learn(data)
    found = numbers_of(system)
    if plot:
        draw(plot, data, system)
    true = along(TRUTH)
    errors = {f"error_of_{name}": abs(found[name] / TRUTH[name] - 1) for name in TRUTH}
    return {
        "error_of_the_conductivity": relative_error(along(found), true),
        "untrained": relative_error(along(numbers_of(untrained())), true),
    } | errors


def draw(file: Path, data: xr.Dataset, system: ipd.System) -> None:
    """Readings and model at the thermocouples; the conductivity as learned and as it is."""
    model = ipd.predict(system, data, times=TIMES, dt=FIT["dt"])
    with picture(file, 2) as (left, right):
        left.plot(TIMES, data["read"].values[0], "k.", markersize=3)
        read = ipd.observations.measure(model, GRID, [THERMOCOUPLES])["read"]
        lines = left.plot(TIMES, read.values[0])
        for line, (place,) in zip(lines, THERMOCOUPLES.positions, strict=True):
            line.set_label(f"x = {place:g}")
        label(left, "temperature: readings (dots), model (lines)", "t", "T")
        (x,) = GRID.centres()
        right.plot(x, along(TRUTH), "k--", label="truth")
        right.plot(x, along(numbers_of(system)), "C3", label="learned")
        label(right, "conductivity", "x", "k(x)")


if __name__ == "__main__":
    command_line(main, __doc__)
