"""What training changes of its own accord: steps halved, samples left out, looser solves."""

from dataclasses import dataclass
from typing import Literal, Self, final

import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict

from impindiff._errors import InputError
from impindiff.rollout import StepResult, TimeGrid, own_failures
from impindiff.train._objective import Evaluation, Trial, TrialUnits
from impindiff.train._time_steps import Steps
from impindiff.train._units import Units


@final
class Adaptation(BaseModel):
    """What is adapted in the stage under way; saved, so that training goes on as it was.

    Attributes:
        units: of what is learned, see `find_units`; nothing where they are not yet known.
        steps: those that follow their error, see `Steps`; nothing where they do not.
        solver: how its systems are solved, see `Choice.name`: chosen once for a stage, also for one
            that goes on after a stop.
        halvings: how often each step is halved; none is where this is empty.
        masked: samples that are left out.
        rtol: relative tolerance of solves and adjoint solves where it is looser than their own; 0
            is their own, and so is None, which leaves no choice open.
        losses: since the tolerance was last changed.
    """

    model_config = ConfigDict(frozen=True)

    units: Units = ()
    steps: Steps = ()
    solver: str | None = None
    halvings: tuple[int, ...] = ()
    masked: tuple[int, ...] = ()
    rtol: float | None = None
    losses: tuple[float, ...] = ()

    @property
    def is_loose(self) -> bool:
        """Whether solves are looser than they will be."""
        return bool(self.rtol)

    def trial(self, num_samples: int, *, is_held: bool = False) -> Trial:
        """What compiled code is given; with `is_held`, to look and not to learn."""
        active = None
        if self.masked:
            active = np.ones(num_samples, bool)
            active[list(self.masked)] = False
            active = jnp.asarray(active)
        rtol = None if self.rtol is None else jnp.asarray(self.rtol, jnp.float32)
        units = None
        if self.units:
            units = TrialUnits(tuple(map(jnp.asarray, self.units)), jnp.asarray(is_held))
        return Trial(active, rtol, units)

    def asks_the_same_as(self, other: Self) -> bool:
        """Whether a loss is the same function by both."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("steps", "halvings", "masked", "rtol")
        )

    def for_next_stage(self) -> Self:
        """Steps and samples get another chance; the tolerance and units stay."""
        return type(self)(rtol=self.rtol, units=self.units)


@final
@dataclass(frozen=True)
class ProgressiveTolerance:
    r"""Begins with loose forward and adjoint solves, and tightens them as the loss settles.

    Far from the optimum a gradient need not be exact. Where over `window` epochs the loss fell by
    less than the share `settled` of itself, or the optimiser found no way on, the tolerance is
    multiplied by `factor`; below `last` the solvers' own holds from then on. It never loosens, and
    never ends a stage early: an optimiser that stalls on loose solves goes on with tighter ones.

    Args:
        start: the first relative tolerance.
        factor: what it is multiplied by.
        last: the smallest that is set.
        window: epochs to compare over.
        settled: relative decrease of the loss over the window that counts as settled.

    Raises: InputError for tolerances that do not fall.
    Reference: progressively refined differentiable physics (PRDP), arXiv 2502.19611.
    """

    start: float = 1e-2
    factor: float = 0.1
    last: float = 1e-5
    window: int = 5
    settled: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a schedule that does nothing, or never ends."""
        if not (
            0 < self.last <= self.start < 1
            and 0 < self.factor < 1
            and self.window >= 1
            and 0 < self.settled < 1
        ):
            raise InputError(
                f"{self}: needed are 0 < last <= start < 1, factor and settled between 0 and 1, "
                "and a window of at least 1."
            )

    def begin(self, adaptation: Adaptation) -> Adaptation:
        """Set the first tolerance, where none was."""
        if adaptation.rtol is not None:
            return adaptation
        return adaptation.model_copy(update={"rtol": self.start})

    def after(self, adaptation: Adaptation, loss: float) -> Adaptation:
        """Take note of an epoch's loss; tighten if it has settled."""
        if not adaptation.is_loose:
            return adaptation
        losses = (*adaptation.losses, loss)[-self.window - 1 :]
        if len(losses) > self.window and losses[-1] > (1 - self.settled) * losses[0]:
            return self.tighten(adaptation)
        return adaptation.model_copy(update={"losses": losses})

    def tighten(self, adaptation: Adaptation) -> Adaptation:
        """The next tolerance."""
        rtol = (adaptation.rtol or 0.0) * self.factor
        # Not quite: 1e-2 * 0.1**3 is a little less than 1e-5.
        rtol = rtol if rtol > self.last * (1 - 1e-9) else 0.0
        return adaptation.model_copy(update={"rtol": rtol, "losses": ()})


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
