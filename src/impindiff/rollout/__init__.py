"""Many steps: time grids, trajectories, what is saved on the way."""

from impindiff.rollout._advice import advice_of
from impindiff.rollout._automatic import (
    Choice,
    select_for_samples,
    select_solver,
    solves_failed,
)
from impindiff.rollout._bytes import format_bytes, parse_bytes
from impindiff.rollout._cause import cause_of
from impindiff.rollout._consistent import consistent
from impindiff.rollout._memory import KeepAll, MemoryBudget, MemoryPolicy, Snapshots
from impindiff.rollout._open_choice import Preparable, is_automatic
from impindiff.rollout._rescued import (
    HalvedStep,
    Rescued,
    halved_note,
    own_failures,
    rescued,
    simulate_with_rescue,
)
from impindiff.rollout._schedule import least_steps
from impindiff.rollout._simulate import StepFailed, Trajectory, simulate
from impindiff.rollout._stability import stable_dt
from impindiff.rollout._times import TimeGrid, step_counts, tidy_time

__all__ = [
    "Choice",
    "HalvedStep",
    "KeepAll",
    "MemoryBudget",
    "MemoryPolicy",
    "Preparable",
    "Rescued",
    "Snapshots",
    "StepFailed",
    "TimeGrid",
    "Trajectory",
    "advice_of",
    "cause_of",
    "consistent",
    "format_bytes",
    "halved_note",
    "is_automatic",
    "least_steps",
    "own_failures",
    "parse_bytes",
    "rescued",
    "select_for_samples",
    "select_solver",
    "simulate",
    "simulate_with_rescue",
    "solves_failed",
    "stable_dt",
    "step_counts",
    "tidy_time",
]
