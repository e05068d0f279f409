"""Explicit steps that would let round-off grow are refused before training."""

import re
from pathlib import Path

import pytest
from small_problem import make_dataset, make_tables, save

from impindiff import InputError
from impindiff.config import parse_config
from impindiff.runs._feasibility import check_stable
from impindiff.runs._run_plan import RunPlan


def plan_of(folder: Path, **time: object) -> RunPlan:
    changes = {f"time.{key}": value for key, value in time.items()}
    config = parse_config(make_tables(changes), "it")
    file = folder / "data.nc"
    if not file.exists():
        save(make_dataset(), file)
    return RunPlan.make(config, file, folder)


@pytest.mark.thorough
def test_the_substeps_it_names_are_enough(tmp_path: Path):
    time = {"scheme": "forward-euler", "dt": 0.5}
    with pytest.raises(InputError, match="'forward-euler' is stable for steps of at most") as said:
        check_stable(plan_of(tmp_path, **time))
    found = re.search(r"time.substeps = (\d+)", str(said.value))
    assert found and int(found[1]) > 1
    check_stable(plan_of(tmp_path, **time, substeps=int(found[1])))
    with pytest.raises(InputError, match="stable for steps"):
        check_stable(plan_of(tmp_path, **time, substeps=max(1, int(found[1]) // 2)))
    check_stable(plan_of(tmp_path, **time, accept_unstable=True))


def test_steps_that_follow_their_error_are_not_asked(tmp_path: Path):
    check_stable(plan_of(tmp_path, scheme="tsitouras-5", dt=None))


@pytest.mark.thorough
def test_implicit_steps_are_not_asked(tmp_path: Path):
    check_stable(plan_of(tmp_path, dt=10.0, until=0.2))
