"""What a config may say, and what is said of one that may not."""

import math
import tomllib
from pathlib import Path

import pytest
import tomli_w
from small_problem import make_tables

from impindiff import CASES, InputError
from impindiff.config import (
    Config,
    changed,
    config_sha256,
    dump_config,
    load_config,
    parse_config,
)

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))

PARAMETER = {"name": "diffusivity", "initial": 0.1, "bounds": [0.0, 1.0]}
OPTIMISERS = (
    "it should be a table with optimiser = 'adam', 'lbfgs', 'levenberg-marquardt' or 'optax'"
)
ADAM = "training.stages.0"

UNKNOWN_KEYS = {
    "sytem": "did you mean 'system'?",
    "colour": "allowed are data, grid, precision, question, seed,",
    "parameter": "allowed are data, grid",
    "data.train_sample": "did you mean 'train_samples'?",
    "data.shuffle": "allowed are field, fields, file, observe, test_samples, train_samples,",
    "time.dtt": "did you mean 'dt'?",
    "solver.rtoll": "did you mean 'rtol'?",
    "system.option": "did you mean 'options'?",
    "system.scheme": "allowed are build, files, options",
    "training.validate": "did you mean 'validate_every'?",
    f"{ADAM}.learning_rat": "did you mean 'learning_rate'?",
    "training.stages.1.learning_rate": "allowed are dt, epochs, freeze, memory, optimiser",
    "training.stages.1.memmory": "did you mean 'memory'?",
}

REFUSED = [
    # Wrong types, also where Python would convert them.
    ({"title": 3}, "'title' is 3: it should be a valid string"),
    ({"seed": 1.0}, "'seed' is 1.0: it should be a valid integer"),
    ({"seed": "1"}, "'seed' is '1': it should be a valid integer"),
    ({"time.dt": "0.1"}, "'time.dt' is '0.1': it should be a valid number"),
    ({"time.dt": True}, "'time.dt' is True: it should be a valid number"),
    ({"data": "data.nc"}, "'data' is 'data.nc': it should be a table"),
    ({"data.train_samples": [0, 1]}, "'data.train_samples' is [0, 1]: it should be a valid string"),
    ({"training.stages": {"a": 1}}, "'training.stages' is {'a': 1}: it should be a valid list"),
    ({ADAM: "adam"}, OPTIMISERS),
    ({f"{ADAM}.epochs": 1.5}, "'training.stages.0.epochs' is 1.5"),
    # What goes together.
    ({"time.substeps": 2}, "time.scheme 'crank-nicolson' is not explicit"),
    ({"time.accept_unstable": True}, "'crank-nicolson' is not explicit"),
    ({"solver": {"adjoint": "unrolled"}}, "give solver.nonlinear = 'picard' or 'anderson', too"),
    ({"solver": {"groups": [["a"]]}}, "give solver.nonlinear = 'staggered', too"),
    ({"solver": {"nonlinear": "staggered", "groups": [[]]}}, "'solver.groups.0' is []"),
    # Numbers out of range.
    ({"seed": -1}, "'seed' is -1: it should be greater than or equal to 0"),
    ({"seed": 2**32}, "'seed' is 4294967296: it should be less than 4294967296"),
    ({"time.dt": 0.0}, "'time.dt' is 0.0: it should be greater than 0"),
    ({"time.dt": -0.1}, "'time.dt' is -0.1: it should be greater than 0"),
    ({"time.dt": math.inf}, "'time.dt' is inf: it should be a finite number"),
    ({"time.until": math.nan}, "'time.until' is nan: it should be a finite number"),
    ({"solver": {"rtol": 0.0}}, "'solver.rtol' is 0.0: it should be greater than 0"),
    ({"solver": {"adjoint_rtol": 2.0}}, "'solver.adjoint_rtol' is 2.0: it should be less than 1"),
    ({"solver": {"preconditioner": "ilu"}}, "'line', 'block-line' or 'transform-line'"),
    (
        {"solver": {"preconditioner": "jacobi"}, "time.scheme": "forward-euler"},
        "'forward-euler' solves no system",
    ),
    ({"solver": {"preconditioner": "jacobi", "method": "tridiagonal"}}, "is direct and uses none"),
    ({"solver": {"max_steps": 0}}, "'solver.max_steps' is 0: it should be greater than or equal"),
    ({f"{ADAM}.epochs": 0}, "'training.stages.0.epochs' is 0: it should be greater"),
    ({f"{ADAM}.learning_rate": -1.0}, "'training.stages.0.learning_rate' is -1.0"),
    ({f"{ADAM}.dt": 0.0}, "'training.stages.0.dt' is 0.0: it should be greater than 0"),
    ({"training.checkpoint_every": 0}, "'training.checkpoint_every' is 0"),
    ({f"{ADAM}.learning_rate": {"*": -1.0}}, "'training.stages.0.learning_rate.*' is -1.0"),
    ({"training.early_stopping": {}}, "key 'training.early_stopping.patience' is missing"),
    (
        {"training.early_stopping": {"samples": "2", "patience": 0}},
        "stopping.patience' is 0",
    ),
    # Empty or too long.
    ({"training.stages": []}, "'training.stages' is []: it should be a list of at least 1"),
    ({"data.train_times": []}, "'data.train_times' is []: it should be a list of at least 1"),
    ({"data.train_times": [math.nan]}, "'data.train_times.0' is nan: it should be a finite"),
    ({"grid": []}, "'grid' is []: it should be a list of at least 1"),
    # Kinds.
    ({"system.build": "own"}, "'own' names no function: write 'module:function'"),
    ({"system.build": 3}, "'system.build' is 3: it should be a valid string"),
    ({"system.options": [1]}, "'system.options' is [1]: it should be a valid dictionary"),
    ({"system.options.diffusivity": 1e300}, "precision = 'float32' holds magnitudes"),
    ({"system": {"kind": "burgers"}}, "key 'system.build' is missing"),
    (
        {"time.scheme": "cn"},
        "should be 'crank-nicolson', 'backward-euler', 'sdirk-2', 'esdirk-3', 'esdirk-4',",
    ),
    ({"precision": "float16"}, "'precision' is 'float16': it should be 'float32' or 'float64'"),
    ({f"{ADAM}.optimiser": "adm"}, OPTIMISERS),
    ({f"{ADAM}.optimiser": None}, OPTIMISERS),
    # Ranges that cannot be.
    ({"grid": [{"name": "x", "lower": 1.0, "upper": 0.0, "cells": 4}]}, "'grid.0': [1.0, 0.0] is"),
    ({"grid": [{"name": "x", "lower": 0.0, "upper": 1.0, "cells": 1}]}, "'grid.0': cells is 1"),
]


