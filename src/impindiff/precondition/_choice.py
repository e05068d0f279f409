r"""Which solver and which preconditioner a step is best solved with, predicted from its matrix.

A preconditioner is worth what it saves. For each the number of iterations is predicted from the
condition it leaves, and multiplied by what an iteration costs with it. The laws are those of Krylov
methods, with factors measured once on the problems of `benchmarks/automatic_solver.py`; they need
to be right to a factor of two only, for it is the order that decides.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from impindiff.precondition._fourier import Fourier, TransformLine
from impindiff.precondition._lines import BlockLine, Line
from impindiff.precondition._multigrid import Multigrid
from impindiff.precondition._point import BlockJacobi, Jacobi
from impindiff.precondition._preconditioner import AbstractPreconditioner
from impindiff.precondition._structure import Structure

# To how much of the right-hand side a solve is taken to go.
_DIGITS = float(np.log(2e4))
# Iterations for each digit: with the root of a condition; with the root of a logarithm where it is
# the variation of coefficients about a mean that is inverted exactly; and with flow.
_BY_ROOT, _BY_LOGARITHM, _BY_FLOW = 0.16, 0.36, 0.9
# A few stiff cells, as on graded axes, cost less than many.
_FEW_STIFF = 0.6
_JUMPS = 1.3
# What a mean over the whole box takes more where there are obstacles. It does not depend on the
# grid: a field can be continued into an obstacle at a cost that the grid does not change.
_AROUND = 5.0
# Cost of a direct solve on a line, in plain iterations, by the number of fields.
_ELIMINATION = (2.0, 5.0, 8.0, 25.0, 55.0)
# Ratio of flow to diffusion between two cells beyond which a coarse grid is a poor image.
_WINDY = 4.0
# Of an iteration with multigrid, on two and three axes.
_CYCLE = {"V": (14.0, 30.0), "W": (60.0, 120.0)}
# By how much a preconditioner is to be better than none before it is taken.
_WORTH_IT = 1.15
# Newton steps in a step of a nonlinear system, and what they take in place of one linear solve.
_NEWTON_STEPS, _NEWTON_EXCESS = 2.0, 1.3
# On a grid of fewer cells a plain iteration costs less than it takes to choose.
SMALL = 1024


class Candidate(NamedTuple):
    """A way to solve a step, and what it is predicted to cost.

    Attributes:
        name: for people.
        preconditioner: None where there is none.
        iterations: of one solve.
        cost: of one step, in iterations without a preconditioner.
    """

    name: str
    preconditioner: AbstractPreconditioner | None
    iterations: float
    cost: float


def candidates(structure: Structure, *, num_steps: float, is_affine: bool) -> list[Candidate]:
    """All that could serve, the cheapest first.

    Args:
        structure: of the step's matrix.
        num_steps: for how many steps one preconditioner serves; 1 where each makes its own.
        is_affine: whether a step is one solve.
    """
    # The coefficients of what no terms assemble are found by products.
    probing = 0.0 if is_affine else (len(structure.shape) + 0.5) * structure.num_fields
    found = []
    for name, preconditioner, iterations, each, setup in _listed(structure):
        makes = (setup + probing) / num_steps if preconditioner is not None else 0.0
        # Newton's method asks for no more digits than a step deserves: its steps together take
        # little more than one solve, but each at least one iteration.
        whole = iterations if is_affine else max(_NEWTON_STEPS, _NEWTON_EXCESS * iterations)
        cost = (whole * each + makes) * (1.0 if name == "none" else _WORTH_IT)
        found.append(Candidate(name, preconditioner, iterations, cost))
    return sorted(found, key=lambda candidate: candidate.cost)


def robust(structure: Structure) -> Candidate:
    """What serves any coefficients, at whatever cost."""
    cycle = ("W", 2) if structure.peclet > _WINDY else ("V", 1)
    return Candidate(f"multigrid{cycle}", Multigrid(*cycle), np.nan, np.nan)


def because(best: Candidate, compared: list[Candidate], s: Structure) -> str:
    """Why, in numbers."""
    number = " x ".join(f"{max(d, 0):.2g}" for d in s.diffusion)
    reasons = [f"diffusion number {number}"]
    if max(s.flow) > 0.1:
        reasons.append(f"Courant number {max(s.flow):.2g}")
    if best.name in ("fourier", "none", "jacobi") or best.name.startswith("multigrid"):
        reasons.append(f"coefficients vary by {s.variation:.2g}")
    elif len(s.shape) > 1:
        axis = int(best.name[-2]) if best.name[-1] == ")" else 0
        reasons.append(f"coefficients vary by {s.across[axis]:.2g} across lines of axis {axis}")
    if s.num_fields > 1 and s.coupling > 2:
        reasons.append(f"fields coupled by {s.coupling:.2g} in a cell")
    if s.reaches:
        reasons.append("fluxes reach beyond neighbours")
    plain = next(c for c in compared if c.name == "none")
    reasons.append(f"about {best.iterations:.0f} iterations")
    if best.name != "none":
        reasons[-1] += f" in place of {plain.iterations:.0f}"
    return ", ".join(reasons)


def _listed(
    s: Structure,
) -> Iterator[tuple[str, AbstractPreconditioner | None, float, float, float]]:
    """Name, preconditioner, iterations, cost of an iteration and of the setup."""
    fields, axes = s.num_fields, range(len(s.shape))
    flow = max(map(partial(_flow, s), axes), default=0.0)
    # What comes of fields that react, for what sees each field alone.
    apart = _by_root(s.coupling)
    # Jumps take more than their condition says, obstacles do not.
    rough = _JUMPS if s.variation > 50 and s.closed == 0 else 1.0
    # What fields do to each other in a cell and what they spread make each other worse.
    both = _by_root((1 + 4 * sum(s.diffusion)) * float(np.sqrt(s.coupling)))
    alone = max(_by_root(s.condition), apart, both if s.coupling > 1 else 1.0)
    yield "none", None, rough * alone + _by_flow(flow), 1.0, 0.0
    point = max(_by_root(_without(s, None)) * _evenness(s), apart) + _by_flow(flow)
    if fields == 1 or s.coupling < 3:
        yield "jacobi", Jacobi(), point, 1.3, 1.0
    else:
        within = _by_root(_without(s, None)) * _evenness(s) + _by_flow(flow)
        yield "block_jacobi", BlockJacobi(), within, 1.2 + 0.3 * fields, 4.0 * fields
    if len(s.shape) == 1:
        yield from _on_a_line(s, flow, apart)
        return
    still = max((_left_over(s, a) for a in axes if s.ends[a]), default=0.0)
    around = _AROUND * (s.closed > 0)
    mean = max(_by_variation(s.variation), apart) + _by_flow(still) + around
    yield "fourier", Fourier(), mean, 4.0, 2.0
    for axis in axes:
        # What is coupled weakly across the lines still takes a few.
        rest = 3 + _by_root(_without(s, axis)) * _evenness(s)
        across = max((_flow(s, a) for a in axes if a != axis), default=0.0)
        each = 1.0 + fields
        yield f"block_line({axis})", BlockLine(axis), rest + _by_flow(across), each, 15.0 * fields
        if s.same_modes and len(s.shape) > 1:
            across = max((_left_over(s, a) for a in axes if a != axis and s.ends[a]), default=0.0)
            rest = _by_variation(s.across[axis]) + _by_flow(across) + around
            each = 3.3 + fields
            yield (
                f"transform_line({axis})",
                TransformLine(axis),
                rest,
                each,
                (25.0 * fields),
            )
    hard = 2.0 * (s.anisotropy > 10) + 5.0 * (s.closed > 0)
    cycle = ("W", 2) if s.peclet > _WINDY else ("V", 1)
    each, setup = _CYCLE[cycle[0]][min(len(s.shape), 3) - 2], 10.0
    iterations = 3.0 * (1 + hard) + 0.7 * apart
    yield f"multigrid{cycle}", Multigrid(*cycle), iterations, each, setup


def _on_a_line(s: Structure, flow: float, apart: float) -> Iterator:
    fields = s.num_fields
    if s.reaches:
        yield (
            "fourier",
            Fourier(),
            _by_variation(s.variation) + _by_flow(_left_over(s, 0)),
            5.0,
            2.0,
        )
        yield "line(0)", Line(0), 3.0 + 0.3 * _by_flow(flow), 3.0, 2.0
        return
    # Coefficients are found by products in each solve.
    price = _ELIMINATION[min(fields, len(_ELIMINATION)) - 1] + 1.5 * fields
    yield "elimination", None, 1.0, price, 0.0
    if fields > 2:
        yield "line(0)", Line(0), 1.0 + apart, 6.0, 2.0


def _by_root(condition: float) -> float:
    return 1 + _BY_ROOT * _DIGITS * (float(np.sqrt(max(condition, 1))) - 1)


def _by_variation(ratio: float) -> float:
    ratio = max(ratio, 1.0)
    slow = _BY_ROOT * (float(np.sqrt(ratio)) - 1)
    return 1 + _DIGITS * max(_BY_LOGARITHM * float(np.sqrt(np.log(ratio))), slow)


def _by_flow(number: float) -> float:
    return _BY_FLOW * _DIGITS * number


def _flow(s: Structure, axis: int) -> float:
    """How much flow there is on an axis, where nothing is inverted."""
    return s.flow[axis] / (1 + float(np.sqrt(s.diffusion[axis])) / 2)


def _left_over(s: Structure, axis: int) -> float:
    """How much more flow than diffusion does on an axis, where diffusion is inverted."""
    return s.flow[axis] / (1 + 2 * float(np.sqrt(s.diffusion[axis])))


def _without(s: Structure, axis: int | None) -> float:
    """The condition that is left where lines along an axis, or single cells, are inverted."""
    squares = [n**2 for a, n in enumerate(s.cells) if a != axis]
    every = [n * np.pi / size for n, size in zip(s.cells, s.shape, strict=True) if size > 1]
    slowest = min(every, default=0.0) ** 2
    return (1 + 2 * sum(squares)) * 2 / (1 + slowest)


def _evenness(s: Structure) -> float:
    stiff = max(s.diffusion)
    return _FEW_STIFF if max(s.cells) < 0.8 * min(np.sqrt(stiff), max(s.shape)) else 1.0
