r"""How fast does the autocatalyst eat? A reaction of two fields, learned from snapshots.

$$ u_t = D_u \Delta u - r(u, v) + f (1 - u), \qquad v_t = D_v \Delta v + r(u, v) - (f + k)\,v $$

on a periodic square. Diffusion, feed and loss are known; the rate $r(u, v)$ at which u turns into v
is not, not even its form: a network of both concentrations stands for it, the same in both
equations. The truth is that of Gray and Scott, $r = u v^2$. Data are six noisy snapshots of both
fields, by another method and shorter steps.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import image, picture
from _example import command_line, noisy, relative_error

import impindiff as ipd

NOISE = 0.005


def truth(u, v):
    """What nobody is told."""
    return u * v**2


# --- The problem ---
GRID = ipd.Grid.uniform((24, 24), ((0.0, 0.75), (0.0, 0.75)), periodic=True)
TIMES = np.linspace(0.0, 90.0, 7)
FIT = {"samples": ":", "times": TIMES[1:], "dt": 5.0}


def equations(eaten) -> ipd.System:
    """Gray and Scott's, with a rate that is known or learned."""
    return ipd.System(
        GRID,
        {
            "u": [ipd.Diffusion(2e-5), ipd.Reaction(lambda eaten, f, u: f * (1 - u) - eaten)],
            "v": [ipd.Diffusion(1e-5), ipd.Reaction(lambda eaten, f, k, v: eaten - (f + k) * v)],
        },
        coefficients={"eaten": eaten, "f": 0.04, "k": 0.06},
    )


def untrained(seed: int = 0) -> ipd.System:
    """A positive function of both concentrations, at first the same for all."""
    ranges = {"u": (0.0, 1.0), "v": (0.0, 0.5)}
    eaten = ipd.NeuralClosure(
        "eaten", ranges, bounds=(0.0, jnp.inf), initial=0.01, key=jax.random.key(seed)
    )
    return equations(eaten)


def learn(data: xr.Dataset, seed: int = 0, watch=None) -> ipd.System:
    """Fit the rate from each snapshot to the next, then over the whole span."""
    intervals = ipd.Stage(ipd.Adam(), 100, batches=ipd.optimisers.Batching(window=1))
    stages = [intervals, ipd.Stage(ipd.LBFGS(), 500)]
    return ipd.fit(untrained(seed), data, stages=stages, options=ipd.FitOptions(watch=watch), **FIT)


# --- What was measured, and what was found ---
def make_data() -> xr.Dataset:
    """Spots of v in a sea of u, forward by the classical Runge-Kutta method."""
    x, y = GRID.centres()
    v = np.zeros(GRID.shape)
    for at_x, at_y in np.random.default_rng(1).uniform(0.0, 0.75, (5, 2)):
        apart = [(d + 0.375) % 0.75 - 0.375 for d in (x - at_x, y - at_y)]
        v += 0.4 * np.exp(-(apart[0] ** 2 + apart[1] ** 2) / 0.008)
    start = {"u": 1 - 1.5 * np.minimum(v, 0.5), "v": np.minimum(v, 0.5)}
    first = ipd.to_dataset(GRID, [0.0], {name: field[None, None] for name, field in start.items()})
    exact = ipd.predict(
        equations(truth), first, times=TIMES, dt=1.0, stepper=ipd.steppers.RungeKutta4()
    )
    fields = {name: noisy(exact[name].values, NOISE, seed) for seed, name in enumerate("uv")}
    return ipd.to_dataset(GRID, TIMES, fields)


def main(plot: Path | None = None) -> dict[str, float]:
    """Learn the rate, and compare it with the true one at the concentrations that occurred."""
    data = make_data()
    rate = learn(data).coefficients["eaten"]
    seen = {name: jnp.asarray(data[name].values) for name in "uv"}
    found = rate.evaluate(None, None, seen)
    if plot:
        draw(plot, data, ipd.latents.tabulate(rate))
    return {
        "error_of_the_rate": relative_error(found, truth(**seen)),
        "untrained": relative_error(0.01, truth(**seen)),
    }


def draw(file: Path, data: xr.Dataset, table: dict[str, np.ndarray]) -> None:
    """The data, and the learned rate beside the true one, with the concentrations that occurred."""
    true = truth(*np.meshgrid(table["u"], table["v"], indexing="ij"))
    with picture(file, 3) as (left, middle, right):
        image(left, data["v"].values[0, -1], (0, 0.75, 0, 0.75), "v at t = 90, as measured")
        shades = {"vmin": 0, "vmax": 0.15, "cmap": "magma"}
        image(middle, table["eaten"], (0, 1, 0, 0.5), "learned rate of (u, v)", **shades)
        image(right, true, (0, 1, 0, 0.5), "true rate, and what occurred", **shades)
        right.plot(data["u"].values.ravel(), data["v"].values.ravel(), "c,", alpha=0.5)
        for axes in (middle, right):
            axes.set(xlim=(0, 1), ylim=(0, 0.5), xlabel="u", ylabel="v")


if __name__ == "__main__":
    command_line(main, __doc__)
