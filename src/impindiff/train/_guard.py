"""The guard of the training loop: an epoch whose numbers cannot be trusted does not count."""

import jax
import numpy as np

from impindiff._errors import NumericsError
from impindiff.implicit import AdjointOutcome
from impindiff.rollout import TimeGrid, Trajectory
from impindiff.train._optimisers import Epoch


def check_epoch(epoch: Epoch, number: int, time_grid: TimeGrid) -> None:
    """Raise NumericsError if a solve, the loss or the gradient of an epoch failed.

    Args:
        epoch: on the host.
        number: the epoch's number, for the message.
        time_grid: the steps that were taken.
    """
    evaluation = epoch.evaluation
    try:
        Trajectory({}, evaluation.outcome).check(time_grid)
    except NumericsError as error:
        raise NumericsError(f"epoch {number}: {error}") from None
    adjoint = AdjointOutcome.from_cotangent(np.sum(evaluation.adjoint, 0))
    if adjoint.failures:
        raise NumericsError(
            f"epoch {number}: {adjoint.failures} of {adjoint.solves} adjoint solves missed their "
            f"tolerance (mean relative residual {adjoint.relative_residual:.2g}), so the gradient "
            "is not to be trusted. Raise adjoint_max_steps or loosen adjoint_rtol."
        )
    numbers = [evaluation.loss, *jax.tree.leaves(evaluation.gradient)]
    if not all(np.isfinite(leaf).all() for leaf in numbers):
        what = "loss" if not np.isfinite(evaluation.loss) else "gradient of the loss"
        raise NumericsError(
            f"epoch {number}, last of {time_grid.num_steps} time steps: the {what} is not finite "
            f"(loss {float(evaluation.loss):g}). Lower the learning rate."
        )
