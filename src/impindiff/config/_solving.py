"""The tables of `[time]` and `[solver]`: how time advances, and how its steps are solved.

What has a name in a config has it here and nowhere else: the checks, what is built and the page on
configs (`make tables`) read the same tables.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from impindiff.config._kinds import (
    Count,
    Finite,
    Name,
    Positive,
    Table,
    Tolerance,
    is_one_of,
    one_of,
)
from impindiff.integrate import (
    ARK3,
    ARK4,
    ARK5,
    ESDIRK3,
    ESDIRK4,
    ESDIRK5,
    SDIRK2,
    AbstractStepper,
    BackwardEuler,
    BogackiShampine3,
    CrankNicolson,
    ForwardEuler,
    QuasiSteady,
    RungeKutta4,
    Tsitouras5,
)
from impindiff.linear import CG, GMRES, AbstractLinearSolver, BiCGStab, DenseLU, Tridiagonal
from impindiff.precondition import (
    AbstractPreconditioner,
    BlockJacobi,
    BlockLine,
    Fourier,
    Jacobi,
    Line,
    Multigrid,
    TransformLine,
)
from impindiff.rollout import StepControl

IMPLICIT: dict[str, Callable[..., AbstractStepper]] = {
    "crank-nicolson": CrankNicolson,
    "backward-euler": BackwardEuler,
    "sdirk-2": SDIRK2,
    "esdirk-3": ESDIRK3,
    "esdirk-4": ESDIRK4,
    "esdirk-5": ESDIRK5,
    "ark-3": ARK3,
    "ark-4": ARK4,
    "ark-5": ARK5,
    "quasi-steady": QuasiSteady,
}
EXPLICIT: dict[str, Callable[..., AbstractStepper]] = {
    "forward-euler": ForwardEuler,
    "runge-kutta-4": RungeKutta4,
    "bogacki-shampine-3": BogackiShampine3,
    "tsitouras-5": Tsitouras5,
}
KRYLOV: dict[str, Callable[..., AbstractLinearSolver]] = {
    "bicgstab": BiCGStab,
    "gmres": GMRES,
    "cg": CG,
}
DIRECT: dict[str, Callable[..., AbstractLinearSolver]] = {
    "tridiagonal": Tridiagonal,
    "dense-lu": DenseLU,
}
PRECONDITIONERS: dict[str, Callable[[], AbstractPreconditioner]] = {
    "jacobi": Jacobi,
    "block-jacobi": BlockJacobi,
    "fourier": Fourier,
    "multigrid": Multigrid,
}
ALONG_LINES: dict[str, Callable[[int], AbstractPreconditioner]] = {
    "line": Line,
    "block-line": BlockLine,
    "transform-line": TransformLine,
}
OPEN = ("automatic", "none")

# Those that estimate the error of a step, so that it can be followed.
FOLLOWING = tuple(
    name for name, make in {**IMPLICIT, **EXPLICIT}.items() if make().error_order is not None
)
_FIXED, _FOLLOWING = "crank-nicolson", "esdirk-4"

Scheme = Annotated[str, is_one_of((*IMPLICIT, *EXPLICIT))]
Method = Annotated[str, is_one_of(("automatic", *KRYLOV, *DIRECT))]
Preconditioner = Annotated[str, is_one_of((*OPEN, *PRECONDITIONERS, *ALONG_LINES))]
Groups = Annotated[
    list[Annotated[list[Name], Field(min_length=1)]],
    Field(min_length=1),
]


class TimeTable(Table):
    """`[time]`: how time advances, and from when on where data alone do not say.

    Without `dt` steps follow their error, `scheme` is then "esdirk-4" by default. How exact they
    are `rtol`, `atol` (a number, or one for each field), `max_dt` and `breakpoints` say, see
    `impindiff.steppers.StepControl`; training loosens `rtol` to 3 % of the noise where nothing is
    said.

    The last two are for explicit schemes: equal parts that a step is taken in, and whether one may
    be longer than is stable.
    """

    scheme: Scheme = _FIXED
    dt: Positive | None = None
    until: Finite
    start: Finite | None = None
    rtol: Tolerance | None = None
    atol: Positive | dict[Name, Positive] | None = None
    max_dt: Positive | None = None
    breakpoints: list[Finite] = []
    substeps: Count = 1
    accept_unstable: bool = False

    @model_validator(mode="before")
    @classmethod
    def _has_a_scheme_that_can(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("dt") is None and "scheme" not in given:
            return {**given, "scheme": _FOLLOWING}
        return given

    @property
    def control(self) -> StepControl | None:
        """How exact steps are to be; None where it is not said, or steps are given."""
        if not any(self.said_of_control.values()):
            return None
        longest = float("inf") if self.max_dt is None else self.max_dt
        return StepControl(self.rtol, self.atol, longest, breakpoints=self.breakpoints)

    @property
    def said_of_control(self) -> dict[str, Any]:
        """What is said of it, by key; None or nothing where nothing is."""
        return {key: getattr(self, key) for key in ("rtol", "atol", "max_dt", "breakpoints")}


class SolverTable(Table):
    """`[solver]`: the linear systems of implicit steps and their adjoints, and what leads to them.

    Where neither `method` nor `preconditioner` is given, both are chosen from the step's matrix,
    see `impindiff.solvers.select_solver`; where one is, the other is BiCGStab or none.

    Where `nonlinear` is left out the system decides: one linear solve a step where it is affine,
    else Newton's method. `groups` are those of fields that the staggered iteration solves for in
    turn; by default each field, in the order of the equations. Tolerances are relative to what a
    step changes; left out, `rtol` is 1e-5 in float32 and 1e-10 in float64, and `adjoint_rtol` is
    `rtol`. `adjoint` is how gradients are made:
    by the implicit function theorem, or, to compare with, through all iterations of a fixed-point
    iteration or the last of them.
    """

    method: Method = "automatic"
    preconditioner: Preconditioner = "automatic"
    line_axis: str | None = None
    rtol: Tolerance | None = None
    max_steps: Count | None = None
    adjoint_rtol: Tolerance | None = None
    adjoint_max_steps: Count | None = None
    nonlinear: Literal["newton", "staggered", "anderson", "picard"] | None = None
    groups: Groups | None = None
    nonlinear_max_steps: Count | None = None
    adjoint: Literal["implicit", "unrolled", "one-step"] = "implicit"

    @property
    def is_automatic(self) -> bool:
        """Whether the linear solver and the preconditioner are left to be chosen."""
        is_open = self.method == self.preconditioner == "automatic"
        return is_open and self.nonlinear in (None, "newton")


def check_solving(time: TimeTable, solver: SolverTable, num_axes: int | None) -> None:
    """Refuse what does not go together.

    Args:
        time: the table.
        solver: the table.
        num_axes: of the grid, where that is known.

    Raises: ValueError.
    """
    named = solver.preconditioner
    _check_steps(time)
    _check_substeps(time)
    if solver.adjoint != "implicit" and solver.nonlinear not in ("picard", "anderson"):
        raise ValueError(
            f"solver.adjoint is {solver.adjoint!r}, which goes back through the iterations of a "
            "fixed-point iteration: give solver.nonlinear = 'picard' or 'anderson', too"
        )
    if solver.groups is not None and solver.nonlinear != "staggered":
        raise ValueError(
            "solver.groups are of the staggered iteration: give solver.nonlinear = 'staggered', "
            "too, or leave them out"
        )
    if time.scheme in EXPLICIT:
        given = {"preconditioner": named not in OPEN, "nonlinear": solver.nonlinear is not None}
        for key in (key for key, is_given in given.items() if is_given):
            raise ValueError(
                f"solver.{key} is {getattr(solver, key)!r}, but time.scheme {time.scheme!r} solves "
                f"no system: leave it out, or use {one_of(IMPLICIT)}"
            )
    if named not in OPEN and solver.method in DIRECT:
        raise ValueError(
            f"solver.preconditioner is {named!r}, but solver.method {solver.method!r} is direct "
            "and uses none: leave one of them out"
        )
    if (named in ALONG_LINES) != (solver.line_axis is not None):
        raise ValueError(
            f"a solver.preconditioner along lines ({', '.join(map(repr, ALONG_LINES))}) and "
            "solver.line_axis, the axis of these, go together: give both or neither"
        )
    if num_axes is not None and num_axes > 1 and solver.method == "tridiagonal":
        raise ValueError(
            f"solver.method is 'tridiagonal', but the grid has {num_axes} axes: it is for one; use "
            "'bicgstab' or 'gmres'"
        )


def _check_steps(time: TimeTable) -> None:
    """Refuse steps that nothing gives, or two things."""
    if time.dt is None and time.scheme not in FOLLOWING:
        raise ValueError(
            f"time.dt is missing, and time.scheme {time.scheme!r} has no estimate of the error "
            f"that steps could follow: give time.dt, or use {one_of(FOLLOWING)}"
        )
    if time.dt is not None and time.control is not None:
        key = next(key for key, value in time.said_of_control.items() if value)
        raise ValueError(
            f"time.{key} is {getattr(time, key)!r}, but steps are given by time.dt: leave time.dt "
            f"out for steps that follow their error, or leave time.{key} out"
        )


def _check_substeps(time: TimeTable) -> None:
    """Refuse what implicit schemes have no use for."""
    given = {"substeps": time.substeps != 1, "accept_unstable": time.accept_unstable}
    for key in (key for key, is_given in given.items() if is_given):
        if time.scheme not in EXPLICIT:
            raise ValueError(
                f"time.{key} is {getattr(time, key)!r}, but time.scheme {time.scheme!r} is not "
                f"explicit: leave it out, or use {one_of(EXPLICIT)}"
            )
