"""Which states of a simulation are kept for its gradient."""

from impindiff.rollout import KeepAll, MemoryBudget, Snapshots

__all__ = [
    "KeepAll",
    "MemoryBudget",
    "Snapshots",
]
