"""Fields that vary in time: what they can represent, and what they cost."""

from contextlib import nullcontext
from inspect import signature
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from contracts import final_classes
from gradients import taylor_rate
from jax.flatten_util import ravel_pytree
from smooth import box

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.coefficients import Instant, check_spans, evaluate_coefficients
from impindiff.grid import Axis, Grid
from impindiff.latent import (
    AbstractLatent,
    FilmField,
    HypernetworkField,
    Layers,
    SeparableField,
    SineField,
    SpectralField,
)
from impindiff.latent._coordinates import Span

SPAN = (0.0, 2.0)
KEY = jax.random.key(1)
STEADY: Any = {"width": 8, "depth": 2, "key": KEY}
SMALL: Any = {"layers": Layers(8, 2), "key": KEY}


def fields(num_axes: int, names: tuple[str, ...], **options) -> dict[str, AbstractLatent]:
    """One of each kind."""
    return {
        "separable": SeparableField(num_axes, names, SPAN, **SMALL | options),
        "film": FilmField(num_axes, names, SPAN, **SMALL | options),
        "hypernetwork": HypernetworkField(num_axes, names, SPAN, **SMALL | options),
        "spectral": SpectralField(num_axes, names, 1, SPAN, degree=2, **options),
    }


KINDS = list(fields(1, ("a",)))


def test_every_field_that_varies_in_time_is_under_contract():
    found = {kind for kind in final_classes(AbstractLatent) if "span" in signature(kind).parameters}
    assert {type(field) for field in fields(1, ("a",)).values()} == found


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


@pytest.mark.thorough
@pytest.mark.many
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


def test_times_are_scaled_to_the_span():
    """-1 at its first time and 1 at its last, wherever zero is."""
    span = Span((3.0, 7.0), ("a",))
    found = [float(span.scaled(at(t))) for t in (3.0, 4.0, 5.0, 7.0, 9.0)]
    assert found == [-1.0, -0.5, 0.0, 1.0, 2.0]
    assert float(Span((-6.0, -2.0), ("a",)).scaled(Instant(at(-2.0)))) == 1.0


def dense(layer, z):
    return z @ np.asarray(layer.weight) + np.asarray(layer.bias)


def sines(network, z):
    for layer in network.layers:
        z = np.sin(network.frequency * dense(layer, z))
    return z


@pytest.mark.parametrize("kind", ["separable", "film", "hypernetwork"])
def test_it_is_the_network_of_its_formula(kind: str):
    """Written out for one place and time; two components of different ranges."""
    options: Any = SMALL | {
        "layers": Layers(8, 2, 2.0),
        "time_layers": Layers(frequency=1.5),
        "output_range": ((1, 3), (-10, 30)),
    }
    make: Any = {"separable": SeparableField, "film": FilmField, "hypernetwork": HypernetworkField}
    field = double(stirred(make[kind](1, ("a", "b"), (3.0, 7.0), **options), 0.1))
    assert field.hidden.frequency == 2.0
    angle, s = 2 * np.pi * 2.5 / 5, np.array([(4.0 - 5.0) / 2])
    z = np.array([np.sin(angle), np.cos(angle)])
    if kind == "separable":
        in_time = field.amplitudes.network
        amplitudes = dense(in_time.head, sines(in_time.hidden, s)).reshape(2, 8)
        raw = amplitudes @ sines(field.hidden, z)
    elif kind == "film":
        in_time = field.modulation
        parts = dense(in_time.head, sines(in_time.hidden, s)).reshape(2, 2, 8)
        for layer, (scale, shift) in zip(field.hidden.layers, parts, strict=True):
            inner = (1 + scale) * (z @ np.asarray(layer.weight)) + np.asarray(layer.bias) + shift
            z = np.sin(2.0 * inner)
        raw = dense(field.head, z)
    else:
        in_time = field.network
        weights, unravel = ravel_pytree((field.hidden, field.head))
        change = dense(in_time.head, sines(in_time.hidden, s)) @ np.asarray(field.projection)
        hidden, head = unravel(weights + change)
        raw = dense(head, sines(hidden, z))
    assert in_time.hidden.frequency == 1.5
    middle, half = np.asarray(field.output.midpoint), np.asarray(field.output.half_width)
    np.testing.assert_allclose(middle, [2, 10], atol=0.5)
    found = field.evaluate(box(5), at(4.0))[:, 2]
    np.testing.assert_allclose(found, middle + half * raw, rtol=1e-10)


