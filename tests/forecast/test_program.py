"""Short forecasts are compiled in another way than long ones, to the same states."""

import jax
import jax.numpy as jnp
import numpy as np
from smooth import box, wave

from impindiff.forecast import _program
from impindiff.forecast._program import program
from impindiff.integrate import CrankNicolson
from impindiff.rollout import TimeGrid
from impindiff.systems import System
from impindiff.terms import Diffusion

GRID = box(6, 5)
FIRST = {"u": jnp.stack([wave(GRID), wave(GRID, 1.0)])}
TIMES = TimeGrid.build(0.0, [0.1, 0.2], 0.05)


def test_few_numbers_take_the_quick_way_and_many_do_not(monkeypatch):
    brief = program(FIRST, TIMES)
    long = TimeGrid.build(0.0, [0.2], 0.2 / 20_000)
    many = {"u": jnp.zeros((2, 512, 512))}
    assert program(FIRST, long) is program(many, TIMES) is not brief
    assert program({"u": FIRST["u"][:1]}, TIMES) is brief
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert program(FIRST, TIMES) is not brief


def test_both_reach_the_same_states(monkeypatch):
    system = System(GRID, {"u": [Diffusion(0.2)]})
    found = []
    for most in (10**6, 0):
        monkeypatch.setattr(_program, "_MOMENTS", most)
        run = program(FIRST, TIMES)
        found.append(run(system, FIRST, CrankNicolson(), TIMES, {}).states["u"])
    assert found[0].shape == (2, 2, *GRID.shape)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-13)