def refusal(changes: dict) -> str:
    with pytest.raises(InputError) as caught:
        parse_config(make_tables(changes), "my.toml")
    message = str(caught.value)
    assert message.startswith("my.toml: ")
    assert "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize("key", UNKNOWN_KEYS)
def test_an_unknown_key_is_named_with_the_nearest_or_all_valid_ones(key: str):
    message = refusal({key: 1})
    assert f"unknown key {key!r}; {UNKNOWN_KEYS[key]}" in message


@pytest.mark.parametrize("changes, message", REFUSED, ids=[str(c)[:60] for c, _ in REFUSED])
def test_what_is_wrong_is_named_with_what_is_allowed(changes: dict, message: str):
    assert message in refusal(changes)


@pytest.mark.parametrize(
    "key",
    ["data", "system", "time", "training", "data.field", "data.train_times"]
    + ["time.until", "system.build", "training.stages", f"{ADAM}.epochs"],
)
def test_a_missing_key_is_named(key: str):
    assert f"key {key!r} is missing" in refusal({key: None})


def test_several_mistakes_are_named_at_once():
    message = refusal({"time.dt": -1.0, "colour": 1, "data.field": None})
    assert all(part in message for part in ("'time.dt'", "'colour'", "'data.field'"))
    message = refusal({f"wrong_{i}": 1 for i in range(8)})
    assert message.endswith("and 3 more")


