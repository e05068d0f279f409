"""Time steppers, explicit and implicit, and what they advance."""

from impindiff._types import AbstractTendency
from impindiff.integrate._diagonally_implicit import (
    ESDIRK3,
    ESDIRK4,
    ESDIRK5,
    SDIRK2,
    DiagonallyImplicit,
)
from impindiff.integrate._dynamics import AbstractDynamics, AbstractSystem, Bounds, BoundsViolation
from impindiff.integrate._explicit import (
    BogackiShampine3,
    ExplicitRungeKutta,
    ForwardEuler,
    RungeKutta4,
    Tsitouras5,
    store_at,
)
from impindiff.integrate._implicit import AbstractImplicitStepper, choose_solver
from impindiff.integrate._implicit_explicit import ARK3, ARK4, ARK5, ImplicitExplicit
from impindiff.integrate._quadrature import integral_rates, split_integrals, tendency_at
from impindiff.integrate._quasi_steady import QuasiSteady
from impindiff.integrate._steady import (
    SteadyRoot,
    find_steady,
    has_no_level,
    steady_tendency,
    undetermined,
)
from impindiff.integrate._stepper import AbstractStepper, Step, StepContext, check_is_stepper
from impindiff.integrate._theta import BackwardEuler, CrankNicolson, Theta

__all__ = [
    "ARK3",
    "ARK4",
    "ARK5",
    "ESDIRK3",
    "ESDIRK4",
    "ESDIRK5",
    "AbstractDynamics",
    "AbstractImplicitStepper",
    "AbstractStepper",
    "AbstractSystem",
    "AbstractTendency",
    "BackwardEuler",
    "BogackiShampine3",
    "Bounds",
    "BoundsViolation",
    "CrankNicolson",
    "DiagonallyImplicit",
    "ExplicitRungeKutta",
    "ForwardEuler",
    "ImplicitExplicit",
    "QuasiSteady",
    "RungeKutta4",
    "SDIRK2",
    "SteadyRoot",
    "Step",
    "StepContext",
    "Theta",
    "Tsitouras5",
    "check_is_stepper",
    "choose_solver",
    "find_steady",
    "has_no_level",
    "integral_rates",
    "split_integrals",
    "steady_tendency",
    "store_at",
    "tendency_at",
    "undetermined",
]
