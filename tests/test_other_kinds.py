"""What is of another kind altogether is refused where it is given, by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import runtime_types

import impindiff as ipd
from impindiff._errors import InputError

# Of other types on purpose.
ANY: Any = ipd
TIMES = ipd.TimeGrid.build(0.0, [1.0], 0.1)
STATE = {"u": np.zeros(3)}

CASES: dict[str, tuple[Callable, str]] = {
    "tolerance": (lambda: ANY.solvers.BiCGStab("a"), "rtol of BiCGStab is 'a'"),
    "steps": (lambda: ANY.solvers.Newton(max_steps="many"), "max_steps of Newton is 'many'"),
    "part of a step": (lambda: ANY.solvers.Newton(max_steps=2.5), "max_steps of Newton is 2.5"),
    "restart": (lambda: ANY.solvers.GMRES(restart="a"), "restart of GMRES is 'a'"),
    "theta": (lambda: ANY.steppers.Theta("a"), "theta is 'a'"),
    "cycle": (lambda: ANY.preconditioners.Multigrid("Q", 1), "cycle='Q'"),
    "sweeps": (lambda: ANY.preconditioners.Multigrid("V", "a"), "sweeps of multigrid is 'a'"),
    "start of a parameter": (lambda: ANY.Parameter("k", "a", (0, 1)), "'k' starts at 'a'"),
    "cells": (lambda: ANY.Grid.uniform(("a",), ((0, 1),)), "number of cells is 'a'"),
    "part of a cell": (lambda: ANY.Grid.uniform((2.5,), ((0, 1),)), "number of cells is 2.5"),
    "bound": (lambda: ANY.Axis("x", 0, "b", 5), "bound of an axis is 'b'"),
    "source": (lambda: ANY.Source([1, "a"]), "strength of a source is"),
    "system": (lambda: ANY.simulate(3, STATE, TIMES, ipd.CrankNicolson()), "the system is 3"),
    "system to choose for": (lambda: ANY.solvers.select_solver(3, STATE, 0.1), "the system is 3"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_by_name(name):
    make, said = CASES[name]
    with runtime_types.without(), pytest.raises(InputError, match=said):
        make()
