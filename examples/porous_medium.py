r"""How does a gas spread through a rock? A diffusivity as a function of density, from profiles.

$$ u_t = (D(u)\, u_x)_x $$

between two closed ends. $D$ is not known, not even its form: a network of the density stands for
it. The truth is $D = 2u$, the porous-medium equation $u_t = (u^2)_{xx}$: where there is no gas
nothing diffuses, and fronts advance at finite speed. Data are eight noisy profiles of two pulses
that spread and meet, from a grid four times as fine.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import label, picture
from _example import command_line, noisy, relative_error

import impindiff as ipd

NOISE = 0.005
FINER = 4


def truth(u):
    """What nobody is told."""
    return 2 * u


# --- The problem ---
GRID = ipd.Grid.uniform((64,), ((0.0, 1.0),))
TIMES = np.linspace(0.0, 0.02, 9)
FIT = {"samples": ":", "times": TIMES[1:], "dt": 1.25e-3}


def equations(diffusivity, grid: ipd.Grid = GRID) -> ipd.System:
    """Diffusion between closed ends; the arithmetic mean lets fronts into empty cells."""
    terms = [ipd.Diffusion(lambda D: D, mean="arithmetic")]
    return ipd.System(
        grid, {"u": ipd.Field(terms, {"x": ipd.NoFlux()})}, coefficients={"D": diffusivity}
    )


def untrained() -> ipd.System:
    """A positive function of the density, at first the same for all."""
    diffusivity = ipd.NeuralClosure(
        "D", {"u": (0.0, 1.0)}, bounds=(0.0, jnp.inf), initial=1.0, key=jax.random.key(0)
    )
    return equations(diffusivity)


def learn(data: xr.Dataset) -> ipd.System:
    """Fit the diffusivity to the profiles."""
    return ipd.fit(untrained(), data, stages=[ipd.Stage(ipd.LBFGS(), 80)], **FIT)


# --- What was measured, and what was found ---
def make_data() -> xr.Dataset:
    """Two pulses on a finer grid, by the classical Runge-Kutta method, averaged over the cells."""
    fine = ipd.Grid.uniform((FINER * GRID.shape[0],), ((0.0, 1.0),))
    (x,) = fine.centres()
    pulses = 0.9 * (1 - ((x - 0.3) / 0.1) ** 2), 0.5 * (1 - ((x - 0.7) / 0.08) ** 2)
    start = sum(np.maximum(pulse, 0) for pulse in pulses)
    first = ipd.to_dataset(fine, [0.0], {"u": start[None, None]})
    exact = ipd.predict(
        equations(truth, fine), first, times=TIMES, dt=5e-6, stepper=ipd.steppers.RungeKutta4()
    )
    profiles = exact["u"].values.reshape(1, len(TIMES), -1, FINER).mean(axis=-1)
    return ipd.to_dataset(GRID, TIMES, {"u": noisy(profiles, NOISE)})


def main(plot: Path | None = None) -> dict[str, float]:
    """Learn the diffusivity, and compare it with the true one at the densities that occurred."""
    data = make_data()
    system = learn(data)
    closure = system.coefficients["D"]
    seen = np.linspace(0.0, 0.6, 61)
    found = closure.evaluate(None, None, {"u": jnp.asarray(seen)})
    if plot:
        draw(plot, data, system)
    return {
        "error_of_the_diffusivity_up_to_0.6": relative_error(found, truth(seen)),
        "untrained": relative_error(1.0, truth(seen)),
    }


def draw(file: Path, data: xr.Dataset, system: ipd.System) -> None:
    """Profiles as measured and as modelled, the diffusivity as learned and as it is."""
    model = ipd.predict(system, data, times=TIMES, dt=FIT["dt"])
    table, x = ipd.latents.tabulate(system.coefficients["D"]), data["x"].values
    with picture(file, 2) as (left, right):
        for at, colour in zip((0, 1, 3, 8), ("0.6", "C0", "C1", "C2"), strict=True):
            left.plot(x, data["u"].values[0, at], ".", color=colour, markersize=3)
            left.plot(x, model["u"].values[0, at], color=colour, label=f"t = {TIMES[at]:g}")
        label(left, "density: measured (dots), modelled (lines)", "x", "u")
        right.plot(table["u"], truth(table["u"]), "k--", label="truth, 2u")
        right.plot(table["u"], table["D"], "C3", label="learned")
        label(right, "diffusivity", "u", "D(u)")


if __name__ == "__main__":
    command_line(main, __doc__)
