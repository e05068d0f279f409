r"""What lets the water pass? A permeability, from heads and a tracer in a few wells.

$$ 0 = \nabla\cdot(k\,\nabla p), \qquad
   \phi\,c_t = -\nabla\cdot(\mathbf q\,c) + \nabla\cdot(D\,\nabla c), \qquad
   \mathbf q = -k\,\nabla p $$

between two rivers of known heads, with walls of rock at the other sides. The pressure follows at
once; a tracer enters with the water and takes its time. The permeability $k(x, y)$ is believed to
be uniform, and in truth has a channel and a lens of clay. Nothing is known but the heads and the
noisy concentrations in sixteen wells at eight times. The data are made on a grid twice as fine.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from _draw import image, picture
from _example import command_line, relative_error

import impindiff as ipd

NOISE = 0.02


def truth(x, y):
    """What nobody is told."""
    channel = jnp.exp(-(((y - 0.35 - 0.15 * jnp.sin(3 * x)) / 0.15) ** 2))
    clay = jnp.exp(-((x - 1.0) ** 2 + (y - 0.75) ** 2) / 0.04)
    return jnp.exp(1.0 * channel - 1.2 * clay)


# --- The problem ---
TIMES = np.linspace(0.0, 0.4, 9)
WELLS = np.array([(x, y) for x in (0.2, 0.55, 0.9, 1.25) for y in (0.15, 0.4, 0.65, 0.9)])
READ = [ipd.Sensors(f, data=f"{f}_wells", noise=NOISE, positions=WELLS) for f in "pc"]
FIT = {"samples": ":", "times": TIMES[1:], "dt": 0.025, "observe": READ}
FIT |= {
    "options": ipd.FitOptions(
        stepper=ipd.BackwardEuler(preconditioner=ipd.preconditioners.Fourier())
    )
}


def equations(permeability, cells=(24, 16)) -> ipd.System:
    """A quasi-steady pressure, and a tracer that its flux carries."""
    carried = [ipd.Advection(ipd.FluxOf("p"), "upwind"), ipd.Diffusion(2e-3)]
    return ipd.System(
        ipd.Grid.uniform(cells, ((0.0, 1.5), (0.0, 1.0))),
        {
            "p": ipd.Field(
                [ipd.Diffusion(lambda k: k)],
                {"x": (ipd.Dirichlet(1.0), ipd.Dirichlet(0.0)), "y": ipd.NoFlux()},
                storage=0,
                initial=lambda x: 1 - x / 1.5,
            ),
            "c": ipd.Field(
                carried,
                {"x": (ipd.Inflow(1.0), ipd.Outflow()), "y": ipd.NoFlux()},
                storage=0.25,
                initial=0.0,
            ),
        },
        coefficients={"k": permeability},
    )


def untrained() -> ipd.System:
    """What is believed, times what is learned."""
    shape = {"width": 24, "depth": 2, "frequency": 3.0, "output_range": (-0.1, 0.1)}
    change = ipd.SineField(2, ("log_change",), key=jax.random.key(0), **shape)
    return equations(ipd.latents.Corrected(1.0, change))


def learn(data: xr.Dataset) -> ipd.System:
    """Fit the permeability to what the wells say, as smooth as they allow."""
    smooth = [ipd.observations.Smoothness("log_change", 4e-2)]
    return ipd.fit(untrained(), data, regularise=smooth, stages=[ipd.Stage(ipd.LBFGS(), 60)], **FIT)


# --- What was measured, and what was found ---
def make_data() -> xr.Dataset:
    """Heads and concentrations in the wells, and nothing of the fields."""
    system = equations(truth, (48, 32))
    start = system.start(0.0, jnp.dtype("float32"))
    steps = ipd.TimeGrid.build(0.0, TIMES[1:], 0.0125)
    found = jax.jit(lambda u: ipd.simulate(system, u, steps, ipd.BackwardEuler()))(start)
    found.check(steps)
    random = np.random.default_rng(0)
    data = xr.Dataset(coords={"time": TIMES})
    for wells in READ:
        exact = np.asarray(jax.vmap(wells.prepare(system.grid))(found.states))
        noise = NOISE * random.standard_normal(exact.shape)
        values = np.concatenate([np.full((1, len(WELLS)), np.nan), exact + noise])
        data[wells.data] = (("sample", "time", "sensor"), values[None])
    return data


def main(plot: Path | None = None) -> dict[str, float]:
    """Learn the permeability, and compare it with the true one."""
    learned = learn(make_data())
    grid = learned.grid
    found, true = np.asarray(learned.latents()["k"]), np.asarray(truth(*grid.centres()))
    if plot:
        draw(plot, found, true)
    return {
        "error_of_the_permeability": relative_error(found, true),
        "untrained": relative_error(np.ones_like(true), true),
    }


def draw(file: Path, found: np.ndarray, true: np.ndarray) -> None:
    """The permeability, true and learned, with the wells."""
    with picture(file, 2) as axes:
        for each, values, title in zip(axes, (true, found), ("true", "learned"), strict=True):
            shades = {"vmin": 0, "vmax": true.max()}
            image(each, values, (0, 1.5, 0, 1), f"permeability, {title}", **shades)
            each.plot(*WELLS.T, "r.", markersize=5)


if __name__ == "__main__":
    command_line(main, __doc__)
