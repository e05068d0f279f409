"""Training: what is fitted, by which optimisers, watched over and saved."""

from impindiff.train._checkpoint import Checkpoints, Progress
from impindiff.train._fit import fit
from impindiff.train._loop import Trainer
from impindiff.train._objective import Evaluation, make_objective
from impindiff.train._observations import Observations
from impindiff.train._optimisers import LBFGS, AbstractOptimiser, Adam
from impindiff.train._record import EpochRecord, Watcher
from impindiff.train._rescue import Rescue, SolveFailure
from impindiff.train._tolerance import ProgressiveTolerance

__all__ = [
    "LBFGS",
    "AbstractOptimiser",
    "Adam",
    "Checkpoints",
    "EpochRecord",
    "Evaluation",
    "Observations",
    "Progress",
    "ProgressiveTolerance",
    "Rescue",
    "SolveFailure",
    "Trainer",
    "Watcher",
    "fit",
    "make_objective",
]
