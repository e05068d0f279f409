"""Functions where coefficients stand: their names are looked up in the system."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rates
from smooth import box, wave, winds

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.coefficients import Closure, Corrected
from impindiff.grid import Grid
from impindiff.implicit import Newton
from impindiff.integrate import AbstractDynamics, CrankNicolson
from impindiff.latent import NeuralClosure, Parameter, learned
from impindiff.linear import BiCGStab
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import AffineTendency, Field, Reaction, StateTendency, System
from impindiff.terms import AbstractStateTerm, Advection, Diffusion, FaceVelocity, NoFlux, Source

GRID = box(6, 5)
DOUBLE = jnp.dtype("float64")
STATE = {"u": wave(GRID), "v": wave(GRID, 1.0)}
NOW = jnp.array(0.7)
TIGHT = Newton(BiCGStab(1e-13), BiCGStab(1e-12), rtol=1e-13)


def rate(system: System, time=NOW, state: State = STATE) -> dict:
    return system.prepare(DOUBLE).at(time)(state)


def closure(name: str = "r", seed: int = 0, **options: Any) -> NeuralClosure:
    """Of u and v, with weights that are not those of the start."""
    made = NeuralClosure(
        name,
        {"u": (0.0, 2.0), "v": (0.0, 2.0)},
        width=4,
        depth=1,
        key=jax.random.key(seed),
        **options,
    )
    return jax.tree.map(lambda a: a.astype(DOUBLE) + 0.3, made)


def test_an_axis_is_one_constant_of_a_program_however_often_it_is_named():
    known = System(GRID, {"u": [Source(lambda x, u: x * u)]})
    state = {"u": STATE["u"]}

    def twice(state: State) -> tuple[State, State]:
        return known.prepare(DOUBLE).at(NOW)(state), known.prepare(DOUBLE).at(NOW)(state)

    consts = jax.make_jaxpr(twice)(state).consts
    assert [np.shape(c) for c in consts if np.size(c) > 1] == [(n,) for n in GRID.shape]


def test_coordinates_may_be_donated_and_are_of_the_precision_there_is():
    grid = box(7)
    system = System(grid, {"u": Field([Source(lambda x, u: x * u)], initial=lambda x: x)})
    jax.config.update("jax_enable_x64", False)
    with pytest.warns(UserWarning, match="float64"):
        start = system.start(0.0, DOUBLE)["u"]
    assert start.dtype == "float32"
    jax.config.update("jax_enable_x64", True)
    jax.jit(lambda u: u + 1, donate_argnums=0)(system.start(0.0, DOUBLE)["u"])
    np.testing.assert_array_equal(system.start(0.0, DOUBLE)["u"], grid.centres()[0])


def test_a_function_of_the_state_is_what_its_values_would_be():
    """Face fluxes, boundaries, sums of terms: nothing else can tell the difference."""
    u, v = STATE["u"], STATE["v"]
    system = System(
        GRID,
        {
            "u": [
                Diffusion(lambda u, v: 0.1 + u * v),
                Advection(lambda v: (v, -0.5 * v)),
                Source(3),
            ],
            "v": [Diffusion(0.2), Reaction(lambda u, v, k: k * u - v**2, k=1.5)],
        },
    )
    values = System(
        GRID,
        {
            "u": [
                Diffusion(0.1 + u * v, "arithmetic"),
                Advection(jnp.stack([v, -0.5 * v])),
                Source(3.0),
            ],
            "v": [Diffusion(0.2), Source(1.5 * u - v**2)],
        },
    )
    expected = rate(values)
    for field, found in rate(system).items():
        np.testing.assert_allclose(found, expected[field], rtol=1e-12, atol=1e-12)
    assert isinstance(system.prepare(DOUBLE).at(NOW), StateTendency)


def test_functions_of_place_and_time_stay_affine():
    system = System(
        GRID,
        {
            "u": [Diffusion(lambda x, y: 0.1 + x**2 * y**2), Advection(winds(GRID))],
            "v": [Source(lambda t, x: t * x), Diffusion(lambda D: 2 * D)],
        },
        coefficients={"D": lambda t: 0.1 * t},
    )
    x, y = GRID.centres()
    dynamics = system.prepare(DOUBLE)
    assert isinstance(dynamics, AbstractDynamics) and dynamics.is_affine and not dynamics.is_steady
    assert isinstance(dynamics.at(NOW), AffineTendency)
    values = System(
        GRID,
        {
            "u": [Diffusion(0.1 + x**2 * y**2), Advection(winds(GRID))],
            "v": [Source(0.7 * x), Diffusion(0.14)],
        },
    )
    expected = rate(values)
    for field, found in rate(system).items():
        np.testing.assert_allclose(found, expected[field], rtol=1e-12, atol=1e-12)


def test_the_same_at_all_times_is_prepared_once():
    system = System(GRID, {"u": [Diffusion(lambda u: u)], "v": [Reaction(lambda u: u)]})
    dynamics = system.prepare(DOUBLE)
    assert dynamics.is_steady and not dynamics.is_affine
    assert dynamics.at(NOW) is dynamics.at(2 * NOW)


def test_coefficients_are_shared_and_may_name_each_other():
    """Whatever the order in which they are given."""
    shared = closure()
    system = System(
        GRID,
        {
            "u": [Reaction(lambda twice: -twice)],
            "v": [Reaction(lambda r, k: k * r)],
        },
        coefficients={"twice": lambda r, k: 2 * k * r, "r": shared, "k": Parameter("k", 3, (0, 9))},
    )
    values = shared.evaluate(GRID, None, STATE)
    found = rate(system)
    np.testing.assert_allclose(found["u"], -6 * values, rtol=1e-6)
    np.testing.assert_allclose(found["v"], 3 * values, rtol=1e-6)
    count = len(jax.tree.leaves(eqx.filter(system, learned(system))))
    assert count == len(jax.tree.leaves(shared)) + 1


def test_latents_are_reported_by_name_but_closures_are_not():
    system = System(
        GRID,
        {"u": [Diffusion(lambda D: D), Reaction(lambda r: r)], "v": [Source(0.0)]},
        coefficients={
            "D": Corrected(lambda x: 1 + x**2, Parameter("c", 0.5, (-1, 1))),
            "r": closure(),
        },
    )
    x, _ = GRID.centres()
    found = system.latents()
    assert list(found) == ["c", "D"]
    np.testing.assert_allclose(found["D"], (1 + x**2) * np.exp(0.5), rtol=1e-6)


def test_coefficients_made_from_latents_by_name_are_reported():
    """At every remove; not what depends on the state or is several values, nor what is known."""
    system = System(
        GRID,
        {"u": [Advection(lambda v: v), Reaction(lambda r: r)]},
        coefficients={
            "D": lambda E, y: E + y,
            "E": lambda c, x: c * x,
            "c": Parameter("c", 0.5, (-1, 1)),
            "v": lambda c: (c, 0.0),
            "r": lambda u, c: c * u,
            "known": lambda x: 2 * x,
        },
    )
    x, y = GRID.centres()
    found = system.latents()
    assert sorted(found) == ["D", "E", "c"]
    np.testing.assert_allclose(found["E"], np.broadcast_to(x / 2, GRID.shape), rtol=1e-6)
    np.testing.assert_allclose(found["D"], x / 2 + y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [lambda u: np.exp(np.asarray(u)), lambda u: -u if u.sum() > 0 else u, lambda u: float(u.max())],
    ids=["numpy", "if", "float"],
)
def test_a_function_that_cannot_be_traced_is_named(function):
    system = System(GRID, {"u": [Reaction(function)]})
    with pytest.raises(InputError, match=r"<lambda>\(u\) cannot be differentiated.*jax.numpy"):
        jax.jit(lambda u: system.prepare(jnp.dtype(u.dtype)).at(jnp.array(0.0))({"u": u}))(
            STATE["u"]
        )


def test_a_complex_function_is_refused():
    with pytest.raises(InputError, match=r"<lambda>\(u\) returns .*complex"):
        rate(System(GRID, {"u": [Reaction(lambda u: 1j * u)], "v": [Source(0.0)]}))


class Biharmonic(AbstractStateTerm):
    """$-u_{xxxx}$: a user's own term, that reaches beyond face neighbours."""

    strength: Any

    def rate(self, grid: Grid | None, state: State, field: str) -> Any:
        u = state[field]
        for _ in range(2):
            u = jnp.roll(u, 1, 0) - 2 * u + jnp.roll(u, -1, 0)
        return -self.strength * u


