r"""How viscous is it? Burgers' equation, identified from 2,000 scattered points with 5 % noise.

$$ u_t + \lambda_1\,u\,u_x = \lambda_2\,u_{xx} $$

on $(-1, 1)$, with $u = -\sin \pi x$ at first and $u = 0$ at the ends: the problem of M. Raissi,
P. Perdikaris and G. Karniadakis, J. Comput. Phys. 378 (2019) 686, section 4.1. Unknown are both
$\lambda$; the truth is $1$ and $0.01/\pi$. The points are at 100 places anywhere, each of which was
read at 20 of 99 times; the other readings are NaN. The data are the exact solution of Cole and
Hopf, not one of this scheme, and noise of 5 % of their standard deviation.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import label, picture
from _example import command_line

import impindiff as ipd

TRUTH = {"lambda1": 1.0, "lambda2": 0.01 / np.pi}
PLACES, READINGS = 100, 20
NOISE = 0.05


# --- The problem ---
# Cells are narrow at the middle, where a shock stands.
GRID = ipd.Grid([ipd.Axis.from_faces("x", np.sinh(4 * np.linspace(-1, 1, 301)) / np.sinh(4))])
TIMES = np.linspace(0.0, 0.99, 100)
LINE = ipd.solvers.Newton(ipd.solvers.Tridiagonal(), ipd.solvers.Tridiagonal())
FIT = {"samples": ":", "times": TIMES[1:], "dt": 0.005}
FIT |= {"observe": [ipd.Sensors("u", "points")]}
FIT |= {"options": ipd.FitOptions(stepper=ipd.CrankNicolson(LINE))}


def equations(lambda1, lambda2) -> ipd.System:
    """The flux is that of a velocity which is half of what it carries."""
    carry = ipd.Advection(lambda lambda1, u: (lambda1 * u / 2,), "central")
    terms = [carry, ipd.Diffusion(lambda lambda2: lambda2)]
    unknown = {"lambda1": lambda1, "lambda2": lambda2}
    return ipd.System(
        GRID, {"u": ipd.Field(terms, {"x": ipd.Dirichlet(0.0)})}, coefficients=unknown
    )


def untrained() -> ipd.System:
    """Both are positive; the viscosity is guessed six times too large."""
    bounds = (0.0, jnp.inf)
    return equations(ipd.Parameter("lambda1", 0.5, bounds), ipd.Parameter("lambda2", 0.02, bounds))


def learn(data: xr.Dataset) -> ipd.System:
    """Fit both numbers to the points."""
    return ipd.fit(untrained(), data, stages=[ipd.Stage(ipd.LBFGS(), 60)], **FIT)


# --- What was measured, and what was found ---
def exact(t: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Cole and Hopf's solution, by Hermite's quadrature."""
    nu = TRUTH["lambda2"]
    node, weight = np.polynomial.hermite.hermgauss(100)
    at = np.pi * (x[..., None] - np.sqrt(4 * nu * t[..., None]) * node)
    kernel = weight * np.exp(-(np.cos(at) + 1) / (2 * np.pi * nu))
    return -(np.sin(at) * kernel).sum(axis=-1) / kernel.sum(axis=-1)


def make_data(seed: int = 0, noise: float = NOISE) -> xr.Dataset:
    """The initial field, and readings at scattered points."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, PLACES)
    when = random.permuted(np.tile(np.arange(1, len(TIMES)), (PLACES, 1)), axis=1)[:, :READINGS]
    values = exact(TIMES[when], np.broadcast_to(x[:, None], when.shape))
    values += noise * values.std() * random.standard_normal(when.shape)
    points = np.full((1, len(TIMES), PLACES), np.nan)
    points[0, when, np.arange(PLACES)[:, None]] = values
    fields = np.full((1, len(TIMES), *GRID.shape), np.nan)
    fields[0, 0] = -np.sin(np.pi * GRID.centres()[0])
    data = ipd.to_dataset(GRID, TIMES, {"u": fields})
    data["points"] = ("sample", "time", "sensor"), points
    return data.assign_coords(sensor_x=("sensor", x))


def main(plot: Path | None = None, seed: int = 0, noise: float = NOISE) -> dict[str, float]:
    """Find both numbers, and say how far off they are."""
    data = make_data(seed, noise)
    system = learn(data)
    found = {name: float(values.mean()) for name, values in system.latents().items()}
    if plot:
        draw(plot, data, system)
    errors = {f"error_of_{name}": abs(found[name] / TRUTH[name] - 1) for name in TRUTH}
    return errors | {"untrained": abs(0.5 / TRUTH["lambda1"] - 1)}


def draw(file: Path, data: xr.Dataset, system: ipd.System) -> None:
    """The points, and the model against the exact solution at the last time."""
    model = ipd.predict(system, data, times=TIMES[1:], dt=FIT["dt"], stepper=FIT["options"].stepper)
    points, x = data["points"].values[0], data["x"].values
    when, which = np.nonzero(~np.isnan(points))
    with picture(file, 2) as (left, right):
        shown = left.scatter(
            TIMES[when], data["sensor_x"].values[which], 3, points[when, which], cmap="coolwarm"
        )
        left.figure.colorbar(shown, ax=left).ax.tick_params(labelsize=7)
        left.set_title("2,000 points (t, x), as measured", fontsize=9)
        left.tick_params(labelsize=7)
        for k, colour in zip((24, 49, 98), ("C0", "C1", "C3"), strict=True):
            t = TIMES[1 + k]
            right.plot(x, exact(np.full_like(x, t), x), "--", color="0.4")
            right.plot(x, model["u"].values[0, k], color=colour, label=f"t = {t:.2f}")
        label(right, "exact (dashed) and modelled", "x", "u")


if __name__ == "__main__":
    command_line(main, __doc__)
