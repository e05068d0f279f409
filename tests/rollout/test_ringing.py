"""Crank-Nicolson steps that ring are spoken of, with how much; steps that are resolved are not."""

import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from impindiff.data import to_dataset
from impindiff.forecast import forecast_to, predict
from impindiff.grid import Grid
from impindiff.integrate import SDIRK2, BackwardEuler, CrankNicolson
from impindiff.latent import Parameter
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Advection, Diffusion, Dirichlet, Inflow, Outflow, Source
from impindiff.train import LevenbergMarquardt, Stage, fit

GRID = Grid.uniform((50,), ((0.0, 1.0),))


def cooling(held: float = 0.0, size: float = 1.0) -> System:
    ends = {"x": Dirichlet(held * size)}
    return System(GRID, {"u": Field([Diffusion(1.0)], ends)})


def found_in(message: str) -> tuple[float, float]:
    amplitude, percent = re.findall(r"about (\S+) of it \((\S+) %", message)[0]
    return float(amplitude), float(percent) / 100


@pytest.mark.many
@pytest.mark.parametrize("held, size", [(0.0, 1.0), (290.0, 1.0), (0.0, 1e-9)])
def test_how_much_rings_is_what_the_solution_is_wrong_by(held, size):
    start = {"u": jnp.full(50, (held + 1) * size)}
    times = TimeGrid.build(0.0, [0.1], 0.01)
    with pytest.warns(RuntimeWarning, match="'u' rings at t = 0.1: .*SDIRK2") as told:
        wrong = simulate(cooling(held, size), start, times, CrankNicolson())
    right = simulate(cooling(held, size), start, times, SDIRK2())
    error = float(jnp.abs(wrong.states["u"] - right.states["u"]).max()) / size
    amplitude, share = found_in(str(told[0].message))
    assert told[0].filename == __file__
    assert error > 0.3
    assert 0.5 < amplitude / size / error < 2
    assert share == pytest.approx(amplitude / size, rel=0.1)


x = GRID.centres()[0]
RESOLVED = {
    "short steps": (cooling(), {"u": jnp.ones(50)}, 0.1, 0.001),
    "a smooth start": (cooling(), {"u": jnp.sin(jnp.pi * x)}, 0.1, 0.02),
    "a front": (
        System(GRID, {"u": Field([Advection((1.0,))], {"x": (Inflow(1.0), Outflow())})}),
        {"u": jnp.zeros(50)},
        0.5,
        0.01,
    ),
    "growth": (System(None, {"u": [Reaction(lambda u: u)]}), {"u": jnp.array(1.0)}, 3.0, 1.0),
    "a rate that sets in": (
        System(None, {"u": [Source(lambda t: 1.0 * (t > 0.9)), Reaction(lambda u: -100.0 * u)]}),
        {"u": jnp.array(0.0)},
        1.0,
        0.01,
    ),
    "rest": (cooling(290.0), {"u": jnp.full(50, 290.0, jnp.float32)}, 0.1, 0.01),
}


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("system, start, end, dt", RESOLVED.values(), ids=RESOLVED.keys())
def test_what_is_resolved_does_not_ring(system, start, end, dt):
    simulate(system, start, TimeGrid.build(0.0, [end], dt), CrankNicolson())


@pytest.mark.thorough
def test_stiff_reactions_ring_and_steppers_that_damp_do_not():
    system = System(
        None,
        {
            "a": [Reaction(lambda a, b: -1e3 * (a - b))],
            "b": Field([Reaction(lambda b: -b)], storage=2.0),
        },
    )
    start = {"a": jnp.array(0.0), "b": jnp.array(1.0)}
    times = TimeGrid.build(0.0, [0.5, 1.0], 0.1)
    with pytest.warns(RuntimeWarning, match="'a' rings at t = 1: .* 1e\\+02 times"):
        simulate(system, start, times, CrankNicolson())
    for stepper in (SDIRK2(), BackwardEuler()):
        simulate(system, start, times, stepper)


@pytest.mark.thorough
def test_forecasts_and_fits_say_so():
    """A diffusivity far above the truth fits the readings by its ringing alone."""
    start = np.ones((2, 1, 50))
    start[0] = np.sin(np.pi * x)
    data = to_dataset(GRID, [0.0], {"u": start})
    with pytest.warns(RuntimeWarning, match="sample 1: 'u' rings at t = 0.1"):
        rung = predict(cooling(), data, times=[0.0, 0.1], dt=0.01)
    unknown = System(
        GRID, {"u": Field([Diffusion(Parameter("D", 0.9, (0.0, 10.0)))], {"x": Dirichlet(0.0)})}
    )
    stages = [Stage(LevenbergMarquardt(), 1)]
    with pytest.warns(RuntimeWarning, match="'u' rings at t = 0.1"):
        fit(unknown, rung.isel(sample=[1]), dt=0.01, stages=stages)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(unknown, rung.isel(sample=[0]), dt=0.01, stages=stages)


def warming(offset: float) -> System:
    """The ends are heated at once, at t = 0.35."""
    ends = {"x": Dirichlet(lambda t: jnp.where(t > 0.35, offset + 1.0, offset))}
    return System(GRID, {"u": Field([Diffusion(1.0)], ends)})


def at_rest(offset: float) -> xr.Dataset:
    return to_dataset(GRID, [0.0], {"u": np.full((1, 1, 50), offset)})


@pytest.mark.thorough
@pytest.mark.parametrize("offset", [0.0, 290.0])
def test_ringing_that_begins_in_a_later_piece_is_found(tmp_path, offset: float):
    """Pieces end between saved times and have places that no step fills."""
    given = {"times": np.arange(6) * 0.1, "dt": 0.01}
    with pytest.warns(RuntimeWarning, match="'u' rings at t = 0.36") as told:
        forecast_to(tmp_path / "f.zarr", warming(offset), at_rest(offset), **given, piece=800)
    assert found_in(str(told[0].message))[1] > 0.02


@pytest.mark.thorough
def test_what_has_died_away_rings_in_no_later_piece(tmp_path):
    """A fast part that is small beside what the field was at first is not spoken of later."""
    data = to_dataset(GRID, [0.0], {"u": (np.sin(np.pi * x) + 1e-3 * np.sin(40 * x))[None, None]})
    given = {"times": np.arange(9) * 0.25, "dt": 0.025}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(cooling(), data, **given)
        forecast_to(tmp_path / "f.zarr", cooling(), data, **given, piece=800)


@pytest.mark.thorough
def test_what_stands_in_solid_cells_does_not_hide_ringing():
    solid = np.arange(50) >= 40
    grid = Grid(GRID.axes, solid=solid)
    system = System(grid, {"u": Field([Diffusion(1.0)], {"x": Dirichlet(0.0)})})
    start = {"u": jnp.where(solid, -9999.0, 1.0)}
    with pytest.warns(RuntimeWarning, match="'u' rings at t = 0.1"):
        simulate(system, start, TimeGrid.build(0.0, [0.1], 0.01), CrankNicolson())
