"""A config becomes the objects that it describes."""

import tomllib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import make_tables

from impindiff import InputError
from impindiff.config import (
    ALONG_LINES,
    PRECONDITIONERS,
    Config,
    build_grid,
    build_options,
    build_stages,
    build_stepper,
    build_system,
    describe_grid,
    dump_config,
    parse_config,
)
from impindiff.config._training import ProgressiveToleranceTable, RescueTable, TrainingTable
from impindiff.grid import Axis, Grid
from impindiff.implicit import Affine, Anderson, Newton, Picard, Staggered
from impindiff.integrate import (
    SDIRK2,
    BackwardEuler,
    BogackiShampine3,
    CrankNicolson,
    DiagonallyImplicit,
    ForwardEuler,
    ImplicitExplicit,
    RungeKutta4,
    Theta,
    Tsitouras5,
)
from impindiff.latent import Parameter, SineField
from impindiff.linear import CG, GMRES, Automatic, BiCGStab, DenseLU
from impindiff.precondition import BlockJacobi, ByGroup, Fourier, Jacobi, Line, TransformLine
from impindiff.systems import Reaction, System, advection_diffusion
from impindiff.terms import Advection, Diffusion
from impindiff.train import (
    LBFGS,
    Adam,
    EarlyStopping,
    ProgressiveTolerance,
    Rescue,
    Stage,
    Validation,
)

GRID = Grid.uniform((12, 6), ((-1, 1), (0, 1)), periodic=True)
PARAMETER = {"name": "diffusivity", "initial": 0.1, "bounds": [0.0, 1.0]}


SYSTEM = advection_diffusion(GRID, jnp.array([0.5, 1.0]), 0.1)


def config_of(changes: dict | None = None) -> Config:
    return parse_config(make_tables(changes), "it")


def test_a_grid_is_described_and_built_again():
    uneven = Axis.from_faces("z", [0.0, 0.1, 0.3, 1 / 3])
    grid = Grid((Axis("x", -1, 0.1, 12, periodic=True), Axis("y", 0, 1 / 3, 7), uneven))
    config = config_of().model_copy(update={"grid": describe_grid(grid)})
    assert build_grid(config) == grid
    with pytest.raises(InputError, match="names no grid"):
        build_grid(config_of())


def test_unknowns_become_latents_and_the_known_stays():
    system = build_system(config_of({"system.options.diffusivity": PARAMETER}), GRID)
    advection, diffusion = system.equations["concentration"]
    assert isinstance(advection, Advection) and isinstance(diffusion, Diffusion)
    assert isinstance(advection.velocity, SineField)
    assert advection.velocity.names == ("advection_x", "advection_y")
    assert isinstance(diffusion.diffusivity, Parameter)
    values = system.latents()
    assert {name: value.shape for name, value in values.items()} == {
        "advection_x": (12, 6),
        "advection_y": (12, 6),
        "diffusivity": (12, 6),
    }
    np.testing.assert_allclose(values["diffusivity"], 0.1, rtol=1e-5)


