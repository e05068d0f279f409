"""`impindiff check-gradient`: what it certifies, what it refuses, and how it says so."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_problem import make_dataset, save, write_problem
from typer.testing import CliRunner

from impindiff.cli._app import app
from impindiff.data import save_dataset, to_dataset
from impindiff.runs import _certify


def check(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["check-gradient", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_problem(tmp_path)[0]


PARTS = ["advection_x, advection_y", "initial concentration"]


@pytest.mark.thorough
def test_the_object_is_as_documented(config: Path):
    status, out, _ = check(config, "--directions", 2, "--json")
    found = json.loads(out)
    assert status == 0 and set(found) == {"passed", "directions", "adjoint"}
    assert found["passed"] is True
    assert [d["with_respect_to"] for d in found["directions"]] == [n for n in PARTS for _ in "12"]
    for direction in found["directions"]:
        assert set(direction) == {"with_respect_to", "rate", "relative_error"}
        assert direction["rate"] == pytest.approx(2, abs=0.1)
        assert direction["relative_error"] < 1e-6
    assert found["adjoint"]["converged"] is True
    assert 0 < found["adjoint"]["relative_residual"] <= 1e-11


@pytest.mark.slow
def test_of_a_run_the_trained_coefficients_are_checked_on_its_data(finished: Path):
    status, out, err = check(finished / "run", "--directions", 1)
    assert status == 0, err
    assert "sample 0 of" in out and "2 steps to t = 0.1" in out
    assert out.splitlines()[-1] == "passed"
    untrained = check(finished / "run" / "config.toml", "--directions", 1)[1]
    assert untrained != out, "the trained coefficients differ"


@pytest.mark.slow
@pytest.mark.parametrize(
    "scheme, solves", [("backward-euler", True), ("runge-kutta-4", False), ("forward-euler", False)]
)
def test_every_scheme_can_be_checked(tmp_path: Path, scheme: str, solves: bool):
    config, _ = write_problem(tmp_path, {"time.scheme": scheme, "time.dt": 0.01})
    status, out, _ = check(config, "--directions", 1)
    assert status == 0
    assert ("adjoint solves" in out) is solves
    assert ("reverse mode through the iterations" in out) is solves


@pytest.mark.slow
def test_one_and_three_dimensions(tmp_path: Path):
    names = ["a", "b", "c"]
    for shape in ((9,), (4, 5, 3)):
        changes = {"system.options.velocity.names": names[: len(shape)]}
        config, data = write_problem(tmp_path, changes, make_dataset(shape))
        assert check(config, "--directions", 1, "--data", data)[0] == 0


@pytest.mark.slow
def test_an_unknown_number_is_checked_too(tmp_path: Path):
    table = {"name": "spread", "initial": 0.02, "bounds": [0.0, 0.1]}
    config, data = write_problem(tmp_path, {"system.options.diffusivity": table})
    out = check(config, "--data", data, "--json", "--directions", 1)[1]
    assert "spread" in [d["with_respect_to"] for d in json.loads(out)["directions"]]


@pytest.mark.thorough
def test_a_gradient_that_is_wrong_does_not_pass(config: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(_certify._TIGHT, "adjoint_rtol", 0.5)
    status, out, _ = check(config, "--directions", 1)
    assert status == 3 and "FAILED: a true gradient has rate 2" in out


def test_what_cannot_be_read_is_named(config: Path, tmp_path: Path):
    for target, said in ((tmp_path / "none.toml", "none.toml"), (tmp_path, "config.toml")):
        status, out, err = check(target)
        assert status == 2 and out == "" and said in err.replace("\n", "").replace("│", "")
    status, _, err = check(config, "--data", tmp_path / "none.nc")
    assert status == 2 and "none.nc" in " ".join(err.split())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_no_certificate(finished: Path, tmp_path: Path):
    data = make_dataset()
    data["concentration"] = data["concentration"].astype("f8") * 1e200
    save(data, tmp_path / "huge.nc")
    status, out, err = check(finished / "run", "--data", tmp_path / "huge.nc")
    assert status == 3 and out == "" and "epoch" not in err


@pytest.mark.slow
def test_an_iteration_whose_derivative_lags_behind_is_no_reference(tmp_path: Path):
    """Two numbers: the accelerated iteration ends before its derivative has converged."""
    (tmp_path / "decay.py").write_text(
        "import numpy as np, impindiff as ipd\n"
        "def make():\n"
        "    rates = {'a': [ipd.Reaction(lambda a, k: -k * a)]}\n"
        "    rates['b'] = [ipd.Reaction(lambda a, k: k * a)]\n"
        "    k = ipd.Parameter('k', 0.1, (0.0, np.inf))\n"
        "    return ipd.System(None, rates, coefficients={'k': k})\n"
    )
    times = [0.0, 0.1, 0.2]
    a = np.array([[0.2], [0.4]]) * np.exp(-0.3 * np.array([times]))
    save_dataset(to_dataset(None, times, {"a": a, "b": 0.5 - a}), tmp_path / "data.nc")
    (tmp_path / "c.toml").write_text(
        "[data]\nfile = 'data.nc'\nfields = ['a', 'b']\ntrain_samples = '0'\n"
        "train_times = [0.1, 0.2]\ntest_samples = '1'\n[system]\nbuild = 'decay:make'\n"
        "[time]\nscheme = 'sdirk-2'\ndt = 0.1\nuntil = 0.2\n"
        "[[training.stages]]\noptimiser = 'adam'\nepochs = 1\nlearning_rate = 1e-3\n"
    )
    status, out, err = check(tmp_path / "c.toml", "--directions", 1)
    assert status == 0, out + err
    assert "does not converge" in " ".join(out.split())
