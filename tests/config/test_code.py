"""The user's own Python: found beside the config, loaded without a trace, faults named."""

import subprocess
import sys
from pathlib import Path

import pytest

from impindiff import InputError
from impindiff.config import Config, build_system, parse_config
from impindiff.config._code import Code


def write(folder: Path, files: dict[str, str] | None = None, **modules: str) -> Code:
    for name, text in {**(files or {}), **modules}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Code(folder)


def refusal(code: Code, name: str = "own:make", **given: object) -> str:
    with pytest.raises(InputError) as caught:
        code.call("system.build", name, given)
    message = str(caught.value)
    assert message.startswith("system.build")
    return message


def test_a_function_is_given_what_it_names(tmp_path: Path):
    text = "def make(key, scale=2, *rest, **more):\n    return key, scale, rest, more\n"
    code = write(tmp_path, own=text)
    assert code.call("system.build", "own:make", {"grid": 1, "key": 3}) == (3, 2, (), {})
    assert code.parameters("system.build", "own:make") == ("key", "scale", "rest", "more")
    assert code.files == {"own.py": text.encode()}


def test_two_files_of_one_name_are_two_modules(tmp_path: Path):
    codes = [
        write(tmp_path / name, own=f"import laws\ndef make(): return laws.NAME, {name!r}", laws=law)
        for name, law in (("a", "NAME = 1"), ("b", "NAME = 2"))
    ]
    before = dict(sys.modules)
    for _ in range(2):
        assert [code.call("k", "own:make", {}) for code in codes] == [(1, "a"), (2, "b")]
    assert not {"own", "laws"} & set(sys.modules) and "own" not in before
    assert set(codes[0].files) == {"own.py", "laws.py"}
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_module_of_the_process_is_left_as_it_was(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "laws", other := type(sys)("laws"))
    code = write(tmp_path, own="import laws\ndef make(): return laws.NAME", laws="NAME = 5")
    assert code.call("k", "own:make", {}) == 5
    assert sys.modules["laws"] is other


def test_packages_and_imports_within_functions(tmp_path: Path):
    own = "from .laws import NAME\ndef make():\n    from . import late\n    return NAME + late.NAME"
    parts = {"__init__": "", "own": own, "laws": "NAME = 1", "late": "NAME = 10"}
    code = write(tmp_path, {f"model/{name}": text for name, text in parts.items()})
    assert code.call("k", "model.own:make", {}) == 11
    assert set(code.files) == {f"model/{name}.py" for name in parts}


@pytest.mark.parametrize(
    "text, said",
    [
        ("def make(:\n", "own.py, line 1: SyntaxError: "),
        ("import nothing_of_this_name\n", "own.py, line 1: ModuleNotFoundError: No module"),
        ("x = 1\n\nraise ValueError('so it is')", "own.py, line 3: ValueError: so it is"),
        ("def make():\n    return 1 / 0\n", "own.py, line 2: ZeroDivisionError: division by"),
        ("def mak(): pass\n", "no function 'make'"),
        ("def mak(): pass\n", "did you mean 'mak'?"),
        ("make = 3\ndef other(): pass\n", "it has other"),
        ("def make(depth): pass\n", "has the parameter 'depth'; what it may name are grid, key"),
    ],
)
def test_what_goes_wrong_is_named_with_file_and_line(tmp_path: Path, text: str, said: str):
    assert said in refusal(write(tmp_path, own=text), grid=1, key=2)
    assert "own" not in sys.modules


FORKS = """
import os
def make():
    if os.fork():
        os.wait()
"""
CALLS = """
import sys
from pathlib import Path
from impindiff.config._code import Code
Code(Path(sys.argv[1])).call("system.build", "own:make", {})
print("went on", flush=True)
"""


@pytest.mark.thorough
def test_a_fork_that_comes_back_does_not_go_on(tmp_path: Path):
    """Two commands would write one run, and both would answer."""
    (tmp_path / "own.py").write_text(FORKS)
    arguments = [sys.executable, "-W", "ignore", "-c", CALLS, str(tmp_path)]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "went on\n"), ended.stderr


