"""Optimisers for the stages of a training, and what goes with them."""

from impindiff.train import (
    LBFGS,
    AbstractObjective,
    AbstractOptimiser,
    Adam,
    Batching,
    Checkpoints,
    EarlyStopping,
    LevenbergMarquardt,
    Optax,
    ProgressiveTolerance,
    Rescue,
    by_latent,
)

__all__ = [
    "AbstractObjective",
    "AbstractOptimiser",
    "Adam",
    "Batching",
    "Checkpoints",
    "EarlyStopping",
    "LBFGS",
    "LevenbergMarquardt",
    "Optax",
    "ProgressiveTolerance",
    "Rescue",
    "by_latent",
]
