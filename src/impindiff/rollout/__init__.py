"""Many steps: time grids, trajectories, what is saved on the way."""

from impindiff.rollout._bytes import format_bytes, parse_bytes
from impindiff.rollout._cause import cause_of
from impindiff.rollout._consistent import consistent
from impindiff.rollout._memory import KeepAll, MemoryBudget, MemoryPolicy, Snapshots
from impindiff.rollout._schedule import least_steps
from impindiff.rollout._simulate import Preparable, StepFailed, Trajectory, simulate
from impindiff.rollout._stability import stable_dt
from impindiff.rollout._times import TimeGrid, step_counts, tidy_time

__all__ = [
    "KeepAll",
    "MemoryBudget",
    "MemoryPolicy",
    "Preparable",
    "Snapshots",
    "StepFailed",
    "TimeGrid",
    "Trajectory",
    "cause_of",
    "consistent",
    "format_bytes",
    "least_steps",
    "parse_bytes",
    "simulate",
    "stable_dt",
    "step_counts",
    "tidy_time",
]
