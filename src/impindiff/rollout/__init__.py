"""Many steps: time grids, trajectories, what is saved on the way."""

from impindiff.rollout._bytes import format_bytes, parse_bytes
from impindiff.rollout._consistent import consistent
from impindiff.rollout._memory import KeepAll, MemoryBudget, MemoryPolicy, Snapshots
from impindiff.rollout._schedule import least_steps
from impindiff.rollout._simulate import Preparable, Trajectory, simulate
from impindiff.rollout._times import TimeGrid, step_counts, tidy_time

__all__ = [
    "KeepAll",
    "MemoryBudget",
    "MemoryPolicy",
    "Preparable",
    "Snapshots",
    "TimeGrid",
    "Trajectory",
    "consistent",
    "format_bytes",
    "least_steps",
    "parse_bytes",
    "simulate",
    "step_counts",
    "tidy_time",
]
