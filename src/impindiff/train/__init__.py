"""Training: what is fitted, by which optimisers, watched over and saved."""

from impindiff.train._adam_and_optax import Adam, Optax
from impindiff.train._adaptation import ProgressiveTolerance, Rescue, SolveFailure
from impindiff.train._batches import WHOLE, Batch, Batches, Batching, Part, whole
from impindiff.train._by_name import by_latent, moving
from impindiff.train._checkpoints import Checkpoints, Progress
from impindiff.train._diagnosis import check_expected
from impindiff.train._early_stopping import EarlyStopping
from impindiff.train._fit import fit
from impindiff.train._fit_ensemble import EnsembleRecord, fit_ensemble
from impindiff.train._fit_options import EpochRecord, FitOptions, FittedData, Validation, Watcher
from impindiff.train._lbfgs import LBFGS
from impindiff.train._levenberg_marquardt import LevenbergMarquardt
from impindiff.train._memory_plan import (
    MemoryPlan,
    PolicyPlan,
    Work,
    available_bytes,
    control_group_limit,
    free_bytes,
    gradient_bytes,
    plan,
    plan_memory,
)
from impindiff.train._objective import AbstractObjective, Evaluation, make_objective
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser, Epoch, StageLength
from impindiff.train._stages import Stage
from impindiff.train._time_steps import steps_of
from impindiff.train._trainer import Trainer

__all__ = [
    "LBFGS",
    "WHOLE",
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
    "steps_of",
    "whole",
]
