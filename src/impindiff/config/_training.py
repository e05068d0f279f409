"""The tables of `[training]`: stages, and what training may change of its own accord."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, Union, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from impindiff.config._kinds import (
    Count,
    FunctionName,
    Memory,
    Positive,
    Table,
    Tolerance,
    one_of,
    tagged,
)
from impindiff.train import (
    LBFGS,
    AbstractOptimiser,
    Adam,
    Batching,
    LevenbergMarquardt,
    Optax,
)

Rates = Annotated[
    Annotated[Positive, Tag("known")] | Annotated[dict[str, Positive], Tag("by-name")],
    Discriminator(lambda rates: "by-name" if isinstance(rates, dict) else "known"),
]


class StageTable(Table):
    """A stage of training, by whatever optimiser.

    A table below it has the name of its optimiser as the `Literal` of its key `optimiser`. Its
    further keys are the arguments in Python.
    """

    python: ClassVar[Callable[..., AbstractOptimiser]]
    """The optimiser."""

    epochs: Count
    dt: Positive | None = None
    freeze: list[str] = []

    @property
    def batches(self) -> Batching:
        """The parts of the data that an epoch takes in turn; all at once by default."""
        return Batching()

    @property
    def functions(self) -> Mapping[str, str]:
        """Keys that name a function, which returns the argument; none by default."""
        return {}


class BatchedTable(StageTable):
    """A stage whose optimiser also takes parts of the data."""

    batch_samples: Count | None = None
    window: Count | None = None

    @property
    def batches(self) -> Batching:
        """See `StageTable.batches`."""
        return Batching(self.batch_samples, self.window)


class AdamTable(BatchedTable):
    """A stage of `Adam`."""

    python = Adam
    optimiser: Literal["adam"]
    learning_rate: Rates | None = None


class OptaxTable(BatchedTable):
    """A stage of `Optax`; the function returns the transformation."""

    python = Optax
    optimiser: Literal["optax"]
    transformation: FunctionName

    @property
    def functions(self) -> Mapping[str, str]:
        """See `StageTable.functions`."""
        return {"transformation": self.transformation}


class LBFGSTable(StageTable):
    """A stage of `LBFGS`."""

    python = LBFGS
    optimiser: Literal["lbfgs"]
    memory: Count = 50


class LevenbergMarquardtTable(StageTable):
    """A stage of `LevenbergMarquardt`."""

    python = LevenbergMarquardt
    optimiser: Literal["levenberg-marquardt"]
    damping: Positive = 1e-3
    max_attempts: Count = 12
    max_products: Count = 60


_TABLES = (AdamTable, LBFGSTable, LevenbergMarquardtTable, OptaxTable)
# By name: read by the messages about wrong keys and by the page on configs.
OPTIMISERS: dict[str, type[StageTable]] = {
    name: table
    for table in _TABLES
    for name in get_args(table.model_fields["optimiser"].annotation)
}

if TYPE_CHECKING:
    Stage = StageTable
else:
    Stage = Annotated[
        Union[tuple(Annotated[table, Tag(name)] for name, table in OPTIMISERS.items())],  # noqa: UP007
        tagged("optimiser", allowed=f"a table with optimiser = {one_of(OPTIMISERS)}"),
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
    def listed(self) -> Sequence[StageTable]:
        """The stages that stand in the config; none where a function gives them."""
        return [] if isinstance(self.stages, str) else self.stages

    @property
    def functions(self) -> list[str]:
        """The functions that are named, as `module:function`."""
        named = [self.stages] if isinstance(self.stages, str) else []
        named += [name for table in self.listed for name in table.functions.values()]
        return named + ([] if self.regularise is None else [self.regularise])

    @model_validator(mode="after")
    def _halves_what_is_whole(self) -> Self:
        windowed = any(table.batches.window is not None for table in self.listed)
        if self.rescue is not None and windowed:
            raise ValueError(
                "a rescue halves steps of the whole span of time, which stages with a window do "
                "not take: leave out training.rescue, or the window"
            )
        return self
