"""`impindiff benchmark`: what it lists, runs, prints and refuses. None of it is timed."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax.numpy as jnp
import pytest
from typer.testing import CliRunner

import impindiff as ipd
from impindiff.benchmark import _measure, _scripts, list_benchmarks, median_seconds, run_benchmark
from impindiff.cli._app import app

ROOT = Path(__file__).parents[2]

COUNTING = '''"""Count to two.

And no further.
"""
from impindiff.benchmark import announce, leave_out, median_seconds


def rows(quick=False):
    announce("one")
    print("a library greets")
    yield {"what": "one", "seconds": median_seconds(lambda: 0.0, 1)}
    if not quick:
        yield {"what": "two", "error": float("nan"), "mib": 2}
    try:
        import no_such_peer
    except ImportError as missing:
        leave_out("three", missing)


def draw(rows, file):
    file.write_text(str(len(rows)))
'''
PLAIN = '"""Do nothing."""\n\n\ndef rows():\n    yield {"what": "nothing"}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made-up benchmarks in the place of the real ones."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "counting.py").write_text(COUNTING)
    (scripts / "plain.py").write_text(PLAIN)
    (scripts / "_helper.py").write_text('"""No benchmark."""\n')
    monkeypatch.setattr(_scripts, "FOLDER", scripts)
    return scripts


@pytest.mark.parametrize("warm, calls", [(False, 6), (True, 5)])
def test_a_time_is_the_median_of_calls_that_count(monkeypatch, warm: bool, calls: int):
    """Of 1, 1, 1, 2 and 90 seconds on a made-up clock; a first call is not among them."""
    durations = iter([1.0, 90.0, 1.0, 2.0, 1.0])
    clock, done = [0.0], []

    def now() -> float:
        clock.append(clock[-1] + (next(durations) if len(clock) % 2 == 0 else 0))
        return clock[-1]

    monkeypatch.setattr(_measure, "_LONGEST_SECONDS", 1000.0)
    monkeypatch.setattr(_measure, "time", SimpleNamespace(perf_counter=now))
    assert median_seconds(lambda: done.append(1), 5, warm=warm) == 1.0
    assert len(done) == calls


def call(*arguments: object, status: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["benchmark", *map(str, arguments)])
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout, " ".join(result.stderr.split())


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_without_a_name_it_lists_what_can_be_measured():
    assert call() == ("counting  Count to two.\nplain  Do nothing.\n", "")
    listed = json.loads(call("--json")[0])
    assert listed == {"benchmarks": {"counting": "Count to two.", "plain": "Do nothing."}}


def test_the_object_is_as_documented_and_alone():
    out, err = call("counting", "--json")
    assert out.count("\n") == 1
    found = json.loads(out, parse_constant=refuse_constant)
    assert list(found) == ["benchmark", "machine", "rows"]
    assert found["benchmark"] == "counting"
    assert {"processor", "cores", "device", "python", "jax"} <= set(found["machine"])
    first, second = found["rows"]
    assert first["what"] == "one" and 0 <= first["seconds"] < 1
    assert second == {"what": "two", "error": None, "mib": 2}
    assert "measuring one ..." in err and "a library greets" in err
    assert "left out: three, as no_such_peer is not installed" in err


def test_without_json_it_is_a_table():
    lines = call("counting")[0].splitlines()
    assert lines[0].startswith("counting on processor ") and "jax " in lines[0]
    assert lines[1].split() == ["what", "seconds", "error", "mib"]
    assert lines[2].split()[0] == "one" and lines[2].split()[2:] == ["-", "-"]
    assert lines[3].split() == ["two", "-", "nan", "2"]


def test_options_go_to_the_benchmark_that_has_them(tmp_path: Path):
    assert len(json.loads(call("counting", "--quick", "--json")[0])["rows"]) == 1
    picture = tmp_path / "a picture.png"
    call("counting", "--plot", picture)
    assert picture.read_text() == "2"
    assert (
        "'plain' does not take --quick; it has no options" in call("plain", "--quick", status=2)[1]
    )
    assert "does not take --plot" in call("plain", "--plot", picture, status=2)[1]
    out, err = call("counting", "--reference", "data.nc", status=2)
    assert out == "" and "it has --quick, --plot" in err


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path):
    out, err = call("counting", "--plot", tmp_path / "no" / "a.png", status=2)
    assert out == "" and "there is no folder" in err and "measuring" not in err


def test_another_name_is_refused_with_those_that_there_are():
    out, err = call("countin", "--json", status=2)
    assert out == ""
    assert "there is no benchmark 'countin'; allowed: counting, plain." in err
    assert "Did you mean 'counting'?" in err
    for name in ("_helper", "../plain", ""):
        assert "allowed: counting, plain" in call(name, status=2)[1]


def test_a_folder_without_benchmarks_is_named(folder: Path):
    for script in folder.iterdir():
        script.unlink()
    assert str(folder) in call(status=2)[1]


def test_from_python():
    assert run_benchmark("plain").rows == [{"what": "nothing"}]


def real(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REAL = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.many
@pytest.mark.parametrize("name", REAL)
def test_a_benchmark_says_what_it_measures_in_a_line(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_scripts, "FOLDER", ROOT / "benchmarks")
    assert 20 < len(list_benchmarks()[name]) <= 100
    assert callable(_scripts.load_benchmark(name).rows)


def test_a_wheel_carries_the_benchmarks_where_they_are_looked_for():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    placed = wheel["targets"]["wheel"]["sources"]["benchmarks"]
    assert ROOT / "src" / placed == _scripts._SHIPPED


def test_the_picture_of_the_memory_is_drawn(tmp_path: Path):
    memory = real("memory")
    rows = [
        {"case": case, "method": method, "dt": dt, "temporaries_mib": 1 / dt, "paper_mb": 2 / dt}
        | ({"seconds_per_epoch": 1e-3 / dt} if method != "implicit, unrolled" else {})
        for case in memory.CASES
        for method in memory.METHODS
        for dt in memory.TIME_STEPS
    ]
    memory.draw(rows, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_its_burgers_equation_is_the_one_it_says_to_second_order(monkeypatch: pytest.MonkeyPatch):
    """At a wave that runs along the diagonal, against derivatives taken by hand."""
    memory = real("memory")

    def error(cells: int) -> float:
        monkeypatch.setattr(memory, "WIDTH", 1 / cells)
        x, y = jnp.meshgrid(*[2 * jnp.pi * (jnp.arange(cells) + 0.5) / cells] * 2, indexing="ij")
        wave, slope, turn = jnp.sin(x + y), 2 * jnp.pi * jnp.cos(x + y), 2 * jnp.pi
        k, k_slope = 0.02 + 0.01 * jnp.cos(x), -0.01 * turn * jnp.sin(x)
        exact = -2 * wave * slope + k_slope * slope - 2 * k * turn**2 * wave
        found = memory.Burgers(k)({"u": wave})["u"]
        assert abs(float(found.sum())) < 1e-10 * cells**2, "conserved"
        return float(jnp.abs(found - exact).max())

    assert math.log2(error(32) / error(64)) == pytest.approx(2, abs=0.1)


@pytest.mark.thorough
@pytest.mark.parametrize("case, components", [("advection-diffusion", (2,)), ("Burgers", ())])
def test_its_equations_conserve(
    case: str, components: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    """One explicit step of a single lump in the middle."""
    memory = real("memory")
    monkeypatch.setattr(memory, "LAST", 2e-3)
    lump = jnp.zeros((1, 128, 64)).at[:, 50:70, 20:40].set(1.0)
    unknown = jnp.full((*components, 128, 64), memory.CASES[case].guess)
    setting = (memory.CASES[case].make, ipd.steppers.ForwardEuler(), 2e-3, ipd.memory.KeepAll())
    last, _ = memory.last_states(*setting, unknown, lump)
    assert float(last.sum()) == pytest.approx(float(lump.sum()), rel=1e-12)
    assert 1e-3 < float(jnp.abs(last - lump).max()) < 1


@pytest.mark.slow
def test_memory_grows_as_it_should(tmp_path: Path):
    """Steps of 1e-3 and 2e-3, the whole way through the command in a process of its own."""
    arguments = ["-m", "impindiff", "benchmark", "memory", "--quick", "--json"]
    # Compiled as for a user: the tests' own setting runs several times as long.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = {(r["case"], r["method"], r["steps"]): r for r in json.loads(done.stdout)["rows"]}
    for case in ("advection-diffusion", "Burgers"):
        kept, few, unrolled = (
            {steps: found[case, method, steps]["temporaries_mib"] for steps in (50, 100)}
            for method in ("implicit", "implicit, snapshots", "implicit, unrolled")
        )
        # Nothing but the state of five samples for each step more.
        state = 5 * 128 * 64 * 4 / 2**20
        assert kept[100] - kept[50] == pytest.approx(50 * state, rel=0.02)
        assert few[100] < kept[100] / 2 and unrolled[50] > 50 * kept[50]
        explicit = found[case, "explicit", 100]["error_percent"]
        assert found[case, "implicit", 100]["error_percent"] < explicit / 10