def test_a_term_of_the_users_own():
    system = System(GRID, {"u": [Biharmonic(lambda v: v), Source(1.0)], "v": [Source(0.0)]})
    u = np.asarray(STATE["u"])
    for _ in range(2):
        u = np.roll(u, 1, 0) - 2 * u + np.roll(u, -1, 0)
    np.testing.assert_allclose(rate(system)["u"], 1 - STATE["v"] * u, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_rates_keep_the_precision_of_the_fields(dtype):
    system = System(
        GRID,
        {"u": [Diffusion(lambda u: np.float64(2) * u), Reaction(closure())], "v": [Source(1.0)]},
    )
    state = jax.tree.map(lambda a: a.astype(dtype), STATE)
    found = system.prepare(jnp.dtype(dtype)).at(NOW.astype(dtype))(state)
    assert {leaf.dtype for leaf in found.values()} == {jnp.dtype(dtype)}


@pytest.mark.slow
def test_gradients_leave_second_order_remainders():
    """With respect to a closure's weights, a shared rate, a formula's part, and the start."""
    grid = box(6)
    times, stepper = TimeGrid.build(0.0, [0.02], 1e-2), CrankNicolson(TIGHT)
    parts = {
        "closure": closure(bounds=(0.0, 1.0)),
        "rate": jnp.array(0.8),
        "part": 0.05 * wave(grid),
        "initial": {"u": wave(grid), "v": wave(grid, 1.0)},
    }

    def loss(given):
        system = System(
            grid,
            {
                "u": [Diffusion(lambda u, a: a * (1 + u**2), "arithmetic")],
                "v": [Diffusion(given["closure"]), Reaction(lambda u, v, k: -k * u * v)],
            },
            coefficients={"k": given["rate"], "a": given["part"]},
        )
        found = simulate(system, given["initial"], times, stepper).states
        return sum(jnp.sum(jnp.exp(u[-1])) for u in found.values())

    rates = taylor_rates(loss, parts, step=3e-2)
    assert rates == pytest.approx(dict.fromkeys(parts, 2), abs=0.1)


@pytest.mark.parametrize(
    "equations, coefficients, said",
    [
        (
            {"u": [Reaction(lambda u, w: u * w)]},
            {},
            r"the function <lambda>\(u, w\) in the equation of 'u' asks for 'w', which the system "
            r"does not have. It has the fields u; axes x, y; coefficients none",
        ),
        (
            {"u": [Diffusion(lambda k: k)]},
            {"k": lambda w: w},
            "in the coefficient 'k' asks for 'w'",
        ),
        (
            {"u": [Source(1.0)]},
            {"a": lambda b: b, "b": lambda a: a, "c": lambda u: u},
            "the coefficients a, b depend on each other in a circle",
        ),
        ({"x": [Source(1.0)]}, {}, "'x' is a field and an axis"),
        ({"t": [Source(1.0)]}, {}, "'t' is a field and the time"),
        ({"u": [Source(1.0)]}, {"u": 2.0}, "'u' is a field and a coefficient"),
        (
            {"u": [Reaction(closure())], "v": [Reaction(closure())]},
            {},
            r"r stand for more than one .* System\(..., coefficients=",
        ),
    ],
)
def test_names_that_make_no_sense_are_refused(equations, coefficients, said: str):
    with pytest.raises(InputError, match=said):
        System(GRID, equations, coefficients=coefficients)


@pytest.mark.parametrize(
    "term, said",
    [
        (Reaction(lambda u: u[0]), r"<lambda>\(u\) returns an array of shape \(5,\) on a grid"),
        (Diffusion(lambda u: (u, u, u)), r"the diffusivity has shape \(3, 6, 5\)"),
        (Biharmonic(jnp.ones(30)), "broadcast|incompatible"),
    ],
)
def test_values_of_another_shape_are_refused(term, said: str):
    with pytest.raises((InputError, TypeError, ValueError), match=said):
        rate(System(GRID, {"u": [term], "v": [Source(0.0)]}))


def test_a_function_that_is_not_finite_is_found_with_what_it_was_given():
    system = System(
        GRID,
        {"u": [Reaction(lambda v, loss: loss / v)], "v": [Source(lambda t: t)]},
        coefficients={"loss": lambda u: jnp.log(u)},
    )
    system.check(STATE, 1.0)
    with pytest.raises(
        InputError, match=r"<lambda>\(u\) in the coefficient 'loss' is nan where u = -2"
    ):
        system.check(STATE | {"u": wave(GRID).at[2, 3].set(-2.0)})
    with pytest.raises(InputError, match=r"the equation of 'u' is inf where v = 0, loss = "):
        system.check({"u": 2 + wave(GRID), "v": wave(GRID).at[0, 1].set(0.0)})


def test_velocities_at_faces_are_looked_at_along_each_axis():
    """Their arrays have no shape in common."""
    ends = {"x": NoFlux(), "y": NoFlux()}
    plane = Grid.uniform((3, 2), ((0.0, 1.0), (0.0, 1.0)))
    at_x, at_y = jnp.ones((4, 2)), jnp.ones((3, 3))
    System(plane, {"u": Field([Advection(FaceVelocity(at_x, at_y))], ends)}).check(
        {"u": jnp.ones((3, 2))}
    )
    wild = FaceVelocity(at_x, at_y.at[2, 2].set(jnp.inf))
    with pytest.raises(InputError, match=r"FaceVelocity\(\) in the equation of 'u' is inf"):
        System(plane, {"u": Field([Advection(wild)], ends)}).check({"u": jnp.ones((3, 2))})


def test_a_state_of_other_fields_is_refused():
    system = System(GRID, {"u": [Reaction(lambda u: u)], "v": [Source(0.0)]})
    with pytest.raises(InputError, match="give each field of the system, and no other"):
        rate(system, state={"u": wave(GRID)})
    assert Closure(lambda u: u).label == "<lambda>(u)"


def test_a_function_of_time_alone_that_is_not_finite_is_found():
    system = System(box(4), {"u": [Diffusion(lambda t: jnp.sqrt(1 - t))]})
    state = {"u": jnp.ones(4)}
    system.check(state, 0.5)
    with pytest.raises(InputError, match=r"<lambda>\(t\) in the equation of 'u' is nan where t"):
        system.check(state, 2.0)


@pytest.mark.parametrize(
    "function, what",
    [
        (lambda u, k=3.0: -k * u, "'k' of the function <lambda>.u. .* is a coefficient"),
        (lambda u, s=3.0: -s * u, "'s' .* is a sample parameter"),
        (lambda u, x=3.0: -x * u, "'x' .* is an axis"),
        (lambda u, t=3.0: -t * u, "'t' .* is the time"),
        (lambda u=3.0: -u, "'u' .* has the default 3.0, and 'u' is a field"),
    ],
)
def test_a_default_does_not_hide_what_the_system_has(function, what):
    with pytest.raises(InputError, match=what):
        System(GRID, {"u": [Reaction(function)]}, coefficients={"k": 1.0}, parameters="s")


def test_a_default_of_another_name_is_a_number():
    for i in (1.0, 2.0):
        system = System(GRID, {"u": [Reaction(lambda u, i=i: -i * u)]}, coefficients={"k": 1.0})
        np.testing.assert_array_equal(rate(system, state={"u": STATE["u"]})["u"], -i * STATE["u"])
    bound = Reaction(functools.partial(lambda u, k: -k * u, k=3.0))
    system = System(GRID, {"u": [bound]}, coefficients={"k": 1.0})
    np.testing.assert_array_equal(rate(system, state={"u": STATE["u"]})["u"], -3 * STATE["u"])