def test_a_file_that_is_not_there_is_looked_for_beside_the_config(tmp_path: Path):
    assert f"there is no own.py in {tmp_path}, where the config lies" in refusal(Code(tmp_path))
    (tmp_path / "statistics.py").write_text("def make(): pass")
    assert "rename the file" in refusal(Code(tmp_path), "statistics:make")
    assert "an __init__.py in each folder" in refusal(Code(tmp_path), "model.own:make")
    with pytest.raises(InputError, match="system.files: .*table.npy: No such file"):
        Code(tmp_path).read("system.files", ["table.npy"])


EXPLICIT = {"scheme": "forward-euler", "dt": 1.0, "until": 1.0}


def config_with(folder: Path, system: dict, **tables: dict) -> Config:
    data = {"fields": ["u", "v"], "train_samples": "0", "train_times": [1.0], "test_samples": "1"}
    given = {"data": data, "time": {"dt": 0.1, "until": 1.0}, "training": {"stages": "own:stages"}}
    return parse_config(given | {"system": system} | tables, "it", folder)


@pytest.mark.parametrize(
    "system, tables, said",
    [
        ({"build": "own"}, {}, "'own' names no function: write 'module:function'"),
        ({"build": "own:make", "kind": "x"}, {}, "unknown key 'system.kind'"),
        ({"build": "own:make", "files": ["../a"]}, {}, "does not lie beside the config"),
        ({"build": "own:make"}, {"solver": {"preconditioner": "line"}}, "solver.line_axis"),
        (
            {"build": "own:make"},
            {
                "solver": {"nonlinear": "newton"},
                "time": {"scheme": "forward-euler", "dt": 1, "until": 1},
            },
            "solver.nonlinear is 'newton', but time.scheme 'forward-euler' solves no system",
        ),
    ],
)
def test_what_a_config_may_not_say(tmp_path: Path, system: dict, tables: dict, said: str):
    with pytest.raises(InputError) as caught:
        config_with(tmp_path, system, **tables)
    assert said in str(caught.value)


def test_options_are_arguments_of_the_function(tmp_path: Path):
    text = (
        "import impindiff as ipd\n"
        "def make(key, rate=1.0, kind='slow'):\n"
        "    k = ipd.Parameter(kind, rate, (0.0, 9.0))\n"
        "    u, v = ipd.Reaction(lambda u, k: -k * u), ipd.Reaction(lambda v: -v)\n"
        "    return ipd.System(None, {'u': [u], 'v': [v]}, coefficients={'k': k})\n"
    )
    write(tmp_path, own=text)

    def built(**options: object) -> dict:
        table = {"build": "own:make", "options": options}
        return build_system(config_with(tmp_path, table)).latents()

    assert float(built()["slow"]) == pytest.approx(1.0)
    assert float(built(rate=2.0, kind="fast")["fast"]) == pytest.approx(2.0)
    with pytest.raises(InputError, match=r"'speed', but own:make can be given 'rate', 'kind'\."):
        built(speed=3.0)
    with pytest.raises(InputError, match="'key'"):
        built(key=3)


def test_configs_are_equal_wherever_they_lie(tmp_path: Path):
    first, second = (config_with(tmp_path / name, {"build": "own:make"}) for name in "ab")
    assert first == second and first.code.folder != second.code.folder
    assert first.model_copy(update={"seed": 1}).code is first.code


def test_a_neighbour_is_found_when_a_function_is_called_later(tmp_path: Path):
    """A law is evaluated when the system is used, long after it was built."""
    own = "def make():\n    def law(u):\n        from laws import NAME\n        return NAME * u\n"
    code = write(
        tmp_path,
        own=own + "    return law\n",
        laws="import deep\nNAME = deep.NAME",
        deep="NAME = 3",
    )
    law = code.call("k", "own:make", {})
    assert set(code.files) == {"own.py", "laws.py", "deep.py"}, "kept before they are imported"
    assert law(2) == law(1) * 2 == 6
    assert not {"own", "laws", "deep"} & set(sys.modules)
    assert not any(type(finder).__module__.startswith("impindiff") for finder in sys.meta_path)


def test_a_file_that_no_import_can_parse_does_not_stop_another(tmp_path: Path):
    own = "def make():\n    return 1\ndef never():\n    import broken\n"
    assert write(tmp_path, own=own, broken="def (").call("k", "own:make", {}) == 1
