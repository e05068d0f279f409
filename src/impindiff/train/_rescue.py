"""Failed solves as data: which sample, which step, why, and what training does about it."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from pydantic import BaseModel

from impindiff._errors import InputError
from impindiff.rollout import StepResult, TimeGrid, own_failures
from impindiff.train._adaptation import Adaptation
from impindiff.train._objective import Evaluation


@final
class SolveFailure(BaseModel):
    """A step that failed in training; part of an epoch's line in `metrics.jsonl`.

    Attributes:
        sample: number of the training sample.
        step: number of the time step, counted from 1; None for an adjoint solve.
        time: at which the step ends.
        reason: why the solve ended, or how the limits were left.
        relative_residual: at which it ended.
        remedy: what was done: the step halved, or the sample masked out of the loss.
    """

    sample: int
    step: int | None
    time: float | None
    reason: str
    relative_residual: float
    remedy: Literal["step halved", "sample masked"]


@final
@dataclass(frozen=True)
class Rescue:
    """Goes on where solves fail: halves their steps, and leaves out samples for which that fails.

    The epoch is then done again. What was halved or left out stays so to the end of the stage. A
    loss that is not finite though no solve failed, as of an explicit step that was too long, ends
    training as without a rescue.

    Args:
        max_halvings: how often one step may be halved.
        max_masked_share: largest share of the samples to leave out.

    Raises: InputError for a negative number, or a share outside [0, 1).
    """

    max_halvings: int = 3
    max_masked_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what could not be done."""
        if self.max_halvings < 0 or not 0 <= self.max_masked_share < 1:
            raise InputError(
                f"{self}: max_halvings must not be negative, and max_masked_share must lie in "
                "[0, 1)."
            )

    def remedy(
        self, adaptation: Adaptation, evaluation: Evaluation, whole: TimeGrid
    ) -> tuple[Adaptation, list[SolveFailure]] | None:
        """What to change, and what it is to remedy; None where nothing failed or helps.

        Args:
            adaptation: under which the epoch failed.
            evaluation: its solves, on the host.
            whole: the steps before any was halved.
        """
        result = np.array(evaluation.outcome.result)
        num_samples = result.shape[0]
        result[list(adaptation.masked)] = StepResult.CONVERGED
        failed = result > StepResult.ROUND_OFF
        adjoint = np.asarray(evaluation.adjoint)[:, 2] > 0
        adjoint[list(adaptation.masked)] = False
        if not failed.any() and not adjoint.any():
            return None
        halvings = np.array(adaptation.halvings or (0,) * whole.num_steps)
        origin = np.repeat(np.arange(whole.num_steps), 2**halvings)
        first = np.argmax(failed, axis=1)
        hopeless = [
            sample
            for sample in range(num_samples)
            if failed[sample].any()
            and (
                not StepResult(result[sample, first[sample]]).yields_to_shorter_steps
                or halvings[origin[first[sample]]] >= self.max_halvings
            )
        ]
        # A shorter step does not touch how well a transposed system can be solved as much.
        hopeless += [s for s in range(num_samples) if adjoint[s] and not failed[s].any()]
        if len(adaptation.masked) + len(hopeless) > self.max_masked_share * num_samples:
            return None
        hopeful = [s for s in range(num_samples) if failed[s].any() and s not in hopeless]
        own = own_failures(result[hopeful]).any(axis=0)
        where = np.unique(origin[np.flatnonzero(own)])
        where = [step for step in where if halvings[step] < self.max_halvings]
        halvings[where] += 1
        masked = tuple(sorted((*adaptation.masked, *hopeless)))
        update = {"halvings": tuple(map(int, halvings)) if halvings.any() else (), "masked": masked}
        changed = adaptation.model_copy(update=update)
        taken = whole.halved(adaptation.halvings)
        report = [
            _describe(evaluation, taken, sample, int(first[sample]), sample in hopeless)
            for sample in sorted((*hopeless, *hopeful))
        ]
        return changed, report


def _describe(
    evaluation: Evaluation, steps: TimeGrid, sample: int, step: int, masked: bool
) -> SolveFailure:
    result = StepResult(int(np.asarray(evaluation.outcome.result)[sample, step]))
    remedy = "sample masked" if masked else "step halved"
    if result <= StepResult.ROUND_OFF:
        solves, _, _, residual = np.asarray(evaluation.adjoint, np.float64)[sample]
        return SolveFailure(
            sample=sample,
            step=None,
            time=None,
            reason="an adjoint solve missed its tolerance",
            relative_residual=float(residual / max(solves, 1)),
            remedy=remedy,
        )
    residual = float(np.asarray(evaluation.outcome.relative_residual)[sample, step])
    return SolveFailure(
        sample=sample,
        step=step + 1,
        time=float(steps.starts[step] + steps.lengths[step]),
        reason=_reason(evaluation, result, sample * steps.num_steps + step),
        # JSON has no other number for it.
        relative_residual=residual if np.isfinite(residual) else float(np.finfo(float).max),
        remedy=remedy,
    )


def _reason(evaluation: Evaluation, result: StepResult, at: int) -> str:
    violation = evaluation.outcome.violation
    if violation is None or not result.is_of_the_state:
        return result.label
    return f"{result.label}: {violation.message(at)}"
