"""Coefficients: what stands for numbers in equations, and how it is evaluated."""

from impindiff.coefficients._closure import Closure, Held, as_closures, as_coefficients, checked
from impindiff.coefficients._coefficient import (
    AbstractClosure,
    AbstractCoefficient,
    Values,
    is_coefficient,
)
from impindiff.coefficients._corrected import Corrected
from impindiff.coefficients._evaluate import (
    coefficients_of,
    depends_on,
    evaluate_coefficients,
)
from impindiff.coefficients._precision import real_precision

__all__ = [
    "AbstractClosure",
    "AbstractCoefficient",
    "Closure",
    "Corrected",
    "Held",
    "Values",
    "as_closures",
    "as_coefficients",
    "checked",
    "coefficients_of",
    "depends_on",
    "evaluate_coefficients",
    "is_coefficient",
    "real_precision",
]
