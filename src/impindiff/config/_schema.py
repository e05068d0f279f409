"""What a config file may say. Each class is a table of the TOML file, each attribute a key."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)


def _variable_name(name: str) -> str:
    if not name.strip() or name != name.strip() or "/" in name or not name.isprintable():
        raise ValueError(f"{name!r} cannot name a variable of a data file")
    if name in ("sample", "time", "x", "y", "z"):
        raise ValueError(f"{name!r} is the name of a dimension, choose another")
    return name


def _interval(bounds: list[float]) -> list[float]:
    low, high = bounds
    if not low < high:
        raise ValueError(f"[{low}, {high}] is empty: the second number must be the larger")
    return bounds


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, AfterValidator(_variable_name)]
Interval = Annotated[list[Finite], Field(min_length=2, max_length=2), AfterValidator(_interval)]


class Table(BaseModel):
    """A table that refuses keys it does not know and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataTable(Table):
    """`[data]`: what is trained on and what is held back."""

    field: Name
    train_samples: str
    train_times: list[Finite] = Field(min_length=1)
    test_samples: str
    file: str | None = None


class AxisTable(Table):
    """`[[grid]]`: one axis of the grid, in the order of the data's dimensions."""

    name: str
    lower: Finite
    upper: Finite
    cells: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        _interval([self.lower, self.upper])
        return self


class SineFieldTable(Table):
    """An unknown field, as a sine-activated network."""

    kind: Literal["sine-field"]
    names: list[Name] = Field(min_length=1)
    width: Count = 64
    depth: Count = 3
    frequency: Positive = 6.0
    output_range: Interval = [0.0, 1.0]


class ParameterTable(Table):
    """An unknown number between bounds."""

    kind: Literal["parameter"]
    name: Name
    initial: Finite
    bounds: Interval

    @model_validator(mode="after")
    def _starts_inside(self) -> Self:
        low, high = self.bounds
        if not low < self.initial < high:
            raise ValueError(f"initial is {self.initial}, which is not inside ({low}, {high})")
        return self


def _tagged(key: str, known: type | tuple[type, ...] = (), *, allowed: str) -> Discriminator:
    """Tells the tables of a union apart by a key, and from values that are no table by type."""

    def tag(value: Any) -> str | None:
        if isinstance(value, known):
            return "known"
        found = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return found if isinstance(found, str) else None

    return Discriminator(
        tag, custom_error_type="kind", custom_error_message=f"Input should be {allowed}"
    )


def _not_negative(diffusivity: Any) -> Any:
    match diffusivity:
        case ParameterTable(bounds=[low, _]) | SineFieldTable(output_range=[low, _]) if low < 0:
            raise ValueError(f"it may become negative, since its range begins at {low}")
    return diffusivity


Velocity = Annotated[
    Annotated[list[Finite], Tag("known")] | Annotated[SineFieldTable, Tag("sine-field")],
    _tagged("kind", list, allowed="a list of numbers, or a table with kind = 'sine-field'"),
]
Diffusivity = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False), Tag("known")]
    | Annotated[SineFieldTable, Tag("sine-field")]
    | Annotated[ParameterTable, Tag("parameter")],
    _tagged(
        "kind",
        (int, float),
        allowed="a number, or a table with kind = 'sine-field' or 'parameter'",
    ),
    AfterValidator(_not_negative),
]


class AdvectionDiffusionTable(Table):
    """`[system]`: the equation and its coefficients, known (numbers) or unknown (tables)."""

    kind: Literal["advection-diffusion"]
    scheme: Literal["upwind", "central"] = "upwind"
    velocity: Velocity
    diffusivity: Diffusivity

    @property
    def unknowns(self) -> tuple[SineFieldTable | ParameterTable, ...]:
        """The coefficients that are to be learned."""
        both = (self.velocity, self.diffusivity)
        return tuple(c for c in both if isinstance(c, SineFieldTable | ParameterTable))


class TimeTable(Table):
    """`[time]`: how time advances."""

    scheme: Literal["crank-nicolson", "backward-euler", "forward-euler", "runge-kutta-4"] = (
        "crank-nicolson"
    )
    dt: Positive
    until: Finite


class SolverTable(Table):
    """`[solver]`: the linear systems of implicit steps and their adjoints."""

    rtol: Tolerance = 1e-6
    max_steps: Count = 200
    adjoint_rtol: Tolerance = 1e-5
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


Stage = Annotated[
    Annotated[AdamTable, Tag("adam")] | Annotated[LBFGSTable, Tag("lbfgs")],
    _tagged("optimiser", allowed="a table with optimiser = 'adam' or 'lbfgs'"),
]


class TrainingTable(Table):
    """`[training]`: stages, and how often to validate and save."""

    stages: list[Stage] = Field(min_length=1)
    validate_every: Count = 10
    checkpoint_every: Count = 50


class Config(Table):
    """A whole config file."""

    title: str = "impindiff"
    question: str = ""
    # JAX would take the last 32 bits of a longer one, so that two seeds gave one network.
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    precision: Literal["float32", "float64"] = "float32"
    data: DataTable
    grid: list[AxisTable] | None = Field(default=None, min_length=1, max_length=3)
    system: AdvectionDiffusionTable
    time: TimeTable
    solver: SolverTable = SolverTable()
    training: TrainingTable

    @model_validator(mode="after")
    def _something_is_unknown(self) -> Self:
        if not self.system.unknowns:
            raise ValueError(
                "nothing is unknown: make system.velocity or system.diffusivity a table with a "
                "kind ('sine-field' or 'parameter')"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [self.data.field]
        for table in self.system.unknowns:
            names += table.names if isinstance(table, SineFieldTable) else [table.name]
        # In a forecast file the truth stands beside each of them.
        names += [f"{name}_truth" for name in names]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"the name {twice[0]!r} is given twice: data.field and the names of what is "
                "unknown must differ"
            )
        return self
