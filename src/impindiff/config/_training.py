"""The tables of `[training]`: stages, and what training may change of its own accord."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from impindiff.config._kinds import (
    Count,
    FunctionName,
    Memory,
    Positive,
    Table,
    Tolerance,
    tagged,
)

Rates = Annotated[
    Annotated[Positive, Tag("known")] | Annotated[dict[str, Positive], Tag("by-name")],
    Discriminator(lambda rates: "by-name" if isinstance(rates, dict) else "known"),
]


class AdamTable(Table):
    """A stage of Adam."""

    optimiser: Literal["adam"]
    epochs: Count
    learning_rate: Rates = 4e-3
    freeze: list[str] = []
    dt: Positive | None = None
    batch_samples: Count | None = None
    window: Count | None = None


class LBFGSTable(Table):
    """A stage of L-BFGS."""

    optimiser: Literal["lbfgs"]
    epochs: Count
    memory: Count = 50
    freeze: list[str] = []
    dt: Positive | None = None


Stage = Annotated[
    Annotated[AdamTable, Tag("adam")] | Annotated[LBFGSTable, Tag("lbfgs")],
    tagged("optimiser", allowed="a table with optimiser = 'adam' or 'lbfgs'"),
]

Stages = Annotated[
    Annotated[list[Stage], Field(min_length=1), Tag("listed")]
    | Annotated[FunctionName, Tag("module:function")],
    Discriminator(lambda stages: "module:function" if isinstance(stages, str) else "listed"),
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


class EarlyStoppingTable(Table):
    """`[training.early_stopping]`: end a stage whose error on some samples no longer falls."""

    samples: str
    patience: Count
    min_improvement: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TrainingTable(Table):
    """`[training]`: stages, and how often to validate and save."""

    stages: Stages
    validate_every: Count = 10
    checkpoint_every: Count = 50
    memory: Memory | None = None
    samples_at_once: Count | None = None
    rescue: RescueTable | None = None
    progressive_tolerance: ProgressiveToleranceTable | None = None
    early_stopping: EarlyStoppingTable | None = None
    freeze: list[str] = []
    regularise: FunctionName | None = None

    @property
    def listed(self) -> list[AdamTable | LBFGSTable]:
        """The stages that stand in the config; none where a function gives them."""
        return [] if isinstance(self.stages, str) else self.stages

    @model_validator(mode="after")
    def _halves_what_is_whole(self) -> Self:
        windowed = any(isinstance(s, AdamTable) and s.window is not None for s in self.listed)
        if self.rescue is not None and windowed:
            raise ValueError(
                "a rescue halves steps of the whole span of time, which stages with a window do "
                "not take: leave out training.rescue, or the window"
            )
        return self
