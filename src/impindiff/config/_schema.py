"""What a config file may say. Each class is a table of the TOML file, each attribute a key."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table that refuses keys it does not know and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataTable(Table):
    """`[data]`: what is trained on and what is held back."""

    field: str
    train_samples: str
    train_times: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=1)
    test_samples: str
    file: str | None = None


class AxisTable(Table):
    """`[[grid]]`: one axis of the grid, in the order of the data's dimensions."""

    name: str
    lower: Annotated[float, Field(allow_inf_nan=False)]
    upper: Annotated[float, Field(allow_inf_nan=False)]
    cells: Annotated[int, Field(ge=2)]


class SineFieldTable(Table):
    """An unknown field, as a sine-activated network."""

    kind: Literal["sine-field"]
    names: list[str] = Field(min_length=1)
    width: Count = 64
    depth: Count = 3
    frequency: Positive = 6.0
    output_range: list[float] = Field(default=[0.0, 1.0], min_length=2, max_length=2)


class ParameterTable(Table):
    """An unknown number between bounds."""

    kind: Literal["parameter"]
    name: str
    initial: float
    bounds: list[float] = Field(min_length=2, max_length=2)


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return value.get("kind")
    if isinstance(value, Table):
        return getattr(value, "kind", None)
    return "known"


Velocity = Annotated[
    Annotated[list[float], Tag("known")] | Annotated[SineFieldTable, Tag("sine-field")],
    Discriminator(_kind),
]
Diffusivity = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False), Tag("known")]
    | Annotated[SineFieldTable, Tag("sine-field")]
    | Annotated[ParameterTable, Tag("parameter")],
    Discriminator(_kind),
]


class AdvectionDiffusionTable(Table):
    """`[system]`: the equation and its coefficients, known (numbers) or unknown (tables)."""

    kind: Literal["advection-diffusion"]
    scheme: Literal["upwind", "central"] = "upwind"
    velocity: Velocity
    diffusivity: Diffusivity


class TimeTable(Table):
    """`[time]`: how time advances."""

    scheme: Literal["crank-nicolson", "backward-euler", "forward-euler", "runge-kutta-4"] = (
        "crank-nicolson"
    )
    dt: Positive
    until: Annotated[float, Field(allow_inf_nan=False)]


class SolverTable(Table):
    """`[solver]`: the linear systems of implicit steps and their adjoints."""

    rtol: Positive = 1e-6
    max_steps: Count = 200
    adjoint_rtol: Positive = 1e-5
    adjoint_max_steps: Count = 200


class AdamTable(Table):
    """A stage of Adam."""

    optimiser: Literal["adam"]
    epochs: Count
    learning_rate: Positive = 1e-3
    dt: Positive | None = None


class LBFGSTable(Table):
    """A stage of L-BFGS."""

    optimiser: Literal["lbfgs"]
    epochs: Count
    memory: Count = 50
    dt: Positive | None = None


class TrainingTable(Table):
    """`[training]`: stages, and how often to validate and save."""

    stages: list[Annotated[AdamTable | LBFGSTable, Field(discriminator="optimiser")]] = Field(
        min_length=1
    )
    validate_every: Count = 10
    checkpoint_every: Count = 50


class Config(Table):
    """A whole config file."""

    title: str = "impindiff"
    question: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["float32", "float64"] = "float32"
    data: DataTable
    grid: list[AxisTable] | None = Field(default=None, min_length=1, max_length=3)
    system: AdvectionDiffusionTable
    time: TimeTable
    solver: SolverTable = SolverTable()
    training: TrainingTable

    @model_validator(mode="after")
    def _something_is_unknown(self) -> "Config":
        if not any(isinstance(c, Table) for c in (self.system.velocity, self.system.diffusivity)):
            raise ValueError(
                "nothing is unknown: make system.velocity or system.diffusivity a table with a "
                "kind "
                "('sine-field' or 'parameter')"
            )
        return self
