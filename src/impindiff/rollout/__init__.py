"""Many steps: time grids, trajectories, what is saved on the way."""

from impindiff.rollout._memory import KeepAll, MemoryPolicy, Snapshots
from impindiff.rollout._simulate import Preparable, Trajectory, simulate
from impindiff.rollout._times import TimeGrid, tidy_time

__all__ = [
    "KeepAll",
    "MemoryPolicy",
    "Preparable",
    "Snapshots",
    "TimeGrid",
    "Trajectory",
    "simulate",
    "tidy_time",
]
