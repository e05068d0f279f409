"""Training that dies on its way, and what it had recorded."""

from collections.abc import Sequence
from typing import Any

from small_problem import DT

from impindiff.systems import System
from impindiff.train import EpochRecord, FitOptions, Observations, Stage, Trainer


class Killed(BaseException):
    """A death that saves nothing."""


def train(
    system: System,
    observations: Observations,
    stages: Sequence[Stage],
    stop_at: int | None = None,
    **options: Any,
) -> tuple[System, list[EpochRecord]]:
    """Train, from a checkpoint if there is one; dies in an epoch if told to."""
    records: list[EpochRecord] = []

    def watch(record: EpochRecord) -> None:
        if record.epoch == stop_at:
            raise Killed
        records.append(record)

    trainer = Trainer(system, observations, DT, stages, FitOptions(watch=watch, **options))
    return trainer.run(resume=True), records


def history(records: Sequence[EpochRecord]) -> list[dict[str, Any]]:
    """All that was recorded but the time it took."""
    return [record.model_dump(exclude={"seconds"}) for record in records]
