"""The forecast's program is compiled in a thread, where its call then finds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest
from small_problem import write_problem

from impindiff import NumericsError
from impindiff.config import load_config
from impindiff.runs import RunPlan
from impindiff.runs._validator import CompiledBeside, Validator

TRACED = "/jax/core/compile/jaxpr_trace_duration"


@contextmanager
def traced() -> Iterator[list[str]]:
    """The names of what JAX traces meanwhile: whatever it compiles was traced before."""
    names: list[str] = []

    def note(event: str, duration_secs: float, **about: str | int) -> None:
        if event == TRACED:
            names.append(str(about["fun_name"]))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    config, data = write_problem(tmp_path)
    return RunPlan.make(load_config(config), data, tmp_path / "run")


@pytest.mark.thorough
def test_a_call_finds_its_program_and_waits_for_it(plan: RunPlan):
    validator = plan.validator()
    assert validator is not None
    jax.clear_caches()
    with traced() as before:
        beside = CompiledBeside(validator)
        beside.begin(plan.system)
        # The call must wait: what is traced twice at once is traced twice.
        found = beside(plan.system)
    assert before.count("_run") == 1
    assert found == validator(plan.system) == CompiledBeside(validator)(plan.system)


@pytest.mark.thorough
def test_a_failure_in_the_thread_is_told_by_the_call(plan: RunPlan, monkeypatch):
    def fail(self: Validator, *_: object) -> None:
        raise NumericsError("no program")

    monkeypatch.setattr(Validator, "compile", fail)
    monkeypatch.setattr(Validator, "__call__", fail)
    validator = plan.validator()
    assert validator is not None
    beside = CompiledBeside(validator)
    beside.begin(plan.system)
    with pytest.raises(NumericsError, match="no program"):
        beside(plan.system)
