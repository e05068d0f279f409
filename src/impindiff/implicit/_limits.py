"""Tolerances and counts, checked when a solver is made."""

import math
from typing import Protocol, runtime_checkable


@runtime_checkable
class Limited(Protocol):
    """A solver with tolerances and a largest number of steps."""

    @property
    def rtol(self) -> float:
        """Relative tolerance."""
        ...

    @property
    def atol(self) -> float:
        """Absolute tolerance."""
        ...

    @property
    def max_steps(self) -> int:
        """Largest number of steps."""
        ...


def check_limits(solver: Limited) -> None:
    """Raise ValueError for tolerances that cannot be met, or no iteration allowed."""
    name = type(solver).__name__
    # Comparisons that NaN fails, too.
    if not (solver.rtol >= 0 and solver.atol >= 0 and 0 < solver.rtol + solver.atol < math.inf):
        raise ValueError(
            f"{name}(rtol={solver.rtol}, atol={solver.atol}): tolerances must not be negative, "
            "both must be finite, and one of them must be positive. Use rtol=1e-6 in float32, down "
            "to 1e-13 in float64."
        )
    if solver.max_steps < 1:
        raise ValueError(f"{name}(max_steps={solver.max_steps}): at least 1 step must be allowed.")
