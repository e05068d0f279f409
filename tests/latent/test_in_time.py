"""Fields that vary in time: what they can represent, and what they cost."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rate
from smooth import box

from impindiff._errors import InputError
from impindiff.coefficients import evaluate_coefficients
from impindiff.grid import Axis, Grid
from impindiff.latent import (
    AbstractLatent,
    FilmField,
    HypernetworkField,
    SeparableField,
    SineField,
    SpectralField,
)

SPAN = (0.0, 2.0)
SMALL = {"width": 8, "depth": 2, "key": jax.random.key(1)}


def fields(num_axes: int, names: tuple[str, ...], **options) -> dict[str, AbstractLatent]:
    """One of each kind."""
    return {
        "separable": SeparableField(num_axes, names, SPAN, **SMALL | options),
        "film": FilmField(num_axes, names, SPAN, **SMALL | options),
        "hypernetwork": HypernetworkField(num_axes, names, SPAN, **SMALL | options),
        "spectral": SpectralField(num_axes, names, 1, SPAN, degree=2, **options),
    }


KINDS = list(fields(1, ("a",)))


def at(time: float) -> jax.Array:
    return jnp.asarray(time, jnp.float32)


def stirred(field: AbstractLatent, size: float = 0.3) -> AbstractLatent:
    """With every learned number changed: a spectral field is constant at first."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda a: (
            a + size * jnp.asarray(rng.standard_normal(a.shape), a.dtype)
            if eqx.is_inexact_array(a)
            else a
        ),
        field,
    )


def double(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, tree)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7,), (5, 4), (3, 4, 3)])
def test_shapes(kind: str, shape: tuple[int, ...]):
    """One component has no axis of its own; several lead."""
    for names in (("a",), ("a", "b")):
        field = fields(len(shape), names)[kind]
        value = eqx.filter_jit(field.evaluate)(box(*shape), at(0.5))
        assert value.shape == (shape if len(names) == 1 else (len(names), *shape))
        assert value.dtype == jnp.float64 and np.isfinite(value).all()
        assert not field.is_steady


