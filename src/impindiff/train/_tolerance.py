"""Progressive tolerance: loose solves while the loss falls fast, tight ones when it settles."""

from dataclasses import dataclass
from typing import final

from impindiff._errors import InputError
from impindiff.train._adaptation import Adaptation


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
