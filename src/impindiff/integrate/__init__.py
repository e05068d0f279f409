"""Time steppers, explicit and implicit."""

from impindiff.integrate._explicit import ForwardEuler, RungeKutta4
from impindiff.integrate._quadrature import apart
from impindiff.integrate._sdirk import SDIRK2
from impindiff.integrate._stage import choose_solver
from impindiff.integrate._stepper import AbstractStepper, Step, check_is_stepper
from impindiff.integrate._theta import BackwardEuler, CrankNicolson, Theta

__all__ = [
    "SDIRK2",
    "AbstractStepper",
    "BackwardEuler",
    "CrankNicolson",
    "ForwardEuler",
    "RungeKutta4",
    "Step",
    "Theta",
    "apart",
    "check_is_stepper",
    "choose_solver",
]
