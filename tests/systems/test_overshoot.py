"""Rollouts warn of central advection where cells are too wide for it, and it shows."""

import warnings
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import impindiff as ipd
from impindiff.data import to_dataset
from impindiff.forecast import predict

LENGTH = 10.0


def column(
    scheme: Literal["upwind", "central", "limited"] = "central",
    cells: int = 40,
    diffusivity: float = 1e-3,
    *terms,
    **options,
) -> ipd.System:
    """A tracer enters for a while, as in a column experiment."""
    grid = ipd.Grid.uniform((cells,), ((0, LENGTH),))
    options.setdefault("velocity", 1.0)
    moving = [ipd.Advection(options.pop("velocity"), scheme), ipd.Diffusion(diffusivity)]
    entering = options.pop("entering", ipd.Inflow(lambda t: jnp.where(t < 2, 1.0, 0.0)))
    ends = {"x": (entering, ipd.Outflow())}
    return ipd.System(grid, {"c": ipd.Field([*moving, *terms], ends)}, **options)


def rollout(system: ipd.System, initial=None, until: float = 4.0):
    assert system.grid is not None
    start = jnp.zeros(system.grid.shape) if initial is None else jnp.asarray(initial)
    times = ipd.TimeGrid.build(0.0, np.linspace(until / 8, until, 8), 0.05)
    return ipd.simulate(system, {"c": start}, times, ipd.CrankNicolson()).states["c"]


def told(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(issubclass(one.category, RuntimeWarning) for one in caught)
    return [str(one.message) for one in caught]


def test_a_pulse_on_wide_cells_is_warned_of_with_the_number_and_the_remedy():
    """$|v| \\Delta x / D = 1 \\cdot 0.25 / 10^{-3}$."""
    (message,) = told(lambda: rollout(column()))
    assert "'c' is 1.2" in message and "span 0 to 1" in message
    assert "it is 250 at the upper face of cell" in message and "along 'x'" in message
    assert "'limited'" in message and "1.2e+02 times as fine" in message


QUIET = {
    "limited": lambda: rollout(column("limited")),
    "upwind": lambda: rollout(column("upwind")),
    "fine": lambda: rollout(column(cells=200, diffusivity=0.1)),
    "smooth": lambda: rollout(
        ipd.System(
            ipd.Grid.uniform((40,), ((0, LENGTH),), periodic=True),
            {"c": [ipd.Advection(1.0, "central"), ipd.Diffusion(1e-3)]},
        ),
        np.sin(2 * np.pi * np.arange(40) / 40),
    ),
    "traced": lambda: jax.jit(lambda: rollout(column()))(),
    "a source raises it": lambda: rollout(
        column("central", 40, 1e-3, ipd.Source(2.0), entering=ipd.Inflow(0.0))
    ),
    "a reaction may do anything": lambda: rollout(
        column("central", 40, 1e-3, ipd.Reaction(lambda c: 0.1 * c * (2 - c)))
    ),
    "a gradient may lead anywhere": lambda: rollout(
        column("central", 40, 0.5, entering=ipd.Neumann(1.0))
    ),
    "a wall stops the flow": lambda: rollout(
        ipd.System(
            ipd.Grid.uniform((40,), ((0, LENGTH),)),
            {
                "c": ipd.Field(
                    [ipd.Advection(1.0, "central"), ipd.Diffusion(0.2)], {"x": ipd.NoFlux()}
                )
            },
        ),
        np.ones(40),
    ),
}


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("call", QUIET.values(), ids=QUIET)
def test_nothing_is_said_without_need(call):
    assert told(call) == []


@pytest.mark.thorough
def test_decay_and_sources_are_allowed_for():
    """What decays stays below what enters: an overshoot beyond that is seen, undershoots too."""
    decaying = column("central", 40, 1e-3, ipd.Reaction(lambda c: -0.1 * c))
    (message,) = told(lambda: rollout(decaying))
    assert "span 0 to 1" in message
    (message,) = told(lambda: rollout(column("central", 40, 1e-3, ipd.Source(0.01))))
    assert "it is 250" in message


@pytest.mark.thorough
def test_where_nothing_diffuses_finer_cells_are_no_remedy():
    system = column(diffusivity=0.0)
    (message,) = told(lambda: rollout(system))
    assert "it is inf" in message and "finer cells will not do" in message


@pytest.mark.thorough
def test_on_a_plane_the_worst_face_is_named():
    """Cells are ten times as long along y, and the flow is slower there."""
    grid = ipd.Grid.uniform((20, 4), ((0, 1), (0, 2)), periodic=True)
    wind = np.array([1.0, 0.5])
    system = ipd.System(grid, {"c": [ipd.Advection(wind, "central"), ipd.Diffusion(0.01)]})
    start = np.zeros((20, 4))
    start[3:9, 1] = 1.0
    (message,) = told(lambda: rollout(system, start, until=0.4))
    assert "it is 25 at the upper face" in message and "along 'y'" in message


@pytest.mark.thorough
def test_forecasts_warn_of_the_first_sample():
    """Whose setting is large enough, and whose steps run under `jit`."""
    system = column(velocity=lambda v: v + 0.0, diffusivity=0.1, parameters=("v",))
    start = np.zeros((2, 1, 40))
    data = to_dataset(system.grid, [0.0], {"c": start}, sample_parameters={"v": [0.5, 25.0]})
    (message,) = told(lambda: predict(system, data, times=[0.1, 0.2], dt=0.01))
    assert message.startswith("sample 1: 'c' is") and "it is 62.5" in message
