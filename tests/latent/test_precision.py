"""What is learned is kept in JAX's default precision, or in the one asked for."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import final_classes

from impindiff import InputError, NeuralClosure, Parameter, SineField
from impindiff.grid import Grid
from impindiff.latents import (
    AbstractLatent,
    CellField,
    ConvolutionalClosure,
    FilmField,
    HypernetworkField,
    Layers,
    LearnedSeries,
    SeparableField,
    SpectralField,
)

KEY = 3
SIZES = {"width": 4, "depth": 1}
LAYERS = Layers(4, 1)
LATENTS: dict[str, Callable] = {
    "Parameter": lambda **o: Parameter("k", 0.1, (0.0, 1.0), **o),
    "CellField": lambda **o: CellField("k", np.full(3, 0.1), (0.0, 1.0), **o),
    "SineField": lambda **o: SineField(1, ("k",), key=jax.random.key(KEY), **SIZES, **o),
    "SpectralField": lambda **o: SpectralField(1, ("k",), 1, bounds=(0.0, 1.0), **o),
    "SeparableField": lambda **o: SeparableField(
        1, ("k",), (0.0, 1.0), key=jax.random.key(KEY), layers=LAYERS, **o
    ),
    "FilmField": lambda **o: FilmField(
        1, ("k",), (0.0, 1.0), key=jax.random.key(KEY), layers=LAYERS, **o
    ),
    "HypernetworkField": lambda **o: HypernetworkField(
        1, ("k",), (0.0, 1.0), key=jax.random.key(KEY), rank=2, layers=LAYERS, **o
    ),
    "LearnedSeries": lambda **o: LearnedSeries("k", [0.0, 0.4, 1.0], 0.1, (0.0, 1.0), "pchip", **o),
    "NeuralClosure": lambda **o: NeuralClosure(
        "k", {"c": (0.0, 1.0)}, key=jax.random.key(KEY), **SIZES, **o
    ),
    "ConvolutionalClosure": lambda **o: ConvolutionalClosure(
        "k", {"c": (0.0, 1.0)}, 1, width=2, levels=1, key=jax.random.key(KEY), **o
    ),
}


def test_every_latent_is_under_contract():
    assert {type(make()) for make in LATENTS.values()} == final_classes(AbstractLatent)


@pytest.mark.parametrize("name", LATENTS)
def test_what_is_said_of_it_is_so(name: str):
    """Whether it is one number, and for which arguments there are ranges."""
    latent = LATENTS[name]()
    grid = Grid.uniform((3,), ((0.0, 1.0),))
    arguments = getattr(latent, "arguments", ())
    assert set(latent.input_ranges) == set(arguments)
    if not arguments:
        value = latent.evaluate(grid, None if latent.is_steady else jnp.asarray(0.5))
        assert latent.is_number == (value.ndim == 0)


def arrays(latent) -> list[jax.Array]:
    return jax.tree.leaves(eqx.filter(latent, eqx.is_inexact_array))


@pytest.mark.thorough
@pytest.mark.parametrize("name", LATENTS)
def test_what_is_learned_has_the_default_precision_or_the_one_asked_for(name: str):
    """And a key gives the same network in each."""
    make = LATENTS[name]
    double, single = make(), make(dtype=jnp.float32)
    assert {a.dtype for a in arrays(double)} == {jnp.dtype("float64")}
    assert {a.dtype for a in arrays(single)} == {jnp.dtype("float32")}
    jax.config.update("jax_enable_x64", False)
    default = make()
    assert {a.dtype for a in arrays(default)} == {jnp.dtype("float32")}
    for wide, narrow, own in zip(*map(arrays, (double, single, default)), strict=True):
        np.testing.assert_allclose(wide, narrow, rtol=1e-6)
        np.testing.assert_array_equal(narrow, own)
    with pytest.raises(InputError, match="dtype is float64, but JAX computes in single precision"):
        make(dtype="float64")


@pytest.mark.parametrize("dtype", [int, "complex64", "no type", "float16"])
def test_a_precision_that_is_none_is_refused(dtype):
    with pytest.raises(InputError, match="computations are in float32 or float64"):
        Parameter("k", 0.1, (0.0, 1.0), dtype=dtype)


def test_a_number_keeps_all_its_digits():
    """0.1 in single precision is off by 1.5e-9."""
    assert float(Parameter("k", 0.1, (0.0, 1.0)).evaluate(None)) == pytest.approx(0.1, rel=1e-15)
