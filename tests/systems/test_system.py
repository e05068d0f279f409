"""Equations put together from terms."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from smooth import box, wave, winds

from impindiff._errors import InputError
from impindiff._types import AbstractTendency
from impindiff.grid import Grid
from impindiff.integrate import (
    AbstractDynamics,
    AbstractSystem,
    BackwardEuler,
    CrankNicolson,
    ForwardEuler,
    RungeKutta4,
)
from impindiff.latent import Parameter, SineField, learned
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, Reaction, System, advection_diffusion
from impindiff.terms import AbstractTerm, Advection, Diffusion, Dirichlet, NoFlux, Source

GRID = box(5, 4)
DOUBLE = jnp.dtype("float64")


def test_the_rate_of_a_field_is_the_sum_of_its_terms():
    terms = [Advection(winds(GRID)), Diffusion(0.1), Source(wave(GRID)), Source(-0.5)]
    dynamics = System(GRID, {"c": terms}).prepare(DOUBLE)
    rate = dynamics.at(jnp.zeros(()))({"c": wave(GRID, 1.0)})["c"]
    moved = sum(term.stencil(GRID)(wave(GRID, 1.0)) for term in terms[:2])
    np.testing.assert_allclose(rate, moved + wave(GRID) - 0.5, rtol=1e-12, atol=1e-12)


def test_it_is_what_steppers_and_rollouts_ask_for():
    system = advection_diffusion(GRID, winds(GRID), 0.1)
    dynamics = system.prepare(DOUBLE)
    assert isinstance(system, AbstractSystem) and isinstance(dynamics, AbstractDynamics)
    assert isinstance(dynamics.at(jnp.zeros(())), AbstractTendency)
    assert dynamics.is_affine
    assert system.fields == ("concentration",)


def test_advection_diffusion_is_its_two_terms():
    made = advection_diffusion(GRID, winds(GRID), 0.1, scheme="central", field="c")
    (advection, diffusion) = made.equations["c"]
    assert isinstance(advection, Advection) and advection.scheme == "central"
    assert isinstance(diffusion, Diffusion) and diffusion.diffusivity == 0.1
    (default, _) = advection_diffusion(GRID, winds(GRID), 0.1).equations["concentration"]
    assert isinstance(default, Advection) and default.scheme == "upwind"


def test_a_system_is_one_tree():
    system = advection_diffusion(GRID, winds(GRID), Parameter("d", 0.1, (0, 1)))
    doubled = jax.tree.map(lambda a: 2 * a, system)
    assert isinstance(doubled, System) and doubled.grid == GRID
    (advection, _) = doubled.equations["concentration"]
    assert isinstance(advection, Advection)
    np.testing.assert_array_equal(advection.velocity, 2 * winds(GRID))
    passed = jax.jit(lambda s: s)(system)
    assert jax.tree.structure(passed) == jax.tree.structure(system)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stepper", [ForwardEuler(), RungeKutta4(), BackwardEuler(), CrankNicolson()], ids=str
)
def test_the_total_grows_by_what_the_source_gives(stepper):
    strength = wave(GRID, 2.0)
    terms = [Advection(winds(GRID)), Diffusion(0.01), Source(strength)]
    times = TimeGrid.build(0.0, np.array([0.5]), 0.02)
    found = simulate(System(GRID, {"c": terms}), {"c": wave(GRID)}, times, stepper)
    given = 0.5 * float(strength.sum())
    grown = float(found.states["c"][-1].sum() - wave(GRID).sum())
    assert grown == pytest.approx(given, rel=1e-4)


class Strange(AbstractTerm):
    """No flux and no source."""


@pytest.mark.parametrize(
    "equations, said",
    [
        ({}, "at least one field"),
        ({"c": []}, "equation of 'c' must be a list of at least one term"),
        ({"c": [0.1]}, r"found \[0.1\]"),
        ({"c": [Diffusion(0.1), None]}, r"found \[None\]"),
        ({"c": Diffusion(0.1)}, "must be a list"),
        ({"c": {"x": NoFlux()}}, r"the field 'c' is a mapping.*Field\(\[term, ...\], {'x': "),
        ([Diffusion(0.1)], r"at least one field with its terms, System\(grid, \{'c'"),
        ({"c": [Diffusion("k")]}, "equation of 'c' has the text 'k' .* lambda k: k"),
        (
            {
                "a": [Diffusion(Parameter("d", 0.1, (0, 1)))],
                "b": [Source(Parameter("d", 1, (0, 2)))],
            },
            "d stand for more than one learned coefficient",
        ),
    ],
)
def test_equations_that_make_no_sense_are_refused(equations: Any, said: str):
    with runtime_types.without(), pytest.raises(InputError, match=said):
        System(GRID, equations)


def test_a_term_that_cannot_be_assembled_is_refused_and_not_left_out():
    system = System(GRID, {"c": [Diffusion(0.1), Strange()]})
    with pytest.raises(InputError, match="Strange is neither a two-point flux nor a source"):
        system.prepare(DOUBLE)


def test_coefficients_of_the_wrong_shape_are_refused_before_anything_runs():
    wrong = SineField(2, ("only_one",), width=4, depth=1, key=jax.random.key(0))
    with pytest.raises(InputError, match=r"velocity has shape \(5, 4\)"):
        advection_diffusion(GRID, wrong, 0.1).prepare(DOUBLE)


@pytest.mark.parametrize("option", ["units", "coefficients"])
def test_what_goes_by_name_is_no_list(option: str):
    with runtime_types.without(), pytest.raises(InputError, match=rf"System\({option}=.*by name"):
        System(None, {"c": [Reaction(lambda c: -c)]}, **{option: cast(Any, [1.0])})


@pytest.mark.parametrize(
    "call, said",
    [
        (
            lambda terms: System(GRID, {"c": terms}, {}, {}),
            r"nothing else by position; found {}.*\{'c': Field\(\[term, ...\], {'x': conditions}",
        ),
        (
            lambda terms: System(GRID, {"c": terms}, bounds={"c": (0, 1)}),
            r"System\(..., bounds=...\): .*Field\(\[term, ...\], bounds=...\)",
        ),
        (
            lambda terms: System(GRID, {"c": terms}, limits={"d": (0, 1)}),
            "limits names 'd', of which the system has no equation",
        ),
        (
            lambda terms: System(GRID, {"c": Field(terms)}, scales={"c": 2.0}),
            r"'c' is a Field already. .*Field\(\[term, ...\], scale=...\)",
        ),
        (
            lambda terms: System(GRID, {"c": terms}, scales=[2.0]),
            r"each field where it stands, .* Found \[2.0\]",
        ),
        (
            lambda terms: System(GRID, {"c": terms}, **cast(Any, {"coefficient": {}})),
            "no argument 'coefficient'; it takes grid, fields, coefficients, parameters",
        ),
        (
            lambda terms: System(GRID, {"c": terms}, units={"c": "m"}),
            r"units names the field 'c': its unit stands with it, Field\(..., unit='m'\)",
        ),
        (lambda terms: System(GRID, {"c": terms}, units={"d": "m"}), "units names d, which"),
        (
            lambda terms: System(GRID, {"c": Field(terms, unit=cast(Any, 1))}),
            "the unit of 'c' is 1: give text",
        ),
    ],
)
def test_what_stands_in_another_place_is_refused_with_its_own(call, said: str):
    with runtime_types.without(), pytest.raises(InputError, match=said):
        call([Diffusion(0.1)])


def test_a_call_of_version_0_1_0_gives_the_same_system():
    """One mapping by field for each thing that is said, and a warning that says where it stands."""
    grid = Grid.uniform((3,), ((0, 1),))
    ends = {"x": (NoFlux(), Dirichlet(2.0))}
    terms = [Diffusion(0.1)]
    stated: Any = {"storage": {"c": 3.0}, "initial": {"c": 1.0}, "scales": {"c": 0.5}}
    field = Field(terms, ends, storage=3.0, initial=1.0, scale=0.5, bounds=(0.0, 4.0))
    today = System(grid, {"c": field}, parameters=("T",))
    with pytest.warns(DeprecationWarning, match=r"boundaries=...\).*Field\(\[term, ...\], bound"):
        limits = {"c": (0.0, 4.0)}
        found = System(grid, {"c": terms}, {"c": ends}, limits=limits, settings=("T",), **stated)
    assert eqx.tree_equal(found, today)
    with pytest.warns(DeprecationWarning, match="boundaries"):
        System(grid, {"c": terms}, capacities={"c": 2.0}, boundaries={"c": {"x": NoFlux()}})


def test_a_list_of_terms_is_a_field_without_more():
    terms = [Advection(winds(GRID)), Diffusion(0.1)]
    assert eqx.tree_equal(System(GRID, {"c": terms}), System(GRID, {"c": Field(terms)}))


def test_learned_arrays_have_the_paths_by_which_checkpoints_name_them():
    """Whoever changes one must read the checkpoints of runs that were trained before."""

    def unknown(name: str) -> Parameter:
        return Parameter(name, 1.0, (0.0, 2.0))

    box = Grid.uniform((3,), ((0, 1),))
    field = Field(
        [Diffusion(unknown("spread"))],
        {"x": (NoFlux(), Dirichlet(unknown("held")))},
        storage=unknown("held_back"),
        initial=unknown("begins"),
    )
    heated = Field([Diffusion(0.1)], {"x": NoFlux()}, capacity=lambda T, c_p: c_p * T)
    system = System(box, {"c": field, "T": heated}, coefficients={"c_p": unknown("c_p")})
    arrays = eqx.filter(system, learned(system))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(arrays)]
    assert [path.rpartition(".")[0] for path in paths] == [
        ".equations['c'][0].diffusivity",
        ".boundaries['c'][0][1].value",
        ".coefficients['c_p']",
        ".storage['c']",
        ".initial['c']",
    ]


def test_a_system_may_be_made_of_traced_values():
    """Of one sample each under `vmap`: all that a Field takes as a coefficient."""

    def stored(capacity, value):
        field = Field([Diffusion(value)], storage=capacity, initial=value)
        system = System(GRID, {"c": field})
        return system.start(0.0, DOUBLE)["c"] * system.storage["c"]

    values = jnp.array([1.0, 2.0])
    found = jax.jit(jax.vmap(stored))(values, 3 * values)
    np.testing.assert_allclose(found, 3 * values[:, None, None] ** 2 * np.ones(GRID.shape))


def test_names_of_all_data_are_no_names_of_fields():
    for name in ("time", "sample"):
        with pytest.raises(InputError, match=f"'{name}' is a field of the system, and a dimension"):
            System(None, {name: [Reaction(lambda t: t)]})


@pytest.mark.parametrize(
    "name, meaning", [("c", "a field"), (GRID.names[0], "an axis"), ("t", "the time")]
)
def test_nothing_learned_has_the_name_of_something_else(name: str, meaning: str):
    """All are variables or coordinates of a forecast."""
    told = f"{name} is the name of a learned coefficient and of {meaning}"
    with pytest.raises(InputError, match=told):
        System(GRID, {"c": [Diffusion(Parameter(name, 1.0, (0.0, 2.0)))]})
