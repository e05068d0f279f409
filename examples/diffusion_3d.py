r"""What is inside the block? A conductivity field in three dimensions, from how heat spreads.

$$ T_t = \nabla\cdot(k(x, y, z)\,\nabla T) $$

in a block that is cooled at top and bottom, $T = 0$, and insulated at its four sides. It is
believed to be uniform, $k = 1$; in truth it has an inclusion that insulates and one that conducts.
What is believed is multiplied by $e^c$, and $c$ is a neural field of position. Data are four noisy
snapshots of the temperature in each of four experiments, which begin with hot spots in different
places.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import image, picture
from _example import command_line, noisy, relative_error

import impindiff as ipd

NOISE = 0.003


def truth(x, y, z):
    """What nobody is told."""
    poor = jnp.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2 + (z - 0.3) ** 2) / 0.05)
    good = jnp.exp(-((x - 0.75) ** 2 + (y - 0.35) ** 2 + (z - 0.5) ** 2) / 0.05)
    return jnp.exp(good - poor)


# --- The problem ---
GRID = ipd.Grid.uniform((12, 12, 10), ((0.0, 1.0), (0.0, 1.0), (0.0, 0.8)))
TIMES = np.linspace(0.0, 0.08, 5)
FIT = {"samples": ":", "times": TIMES[1:], "dt": 0.005}


def equations(conductivity) -> ipd.System:
    """Heat in a block with insulated sides, top and bottom of temperature zero."""
    ends = {"x": ipd.NoFlux(), "y": ipd.NoFlux(), "z": ipd.Dirichlet(0.0)}
    terms = [ipd.Diffusion(lambda k: k)]
    return ipd.System(GRID, {"T": ipd.Field(terms, ends)}, coefficients={"k": conductivity})


def untrained() -> ipd.System:
    """What is believed, times what is learned."""
    change = ipd.SineField(
        3,
        ("log_change",),
        width=24,
        depth=2,
        frequency=2.0,
        output_range=(-0.1, 0.1),
        key=jax.random.key(0),
    )
    return equations(ipd.latents.Corrected(1.0, change))


def learn(data: xr.Dataset) -> ipd.System:
    """Fit the field to all experiments."""
    return ipd.fit(untrained(), data, stages=[ipd.Stage(ipd.LBFGS(), 80)], **FIT)


# --- What was measured, and what was found ---
def make_data() -> xr.Dataset:
    """Six hot spots an experiment, forward by the classical Runge-Kutta method."""
    x, y, z = GRID.centres()
    start = np.zeros((4, 1, *GRID.shape))
    for sample, spots in enumerate(np.random.default_rng(1).uniform(0, 1, (4, 6, 3))):
        for a, b, c in spots:
            start[sample] += np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - 0.8 * c) ** 2) / 0.03)
    first = ipd.to_dataset(GRID, [0.0], {"T": start})
    exact = ipd.predict(
        equations(truth), first, times=TIMES, dt=4e-4, stepper=ipd.steppers.RungeKutta4()
    )
    return ipd.to_dataset(GRID, TIMES, {"T": noisy(exact["T"].values, NOISE)})


def main(plot: Path | None = None) -> dict[str, float]:
    """Learn the conductivity, and compare it with the true one everywhere."""
    data = make_data()
    found = np.asarray(learn(data).latents()["k"])
    true = np.asarray(truth(*GRID.centres()))
    if plot:
        draw(plot, found, true)
    return {
        "error_of_the_conductivity": relative_error(found, true),
        "untrained": relative_error(1.0, true),
    }


def draw(file: Path, found: np.ndarray, true: np.ndarray) -> None:
    """A level cut through both inclusions: true, learned, and their difference."""
    level, extent = 4, (0, 1, 0, 1)
    shades = {"vmin": 0.4, "vmax": 2.6, "cmap": "viridis"}
    with picture(file, 3) as (left, middle, right):
        image(left, true[..., level], extent, "true conductivity at z = 0.36", **shades)
        image(middle, found[..., level], extent, "learned", **shades)
        error = (found - true)[..., level]
        image(right, error, extent, "difference", vmin=-0.5, vmax=0.5, cmap="RdBu_r")


if __name__ == "__main__":
    command_line(main, __doc__)
