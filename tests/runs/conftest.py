"""A finished run of the small problem, made once, and copies of it to be damaged at will."""

import shutil
from pathlib import Path

import pytest
from small_problem import compiled_once, write_problem

from impindiff.config import load_config
from impindiff.runs import RunFolder, train_run


@pytest.fixture(scope="session", autouse=True)
def _compiled_once():
    with compiled_once():
        yield


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    config, data = write_problem(folder)
    train_run(load_config(config), data, RunFolder(folder / "run"))
    return folder


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A folder with `problem.toml`, `data.nc` and the run `run` that came of them."""
    return shutil.copytree(_finished, tmp_path / "finished")
