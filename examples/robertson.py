r"""Three rates that differ by nine orders of magnitude, from concentrations on a logarithmic clock.

$$ a' = k_2\,b c - k_1 a, \qquad b' = k_1 a - k_2\,b c - k_3 b^2, \qquad c' = k_3 b^2 $$

Robertson's reaction, the test of stiff solvers: what is stiff for the solver is stiff for whoever
learns from it, too. All three rates are unknown and begin wrong by factors of 3 to 10. Data are
concentrations at 40 times between 1e-5 and 1e4, of two mixtures, with one per cent of noise.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import label, picture
from _example import command_line, noisy
from scipy.integrate import solve_ivp

import impindiff as ipd

jax.config.update("jax_enable_x64", True)

TRUTH = {"k1": 0.04, "k2": 1e4, "k3": 3e7}
STARTS = {"a": [1.0, 0.6], "b": [0.0, 0.0], "c": [0.0, 0.4]}
NOISE = 0.01


# --- The problem ---
TIMES = np.geomspace(1e-5, 1e4, 40)


def equations(k1, k2, k3) -> ipd.System:
    """Robertson's reaction, with rates that are known or learned."""
    return ipd.System(
        None,
        {
            "a": [ipd.Reaction(lambda first, second: second - first)],
            "b": ipd.Field(
                [ipd.Reaction(lambda first, second, third: first - second - third)], scale=1e-5
            ),
            "c": [ipd.Reaction(lambda third: third)],
        },
        coefficients={
            "first": lambda k1, a: k1 * a,
            "second": lambda k2, b, c: k2 * b * c,
            "third": lambda k3, b: k3 * b**2,
            "k1": k1,
            "k2": k2,
            "k3": k3,
        },
    )


def untrained() -> ipd.System:
    """Rates are positive, and first guessed to the nearest power of ten or so."""
    guess = {"k1": 0.4, "k2": 1e3, "k3": 1e7}
    return equations(**{k: ipd.Parameter(k, first, (0.0, jnp.inf)) for k, first in guess.items()})


FIT = {"samples": ":", "times": TIMES, "dt": 1e4}
FIT |= {"options": ipd.FitOptions(stepper=ipd.steppers.SDIRK2(), dtype=jnp.float64)}


def learn(data: xr.Dataset) -> ipd.System:
    """One step from each time to the next: the method damps what it does not resolve."""
    return ipd.fit(untrained(), data, stages=[ipd.Stage(ipd.LBFGS(), 60)], **FIT)


# --- What was measured, and what was found ---
def make_data() -> xr.Dataset:
    """Trajectories by another method, to ten digits, and noise that is relative."""
    times = np.append(0.0, TIMES)

    def rates(t, y):
        a, b, c = y
        first, second, third = TRUTH["k1"] * a, TRUTH["k2"] * b * c, TRUTH["k3"] * b**2
        return [second - first, first - second - third, third]

    runs = [
        solve_ivp(rates, (0, times[-1]), y0, "Radau", times, rtol=1e-10, atol=1e-16).y
        for y0 in zip(*STARTS.values(), strict=True)
    ]
    clean = dict(zip(STARTS, np.stack(runs, 1), strict=True))
    measured = {
        name: noisy(values, NOISE * values, seed)
        for seed, (name, values) in enumerate(clean.items())
    }
    return ipd.to_dataset(None, times, measured)


def main(plot: Path | None = None) -> dict[str, float]:
    """Learn the rates, and compare them with the true ones."""
    data = make_data()
    system = learn(data)
    if plot:
        draw(plot, data, system)
    rates = system.latents()
    return {f"error_of_{k}": abs(float(rates[k]) / true - 1) for k, true in TRUTH.items()}


def draw(file: Path, data: xr.Dataset, system: ipd.System) -> None:
    """Concentrations as measured, by the first guess and by what was learned."""
    options = {name: FIT[name] for name in ("times", "dt")}
    options |= {"stepper": FIT["options"].stepper, "dtype": FIT["options"].dtype}
    found = {"first guess": untrained(), "learned": system}
    curves = {name: ipd.predict(one, data, **options) for name, one in found.items()}
    with picture(file, 3) as columns:
        for axes, name in zip(columns, STARTS, strict=True):
            axes.semilogx(TIMES, data[name].values[0, 1:], "k.", markersize=4, label="measured")
            for style, (kind, curve) in zip((":", "-"), curves.items(), strict=True):
                axes.semilogx(TIMES, curve[name].values[0], style, label=kind)
            label(axes, f"concentration of {name}, first mixture", "t", name)


if __name__ == "__main__":
    command_line(main, __doc__)