def test_a_spectral_field_is_the_sum_of_its_formula():
    """Each coefficient by itself, on one periodic axis and one with ends."""
    grid = Grid.uniform((5, 4), ((2.0, 4.0), (-1.0, 5.0)), periodic=(True, False))
    made = SpectralField(2, ("a",), (1, 1), (3.0, 7.0), degree=3, output_range=(1.0, 5.0))
    assert made.coefficients.shape == (1, 4, 3, 3)
    np.testing.assert_array_equal(made.evaluate(grid, at(4.0)), jnp.full((5, 4), 3.0))
    turn, along, s = 2 * np.pi * 1.5 / 5, 2 * 2.5 / 4 - 1, -0.5
    in_time = [1, s, (3 * s**2 - 1) / 2, (5 * s**3 - 3 * s) / 2]
    in_x, in_y = [1, np.cos(turn), np.sin(turn)], [1, along, (3 * along**2 - 1) / 2]
    numbers = np.random.default_rng(0).normal(size=(1, 4, 3, 3))
    field = eqx.tree_at(lambda f: f.coefficients, double(made), jnp.asarray(numbers))
    expected = 3 + 2 * np.einsum("dmn,d,m,n", numbers[0], in_time, in_x, in_y)
    assert float(field.evaluate(grid, at(4.0))[1, 2]) == pytest.approx(expected, rel=1e-12)


def test_what_they_are_by_default():
    """Sizes, frequencies, and how little of the start depends on the time."""
    key = jax.random.key(0)
    for make, name, outputs in (
        (SeparableField, "amplitudes", 64),
        (FilmField, "modulation", 2 * 2 * 64),
        (HypernetworkField, "network", 10),
    ):
        field = make(1, ("a",), SPAN, key=key)
        assert [layer.weight.shape for layer in field.hidden.layers] == [(2, 64), (64, 64)]
        assert field.hidden.frequency == 6.0
        part = getattr(field, name)
        in_time = part.network if name == "amplitudes" else part
        assert in_time.hidden.frequency == 1.0
        assert in_time.head.weight.shape == (16, outputs)
        assert len(in_time.hidden.layers) == (2 if name == "network" else 1)
        size = {"amplitudes": 1 / 8, "modulation": 0.1, "network": 1.0}[name]
        most = size * (6 / 16) ** 0.5
        assert 0.9 * most < float(jnp.abs(in_time.head.weight).max()) <= most
    field = HypernetworkField(1, ("a",), SPAN, key=key)
    change = np.abs(field.projection) / np.abs(ravel_pytree((field.hidden, field.head))[0])
    assert 0.099 < float(change.max()) <= 0.1 * (1 + 1e-6)


@pytest.mark.many
@pytest.mark.parametrize("kind", KINDS)
def test_it_varies_in_time_and_space_and_closes_on_itself(kind: str):
    field, grid = double(stirred(fields(1, ("a",))[kind])), box(90)
    early, late = (np.asarray(field.evaluate(grid, at(t))) for t in (0.2, 1.7))
    assert np.abs(early - late).max() > 1e-2 and np.ptp(early) > 1e-2
    jump = np.abs(early - np.roll(early, 1))
    assert jump[0] < 2 * np.sort(jump)[-5:].mean()
    elsewhere = Grid.uniform((90,), ((3.0, 7.0),), periodic=True)
    np.testing.assert_allclose(field.evaluate(elsewhere, at(0.2)), early, rtol=1e-9)


@pytest.mark.thorough
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


