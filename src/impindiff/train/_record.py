"""What training says of itself while it runs."""

from collections.abc import Callable

from pydantic import BaseModel

from impindiff.train._rescue import SolveFailure


class EpochRecord(BaseModel):
    """One line of `metrics.jsonl`.

    Attributes:
        epoch: counted from 1 over all stages.
        stage: the optimiser's name.
        loss: training loss.
        validation: what the validation function returned, in epochs in which it was called.
        seconds: training time so far, compilation included.
        solver_iterations: mean iterations of a forward solve.
        adjoint_iterations: mean iterations of an adjoint solve.
        learning_rate: step length of the optimiser, where it tells.
        rtol: tolerance of the epoch's solves, where it was looser than their own.
        failures: solves that failed before the epoch succeeded, the first of each sample.
        stopped_early: whether the stage ended with it since its error no longer fell.
    """

    epoch: int
    stage: str
    loss: float
    validation: float | None
    seconds: float
    solver_iterations: float
    adjoint_iterations: float
    learning_rate: float | None
    rtol: float | None = None
    failures: list[SolveFailure] = []
    stopped_early: bool = False


Watcher = Callable[[EpochRecord], None]
"""Called with every epoch's record, in order, before the epoch counts as done."""
