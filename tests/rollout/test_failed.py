"""After a step that failed nobody goes on with wrong states, unless he asks for them."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types

from impindiff._errors import InputError, NumericsError
from impindiff.grid import Grid
from impindiff.implicit import Affine, ImplicitAdjoint
from impindiff.integrate import SDIRK2, BackwardEuler, RungeKutta4, Tsitouras5
from impindiff.latent import Parameter
from impindiff.linear import BiCGStab
from impindiff.rollout import KeepAll, Snapshots, StepFailed, StepResult, TimeGrid, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Diffusion, Dirichlet

CELLS, TIMES = 40, TimeGrid.build(0.0, [0.2, 0.4], 0.1)
SCARCE, AMPLE = Affine(BiCGStab(max_steps=2)), Affine(BiCGStab(1e-10), BiCGStab(1e-10))
STEPPERS = {"Euler": BackwardEuler, "SDIRK2": SDIRK2}
MEMORY = {"all": KeepAll(), "every step": Snapshots(4), "some": Snapshots(2)}


def heat(diffusivity: Any = 1.0) -> System:
    """Heat in a row of cells between cold ends."""
    grid = Grid.uniform((CELLS,), ((0.0, 1.0),))
    return System(grid, {"u": Field([Diffusion(diffusivity)], {"x": Dirichlet(0.0)})})


def warm() -> dict[str, jax.Array]:
    return {"u": jnp.ones(CELLS)}


@pytest.mark.parametrize("kind", STEPPERS.values(), ids=STEPPERS)
class TestOfAFailedStep:
    @pytest.mark.thorough
    def test_it_is_raised(self, kind):
        with pytest.raises(StepFailed, match=r"step 1 of 4 .*'max steps' after \d+ iterations"):
            simulate(heat(), warm(), TIMES, kind(SCARCE))

    def test_inside_of_jit_and_vmap_all_that_follows_is_nan(self, kind):
        found = jax.jit(lambda u: simulate(heat(), u, TIMES, kind(SCARCE)))(warm())
        assert np.isnan(found.states["u"]).all()
        with pytest.raises(NumericsError, match="step 1 of 4 .*'max steps'"):
            found.check(TIMES)
        both = {"u": jnp.stack([jnp.zeros(CELLS), jnp.ones(CELLS)])}
        found = jax.vmap(lambda u: simulate(heat(), u, TIMES, kind(SCARCE)))(both)
        # Nothing happens in the first sample, which goes on.
        np.testing.assert_array_equal(found.states["u"][0], 0)
        assert np.isnan(found.states["u"][1]).all()
        with pytest.raises(NumericsError, match="sample 1"):
            found.check(TIMES)

    @pytest.mark.thorough
    def test_whoever_asks_gets_nan_or_the_states_as_they_are(self, kind):
        found = simulate(heat(), warm(), TIMES, kind(SCARCE), on_failure="nan")
        assert np.isnan(found.states["u"]).all()
        found = simulate(heat(), warm(), TIMES, kind(SCARCE), on_failure="keep")
        assert np.isfinite(found.states["u"]).all()
        assert (found.outcome.result == StepResult.MAX_STEPS).all()

    @pytest.mark.thorough
    @pytest.mark.parametrize("memory", MEMORY.values(), ids=MEMORY)
    def test_a_gradient_through_it_is_nan_even_where_the_loss_is_linear(self, kind, memory):
        adjoint = ImplicitAdjoint(BiCGStab(1e-8), on_failure="nan")
        solver = Affine(BiCGStab(max_steps=2), adjoint)

        def loss(u, diffusivity):
            found = simulate(heat(diffusivity), u, TIMES, kind(solver), memory=memory)
            return found.states["u"].sum()

        slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(warm(), jnp.array(1.0))
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(slopes))

    @pytest.mark.thorough
    @pytest.mark.parametrize("memory", MEMORY.values(), ids=MEMORY)
    def test_where_all_is_well_nothing_changes(self, kind, memory):
        def loss(u, diffusivity, on_failure):
            system = heat(diffusivity)
            given = {"memory": memory, "on_failure": on_failure}
            return (simulate(system, u, TIMES, kind(AMPLE), **given).states["u"] ** 2).sum()

        def both(on_failure):
            of = jax.value_and_grad(lambda u, d: loss(u, d, on_failure), argnums=(0, 1))
            return jax.jit(of)(warm(), jnp.array(1.0))

        # Compiled otherwise, sums are added up in another order, and solves end elsewhere.
        same = partial(np.testing.assert_allclose, rtol=1e-9)
        jax.tree.map(same, both("raise"), both("keep"))


@pytest.mark.thorough
def test_states_before_the_failed_step_stand():
    """A diffusivity that is none any more from the third step on."""
    law = Parameter("D", 1.0, (0.0, 2.0))
    grid = Grid.uniform((CELLS,), ((0.0, 1.0),))
    terms = [Diffusion(lambda t, D: jnp.where(t > 0.25, jnp.nan, D))]
    ends = {"x": Dirichlet(0.0)}
    system = System(grid, {"u": Field(terms, ends)}, coefficients={"D": law})
    with pytest.raises(StepFailed, match="step 3 of 4") as caught:
        simulate(system, warm(), TIMES, BackwardEuler(AMPLE))
    assert caught.value.step == 2
    found = jax.jit(lambda u: simulate(system, u, TIMES, BackwardEuler(AMPLE)).states["u"])(warm())
    good = simulate(heat(), warm(), TIMES, BackwardEuler(AMPLE)).states["u"]
    np.testing.assert_allclose(found[0], good[0], rtol=1e-9)
    assert np.isnan(found[1]).all()


def test_another_word_is_refused():
    with runtime_types.without(), pytest.raises(InputError, match="give 'raise', 'nan' or 'keep'"):
        simulate(heat(), warm(), TIMES, BackwardEuler(), on_failure="ignore")  # type: ignore


@pytest.mark.parametrize("stepper", [RungeKutta4(), Tsitouras5()], ids=["RK4", "Tsitouras5"])
def test_an_explicit_step_into_nan_is_raised(stepper):
    """Nothing is solved that could fail."""
    beyond = Reaction(lambda u: jnp.where(u > 1.25, jnp.nan, 1.0))
    system = System(None, {"u": Field([beyond])})
    start = {"u": jnp.ones(())}
    with pytest.raises(NumericsError, match=r"'u' is not finite at t = 0\.4, .*system\.check"):
        simulate(system, start, TIMES, stepper)
    kept = simulate(system, start, TIMES, stepper, on_failure="keep").states["u"]
    assert kept[0] == pytest.approx(1.2) and np.isnan(kept[1])