@pytest.mark.many
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
    steady = SineField(1, ("a", "b"), output_range=ranges, **STEADY).evaluate(box(20))
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


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_a_steady_spectral_field_between_ends_holds_polynomials():
    grid = Grid([Axis("x", 0.0, 3.0, 12, periodic=False)])
    field = SpectralField(1, ("a",), 1)
    assert field.is_steady
    truth = 1 + 2 * grid.centres()[0] - 0.5 * grid.centres()[0] ** 2
    np.testing.assert_allclose(fitted(field, grid, np.zeros(1), truth[None])[0], truth, rtol=1e-9)
    found: Any = evaluate_coefficients(field, grid)
    assert found.shape == (12,)


@pytest.mark.thorough
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
        (lambda: SineField(1, ("a",), output_range=((0, 1), (0, 1)), **STEADY), "each of the 1"),
        (lambda: SineField(1, ("a", "b"), output_range=((0, 1), (3, 2)), **STEADY), "high > low"),
        (lambda: SineField(1, ("a",), output_range=(0, 2), bounds=(0, 1), **STEADY), "not inside"),
        (lambda: SineField(1, ("a",), bounds=(1, 0), **STEADY), "nothing inside"),
        (lambda: SineField(1, ("a", "a"), **STEADY), "name of its own"),
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


@pytest.mark.parametrize(
    "first, last, is_fine",
    [
        (0.0, 2.0, True),
        (-1e-5, 2.0 + 1e-5, True),
        (-1e-4, 2.0, False),
        (0.0, 2.0 + 1e-4, False),
        (0.5, 1.5, True),
    ],
)
def test_no_time_beyond_the_span_is_used_but_for_round_off(first, last, is_fine: bool):
    field = SeparableField(1, ("a",), SPAN, **SMALL)
    with nullcontext() if is_fine else pytest.raises(InputError, match="has the time span"):
        check_spans([field, SineField(1, ("b",), **STEADY)], first, last, "training")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first, last", [(0.0, 2.5), (-0.5, 1.0)])
def test_no_rollout_and_no_steady_state_goes_beyond_a_span(kind: str, first: float, last: float):
    field = fields(1, ("a",), bounds=(0.1, 1.0))[kind]
    line = Grid([Axis("x", 0.0, 1.0, 8)])
    rod = ipd.System(line, {"c": ipd.Field([ipd.Diffusion(field)], {"x": ipd.Dirichlet(1.0)})})
    start = {"c": jnp.ones(8)}
    times = ipd.TimeGrid.build(first, [last], 0.5)
    calls = [
        lambda: ipd.simulate(rod, start, times, ipd.BackwardEuler()),
        lambda: jax.jit(lambda: ipd.simulate(rod, start, times, ipd.BackwardEuler()).states)(),
        lambda: ipd.steppers.simulate_controlled(rod, start, [first, last]),
        lambda: ipd.steady(rod, time=last if last > SPAN[1] else first),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"a has the time span \(0, 2\), but the simulation"):
            call()


@pytest.mark.thorough
@pytest.mark.parametrize("make", [SeparableField, FilmField, HypernetworkField])
def test_sizes_by_the_keywords_of_version_0_1(make: Any):
    wanted = make(
        1, ("a",), SPAN, layers=Layers(8, 1, 2.0), time_layers=Layers(frequency=0.5), key=KEY
    )
    with pytest.warns(DeprecationWarning) as caught:
        found = make(1, ("a",), SPAN, width=8, depth=1, frequency=2.0, time_frequency=0.5, key=KEY)
    assert eqx.tree_equal(found, wanted)
    told = [str(warning.message) for warning in caught]
    assert f"{make.__name__}(width=8) is layers=Layers(width=8) now." in told
    assert f"{make.__name__}(time_frequency=0.5) is time_layers=Layers(frequency=0.5) now." in told
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.raises(InputError, match="has no argument 'widht'"):
        make(1, ("a",), SPAN, widht=8, key=KEY)


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_for_which_times_it_is_wanted(kind: str):
    assert fields(1, ("a",))[kind].time_span == SPAN
