"""Training: what is fitted, by which optimisers, watched over and saved."""

from impindiff.train._adam import Adam
from impindiff.train._available import available_bytes, control_group_limit, free_bytes
from impindiff.train._batch import Batch, Batches, Batching, whole
from impindiff.train._by_name import by_latent, moving
from impindiff.train._checkpoint import Checkpoints, Progress
from impindiff.train._early_stopping import EarlyStopping
from impindiff.train._ensemble import EnsembleRecord, fit_ensemble
from impindiff.train._expected import check_expected
from impindiff.train._fit import fit
from impindiff.train._lbfgs import LBFGS
from impindiff.train._levenberg_marquardt import LevenbergMarquardt
from impindiff.train._loop import Trainer
from impindiff.train._memory_plan import Work, gradient_bytes
from impindiff.train._objective import AbstractObjective, Evaluation, make_objective
from impindiff.train._observations import Observations
from impindiff.train._optax import Optax
from impindiff.train._optimisers import AbstractOptimiser, Epoch, StageLength
from impindiff.train._options import FitOptions, FittedData, Validation
from impindiff.train._parts import Part
from impindiff.train._plan import MemoryPlan, PolicyPlan, plan, plan_memory
from impindiff.train._record import EpochRecord, Watcher
from impindiff.train._rescue import Rescue, SolveFailure
from impindiff.train._stages import Stage
from impindiff.train._tolerance import ProgressiveTolerance

__all__ = [
    "LBFGS",
    "AbstractObjective",
    "AbstractOptimiser",
    "Adam",
    "Batch",
    "Batches",
    "Batching",
    "Checkpoints",
    "EarlyStopping",
    "EnsembleRecord",
    "Epoch",
    "EpochRecord",
    "Evaluation",
    "FitOptions",
    "FittedData",
    "LevenbergMarquardt",
    "MemoryPlan",
    "Observations",
    "Optax",
    "Part",
    "PolicyPlan",
    "Progress",
    "ProgressiveTolerance",
    "Rescue",
    "SolveFailure",
    "Stage",
    "StageLength",
    "Trainer",
    "Validation",
    "Watcher",
    "Work",
    "available_bytes",
    "by_latent",
    "control_group_limit",
    "check_expected",
    "fit",
    "fit_ensemble",
    "free_bytes",
    "gradient_bytes",
    "make_objective",
    "moving",
    "plan",
    "plan_memory",
    "whole",
]
