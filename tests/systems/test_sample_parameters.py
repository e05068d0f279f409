"""Settings of a system: what they may stand in, what is evaluated once, what is refused."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.latent import learned
from impindiff.systems import PreparedSystem
from impindiff.systems._state_tendency import StoredTendency
from impindiff.train import Observations, make_objective, whole

DOUBLE = jnp.dtype("float64")
GRID = ipd.Grid([ipd.Axis("x", 0.0, 1.0, 5)])
TIMES = ipd.TimeGrid.build(0.0, [0.1], 0.02)
(X,) = GRID.centres()
ENDS = {"x": (ipd.Dirichlet(lambda hot: hot), ipd.NoFlux())}


def rod(terms: list, initial=None, **options) -> ipd.System:
    field = ipd.Field(terms, ENDS, initial=initial)
    return ipd.System(GRID, {"c": field}, parameters=("hot",), **options)


def heated(**options) -> ipd.System:
    """A learned field of place beside a rate that waits for sample parameters, and the state."""
    return rod(
        [ipd.Diffusion(lambda a: a), ipd.Reaction(lambda c, rate: -rate * c**2)],
        coefficients={
            "a": ipd.SineField(1, ("a",), bounds=(0.1, 1.0), key=jax.random.key(0)),
            "rate": lambda a, hot: a * jnp.exp(-hot),
        },
        **options,
    )


def end_of(system: ipd.System) -> jax.Array:
    found = ipd.simulate(system, {"c": jnp.asarray(X)}, TIMES, ipd.steppers.RungeKutta4())
    return found.states["c"][-1]


@pytest.mark.thorough
def test_a_given_setting_is_a_known_number():
    numbers = rod(
        [ipd.Diffusion(0.1), ipd.Reaction(lambda c, k: k * c)],
        coefficients={"k": lambda hot: hot**2},
    )
    plain = ipd.System(
        GRID,
        {
            "c": ipd.Field(
                [ipd.Diffusion(0.1), ipd.Reaction(lambda c: 0.49 * c)],
                {"x": (ipd.Dirichlet(0.7), ipd.NoFlux())},
            )
        },
    )
    np.testing.assert_allclose(end_of(numbers.with_sample_parameters({"hot": 0.7})), end_of(plain))
    again = numbers.with_sample_parameters({"hot": 0.3}).with_sample_parameters(
        {"hot": np.float64(0.7)}
    )
    np.testing.assert_allclose(end_of(again), end_of(plain))


SOLID = np.zeros((4, 3), bool)
SOLID[2, 1] = True
PLANE = ipd.Grid(
    [ipd.Axis("x", 0.0, 1.0, 4), ipd.Axis("y", 0.0, 1.0, 3, periodic=True)], solid=SOLID
)
STATE = {
    name: jnp.asarray(np.random.default_rng(seed).uniform(0.5, 1.5, (4, 3)))
    for seed, name in enumerate(("u", "v"))
}


def everywhere(**how) -> ipd.System:
    """A sample parameter in every place that a function may stand in."""
    slow = ipd.latents.Corrected(lambda hot: 0.1 * hot, jnp.zeros((4, 3)))
    return ipd.System(
        PLANE,
        {
            "u": ipd.Field(
                [
                    ipd.Advection(ipd.latents.FaceVelocity(lambda x, hot: hot * x, 0.2), "limited"),
                    ipd.Diffusion(slow),
                    ipd.Source(lambda t, y, hot: hot * t + y),
                ],
                {"x": (ipd.Inflow(lambda hot, y: hot + y), ipd.Outflow())},
                storage=lambda u, hot: hot * u**2,
                initial=lambda k, hot: k + hot,
            ),
            "v": ipd.Field(
                [
                    ipd.Advection(ipd.FluxOf("u")),
                    ipd.Diffusion(lambda u, k: u * k, mean="arithmetic"),
                    ipd.Reaction(lambda u, v, k, hot: k * u * v - hot),
                ],
                {"x": (ipd.Dirichlet(lambda k, u: k * u), ipd.Robin(lambda hot: hot, 0.3))},
                capacity=lambda v, k: 1 + k * v,
            ),
        },
        coefficients={"k": lambda hot, x: hot**2 + x} | how.pop("coefficients", {}),
        **how,
    )


@pytest.mark.thorough
def test_a_setting_may_stand_wherever_a_function_may():
    number = everywhere(coefficients={"hot": 0.7})
    varied = everywhere(parameters="hot")
    systems = (
        number.prepare(DOUBLE),
        varied.with_sample_parameters({"hot": 0.7}).prepare(DOUBLE),
        varied.prepare_shared(DOUBLE).with_sample_parameters({"hot": 0.7}),
    )

    def evaluated(system: PreparedSystem):
        here = system.at(jnp.array(0.3))
        assert isinstance(here, StoredTendency)
        return here(STATE), here.stored(STATE), system.start(jnp.array(0.3))

    wanted, *others = map(evaluated, systems)
    assert len(others) == 2
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), wanted, other)


@pytest.mark.thorough
def test_states_are_differentiated_by_a_sample_parameter():
    system = heated()

    def loss(hot):
        return jnp.sum(end_of(system.with_sample_parameters({"hot": hot})) ** 2)

    rate = taylor_rate(loss, jnp.array(0.7), step=0.1)
    assert rate == pytest.approx(2, abs=0.05)


def test_some_sample_parameters_may_be_given_and_others_awaited():
    system = ipd.System(
        None, {"c": [ipd.Reaction(lambda c, k, hot: -k * hot * c)]}, parameters=("k", "hot")
    )
    partly = system.with_sample_parameters({"k": 2})
    assert (system.missing_parameters, partly.missing_parameters) == (("k", "hot"), ("hot",))
    with pytest.raises(InputError, match="misses the sample parameter hot: give those of one"):
        partly.prepare(DOUBLE)
    rates = partly.with_sample_parameters({"hot": 3}).prepare(DOUBLE).at(jnp.array(0.0))
    assert float(rates({"c": jnp.array(0.5)})["c"]) == -3


@pytest.mark.thorough
def test_what_no_setting_is_in_has_no_axis_of_samples():
    """Samples share the learned field: only what waited has a value for each."""
    shared = heated().prepare_shared(DOUBLE)
    prepared = eqx.filter_vmap(
        lambda hot: shared.with_sample_parameters({"hot": hot}), out_axes=eqx.if_array(0)
    )(jnp.array([0.1, 0.2, 0.3]))
    rates = prepared.scope.coefficients["rate"]
    assert rates.shape == (3, 5)
    a = heated().latents()["a"]
    np.testing.assert_allclose(rates, a * jnp.exp(-jnp.array([[0.1], [0.2], [0.3]])), rtol=1e-6)


def inner_equations(jaxpr: Any, name: str) -> tuple[int, int]:
    """How many equations of a primitive there are, and how many of these within others' programs.

    Functions that are merely called count as the program that calls them.
    """
    total = inside = 0
    for equation in jaxpr.eqns:
        total += equation.primitive.name == name
        for part in jax.tree.leaves(
            tuple(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                here, deeper = inner_equations(part, name)
                is_loop = equation.primitive.name in ("scan", "while", "cond")
                total, inside = total + here, inside + (here if is_loop else deeper)
    return total, inside


@pytest.mark.thorough
def test_a_network_is_evaluated_once_for_all_samples():
    """Neither for each sample, nor for each part of them, nor for each step."""
    system = heated()
    values = np.ones((4, 2, 5))
    data = ipd.to_dataset(
        GRID, [0.0, 0.1], {"c": values}, sample_parameters={"hot": np.arange(4.0)}
    )
    observations = Observations.of(system, data, ":", dtype=DOUBLE)
    arrays, frozen = eqx.partition(system, learned(system))
    objective = make_objective(
        frozen, whole(observations, 0.02), ipd.steppers.ForwardEuler(), samples_at_once=2
    )
    sines = inner_equations(jax.make_jaxpr(objective)(arrays).jaxpr, "sin")
    alone = inner_equations(jax.make_jaxpr(lambda: system.prepare_shared(DOUBLE))().jaxpr, "sin")
    assert alone[0] > 0 and sines == (alone[0], 0)


def test_a_state_is_checked_with_the_sample_parameters():
    system = rod([ipd.Diffusion(0.1), ipd.Source(lambda hot: 1 / hot)])
    with pytest.raises(InputError, match=r"is inf where hot = 0"):
        system.with_sample_parameters({"hot": 0.0}).check({"c": jnp.asarray(X)})
    system.with_sample_parameters({"hot": 1.0}).check({"c": jnp.asarray(X)})
    with pytest.raises(InputError, match="misses the sample parameter hot"):
        system.check({"c": jnp.asarray(X)})


def test_values_of_what_is_learned_wait_for_sample_parameters_where_they_depend_on_them():
    system = heated()
    assert set(system.latents()) == {"a"}
    found = system.with_sample_parameters({"hot": 2.0}).latents()
    np.testing.assert_allclose(found["rate"], found["a"] * np.exp(-2.0), rtol=1e-6)


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s.prepare(DOUBLE),
        end_of,
        lambda s: s.prepare_shared(DOUBLE).prepare(DOUBLE),
        lambda s: s.prepare_shared(DOUBLE).at(jnp.array(0.0)),
        lambda s: s.prepare_shared(DOUBLE).with_sample_parameters({}),
        lambda s: s.start(0.0, DOUBLE),
        lambda s: s.prepare_shared(DOUBLE).start(jnp.array(0.0)),
    ],
)
def test_nothing_is_computed_without_sample_parameters(use):
    system = heated(initial=lambda x, hot: x * hot)
    both = (
        r"system.with_sample_parameters\(\{'hot': ...\}\).*"
        r"dataset.assign\(hot=\('sample', \[...\]\)\)"
    )
    with pytest.raises(InputError, match=f"misses the sample parameter hot: .*{both}"):
        use(system)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"cold": 1.0}, "cold is no sample parameter that the system misses: it has hot"),
        ({"hot": np.ones(3)}, r"'hot' is .* must be one real number \(float64 of shape \(3,\)\)"),
        ({"hot": "warm"}, "'hot' is 'warm': it must be one real number"),
        ({"hot": True}, r"'hot' is True: it must be one real number \(bool"),
        ({"hot": np.nan}, "'hot' is nan: it must be finite"),
    ],
)
@pytest.mark.parametrize("prepared", [False, True])
def test_what_is_given_is_a_number_for_a_sample_parameter(values, said: str, prepared: bool):
    system = heated().prepare_shared(DOUBLE) if prepared else heated()
    with pytest.raises(InputError, match=said):
        system.with_sample_parameters(values)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"parameters": ("c",)}, "'c' is a field and a sample parameter of the system"),
        ({"parameters": ("x",)}, "'x' is a sample parameter and an axis"),
        ({"parameters": ("t",)}, "'t' is a sample parameter and the time"),
        ({"parameters": ("k",)}, "'k' is a coefficient and a sample parameter"),
        (
            {"parameters": ("a", "hot")},
            "a is the name of a learned .* and of a sample parameter",
        ),
        ({"parameters": ("hot", "hot")}, "'hot' twice"),
        ({"parameters": ("sample",)}, "'sample'.*sample and time are dimensions of the data"),
        ({"parameters": ("T gas",)}, "has 'T gas': give the names by which functions ask"),
        ({"parameters": ("3",)}, "has '3': give the names"),
        (
            {"parameters": "cold"},
            "asks for 'hot'.*It has the .*sample parameters cold; and the",
        ),
        ({}, r"asks for 'hot'.*System\(parameters=\('hot',\)\)"),
    ],
)
def test_names_stand_for_one_thing_that_there_is(options, said: str):
    with pytest.raises(InputError, match=said):
        ipd.System(
            GRID,
            {"c": ipd.Field([ipd.Diffusion(lambda k, hot: k * hot)], {"x": ipd.NoFlux()})},
            coefficients={"k": ipd.Parameter("a", 1.0, (0.0, 2.0))},
            **options,
        )


def test_units_may_be_those_of_sample_parameters():
    system = rod([ipd.Diffusion(0.1)], units={"hot": "K"})
    assert dict(system.units) == {"hot": "K"}
    with pytest.raises(InputError, match="units names cold.*sample parameters are hot"):
        rod([ipd.Diffusion(0.1)], units={"cold": "K"})


def test_the_names_of_version_0_1_are_understood():
    system = ipd.System(None, {"c": [ipd.Reaction(lambda c, hot: -hot * c)]}, parameters=("hot",))
    with pytest.warns(DeprecationWarning, match=r"with_sample_parameters now") as caught:
        one = system.with_settings({"hot": 2.0})
    assert caught[0].filename == __file__ and one.sample_parameters == {"hot": 2.0}
    with pytest.warns(DeprecationWarning, match=r"System.sample_parameters now"):
        assert system.settings == {"hot": None}
    with pytest.warns(DeprecationWarning, match=r"to_dataset\(sample_parameters=...\) now"):
        data = ipd.to_dataset(None, [0.0], {"c": np.ones((2, 1))}, settings={"hot": [1.0, 2.0]})
    np.testing.assert_array_equal(data["hot"], [1.0, 2.0])
