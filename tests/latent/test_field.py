"""Latents inside a system: found, evaluated when they must be, and alone in being learned."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smooth import box, wave

from impindiff._types import Scalar
from impindiff.coefficients import evaluate_coefficients
from impindiff.grid import Grid
from impindiff.latent import (
    AbstractLatent,
    Parameter,
    SineField,
    is_latent,
    latent_values,
    latents_of,
    learned,
)
from impindiff.systems import System, advection_diffusion
from impindiff.terms import Advection, Diffusion, Source

GRID = box(5, 4)


class Drifting(AbstractLatent):
    """A field that grows with time."""

    scale: Any
    names: tuple[str, ...] = eqx.field(static=True, default=("growth",))

    @property
    def is_steady(self) -> bool:
        return False

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Any:
        return self.scale * (0 if time is None else time) * wave(grid)


def wind() -> SineField:
    return SineField(2, ("wind_x", "wind_y"), width=4, depth=1, key=jax.random.key(0))


def system() -> System:
    return System(
        GRID,
        {
            "a": [Advection(wind()), Diffusion(Parameter("d", 0.1, (0, 1)))],
            "b": [Diffusion(jnp.full(GRID.shape, 0.2)), Source(Drifting(scale=jnp.array(2.0)))],
        },
    )


def test_latents_are_found_in_order():
    found = latents_of(system())
    assert [type(latent) for latent in found] == [SineField, Parameter, Drifting]
    assert all(map(is_latent, found)) and not is_latent(jnp.ones(2))


def test_steady_latents_become_arrays_and_others_wait_for_a_time():
    steady = evaluate_coefficients(system(), GRID)
    assert [type(latent) for latent in latents_of(steady)] == [Drifting]
    (advection, _), (_, source) = steady.equations["a"], steady.equations["b"]
    assert isinstance(advection, Advection) and isinstance(source, Source)
    np.testing.assert_array_equal(advection.velocity, wind().evaluate(GRID))
    then = evaluate_coefficients(source, GRID, jnp.array(3.0))
    assert latents_of(then) == []
    np.testing.assert_allclose(then.strength, 6 * wave(GRID))


def test_values_by_name_have_the_grids_shape():
    values = system().latents(jnp.array(0.5))
    assert list(values) == ["wind_x", "wind_y", "d", "growth"]
    assert {value.shape for value in values.values()} == {GRID.shape}
    both = wind().evaluate(GRID)
    np.testing.assert_array_equal(values["wind_x"], both[0])
    np.testing.assert_array_equal(values["wind_y"], both[1])
    np.testing.assert_allclose(values["d"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(values["growth"], wave(GRID))
    assert latent_values([], GRID) == {}


def test_only_what_is_inside_latents_is_learned():
    """A known array, as the diffusivity of `b`, and the grid are left alone."""
    marked = learned(system())
    assert not any(jax.tree.leaves(marked.equations["b"][0]))
    counts = jax.tree.leaves(eqx.filter(system(), marked))
    of_network = jax.tree.leaves(eqx.filter(wind(), eqx.is_array))
    assert sum(leaf.size for leaf in counts) == sum(leaf.size for leaf in of_network) + 1 + 1
    known = advection_diffusion(GRID, jnp.ones(2), 0.1)
    assert not any(jax.tree.leaves(learned(known)))


class Counted(AbstractLatent):
    """Known by an integer, which no gradient can change."""

    weight: Any
    index: Any
    names: tuple[str, ...] = eqx.field(static=True, default=("counted",))

    @property
    def is_steady(self) -> bool:
        return True

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Any:
        return self.weight[self.index]


def test_integers_inside_latents_are_not_learned():
    latent = Counted(weight=jnp.ones(3), index=jnp.array(1))
    assert jax.tree.leaves(learned([latent])) == [True, False]


class TestPrepared:
    """A latent that depends on time passes through `prepare` and is asked at each instant."""

    def test_the_tendency_is_that_of_the_instant(self):
        state = {"a": wave(GRID), "b": wave(GRID, 1.0)}
        dynamics = system().prepare(jnp.dtype("float64"))
        rates = [dynamics.at(jnp.array(t))(state) for t in (0.0, 1.0, 3.0)]
        for time, rate in zip((0.0, 1.0, 3.0), rates, strict=True):
            np.testing.assert_allclose(rate["b"] - rates[0]["b"], 2 * time * wave(GRID), atol=1e-13)
            np.testing.assert_array_equal(rate["a"], rates[0]["a"])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_everything_is_in_the_precision_asked_for(self, dtype: str):
        tendency = system().prepare(jnp.dtype(dtype)).at(jnp.array(1.0))
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(tendency)} == {dtype}

    def test_gradients_reach_it(self):
        def loss(scale):
            terms = [Diffusion(0.1), Source(Drifting(scale=scale))]
            dynamics = System(GRID, {"b": terms}).prepare(jnp.dtype("float64"))
            return jnp.sum(dynamics.at(jnp.array(3.0))({"b": wave(GRID)})["b"])

        expected = 3 * float(wave(GRID).sum())
        assert float(jax.grad(loss)(jnp.array(2.0))) == pytest.approx(expected)