def test_a_file_that_is_no_config_is_named(tmp_path: Path):
    def refused(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            load_config(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "no such config file" in refused(tmp_path / "missing.toml")
    assert "cannot be read" in refused(tmp_path)
    (tmp_path / "broken.toml").write_text('title = "a\n[data')
    assert "not valid TOML" in refused(tmp_path / "broken.toml")
    assert "line 1" in refused(tmp_path / "broken.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused(tmp_path / "binary.toml")
    (tmp_path / "long.toml").write_text("seed = " + "9" * 5000)
    assert "a number is too long to be read" in refused(tmp_path / "long.toml")
    (tmp_path / "empty.toml").write_text("")
    told = refused(tmp_path / "empty.toml")
    assert told.startswith(f"{tmp_path / 'empty.toml'}: key 'data' is missing")


def full_tables() -> dict:
    return make_tables(
        {
            "title": "Größe \"α\"\n, with 'quotes' and \\",
            "seed": 2**32 - 1,
            "precision": "float64",
            "data.file": "data with blanks/ä.nc",
            "data.field": "concentração",
            "grid": [{"name": "x", "lower": -1, "upper": 0.1, "cells": 12}],
            "system.options": {"diffusivity": PARAMETER, "velocity": [1.0, 2.0]},
            "solver": {"rtol": 1e-7, "max_steps": 7},
            "training.stages.0.dt": 1e-3,
            "training.stages.0.learning_rate": {"diffusivity": 1e-2, "*": 1},
            "training.stages.1.freeze": [],
            "training.early_stopping": {"samples": "2", "patience": 3},
        }
    )


@pytest.mark.parametrize("tables", [make_tables(), full_tables()], ids=["small", "full"])
def test_what_is_written_reads_as_what_it_was(tmp_path: Path, tables: dict):
    config = parse_config(tables, "it")
    (tmp_path / "config.toml").write_text(dump_config(config), encoding="utf-8")
    again = load_config(tmp_path / "config.toml")
    assert again == config
    assert dump_config(again) == dump_config(config)
    assert config_sha256(again) == config_sha256(config)


def test_every_default_is_written_out():
    written = tomllib.loads(dump_config(parse_config(make_tables(), "it")))
    assert written["solver"].keys() == {
        "method",
        "preconditioner",
        "adjoint",
    }
    assert written["seed"] == 0 and written["precision"] == "float32"
    assert written["training"]["stages"][0]["learning_rate"] == 4e-3


def test_the_hash_tells_configs_apart_and_not_their_spelling():
    config = parse_config(make_tables(), "it")
    reordered = dict(reversed(make_tables().items()))
    assert config_sha256(parse_config(reordered, "it")) == config_sha256(config)
    other = parse_config(make_tables({"seed": 1}), "it")
    assert config_sha256(other) != config_sha256(config)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_the_papers_preset_of_its_case(path: Path):
    case = CASES[path.stem.replace("_", "-")]
    paper = parse_config(case.recipe("paper"), "paper")
    assert load_config(path) == paper
    assert path.read_text().count("#") > 10, "an example explains its keys"


def test_there_is_an_example():
    assert EXAMPLES


@pytest.mark.parametrize(
    "name, preset", [(name, preset) for name, case in CASES.items() for preset in case.presets]
)
def test_every_preset_of_every_case_parses(name: str, preset: str):
    config = parse_config(CASES[name].recipe(preset), preset, CASES[name].path)
    assert isinstance(config, Config)
    assert config.title and config.question
    assert tomllib.loads(tomli_w.dumps(CASES[name].recipe(preset))) == CASES[name].recipe(preset)


def test_keys_are_set_one_by_one():
    tables = make_tables()
    found = changed(
        tables,
        [
            "time.dt=0.02",
            "title=Two words",
            "system.options.velocity.width=16",
            "training.stages.0.epochs = 7",
            "data.train_times=[0.1, 0.2]",
            "solver.method='gmres'",
        ],
    )
    config = parse_config(found, "it")
    assert config.time.dt == 0.02 and config.title == "Two words"
    assert config.training.listed[0].epochs == 7 and config.data.train_times == [0.1, 0.2]
    assert config.solver.method == "gmres"
    assert tables == make_tables(), "the tables given stay as they were"


@pytest.mark.parametrize(
    "change, said",
    [
        ("time.dt", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("title.deep=3", "there is no table 'title' with a key 'deep'"),
        ("training.stages.9.epochs=3", "there is no table 'training.stages.9'"),
        ("training.stages.first.epochs=3", "there is no table 'training.stages.first'"),
        ("system.options.is_wet=False", "'False' is no value of TOML: write true"),
        ("system.options.rate=.5", "'.5' is no value of TOML"),
        ("system.options.span=[0.0, 1", "is no value of TOML"),
        ("system.options.span=(0.0, 1.0)", "is no value of TOML"),
        ("system.options.rate=", "'' is no value of TOML"),
        ("seed=" + "9" * 5000, "is no value of TOML"),
    ],
)
def test_a_key_that_cannot_be_set_is_refused(change: str, said: str):
    with pytest.raises(InputError, match=said):
        changed(make_tables(), [change])


def test_text_may_hold_what_toml_is_made_of():
    given = ["title=a = b", "question='True'", "data.train_samples=0:3", "system.a=x\ny = 1"]
    found = changed(make_tables(), given)
    assert found["title"] == "a = b" and found["question"] == "True"
    assert found["data"]["train_samples"] == "0:3" and found["system"]["a"] == "x\ny = 1"


def test_a_key_that_no_table_knows_is_refused_as_in_a_file():
    with pytest.raises(InputError, match="time.delta"):
        parse_config(changed(make_tables(), ["time.delta=3"]), "it")
