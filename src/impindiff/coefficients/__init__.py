"""Coefficients: what stands for numbers in equations, and how it is evaluated."""

from impindiff.coefficients._affine_in import is_affine_in
from impindiff.coefficients._closure import (
    Closure,
    Corrected,
    HeldFunction,
    as_closures,
    as_coefficients,
    as_values,
    check_captured,
)
from impindiff.coefficients._coefficient import (
    AbstractClosure,
    AbstractCoefficient,
    Values,
    check_spans,
    coefficients_of,
    depends_on,
    evaluate_coefficients,
    is_coefficient,
    real_precision,
    rounding_times,
    value_at,
)
from impindiff.coefficients._instant import Coarse, Instant, as_number, time_parts
from impindiff.coefficients._time_series import (
    Method,
    Series,
    between_samples,
    check_times,
    extreme_knots,
    monotone_slopes,
)

__all__ = [
    "AbstractClosure",
    "AbstractCoefficient",
    "Closure",
    "Coarse",
    "Corrected",
    "HeldFunction",
    "Instant",
    "Method",
    "Series",
    "Values",
    "as_closures",
    "as_number",
    "between_samples",
    "check_captured",
    "check_spans",
    "check_times",
    "as_coefficients",
    "as_values",
    "coefficients_of",
    "depends_on",
    "evaluate_coefficients",
    "extreme_knots",
    "is_affine_in",
    "is_coefficient",
    "monotone_slopes",
    "rounding_times",
    "time_parts",
    "value_at",
    "real_precision",
]
