"""The guard of the training loop: an epoch whose numbers cannot be trusted does not count."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from impindiff._errors import InputError, NumericsError
from impindiff.latent import latents_of
from impindiff.linear import AdjointOutcome
from impindiff.rollout import StepFailed, TimeGrid, Trajectory
from impindiff.train._objective import Evaluation
from impindiff.train._optimisers import Epoch

# Forward mode has no outcome to carry: what a failed solve leaves is NaN.
_OF_DERIVATIVES = (
    "; or (c) a solve for a derivative of a step, which LevenbergMarquardt takes for each unknown, "
    "missed its tolerance: give the stepper a solver with more steps or a better preconditioner, "
    "or take Adam or LBFGS, which name the solves that fail"
)


def check_epoch(
    epoch: Epoch,
    number: int,
    time_grids: Sequence[TimeGrid],
    cause: Callable[[int, int], str] = lambda sample, step: "",
) -> None:
    """Raise NumericsError if a solve, the loss or the gradient of an epoch failed.

    Raises: InputError too, after the first epoch, for a coefficient that nothing observed depends
        on.

    Args:
        epoch: on the host.
        number: the epoch's number, for the message.
        time_grids: the steps that were taken, in each window of the training data.
        cause: by sample and step, what of the system is not finite there, if that is known.
    """
    evaluation = epoch.evaluation
    # By window, then by sample.
    for window, time_grid in enumerate(time_grids):
        count = evaluation.outcome.result.shape[0] // len(time_grids)
        part = slice(window * count, (window + 1) * count)
        outcome = jax.tree.map(lambda leaf, part=part: leaf[part], evaluation.outcome)
        try:
            Trajectory({}, outcome).check(time_grid)
        except StepFailed as error:
            found = "" if error.is_finite else cause(window * count + error.sample, error.step)
            told = f"{error.message} {found}" if found else str(error)
            raise NumericsError(f"epoch {number}: {told}") from None
    adjoint = AdjointOutcome.from_cotangent(np.sum(evaluation.adjoint, 0))
    if adjoint.failures:
        raise NumericsError(
            f"epoch {number}: {adjoint.failures} of {adjoint.solves} adjoint solves missed their "
            f"tolerance (mean relative residual {adjoint.relative_residual:.2g}), so the gradient "
            "is not to be trusted. Raise adjoint_max_steps or loosen adjoint_rtol."
        )
    numbers = [evaluation.loss, *jax.tree.leaves(evaluation.gradient)]
    if not all(np.isfinite(leaf).all() for leaf in numbers):
        raise NumericsError(
            f"epoch {number}, last of {time_grids[-1].num_steps} time steps: "
            f"{_not_finite(evaluation, cause, time_grids[-1].num_steps - 1)}"
        )
    if number == 1:
        _check_constrained(evaluation)


def _not_finite(evaluation: Evaluation, cause: Callable[[int, int], str], last: int) -> str:
    """What is not finite, and what can be done about it."""
    loss = float(evaluation.loss)
    if not np.isfinite(loss):
        samples = range(len(evaluation.outcome.result))
        found = next(filter(None, (cause(sample, last) for sample in samples)), "")
        remedy = found or "Lower the learning rate, or dt where the stepper is explicit."
        return f"the loss is not finite (loss {loss:g}). {remedy}"
    wild = [
        repr(name)
        for latent in latents_of(evaluation.gradient)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(latent))
        for name in latent.names
    ]
    return (
        f"the gradient of the loss (which is {loss:g}) is not finite by {', '.join(wild)}. Either "
        "(a) a function has no finite slope at a state on the way, such as a root, a logarithm or "
        "a learned power of a field that reaches zero or oversteps it: guard it, as by "
        "jnp.maximum(T, 1e-6), or take a stepper that does not overshoot (SDIRK2, BackwardEuler); "
        "or (b) the learning rate is too high"
        f"{_OF_DERIVATIVES if _solves_for_derivatives(evaluation) else ''}."
    )


def _solves_for_derivatives(evaluation: Evaluation) -> bool:
    """Whether steps are implicit and derivatives are taken forward, without adjoint solves."""
    outcome = evaluation.outcome
    return bool(np.any(outcome.steps) and not np.any(np.asarray(evaluation.adjoint)[..., 0]))


def _check_constrained(evaluation: Evaluation) -> None:
    """Refuse a coefficient that the loss does not feel at all; a perfect fit feels none."""
    if not evaluation.loss > 0:
        return
    for latent in latents_of(evaluation.gradient):
        leaves = jax.tree.leaves(latent)
        if leaves and not any(np.any(leaf) for leaf in leaves):
            raise InputError(
                f"the data do not constrain {', '.join(map(repr, latent.names))}: the gradient by "
                "it is exactly zero. Observe a field that depends on it, at a time and a place "
                "where it can be seen; start it elsewhere, if it is at a bound; or give it as "
                "known."
            )
