"""Where training stands, and what early stopping makes of the way there."""

from typing import Any, NamedTuple, Self

from jaxtyping import PyTree

from impindiff.train._adaptation import Adaptation
from impindiff.train._checkpoint import Progress
from impindiff.train._compiled_stage import EpochResult
from impindiff.train._early_stopping import EarlyStopping, Standing


class Point(NamedTuple):
    """Where training stands: what a checkpoint holds.

    Attributes:
        progress: how far it had come.
        learned: the learned arrays.
        state: the optimiser's state.
        best: the learned arrays of the lowest error; None without early stopping.
    """

    progress: Progress
    learned: PyTree
    state: Any
    best: PyTree | None

    @property
    def is_over(self) -> bool:
        """Whether early stopping ended the stage."""
        return self.progress.standing.is_over

    def adapted(self, adaptation: Adaptation, state: Any) -> Self:
        """The same place, with another adaptation and the optimiser's state after it."""
        return self._replace(
            progress=self.progress.model_copy(update={"adaptation": adaptation}), state=state
        )

    def follow(
        self,
        stopping: EarlyStopping,
        result: EpochResult,
        number: int,
        validation: float | None,
        is_validated: bool,
    ) -> tuple[Standing, PyTree]:
        """What the epoch after this point changes of the standing and of the best arrays."""
        standing = self.progress.standing
        if result.adaptation.is_loose:
            return standing.counted_from(number, is_comparable=is_validated), self.best
        if is_validated:
            error, measured = validation, result.learned
        else:
            error = float(result.epoch.evaluation.loss)
            measured = self.learned if result.is_before else result.learned
            if result.failures:
                # What is left out from now on is in no later loss.
                standing = standing.counted_from(number, is_comparable=False)
        if error is None:
            return standing, self.best
        return stopping.after(standing, self.best, number, error, measured)

    def at_best(self, stopping: EarlyStopping, error: float | None) -> Self:
        """The end of a stage: its best arrays, if any error was measured.

        Args:
            stopping: what is best by.
            error: of this point, where it was not measured before.
        """
        standing, best = self.progress.standing, self.best
        if error is not None:
            epoch = self.progress.epoch
            standing, best = stopping.after(standing, best, epoch, error, self.learned)
        return self._replace(
            progress=self.progress.model_copy(update={"standing": standing}),
            learned=self.learned if standing.lowest is None else best,
        )