@pytest.mark.parametrize("kind", KINDS)
def test_it_varies_in_time_and_space_and_closes_on_itself(kind: str):
    field, grid = double(stirred(fields(1, ("a",))[kind])), box(90)
    early, late = (np.asarray(field.evaluate(grid, at(t))) for t in (0.2, 1.7))
    assert np.abs(early - late).max() > 1e-2 and np.ptp(early) > 1e-2
    jump = np.abs(early - np.roll(early, 1))
    assert jump[0] < 2 * np.sort(jump)[-5:].mean()
    elsewhere = Grid.uniform((90,), ((3.0, 7.0),), periodic=True)
    np.testing.assert_allclose(field.evaluate(elsewhere, at(0.2)), early, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_prepared_is_the_same_field(kind: str):
    field, grid = double(stirred(fields(2, ("a", "b"))[kind])), box(6, 5)
    once = evaluate_coefficients(field, grid)
    for time in (0.0, 0.7, 2.0):
        now = evaluate_coefficients(once, grid, at(time))
        np.testing.assert_allclose(now, field.evaluate(grid, at(time)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["separable", "spectral"])
def test_space_is_evaluated_once_for_all_times(kind: str):
    """A time costs the sum over shapes: neither a sine for each cell, nor a layer's product."""
    field, grid = fields(2, ("a",))[kind], box(16, 16)
    once = evaluate_coefficients(field, grid)
    text = str(jax.make_jaxpr(lambda t: evaluate_coefficients(once, grid, t))(at(0.3)))
    waves = [line for line in text.splitlines() if " sin " in line and "256" in line]
    assert not waves
    whole = str(jax.make_jaxpr(lambda field, t: field.evaluate(grid, t))(field, at(0.3)))
    assert text.count("dot_general") < whole.count("dot_general")


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_whatever_the_weights(kind: str):
    field = stirred(fields(1, ("k",), bounds=(1e-3, 1e-2))[kind], 5.0)
    values = np.asarray(field.evaluate(box(50), at(0.4)))
    assert values.min() >= 1e-3 and values.max() <= 1e-2 and np.ptp(values) > 1e-4
    start = fields(1, ("k",), bounds=(1e-3, 1e-2))[kind].evaluate(box(50), at(0.4))
    assert np.min(start) > 2e-3 and np.max(start) < 9e-3


def test_a_range_for_each_component():
    ranges = ((0.0, 1.0), (100.0, 300.0))
    for field in fields(1, ("a", "b"), output_range=ranges).values():
        a, b = np.asarray(field.evaluate(box(20), at(0.4)))
        assert -1.5 < a.min() <= a.max() < 2.5 and -100 < b.min() <= b.max() < 500
    steady = SineField(1, ("a", "b"), output_range=ranges, **SMALL).evaluate(box(20))
    np.testing.assert_allclose(np.mean(steady, axis=1), [0.5, 200], rtol=0.4)


def fitted(field: SpectralField, grid: Grid, times: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The nearest values to a truth, by linear least squares in what the field is linear in."""
    learned, rest = eqx.partition(double(field), eqx.is_inexact_array)

    def where(field: Any) -> jax.Array:
        return field.coefficients

    def values(numbers):
        held = eqx.tree_at(where, learned, numbers.reshape(shape))
        whole = eqx.combine(held, rest)
        return jnp.stack([whole.evaluate(grid, at(t)) for t in times]).ravel()

    shape = field.coefficients.shape
    zero = jnp.zeros(field.coefficients.size)
    matrix = np.asarray(jax.jacfwd(values)(zero))
    known = np.asarray(values(zero))
    found, *_ = np.linalg.lstsq(matrix, truth.ravel() - known, rcond=None)
    return (matrix @ found + known).reshape(truth.shape)


def test_a_spectral_field_holds_waves_that_drift():
    """In space exactly; in time as Legendre series converge, spectrally."""
    grid, times = box(16), np.linspace(0, 2, 9)
    x = grid.centres()[0]
    length = grid.axes[0].length
    truth = np.stack([np.sin(2 * np.pi * 2 * x / length - 1.5 * t) for t in times])
    errors = []
    for degree in (2, 4, 6):
        field = SpectralField(1, ("a",), 2, SPAN, degree=degree)
        errors.append(np.abs(fitted(field, grid, times, truth) - truth).max())
    assert errors[0] > 1e-2 and errors[1] < errors[0] / 10 and errors[2] < errors[1] / 10


def test_a_steady_spectral_field_between_ends_holds_polynomials():
    grid = Grid([Axis("x", 0.0, 3.0, 12, periodic=False)])
    field = SpectralField(1, ("a",), 1)
    assert field.is_steady
    truth = 1 + 2 * grid.centres()[0] - 0.5 * grid.centres()[0] ** 2
    np.testing.assert_allclose(fitted(field, grid, np.zeros(1), truth[None])[0], truth, rtol=1e-9)
    found: Any = evaluate_coefficients(field, grid)
    assert found.shape == (12,)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str):
    field, grid = double(stirred(fields(2, ("a", "b"), bounds=(0.0, 3.0))[kind], 0.1)), box(4, 3)
    learned, rest = eqx.partition(field, eqx.is_inexact_array)

    def value(learned):
        return jnp.sum(jnp.sin(eqx.combine(learned, rest).evaluate(grid, at(0.6))))

    assert taylor_rate(value, learned, step=1e-4) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SeparableField(1, ("a",), (1.0, 1.0), **SMALL), "first and the last time"),
        (lambda: FilmField(1, ("a",), (0.0,), **SMALL), "first and the last time"),
        (lambda: HypernetworkField(1, ("a",), (0.0, np.inf), **SMALL), "first and the last time"),
        (lambda: SpectralField(1, ("a",), 2, SPAN), "give both"),
        (lambda: SpectralField(1, ("a",), 2, degree=2), "give both"),
        (lambda: SpectralField(1, ("a",), 2, SPAN, degree=-1), "at least 0"),
        (lambda: SpectralField(2, ("a",), (1, 2, 3)), "each of the 2 axes"),
        (lambda: SpectralField(2, ("a",), -1), "at least 0"),
        (lambda: SpectralField(1, ("a",), 4).evaluate(box(8)), "8 cells resolve 3"),
        (lambda: SpectralField(1, ("a",), 1).evaluate(box(8, 8)), "num_axes=2"),
        (lambda: SpectralField(1, ("a",), 1).evaluate(None), "the system has none"),
        (lambda: SineField(1, ("a",), output_range=((0, 1), (0, 1)), **SMALL), "each of the 1"),
        (lambda: SineField(1, ("a", "b"), output_range=((0, 1), (3, 2)), **SMALL), "high > low"),
        (lambda: SineField(1, ("a",), output_range=(0, 2), bounds=(0, 1), **SMALL), "not inside"),
        (lambda: SineField(1, ("a",), bounds=(1, 0), **SMALL), "nothing inside"),
        (lambda: SineField(1, ("a", "a"), **SMALL), "name of its own"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"span": SPAN, "degree": 1.5}, "a whole degree"),
        ({"modes": 2.0}, "one whole number"),
        ({"modes": True}, "one whole number"),
        ({"bounds": 3.0}, "must be two numbers"),
        ({"names": 7}, "names of a neural field must be text"),
    ],
)
def test_another_kind_of_argument_is_refused(given: dict[str, Any], message: str):
    with runtime_types.without(), pytest.raises(InputError, match=message):
        SpectralField(**({"num_axes": 1, "names": ("a",), "modes": 2} | given))
