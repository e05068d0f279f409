"""How long an explicit step may be, beside closed forms, and what longer ones do."""

import jax.numpy as jnp
import numpy as np
import pytest
from smooth import box

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.integrate import CrankNicolson, ForwardEuler, RungeKutta4
from impindiff.rollout import TimeGrid, simulate, stable_dt
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Advection, Diffusion, NoFlux, Source


def rough(grid) -> dict:
    return {"u": jnp.asarray(np.random.default_rng(0).standard_normal(grid.shape))}


@pytest.mark.many
@pytest.mark.parametrize("shape", [(32,), (12, 16), (8, 6, 10)])
@pytest.mark.parametrize("stepper, reach", [(ForwardEuler(), 2.0), (RungeKutta4(3), 3 * 2.785)])
def test_diffusion(shape: tuple[int, ...], stepper, reach: float):
    r"""$\lambda = -4 D \sum_a \Delta x_a^{-2}$ of the wave that changes sign in every cell."""
    grid = box(*shape)
    system = System(grid, {"u": [Diffusion(0.3)]})
    exact = reach / (4 * 0.3 * sum(width**-2 for width in grid.cell_widths))
    assert stable_dt(system, rough(grid), stepper) == pytest.approx(exact, rel=0.05)


def test_upwind_advection():
    r"""$|\lambda| \le 2 v / \Delta x$, reached where the wave changes sign in every cell."""
    grid = box(40)
    system = System(grid, {"u": [Advection(np.array([1.5]))]})
    exact = 2.0 / (2 * 1.5 / grid.cell_widths[0])
    assert stable_dt(system, rough(grid), ForwardEuler()) == pytest.approx(exact, rel=0.05)


def test_a_reaction_without_a_grid_at_the_state_given():
    system = System(None, {"u": [Reaction(lambda u: -(u**3))]})
    at = {"u": jnp.asarray(2.0)}
    assert stable_dt(system, at, ForwardEuler()) == pytest.approx(2 / 12, rel=1e-5)
    nothing = {"u": jnp.asarray(0.0)}
    assert stable_dt(system, nothing, ForwardEuler()) == np.inf


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*has grown.*times the longest")
@pytest.mark.parametrize("kind", [ForwardEuler, RungeKutta4])
def test_round_off_grows_beyond_it_and_not_below(kind):
    grid = box(24)
    system, start = System(grid, {"u": [Diffusion(1.0)]}), rough(grid)
    limit = stable_dt(system, start, kind())

    def largest(stepper, dt: float) -> float:
        end = simulate(system, start, TimeGrid.even(0.0, np.array([400 * dt]), 400), stepper)
        return float(jnp.abs(end.states["u"]).max())

    assert largest(kind(), 0.95 * limit) < 5 < 1e3 < largest(kind(), 1.15 * limit)
    assert largest(kind(2), 1.15 * limit) < 5


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [ForwardEuler, RungeKutta4])
def test_substeps_are_shorter_steps(kind):
    grid = box(16)
    speed = lambda t: jnp.stack([1 + jnp.sin(3 * t)])  # noqa: E731
    system = System(grid, {"u": [Advection(speed), Diffusion(0.01)]})
    start, ends = rough(grid), np.array([0.06, 0.12])
    parts = simulate(system, start, TimeGrid.even(0.0, ends, 2), kind(3))
    steps = simulate(system, start, TimeGrid.even(0.0, ends, 6), kind())
    np.testing.assert_allclose(parts.states["u"], steps.states["u"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("substeps", [0, -1])
def test_parts_are_whole_numbers(substeps):
    with pytest.raises(InputError, match="a whole number of parts"):
        ForwardEuler(substeps)


def steep(steps: int, stepper):
    """Heat between walls, hot on one side: 2,500 dt of it may be a half."""
    grid = Grid.uniform((50,), ((0, 1),))
    system = System(grid, {"u": Field([Diffusion(1.0)], {"x": NoFlux()})})
    start = {"u": jnp.where(jnp.arange(50) < 25, 1.0, 0.0)}
    return simulate(system, start, TimeGrid.build(0.0, np.array([0.01]), 0.01 / steps), stepper)


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", [ForwardEuler(), RungeKutta4()])
def test_a_solution_that_explicit_steps_blew_up_is_warned_of(stepper):
    """Finite all the same: nothing else would say so."""
    with pytest.warns(RuntimeWarning, match=r"'u' has grown.*times the longest.*implicit stepper"):
        found = steep(15, stepper)
    assert np.isfinite(found.states["u"]).all()


@pytest.mark.thorough
def test_of_steps_that_are_short_enough_nothing_is_said(recwarn):
    steep(60, ForwardEuler())
    steep(15, CrankNicolson())
    assert not recwarn.list


@pytest.mark.parametrize("stepper", [ForwardEuler(), RungeKutta4()])
def test_what_fills_by_itself_is_no_instability(stepper, recwarn):
    """From zero, by a source: $u = t$, exactly, though a rough mode would grow."""
    grid = Grid.uniform((8,), ((0, 1),))
    terms = [Diffusion(1.0), Source(1.0)]
    system = System(grid, {"u": Field(terms, {"x": NoFlux()})})
    times = TimeGrid.build(0.0, np.array([1.0]), 0.014)
    found = simulate(system, {"u": jnp.zeros(8)}, times, stepper)
    np.testing.assert_allclose(found.states["u"][-1], 1.0, rtol=1e-5)
    assert not recwarn.list
