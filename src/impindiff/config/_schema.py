"""What a config file may say. Each class is a table of the TOML file, each attribute a key."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AliasChoices, BeforeValidator, Field, PrivateAttr, model_validator

from impindiff.config._code import Code
from impindiff.config._kinds import (
    Count,
    Finite,
    FunctionName,
    InnerPath,
    Name,
    Table,
    check_interval,
    numbers_in,
)
from impindiff.config._solving import SolverTable, TimeTable, check_solving
from impindiff.config._training import TrainingTable

_LEAST_SINGLE, _MOST_SINGLE = (float(x) for x in (np.finfo("f4").tiny, np.finfo("f4").max))


class DataTable(Table):
    """`[data]`: what is trained on and what is held back, and how it was observed."""

    fields: Annotated[
        list[Name], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
    ] = Field(min_length=1, validation_alias=AliasChoices("field", "fields"))
    train_samples: str
    train_times: list[Finite] = Field(min_length=1)
    test_samples: str
    file: str | None = None
    observe: FunctionName | None = None


class AxisTable(Table):
    """`[[grid]]`: one axis, in the order of the data's dimensions: equal cells, or all faces.

    Whether it is periodic the data say where the table does not.
    """

    name: str
    lower: Finite | None = None
    upper: Finite | None = None
    cells: Count | None = None
    faces: list[Finite] | None = Field(default=None, min_length=2)
    periodic: bool | None = None

    @property
    def even(self) -> tuple[float, float, int] | None:
        """Bounds and number of equal cells; None where faces are given instead."""
        if self.lower is None or self.upper is None or self.cells is None:
            return None
        return self.lower, self.upper, self.cells

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        even = {"lower": self.lower, "upper": self.upper, "cells": self.cells}
        missing = [key for key, value in even.items() if value is None]
        if self.faces is not None and len(missing) < 3:
            raise ValueError("give either faces, or lower, upper and cells")
        if self.faces is None and missing:
            raise ValueError(f"{' and '.join(missing)} missing: an axis has lower, upper and cells")
        if self.lower is not None and self.upper is not None:
            check_interval([self.lower, self.upper])
        if self.periodic is not False and self.cells == 1:
            raise ValueError(
                "cells is 1: a periodic axis needs at least 2; for one with ends write "
                "periodic = false"
            )
        return self


class SystemTable(Table):
    """`[system]`: a function that returns the equations, and files that it reads.

    `options` are further arguments of the function, by name.
    """

    build: FunctionName
    files: list[InnerPath] = []
    options: dict[str, Any] = {}


class Config(Table):
    """A whole config file."""

    title: str = "impindiff"
    question: str = ""
    # JAX would take the last 32 bits of a longer one, so that two seeds gave one network.
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    precision: Literal["float32", "float64"] = "float32"
    data: DataTable
    grid: list[AxisTable] | None = Field(default=None, min_length=1, max_length=3)
    system: SystemTable
    time: TimeTable
    solver: SolverTable = SolverTable()
    training: TrainingTable
    _code: Code = PrivateAttr(default_factory=lambda: Code(Path()))

    @property
    def code(self) -> Code:
        """The Python files beside the config, for the functions that it names."""
        return self._code

    def beside(self, folder: Path, known: Mapping[str, str] | None = None) -> Self:
        """The same config, its functions to be found in a folder; `known`, see `Code`."""
        config = self.model_copy()
        config._code = Code(folder, known)
        return config

    @model_validator(mode="after")
    def _solves_what_there_is(self) -> Self:
        check_solving(self.time, self.solver, None if self.grid is None else len(self.grid))
        return self

    @model_validator(mode="after")
    def _numbers_have_the_precision(self) -> Self:
        if self.precision == "float32":
            # Times are counted in the precision that they need.
            tables = self.model_dump(exclude={"time": True, "data": {"train_times"}})
            for key, number in numbers_in(tables):
                # What becomes of a small option only the user's function knows.
                is_option = key.startswith("system.options.")
                gone = 0 < abs(number) < _LEAST_SINGLE and not is_option
                if gone or _MOST_SINGLE < abs(number) < math.inf:
                    raise ValueError(
                        f"{key!r} is {number:g}, and precision = 'float32' holds magnitudes from "
                        f"{_LEAST_SINGLE:.1g} to {_MOST_SINGLE:.1g}: choose another unit, or "
                        "'float64'"
                    )
        return self
