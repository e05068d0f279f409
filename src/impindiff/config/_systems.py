"""The tables of `[system]`: an equation with its coefficients, or a function of the user's own."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from impindiff.config._kinds import (
    Count,
    Finite,
    FunctionName,
    InnerPath,
    Interval,
    Name,
    Positive,
    Table,
    tagged,
)


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


class OwnSystemTable(Table):
    """`[system]`: a function of the user's own that returns it, and files that it reads.

    `options` are further arguments of the function, by name.
    """

    build: FunctionName
    files: list[InnerPath] = []
    options: dict[str, Any] = {}

    @property
    def unknowns(self) -> tuple[()]:
        """What is to be learned is not known before the function was called."""
        return ()


# Whatever does not name a function is judged as the table of a kind.
SystemTable = Annotated[
    Annotated[AdvectionDiffusionTable, Tag("advection-diffusion")]
    | Annotated[OwnSystemTable, Tag("module:function")],
    Discriminator(
        lambda table: (
            "module:function"
            if isinstance(table, OwnSystemTable) or (isinstance(table, dict) and "build" in table)
            else "advection-diffusion"
        )
    ),
]
