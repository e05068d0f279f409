"""Time steppers, the longest stable step, and what is done where a step fails."""

from impindiff.integrate import (
    SDIRK2,
    AbstractImplicitStepper,
    AbstractStepper,
    BackwardEuler,
    CrankNicolson,
    ForwardEuler,
    RungeKutta4,
    Theta,
)
from impindiff.rollout import Trajectory, consistent, simulate_with_rescue, stable_dt

__all__ = [
    "AbstractImplicitStepper",
    "AbstractStepper",
    "BackwardEuler",
    "CrankNicolson",
    "ForwardEuler",
    "RungeKutta4",
    "SDIRK2",
    "Theta",
    "Trajectory",
    "consistent",
    "simulate_with_rescue",
    "stable_dt",
]
