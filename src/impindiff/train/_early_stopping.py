"""Early stopping: a stage ends where its error no longer falls, and what was best is kept."""

from dataclasses import dataclass
from typing import Self, final

from jaxtyping import PyTree
from pydantic import BaseModel, ConfigDict

from impindiff._errors import InputError, as_count, as_number


@final
class Standing(BaseModel):
    """What early stopping knows of a stage; saved, so that training goes on as it was.

    Attributes:
        lowest: the lowest error, that of the arrays that are kept; None where none was measured.
        reference: the last error that was an improvement.
        since: the epoch of that, or the one after which counting began.
        is_over: whether the stage is to end.
    """

    model_config = ConfigDict(frozen=True)

    lowest: float | None = None
    reference: float | None = None
    since: int = 0
    is_over: bool = False

    def counted_from(self, epoch: int, *, is_comparable: bool) -> Self:
        """With all patience again; errors so far only count if later ones can be compared."""
        if not is_comparable:
            return type(self)(since=epoch)
        return self.model_copy(update={"since": epoch, "is_over": False})


@final
@dataclass(frozen=True)
class EarlyStopping:
    """Ends a stage whose error no longer falls, and goes back to the arrays that were best.

    The error is that of the validation, in the epochs in which there is one; without a validation
    it is the loss. What comes after the stage begins from the best arrays, and so does the result
    of the last one, whether it was stopped or ran to its end. Validation errors are compared over
    all stages, losses within one, since another may take other steps. While a progressive
    tolerance has solves looser than their own, nothing is counted.

    Args:
        patience: epochs without an improvement after which a stage ends.
        min_improvement: the share of itself by which the error has to fall to count as improved.
            Arrays are kept where it is lower at all.

    Raises: InputError for no patience, or a share outside [0, 1).
    """

    patience: int
    min_improvement: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would stop at once, or always."""
        as_count(self.patience, "patience of EarlyStopping", 1)
        if not 0 <= as_number(self.min_improvement, "min_improvement of EarlyStopping") < 1:
            raise InputError(f"{self}: min_improvement must lie in [0, 1).")

    def after(
        self, standing: Standing, best: PyTree, epoch: int, error: float, learned: PyTree
    ) -> tuple[Standing, PyTree]:
        """Take note of an error, and of the arrays that have it; returns the best ones."""
        # Not a number is never lower.
        is_lower = error < (float("inf") if standing.lowest is None else standing.lowest)
        wanted = float("inf")
        if standing.reference is not None:
            wanted = (1 - self.min_improvement) * standing.reference
        improved = error < wanted
        changed = Standing(
            lowest=error if is_lower else standing.lowest,
            reference=error if improved else standing.reference,
            since=epoch if improved else standing.since,
            is_over=not improved and epoch - standing.since >= self.patience,
        )
        return changed, learned if is_lower else best
