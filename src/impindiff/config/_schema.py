"""What a config file may say. Each class is a table of the TOML file, each attribute a key."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, Tag, model_validator

from impindiff.config._kinds import (
    Count,
    Finite,
    Interval,
    Name,
    Positive,
    Table,
    Tolerance,
    check_interval,
    tagged,
)
from impindiff.config._training import TrainingTable, names_in


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
    periodic: bool = True

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        check_interval([self.lower, self.upper])
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


def _not_negative(diffusivity: Any) -> Any:
    match diffusivity:
        case ParameterTable(bounds=[low, _]) | SineFieldTable(output_range=[low, _]) if low < 0:
            raise ValueError(f"it may become negative, since its range begins at {low}")
    return diffusivity


Velocity = Annotated[
    Annotated[list[Finite], Tag("known")] | Annotated[SineFieldTable, Tag("sine-field")],
    tagged("kind", list, allowed="a list of numbers, or a table with kind = 'sine-field'"),
]
Diffusivity = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False), Tag("known")]
    | Annotated[SineFieldTable, Tag("sine-field")]
    | Annotated[ParameterTable, Tag("parameter")],
    tagged(
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

    method: Literal["bicgstab", "gmres", "cg", "tridiagonal"] = "bicgstab"
    preconditioner: Literal["none", "jacobi", "fourier", "multigrid"] = "none"
    rtol: Tolerance = 1e-6
    max_steps: Count = 200
    adjoint_rtol: Tolerance = 1e-5
    adjoint_max_steps: Count = 200


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
    def _preconditions_something(self) -> Self:
        named = self.solver.preconditioner
        if named != "none" and self.time.scheme in ("forward-euler", "runge-kutta-4"):
            raise ValueError(
                f"solver.preconditioner is {named!r}, but time.scheme {self.time.scheme!r} solves "
                "no system: leave it out, or use 'crank-nicolson' or 'backward-euler'"
            )
        if named != "none" and self.solver.method == "tridiagonal":
            raise ValueError(
                f"solver.preconditioner is {named!r}, but solver.method 'tridiagonal' is direct "
                "and uses none: leave one of them out"
            )
        if self.grid is not None and len(self.grid) > 1 and self.solver.method == "tridiagonal":
            raise ValueError(
                f"solver.method is 'tridiagonal', but the grid has {len(self.grid)} axes: it is "
                "for one; use 'bicgstab' or 'gmres'"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [self.data.field, *self._unknown_names]
        # In a forecast file the truth stands beside each of them.
        names += [f"{name}_truth" for name in names]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"the name {twice[0]!r} is given twice: data.field and the names of what is "
                "unknown must differ"
            )
        return self

    @model_validator(mode="after")
    def _training_speaks_of_what_is_unknown(self) -> Self:
        known, stages = self._unknown_names, self.training.stages
        spoken = {f"training.stages.{i}": names_in(stage) for i, stage in enumerate(stages)}
        for key, names in ({"training.freeze": self.training.freeze} | spoken).items():
            if strange := [name for name in names if name not in known]:
                raise ValueError(
                    f"{key} names {strange[0]!r}, but what is unknown are "
                    f"{', '.join(map(repr, known))}"
                )
        return self

    @property
    def _unknown_names(self) -> list[str]:
        names: list[str] = []
        for table in self.system.unknowns:
            names += table.names if isinstance(table, SineFieldTable) else [table.name]
        return names
