"""A run whose samples have sample parameters, from config to a forecast that is continued."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.cli._app import app
from impindiff.config import load_config
from impindiff.runs import RunPlan, certify, plan_run

HOT = np.array([0.5, 1.0, 2.0])
TIMES = np.linspace(0.0, 1.0, 5)
CODE = """
import jax.numpy as jnp
import impindiff as ipd


def make_system():
    return ipd.System(
        None,
        {"c": ipd.Field([ipd.Reaction(lambda c, k: -k * c)], initial=lambda T_gas: 1 + T_gas)},
        coefficients={
            "k": lambda a, T_gas: a * jnp.exp(-1 / T_gas),
            "a": ipd.Parameter("a", 1.0, (0.0, jnp.inf)),
        },
        parameters=("T_gas",),
        units={"T_gas": "kK"},
    )


def make_stages():
    return [ipd.Stage(ipd.LevenbergMarquardt(), 5)]
"""
CONFIG = """
[data]
file = "runs.nc"
fields = ["c"]
train_samples = "0:2"
train_times = [0.5, 1.0]
test_samples = "2"

[system]
build = "furnace:make_system"

[time]
scheme = "runge-kutta-4"
dt = 0.05
until = 1.0

[training]
stages = "furnace:make_stages"
validate_every = 1
"""


def exact(times) -> np.ndarray:
    rates = 1.5 * np.exp(-1 / HOT)
    return (1 + HOT)[:, None] * np.exp(-rates[:, None] * np.asarray(times))


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample_parameters")
    (folder / "furnace.py").write_text(CODE)
    (folder / "furnace.toml").write_text(CONFIG)
    about = {"T_gas": {"units": "kK"}}
    data = ipd.to_dataset(
        None, TIMES, {"c": exact(TIMES)}, attributes=about, sample_parameters={"T_gas": HOT}
    )
    ipd.save_dataset(data, folder / "runs.nc")
    call("train", folder / "furnace.toml", "--out", folder / "RUN")
    return folder


@pytest.mark.thorough
def test_what_is_shared_is_learned_and_each_sample_forecast_at_its_own(made: Path):
    scores = json.loads(call("evaluate", made / "RUN", "--data", made / "runs.nc", "--json"))
    assert set(scores["fields"]) == {"c"} and scores["latent"] == {}
    assert max(scores["fields"]["c"]["relative_l2_percent"]) < 1e-3
    kept = ipd.open_dataset(made / "RUN" / "forecast.nc")
    assert kept["T_gas"].values.tolist() == [2.0] and "T_gas_truth" not in kept
    assert float(kept["a"]) == pytest.approx(1.5, rel=1e-5)
    lines = (made / "RUN" / "metrics.jsonl").read_text().splitlines()
    followed = [line["validation"] for line in map(json.loads, lines) if line["validation"]]
    assert followed and followed[-1] < 1e-3
    report = (made / "RUN" / "report.html").read_text()
    assert "T_gas of these samples" in report and "2\u00a0kK" in report


@pytest.mark.thorough
def test_a_forecast_takes_the_sample_parameters_along_and_is_continued(made: Path):
    store = made / "long.zarr"
    given = ("--out", store, "--every", 0.5)
    call("forecast", made / "RUN", "--initial", made / "runs.nc", "--until", 1.5, *given)
    assert ipd.open_dataset(store)["T_gas"].attrs["units"] == "kK"
    call("forecast", made / "RUN", "--initial", store, "--from", "last", "--until", 3, *given)
    found = ipd.open_dataset(store)
    np.testing.assert_array_equal(found["T_gas"], HOT)
    np.testing.assert_allclose(found["c"], exact(np.arange(0, 3.1, 0.5)), rtol=2e-5)


@pytest.mark.thorough
def test_gradients_are_certified_with_the_sample_parameters_of_a_sample(made: Path):
    found = certify(load_config(made / "furnace.toml"), made / "runs.nc", num_directions=1)
    assert found.passed


@pytest.mark.thorough
def test_sample_parameters_are_not_made_up(made: Path):
    config = load_config(made / "furnace.toml")
    said = "has the sample parameters T_gas.*give data that hold them, --data FILE"
    with pytest.raises(InputError, match=said):
        certify(config, None)
    with pytest.raises(InputError, match=said):
        plan_run(config, None)


@pytest.mark.thorough
@pytest.mark.parametrize("sample", [0, 2])
def test_data_without_a_setting_are_refused(made: Path, tmp_path: Path, sample: int):
    config = load_config(made / "furnace.toml")
    data = ipd.open_dataset(made / "runs.nc")
    data["T_gas"][sample] = np.nan
    ipd.save_dataset(data, tmp_path / "gap.nc")
    with pytest.raises(InputError, match=f"'T_gas' of sample {sample} is nan"):
        RunPlan.make(config, tmp_path / "gap.nc", tmp_path)
    ipd.save_dataset(data.drop_vars("T_gas"), tmp_path / "none.nc")
    with pytest.raises(InputError, match="there is no sample parameter 'T_gas'"):
        RunPlan.make(config, tmp_path / "none.nc", tmp_path)
    data["T_gas"].attrs["units"] = "K"
    ipd.save_dataset(data.fillna(1.0), tmp_path / "units.nc")
    with pytest.raises(InputError, match="'T_gas' is in 'K', in the system it is in 'kK'"):
        RunPlan.make(config, tmp_path / "units.nc", tmp_path)
