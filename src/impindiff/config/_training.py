"""The tables of `[training]`: stages, and what training may change of its own accord."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from impindiff.config._kinds import Count, Memory, Positive, Table, Tolerance, tagged


class AdamTable(Table):
    """A stage of Adam."""

    optimiser: Literal["adam"]
    epochs: Count
    learning_rate: Positive = 1e-3
    dt: Positive | None = None
    batch_samples: Count | None = None
    window: Count | None = None


class LBFGSTable(Table):
    """A stage of L-BFGS."""

    optimiser: Literal["lbfgs"]
    epochs: Count
    memory: Count = 50
    dt: Positive | None = None


Stage = Annotated[
    Annotated[AdamTable, Tag("adam")] | Annotated[LBFGSTable, Tag("lbfgs")],
    tagged("optimiser", allowed="a table with optimiser = 'adam' or 'lbfgs'"),
]


class RescueTable(Table):
    """`[training.rescue]`: go on where solves fail."""

    max_halvings: Annotated[int, Field(ge=0)] = 3
    max_masked_share: Annotated[float, Field(ge=0, lt=1)] = 0.5


class ProgressiveToleranceTable(Table):
    """`[training.progressive_tolerance]`: loose solves at first, tighter as the loss settles."""

    start: Tolerance = 1e-2
    factor: Tolerance = 0.1
    last: Tolerance = 1e-5
    window: Count = 5
    settled: Tolerance = 0.1

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.last > self.start:
            raise ValueError(f"last is {self.last}, which is more than start, {self.start}")
        return self


class TrainingTable(Table):
    """`[training]`: stages, and how often to validate and save."""

    stages: list[Stage] = Field(min_length=1)
    validate_every: Count = 10
    checkpoint_every: Count = 50
    memory: Memory | None = None
    samples_at_once: Count | None = None
    rescue: RescueTable | None = None
    progressive_tolerance: ProgressiveToleranceTable | None = None

    @model_validator(mode="after")
    def _halves_what_is_whole(self) -> Self:
        windowed = any(isinstance(s, AdamTable) and s.window is not None for s in self.stages)
        if self.rescue is not None and windowed:
            raise ValueError(
                "a rescue halves steps of the whole span of time, which stages with a window do "
                "not take: leave out training.rescue, or the window"
            )
        return self
