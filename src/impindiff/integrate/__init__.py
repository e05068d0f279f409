"""Time steppers, explicit and implicit."""

from impindiff.integrate._explicit import ForwardEuler, RungeKutta4
from impindiff.integrate._stepper import AbstractStepper
from impindiff.integrate._theta import BackwardEuler, CrankNicolson, Theta

__all__ = [
    "AbstractStepper",
    "BackwardEuler",
    "CrankNicolson",
    "ForwardEuler",
    "RungeKutta4",
    "Theta",
]