def test_a_known_velocity_is_uniform():
    known = config_of(
        {"system.options.velocity": [0.5, -1], "system.options.diffusivity": PARAMETER}
    )
    advection, _ = build_system(known, GRID).equations["concentration"]
    assert isinstance(advection, Advection)
    np.testing.assert_array_equal(advection.velocity, [0.5, -1])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"system.options.velocity.names": ["v"]}, r"1 component\(s\).*2 axes \(x, y\)"),
        (
            {"system.options.velocity": [1.0], "system.options.diffusivity": PARAMETER},
            "one for each axis",
        ),
        (
            {"system.options.diffusivity": {"names": ["a", "b"]}},
            "diffusivity is one field",
        ),
    ],
)
def test_components_that_do_not_fit_are_refused(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        build_system(config_of(changes), GRID)


def test_the_seed_decides_the_network():
    first, same, other = (build_system(config_of({"seed": s}), GRID) for s in (7, 7, 8))
    assert eqx.tree_equal(first, same)
    pairs = zip(*(jax.tree.leaves(s.latents()) for s in (first, other)), strict=True)
    assert not any(jnp.allclose(left, right) for left, right in pairs)


def test_two_unknown_fields_start_differently():
    field = {"names": ["diffusivity"], "width": 8, "depth": 1}
    values = build_system(config_of({"system.options.diffusivity": field}), GRID).latents()
    assert not jnp.allclose(values["diffusivity"], values["advection_x"])


@pytest.mark.parametrize(
    "scheme, expected",
    [
        ("crank-nicolson", CrankNicolson),
        ("backward-euler", BackwardEuler),
        ("forward-euler", ForwardEuler),
        ("runge-kutta-4", RungeKutta4),
        ("bogacki-shampine-3", BogackiShampine3),
        ("tsitouras-5", Tsitouras5),
    ],
)
def test_the_stepper_and_its_solver(scheme: str, expected):
    solver = {"rtol": 1e-7, "max_steps": 3, "adjoint_rtol": 1e-4, "adjoint_max_steps": 4}
    stepper = build_stepper(config_of({"time.scheme": scheme, "solver": solver}), SYSTEM)
    if isinstance(stepper, Theta):
        wanted = Affine(Automatic(1e-7, max_steps=3), Automatic(1e-4, max_steps=4))
        assert eqx.tree_equal(stepper, expected(wanted))
    else:
        assert stepper == expected()


def reacting() -> System:
    return System(
        GRID,
        {"a": [Diffusion(0.1), Reaction(lambda a, b: -a * b)], "b": [Reaction(lambda a, b: a * b)]},
    )


@pytest.mark.parametrize(
    "table, solver",
    [
        ({"max_steps": 7}, Newton(Automatic(max_steps=7), Automatic())),
        (
            {"method": "bicgstab", "max_steps": 7},
            Newton(BiCGStab(max_steps=7), BiCGStab(max_steps=200)),
        ),
        (
            {"method": "gmres", "rtol": 1e-4, "nonlinear_max_steps": 5},
            Newton(GMRES(1e-4, max_steps=200), GMRES(1e-4, max_steps=200), rtol=1e-4, max_steps=5),
        ),
        ({"nonlinear": "anderson"}, Anderson(BiCGStab(max_steps=200))),
        (
            {"nonlinear": "picard", "method": "dense-lu", "adjoint_max_steps": 3},
            Picard(DenseLU(max_steps=3)),
        ),
        (
            {"nonlinear": "staggered", "nonlinear_max_steps": 9},
            Staggered(("a", "b"), BiCGStab(), BiCGStab(max_steps=200), max_steps=9),
        ),
        (
            {"nonlinear": "staggered", "groups": [["b"], ["a"]]},
            Staggered(("b", "a"), BiCGStab(), BiCGStab(max_steps=200)),
        ),
    ],
)
def test_where_a_system_is_not_affine_its_solver_is_nonlinear(table: dict, solver):
    stepper = build_stepper(config_of({"time.scheme": "sdirk-2", "solver": table}), reacting())
    assert eqx.tree_equal(stepper, SDIRK2(solver))


def test_a_flow_that_is_not_affine_needs_no_newton_method_where_it_is_explicit():
    system = System(GRID, {"u": [Advection([lambda u: u] * GRID.num_axes), Diffusion(0.1)]})
    for scheme, kind in (("ark-4", Affine), ("esdirk-4", Newton)):
        stepper = build_stepper(config_of({"time.scheme": scheme}), system)
        assert isinstance(stepper, ImplicitExplicit | DiagonallyImplicit)
        assert isinstance(stepper.solver, kind)


def test_a_staggered_iteration_has_preconditioners_of_its_groups():
    table = {"nonlinear": "staggered", "preconditioner": "transform-line", "line_axis": "x"}
    stepper = build_stepper(config_of({"solver": table}), reacting())
    assert isinstance(stepper, Theta)
    assert stepper.preconditioner == ByGroup(("a", "b"), TransformLine(0))
    for groups in ([["a"]], [["a"], ["b"], ["c"]], [["a", "b"], ["a"]]):
        table = {"nonlinear": "staggered", "groups": groups}
        with pytest.raises(InputError, match=r"must be named once, 'a', 'b'"):
            build_stepper(config_of({"solver": table}), reacting())


def test_preconditioners_of_coupled_fields_and_of_lines():
    tables = {"solver": {"preconditioner": "block-jacobi"}}
    stepper = build_stepper(config_of(tables), reacting())
    assert isinstance(stepper, Theta) and stepper.preconditioner == BlockJacobi()
    tables = {"solver": {"preconditioner": "line", "line_axis": "y"}}
    stepper = build_stepper(config_of(tables), SYSTEM)
    assert isinstance(stepper, Theta) and stepper.preconditioner == Line(1)
    tables = {"solver": {"preconditioner": "line", "line_axis": "z"}}
    with pytest.raises(InputError, match="solver.line_axis is 'z', but the system's axes are 'x'"):
        build_stepper(config_of(tables), SYSTEM)
    with pytest.raises(InputError, match="'tridiagonal', but the system's grid has 2 axes"):
        build_stepper(config_of({"solver": {"method": "tridiagonal"}}), SYSTEM)


@pytest.mark.parametrize("name", [*PRECONDITIONERS, *ALONG_LINES])
def test_every_preconditioner_is_built_by_its_name(name: str):
    along = {"line_axis": "x"} if name in ALONG_LINES else {}
    stepper = build_stepper(config_of({"solver": {"preconditioner": name} | along}), SYSTEM)
    made = ALONG_LINES[name](0) if along else PRECONDITIONERS[name]()
    assert isinstance(stepper, Theta) and stepper.preconditioner == made


def test_the_stages_in_their_order():
    stages = [
        {"optimiser": "lbfgs", "epochs": 3, "memory": 7, "dt": 0.1},
        {"optimiser": "adam", "epochs": 5, "learning_rate": 0.5},
    ]
    built = build_stages(config_of({"training.stages": stages}), SYSTEM)
    assert built == [Stage(LBFGS(memory=7), 3, dt=0.1), Stage(Adam(learning_rate=0.5), 5)]


@pytest.mark.parametrize("cells, is_fine", [(1000, True), (1001, False)])
def test_a_matrix_is_written_out_for_the_unknowns_of_all_fields(cells: int, is_fine: bool):
    grid = Grid.uniform((cells,), ((0, 1),), periodic=True)
    system = System(grid, {name: [Diffusion(0.1)] for name in "ab"})
    config = config_of({"solver": {"method": "dense-lu"}})
    if is_fine:
        build_stepper(config, system)
        return
    with pytest.raises(InputError, match=r"a step has 2002 unknowns \(1001 cells, 2 fields\)"):
        build_stepper(config, system)
    # A group at a time is few enough.
    staggered = {"method": "dense-lu", "nonlinear": "staggered"}
    groups = {"solver": staggered | {"groups": [["a"], ["b"]]}}
    build_stepper(config_of(groups), system)


def test_stages_by_default():
    stages = [{"optimiser": "adam", "epochs": 2}, {"optimiser": "lbfgs", "epochs": 3}]
    config = config_of({"training.stages": stages})
    assert build_stages(config, SYSTEM) == [
        Stage(Adam(), 2),
        Stage(LBFGS(memory=50), 3),
    ]


def test_training_by_default():
    table = TrainingTable.model_validate({"stages": [{"optimiser": "adam", "epochs": 2}]})
    assert (table.validate_every, table.checkpoint_every) == (10, 50)
    assert RescueTable().model_dump() == {"max_halvings": 3, "max_masked_share": 0.5}
    assert ProgressiveToleranceTable().model_dump() == {
        "start": 1e-2,
        "factor": 0.1,
        "last": 1e-5,
        "window": 5,
        "settled": 0.1,
    }


def test_rates_and_freezing_by_name():
    rates = {"advection_x": 0.1, "*": 0.2}
    stages = [
        {"optimiser": "adam", "epochs": 5, "learning_rate": rates},
        {"optimiser": "lbfgs", "epochs": 3, "freeze": ["advection_x"]},
    ]
    config = config_of({"training.stages": stages, "training.freeze": ["advection_y"]})
    assert build_stages(config, SYSTEM) == [
        Stage(Adam(learning_rate=rates), 5, freeze="advection_y"),
        Stage(LBFGS(), 3, freeze=("advection_y", "advection_x")),
    ]
    assert parse_config(tomllib.loads(dump_config(config)), "it") == config


def test_early_stopping():
    stepper = CrankNicolson()
    assert build_options(config_of({}), stepper).validation == Validation(every=2)
    table = {"samples": "2", "patience": 3, "min_improvement": 0.1}
    config = config_of({"training.early_stopping": table, "training.validate_every": 3})
    found = build_options(config, stepper).validation
    assert found == Validation(None, 3, EarlyStopping(3, min_improvement=0.1))


@pytest.mark.parametrize("method, kind", [("gmres", GMRES), ("cg", CG), ("bicgstab", BiCGStab)])
def test_the_method_of_the_solver(method: str, kind: type):
    solver = {"method": method, "rtol": 1e-7, "adjoint_rtol": 1e-4, "max_steps": 9}
    stepper = build_stepper(config_of({"solver": solver}), SYSTEM)
    assert isinstance(stepper, Theta) and isinstance(stepper.solver, Affine)
    assert isinstance(stepper.solver.linear, kind)
    assert stepper.solver.linear.rtol == 1e-7 and stepper.solver.linear.max_steps == 9


@pytest.mark.parametrize(
    "name, made", [("fourier", Fourier()), ("jacobi", Jacobi()), ("none", None)]
)
def test_the_preconditioner_of_the_solver(name: str, made):
    stepper = build_stepper(config_of({"solver": {"preconditioner": name}}), SYSTEM)
    assert isinstance(stepper, Theta) and stepper.preconditioner == made


def test_multigrid_is_the_same_function_each_time():
    """Another one would have every training compiled anew."""
    first, second = (
        build_stepper(config_of({"solver": {"preconditioner": "multigrid"}}), SYSTEM)
        for _ in range(2)
    )
    assert first == second


def test_rescue_and_progressive_tolerance():
    without = build_options(config_of({}), CrankNicolson())
    assert without.rescue is None and without.progressive_tolerance is None
    config = config_of(
        {
            "training.rescue": {"max_halvings": 2},
            "training.progressive_tolerance": {"start": 0.1, "window": 3},
        }
    )
    found = build_options(config, CrankNicolson())
    assert found.rescue == Rescue(max_halvings=2)
    assert found.progressive_tolerance == ProgressiveTolerance(start=0.1, window=3)
    assert parse_config(tomllib.loads(dump_config(config)), "it") == config


def test_whether_an_axis_is_periodic_the_data_say_where_the_config_does_not():
    tables = [
        {"name": axis.name, **{"lower": axis.lower, "upper": axis.upper}} for axis in GRID.axes
    ]
    tables = [
        table | {"cells": axis.num_cells} for table, axis in zip(tables, GRID.axes, strict=True)
    ]
    ends = Grid.uniform((12, 6), ((-1, 1), (0, 1)), periodic=(True, False))
    config = config_of({"grid": tables})
    for data in (GRID, ends):
        assert build_grid(config, data) == data
    # What the config says counts; where neither says anything, an axis has ends.
    said = config_of({"grid": [table | {"periodic": True} for table in tables]})
    assert build_grid(said, ends) == build_grid(said) == GRID
    assert not any(axis.periodic for axis in build_grid(config).axes)
    with pytest.raises(InputError, match="have the data say so, .*periodic = true"):
        build_system(config, ends)
