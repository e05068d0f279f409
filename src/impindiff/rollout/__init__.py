"""Many steps: time grids, trajectories, what is saved on the way."""

from impindiff.rollout._advice import advice_of
from impindiff.rollout._bytes import format_bytes, parse_bytes
from impindiff.rollout._cause import cause_of
from impindiff.rollout._consistent import consistent
from impindiff.rollout._memory import KeepAll, MemoryBudget, MemoryPolicy, Snapshots
from impindiff.rollout._rescued import (
    HalvedStep,
    Rescued,
    halved_note,
    own_failures,
    rescued,
    simulate_with_rescue,
)
from impindiff.rollout._schedule import least_steps
from impindiff.rollout._simulate import Preparable, StepFailed, Trajectory, simulate
from impindiff.rollout._stability import stable_dt
from impindiff.rollout._times import TimeGrid, step_counts, tidy_time

__all__ = [
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
    "least_steps",
    "own_failures",
    "parse_bytes",
    "rescued",
    "simulate",
    "simulate_with_rescue",
    "stable_dt",
    "step_counts",
    "tidy_time",
]
