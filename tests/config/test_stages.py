"""Stages in a config: every optimiser by name, as it is in Python."""

import sys
import tomllib
from pathlib import Path

import equinox as eqx
import optax
import pytest
from small_problem import make_tables

from impindiff import InputError, advection_diffusion
from impindiff.config import (
    EXPLICIT,
    OPTIMISERS,
    PRECONDITIONERS,
    build_stages,
    dump_config,
    parse_config,
)
from impindiff.grid import Grid
from impindiff.optimisers import LBFGS, Adam, LevenbergMarquardt, Optax
from impindiff.runs._user_code import functions_of
from impindiff.train import Stage

SYSTEM = advection_diffusion(Grid.uniform((4,), ((0.0, 1.0),), periodic=True), 0.5, 0.1)
DOCS = Path(__file__).parents[2] / "docs"
OWN = """
import optax

def transformation():
    return optax.adamw(1e-3)

def number():
    return 3
"""


def stages_of(*tables: dict, folder: Path | None = None) -> list[Stage]:
    config = parse_config(make_tables({"training.stages": list(tables)}), "it", folder)
    assert parse_config(tomllib.loads(dump_config(config)), "it", folder) == config
    return build_stages(config, SYSTEM)


@pytest.mark.parametrize(
    ("name", "made"),
    [("adam", Adam()), ("lbfgs", LBFGS()), ("levenberg-marquardt", LevenbergMarquardt())],
)
def test_an_optimiser_without_more_is_that_of_python(name: str, made):
    (stage,) = stages_of({"optimiser": name, "epochs": 3})
    assert eqx.tree_equal(stage, Stage(made, 3))


def test_keys_are_arguments():
    first, second, third = stages_of(
        {"optimiser": "adam", "epochs": 3, "learning_rate": {"k": 0.1, "*": 0.2}, "window": 2},
        {"optimiser": "lbfgs", "epochs": 4, "memory": 7, "dt": 0.5, "freeze": ["k"]},
        {"optimiser": "levenberg-marquardt", "epochs": 5, "damping": 2.0, "max_attempts": 6},
    )
    assert isinstance(first.optimiser, Adam)
    assert first.optimiser.learning_rate == {"k": 0.1, "*": 0.2}
    assert (first.batches.samples, first.batches.window) == (None, 2)
    assert eqx.tree_equal(second, Stage(LBFGS(memory=7), 4, 0.5, freeze="k"))
    assert third.optimiser == LevenbergMarquardt(damping=2.0, max_attempts=6)


def test_optax_by_a_function(tmp_path: Path):
    (tmp_path / "own.py").write_text(OWN)
    table = {"optimiser": "optax", "epochs": 2, "batch_samples": 1}
    (stage,) = stages_of(table | {"transformation": "own:transformation"}, folder=tmp_path)
    assert isinstance(stage.optimiser, Optax)
    assert isinstance(stage.optimiser.transformation, optax.GradientTransformation)
    assert stage.batches.samples == 1
    with pytest.raises(InputError, match=r"stages.0.transformation: own:number returned 3"):
        stages_of(table | {"transformation": "own:number"}, folder=tmp_path)


def test_wrong_keys_are_named():
    with pytest.raises(InputError, match=r"'adam', 'lbfgs', 'levenberg-marquardt' or 'optax'"):
        stages_of({"optimiser": "sgd", "epochs": 2})
    with pytest.raises(InputError, match=r"unknown key 'training.stages.0.memry'.*'memory'"):
        stages_of({"optimiser": "lbfgs", "epochs": 2, "memry": 3})
    with pytest.raises(InputError, match=r"'training.stages.0.damping' is -1"):
        stages_of({"optimiser": "levenberg-marquardt", "epochs": 2, "damping": -1.0})


def test_every_function_that_is_named_is_known_to_be_somebodys_code():
    table = {"optimiser": "optax", "epochs": 2, "transformation": "own:transformation"}
    listed = parse_config(make_tables({"training.stages": [table]}), "it")
    assert functions_of(listed) == ["own:transformation"]
    named = parse_config(make_tables({"training.stages": "mine:stages"}), "it")
    assert functions_of(named) == ["mine:stages"]


def test_the_page_has_the_names_and_keys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.delitem(sys.modules, "write_tables", raising=False)
    from write_tables import written  # pyright: ignore[reportMissingImports]

    page = (DOCS / "config.md").read_text(encoding="utf-8")
    assert written(page) == page, "run `make tables`"
    assert all(f'"{name}"' in page for name in (*OPTIMISERS, *EXPLICIT, *PRECONDITIONERS))
