"""Time steppers, steps that follow their error, and what is done where a step fails."""

from impindiff.integrate import (
    ESDIRK3,
    ESDIRK4,
    ESDIRK5,
    SDIRK2,
    AbstractImplicitStepper,
    AbstractStepper,
    BackwardEuler,
    CrankNicolson,
    DiagonallyImplicit,
    ForwardEuler,
    RungeKutta4,
    Theta,
)
from impindiff.rollout import (
    ControlledTrajectory,
    StepControl,
    Trajectory,
    consistent,
    simulate_controlled,
    simulate_with_rescue,
    stable_dt,
)

__all__ = [
    "ESDIRK3",
    "ESDIRK4",
    "ESDIRK5",
    "AbstractImplicitStepper",
    "AbstractStepper",
    "BackwardEuler",
    "ControlledTrajectory",
    "CrankNicolson",
    "DiagonallyImplicit",
    "ForwardEuler",
    "RungeKutta4",
    "SDIRK2",
    "StepControl",
    "Theta",
    "Trajectory",
    "consistent",
    "simulate_controlled",
    "simulate_with_rescue",
    "stable_dt",
]
