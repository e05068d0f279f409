"""Closures: functions of named things, known and learned, and how they are evaluated."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import random_like, taylor_rate
from smooth import box, wave

from impindiff._errors import InputError
from impindiff.coefficients import (
    Closure,
    Corrected,
    as_closures,
    coefficients_of,
    depends_on,
    evaluate_coefficients,
)
from impindiff.latent import (
    CellField,
    NeuralClosure,
    Parameter,
    SineField,
    latents_of,
    learned,
    tabulate,
)

GRID = box(5, 4)
U, V = wave(GRID), wave(GRID, 1.0)


def network(**options: Any) -> NeuralClosure:
    options = {"width": 4, "depth": 1, "key": jax.random.key(0)} | options
    return NeuralClosure("rate", {"u": (0.0, 2.0), "v": (0.0, 2.0)}, **options)


def moved(latent: NeuralClosure) -> NeuralClosure:
    """With weights that are not those of the start."""
    arrays, rest = eqx.partition(latent, eqx.is_inexact_array)
    drawn = jax.tree.map(lambda a: a.astype(jnp.float64), random_like(arrays, 1))
    return eqx.combine(drawn, rest)


class TestClosure:
    def test_parameters_name_what_it_is_given(self):
        closure: Any = Closure(lambda v, factor, u: u - factor * v, factor=2.0)
        assert closure.arguments == ("v", "u") and closure.is_steady
        found = evaluate_coefficients(closure, GRID, None, {"u": U, "v": V, "w": 0})
        np.testing.assert_array_equal(found, U - 2 * V)

    def test_fields_are_given_in_order(self):
        closure: Any = Closure(jnp.subtract, fields=("v", "u"))
        found = evaluate_coefficients(closure, GRID, None, {"u": U, "v": V})
        np.testing.assert_array_equal(found, V - U)

    def test_what_has_a_default_is_left_alone(self):
        assert Closure(lambda u, power=2: u**power).arguments == ("u",)

    def test_several_components_go_along_a_leading_axis(self):
        found = Closure(lambda u: (u, 1.0)).evaluate(GRID, None, {"u": U})
        np.testing.assert_array_equal(found, jnp.stack([U, jnp.ones_like(U)]))

    def test_it_waits_for_all_that_it_is_a_function_of(self):
        """First for what does not vary, then for a time, then for a state."""
        closure = Closure(
            lambda u, t, scale: scale * u * t, scale=Closure(lambda x: x, fields=("x",))
        )
        given: Any = {"k": closure}
        steady = evaluate_coefficients(given, GRID, None, {"x": V})
        assert len(coefficients_of(closure)) == 2 and not closure.is_steady
        assert [type(part) for part in coefficients_of(steady)] == [Closure]
        time = jnp.array(3.0)
        at_time = evaluate_coefficients(steady, GRID, time, {"t": time})
        assert len(coefficients_of(at_time)) == 1
        done = evaluate_coefficients(at_time, GRID, time, {"t": time, "u": U})
        np.testing.assert_allclose(done["k"], 3 * U * V)

    def test_dependence_is_seen_through_parts(self):
        whole = [Closure(lambda v, k: v * k, k=Closure(lambda u: u))]
        assert depends_on(whole, {"u"}) and depends_on(whole, {"v"})
        assert not depends_on(whole, {"w"})

    def test_plain_functions_become_closures_wherever_they_stand(self):
        made = as_closures({"a": [lambda u: u, 2.0], "b": Parameter("p", 1.0, (0, 2))})
        assert isinstance(made["a"][0], Closure) and made["a"][1] == 2.0
        assert isinstance(made["b"], Parameter)
        mlp = eqx.nn.MLP(1, 1, 2, 1, activation=jnp.tanh, key=jax.random.key(0))
        assert as_closures([mlp])[0] is mlp

    def test_it_passes_through_compiled_programs(self):
        closure = Closure(lambda u, k: k * u, k=jnp.ones(3))
        assert jax.tree.structure(jax.jit(lambda c: c)(closure)) == jax.tree.structure(closure)

    def test_latents_inside_are_found_and_alone_are_learned(self):
        known = eqx.nn.MLP(1, 1, 2, 1, key=jax.random.key(0))
        closure = Closure(known, fields=("u",), k=[Parameter("k", 1.0, (0, 2)), jnp.ones(3)])
        assert [latent.names for latent in latents_of(closure)] == [("k",)]
        assert len(jax.tree.leaves(eqx.filter(closure, learned(closure)))) == 1

    @pytest.mark.parametrize(
        "function, options, said",
        [
            (lambda *args: 0, {}, "the function <lambda> do not say"),
            (jnp.sin, {"k": 1.0}, "the function sin do not say"),
            (lambda u: u, {"k": 1.0}, "has no parameter k; it has u"),
        ],
    )
    def test_functions_that_cannot_be_read_are_refused(self, function, options, said: str):
        with pytest.raises(InputError, match=said):
            Closure(function, **options)

    @pytest.mark.parametrize(
        "function, said",
        [
            (lambda u: u[0], r"<lambda>\(u\) returns an array of shape \(4,\) on a grid of shape"),
            (lambda u: {"rate": u}, "returns dict: it must return a number or an array"),
            (lambda u: None, "returns NoneType"),
            (lambda u: (u, u[0, :3]), "returns tuple"),
        ],
    )
    def test_results_that_are_no_coefficient_are_refused(self, function, said: str):
        with pytest.raises(InputError, match=said):
            Closure(function).evaluate(GRID, None, {"u": U})


class TestNeuralClosure:
    @pytest.mark.parametrize(
        "options, value",
        [
            ({}, 0.0),
            ({"initial": -3.0}, -3.0),
            ({"bounds": (1.0, 3.0)}, 2.0),
            ({"bounds": (0.0, jnp.inf), "initial": 1e-3}, 1e-3),
            ({"bounds": (3.0, jnp.inf)}, 4.0),
            ({"bounds": (3.0, jnp.inf), "initial": 3.5}, 3.5),
            ({"bounds": (1.0, 3.0), "initial": 1.2}, 1.2),
        ],
    )
    def test_it_starts_at_one_value_everywhere(self, options, value: float):
        found = network(**options).evaluate(GRID, None, {"u": U, "v": V})
        np.testing.assert_allclose(found, jnp.full(GRID.shape, value), rtol=1e-6)

    def test_whatever_is_learned_it_stays_inside_its_bounds(self):
        wild = jax.tree.map(lambda a: 50 * a, moved(network(bounds=(1.0, 3.0))))
        found = wild.evaluate(GRID, None, {"u": U, "v": V})
        assert float(jnp.ptp(found)) > 0.1
        assert float(found.min()) >= 1.0 and float(found.max()) <= 3.0

    def test_it_is_the_same_function_in_every_cell(self):
        latent = moved(network())
        whole = latent.evaluate(GRID, None, {"u": U, "v": V})
        one = latent.evaluate(None, None, {"u": U[2, 3], "v": V[2, 3]})
        np.testing.assert_allclose(whole[2, 3], one, rtol=1e-12)

    def test_inputs_are_scaled_by_their_ranges(self):
        thousandth = NeuralClosure(
            "rate", {"u": (0.0, 2e3), "v": (0.0, 2e3)}, width=4, depth=1, key=jax.random.key(0)
        )
        found = moved(thousandth).evaluate(GRID, None, {"u": 1e3 * U, "v": 1e3 * V})
        expected = moved(network()).evaluate(GRID, None, {"u": U, "v": V})
        np.testing.assert_allclose(found, expected, rtol=1e-10)

    def test_it_is_the_network_of_its_formula(self):
        """Written out for one cell: a range that is not around zero, layers of tanh, bounds."""
        inputs = {"u": (1.0, 5.0), "v": (-8.0, -4.0)}
        options: Any = {"bounds": (2.0, 6.0), "initial": 3.0, "width": 5, "key": jax.random.key(0)}
        latent = moved(NeuralClosure(("a", "b"), inputs, **options))
        found = latent.evaluate(None, None, {"u": jnp.array(4.0), "v": jnp.array(-7.0)})
        z = np.array([0.5, -0.5])
        *hidden, head = cast(Any, latent.held.function).layers
        assert len(hidden) == 2
        for layer in hidden:
            z = np.tanh(z @ np.asarray(layer.weight) + np.asarray(layer.bias))
        raw = -np.log(3) + z @ np.asarray(head.weight) + np.asarray(head.bias)
        np.testing.assert_allclose(found, 2 + 4 / (1 + np.exp(-raw)), rtol=1e-12)

    def test_its_layers_are_drawn_within_glorots_bounds(self):
        layers = cast(Any, network(width=300).held.function).layers
        first, last = layers[0].weight, layers[-1].weight
        bound = (6 / 302) ** 0.5
        assert 0.98 * bound < float(jnp.abs(first).max()) <= bound and not last.any()

    def test_what_it_is_by_default(self):
        latent = NeuralClosure("k", {"u": (0.0, 1.0)}, key=jax.random.key(0))
        layers = cast(Any, latent.held.function).layers
        assert [layer.weight.shape for layer in layers] == [(1, 16), (16, 16), (16, 1)]
        assert latent.start == 0.0 and latent.interval.lower == -np.inf

    def test_any_network_for_one_cell_serves(self):
        mlp = eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(1))
        latent = NeuralClosure(("a", "b"), {"u": (-1.0, 1.0), "v": (-1.0, 1.0)}, network=mlp)
        found = latent.evaluate(GRID, None, {"u": U, "v": V})
        assert found.shape == (2, *GRID.shape)
        np.testing.assert_allclose(found[:, 1, 2], mlp(jnp.array([U[1, 2], V[1, 2]])), rtol=1e-6)
        assert len(jax.tree.leaves(eqx.filter(latent, learned(latent)))) == 4

    def test_its_gradient(self):
        def loss(latent):
            return jnp.sum(jnp.exp(latent.evaluate(GRID, None, {"u": U, "v": V})))

        arrays, rest = eqx.partition(moved(network(bounds=(0.0, 1.0))), eqx.is_inexact_array)
        rate = taylor_rate(lambda a: loss(eqx.combine(a, rest)), arrays)
        assert rate == pytest.approx(2, abs=0.1)

    @pytest.mark.parametrize(
        "names, inputs, options, said",
        [
            ((), {"u": (0, 1)}, {}, "a name of its own"),
            ("a", {}, {}, "at least one input"),
            ("a", {"u": (1, 1)}, {}, r"a\(u\): 'u' is expected in \(1.0, 1.0\)"),
            ("a", {"u": (0, 1)}, {"bounds": (0, 1), "initial": 2.0}, "starts at 2.0"),
            ("a", {"u": (0, 1)}, {"width": 0}, r"the width of neural closure a\(u\) is 0"),
            ("a", {"u": (0, 1)}, {"network": jnp.sin}, "either a random key, or a network"),
            ("a", {"u": (0, 1)}, {"key": None}, "either a random key, or a network"),
        ],
    )
    def test_closures_that_make_no_sense_are_refused(self, names, inputs, options, said: str):
        options = {"key": jax.random.key(0)} | options
        with pytest.raises(InputError, match=said):
            NeuralClosure(names, inputs, **options)

    def test_a_network_with_another_number_of_outputs_is_refused(self):
        mlp = eqx.nn.MLP(1, 2, 3, 1, key=jax.random.key(1))
        latent = NeuralClosure("a", {"u": (0, 1)}, network=mlp)
        with pytest.raises(InputError, match=r"network of a\(u\) returns the shape \(2,\)"):
            latent.evaluate(GRID, None, {"u": U})


def test_a_correction_begins_at_the_prior_and_keeps_its_sign():
    start = network()
    coefficient: Any = Corrected(lambda u: -(u**2), start)
    found = evaluate_coefficients(coefficient, GRID, None, {"u": U, "v": V})
    np.testing.assert_allclose(found, -(U**2))
    coefficient = Corrected(lambda u: -(u**2), moved(start))
    learnt = evaluate_coefficients(coefficient, GRID, None, {"u": U, "v": V})
    correction = moved(start).evaluate(GRID, None, {"u": U, "v": V})
    np.testing.assert_allclose(learnt, -(U**2) * jnp.exp(correction))
    assert latents_of(coefficient)[0].names == ("rate",)
    field = SineField(2, ("log_d",), width=4, depth=1, key=jax.random.key(0))
    coefficient = Corrected(0.1, field)
    steady = evaluate_coefficients(coefficient, GRID)
    np.testing.assert_allclose(steady, 0.1 * jnp.exp(field.evaluate(GRID)), rtol=1e-6)


def test_a_closure_is_tabulated_over_its_ranges():
    table = tabulate(moved(network()), num=5)
    assert list(table) == ["u", "v", "rate"]
    np.testing.assert_allclose(table["u"], np.linspace(0, 2, 5))
    expected = moved(network()).evaluate(None, None, {"u": jnp.array(0.5), "v": jnp.array(2.0)})
    np.testing.assert_allclose(table["rate"][1, 4], expected, rtol=1e-12)
    known = tabulate(Closure(lambda T, k: k * T, k=2.0), {"T": (1.0, 3.0)}, num=3)
    np.testing.assert_allclose(known["value"], [2.0, 4.0, 6.0])
    with pytest.raises(InputError, match=r"<lambda>\(T\) cannot be tabulated: give a range for T"):
        tabulate(Closure(lambda T: T))


class TestCellField:
    def test_it_is_learned_cell_by_cell_within_its_bounds(self):
        field = CellField("k", U, (0.0, jnp.inf))
        np.testing.assert_allclose(field.evaluate(GRID), U, rtol=1e-6)
        pushed = eqx.tree_at(lambda f: f.raw, field, jnp.asarray(-100 * V))
        assert bool((pushed.evaluate(GRID) > 0).all())
        np.testing.assert_allclose(CellField("k", U - 1).evaluate(GRID), U - 1, atol=1e-6)

    def test_the_inverse_of_its_transform_knows_the_bounds(self):
        for bounds in ((-1.0, jnp.inf), (0.1, jnp.inf), (-1.0, 2.0)):
            found = CellField("k", U, bounds).evaluate(GRID)
            np.testing.assert_allclose(found, U, rtol=1e-12)

    def test_a_start_outside_or_another_grid_is_refused(self):
        with pytest.raises(InputError, match="cell field 'k' starts at"):
            CellField("k", U - 1, (0.0, 1.0))
        with pytest.raises(InputError, match=r"cell field 'k' has the shape \(5, 4\), the grid"):
            CellField("k", U).evaluate(box(4, 5))
