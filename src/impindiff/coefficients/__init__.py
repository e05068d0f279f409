"""Coefficients: what stands for numbers in equations, and how it is evaluated."""

from impindiff.coefficients._affine_in import is_affine_in
from impindiff.coefficients._closure import (
    Closure,
    Held,
    as_closures,
    as_coefficients,
    check_captured,
    checked,
)
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
    rounding_times,
    value_at,
)
from impindiff.coefficients._exact_time import Coarse
from impindiff.coefficients._instant import Instant, as_number, time_parts
from impindiff.coefficients._precision import real_precision

__all__ = [
    "AbstractClosure",
    "AbstractCoefficient",
    "Closure",
    "Coarse",
    "Corrected",
    "Held",
    "Instant",
    "Values",
    "as_closures",
    "as_number",
    "check_captured",
    "as_coefficients",
    "checked",
    "coefficients_of",
    "depends_on",
    "evaluate_coefficients",
    "is_affine_in",
    "is_coefficient",
    "rounding_times",
    "time_parts",
    "value_at",
    "real_precision",
]
