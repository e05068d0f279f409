"""A finished run of the small problem as a fixture: made once, handed out as copies."""

import shutil
from pathlib import Path

import pytest
from small_problem import write_problem

from impindiff.config import load_config
from impindiff.runs import RunFolder, train_run


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    config, data = write_problem(folder)
    train_run(load_config(config), data, RunFolder(folder / "run"))
    return folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A folder with `problem.toml`, `data.nc` and the run `run` that came of them."""
    return shutil.copytree(finished_once, tmp_path / "finished")
