r"""Runge-Kutta methods as tables of numbers: $A$, $b$, $\hat b$ and $c$.

The stages of a step from $u_0$ and its end are

$$ q(U_i) = q(u_0) + \Delta t \sum_{j \le i} a_{ij}\,F(t_0 + c_j \Delta t, U_j), \qquad
   q(u_1) = q(u_0) + \Delta t \sum_j b_j\,F(t_0 + c_j \Delta t, U_j). $$

$\hat b$ gives another end, of an order less; the difference of the two is the estimate of the error
of the step.
"""

from dataclasses import dataclass, field
from itertools import combinations
from typing import final

import numpy as np


@final
@dataclass(frozen=True)
class DiagonallyImplicitTableau:
    r"""A diagonally implicit method, stiffly accurate: the last stage is the step's end.

    Attributes:
        name: of the method, for messages.
        order: of the end.
        rows: $a_{ij}$ left of the diagonal, a row for each stage. The first is empty.
        gamma: $\gamma = a_{ii}$, the same for all implicit stages, which then share what
            approximates the inverse of their systems.
        begins_explicitly: whether the first stage is $U_1 = u_0$, so that $a_{11} = 0$.
        embedded: $\hat b$, of a method that begins explicitly; None where it has none.
    """

    name: str
    order: int
    rows: tuple[tuple[float, ...], ...] = field(repr=False)
    gamma: float = field(repr=False)
    begins_explicitly: bool = field(repr=False)
    embedded: tuple[float, ...] | None = field(repr=False, default=None)

    @property
    def matrix(self) -> np.ndarray:
        """$A$, shape `(stages, stages)`."""
        size = len(self.rows)
        matrix = np.zeros((size, size))
        for stage, row in enumerate(self.rows):
            matrix[stage, :stage] = row
            matrix[stage, stage] = self.gamma if stage or not self.begins_explicitly else 0.0
        return matrix

    @property
    def weights(self) -> np.ndarray:
        """$b$, the last row of $A$."""
        return self.matrix[-1]

    @property
    def nodes(self) -> np.ndarray:
        """$c$, the sums of the rows of $A$; the last is 1, whatever its sum is rounded to."""
        return np.append(self.matrix[:-1].sum(axis=1), 1.0)

    @property
    def extrapolation(self) -> np.ndarray:
        r"""Of each stage the weights of the rates before it that lead near to its state.

        $\int_0^{c_i} \ell_j(s)\,ds$ of a polynomial that interpolates as many of these as it can
        without large weights. Nothing from the rate at the step's start alone, in which what was
        left over before is multiplied by the fastest rate of the system.
        """
        count, nodes = len(self.rows), self.nodes
        found = np.zeros((count, count))
        for stage in range(1 + self.begins_explicitly, count):
            tried = [
                (np.abs(weights).sum(), list(chosen), weights)
                for size in range(stage, 0, -1)
                for chosen in combinations(range(stage), size)
                for weights in [_integrated(nodes[list(chosen)], nodes[stage])]
            ]
            small = [each for each in tried if each[0] <= _LARGEST_WEIGHTS]
            most = max(len(chosen) for _, chosen, _ in small)
            _, chosen, weights = min(each for each in small if len(each[1]) == most)
            found[stage, chosen] = weights
        return found


# What the magnitudes of extrapolating weights may add up to.
_LARGEST_WEIGHTS = 3.0


def _integrated(nodes: np.ndarray, end: float) -> np.ndarray:
    """The integrals, from 0 to an end, of the polynomials that are 1 at one node, 0 at others."""
    weights = []
    for number, node in enumerate(nodes):
        others = np.delete(nodes, number)
        basis = np.poly1d(others, r=True) / np.prod(node - others)
        weights.append(np.polyval(np.polyint(basis), end))
    return np.array(weights)


_GAMMA_2 = 1 - 0.5**0.5
SDIRK2_TABLEAU = DiagonallyImplicitTableau(
    "SDIRK2",
    order=2,
    rows=((), (1 - _GAMMA_2,)),
    gamma=_GAMMA_2,
    begins_explicitly=False,
)

# The three that follow are the implicit halves of additive methods: C. A. Kennedy, M. H. Carpenter,
# Appl. Numer. Math. 44 (2003) 139, appendices C and D: ARK3(2)4L[2]SA, ARK4(3)6L[2]SA and
# ARK5(4)8L[2]SA.
ESDIRK3_TABLEAU = DiagonallyImplicitTableau(
    "ESDIRK3",
    order=3,
    rows=(
        (),
        (1767732205903 / 4055673282236,),
        (2746238789719 / 10658868560708, -640167445237 / 6845629431997),
        (
            1471266399579 / 7840856788654,
            -4482444167858 / 7529755066697,
            11266239266428 / 11593286722821,
        ),
    ),
    gamma=1767732205903 / 4055673282236,
    begins_explicitly=True,
    embedded=(
        2756255671327 / 12835298489170,
        -10771552573575 / 22201958757719,
        9247589265047 / 10645013368117,
        2193209047091 / 5459859503100,
    ),
)

ESDIRK4_TABLEAU = DiagonallyImplicitTableau(
    "ESDIRK4",
    order=4,
    rows=(
        (),
        (1 / 4,),
        (8611 / 62500, -1743 / 31250),
        (5012029 / 34652500, -654441 / 2922500, 174375 / 388108),
        (
            15267082809 / 155376265600,
            -71443401 / 120774400,
            730878875 / 902184768,
            2285395 / 8070912,
        ),
        (82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211),
    ),
    gamma=1 / 4,
    begins_explicitly=True,
    embedded=(
        4586570599 / 29645900160,
        0.0,
        178811875 / 945068544,
        814220225 / 1159782912,
        -3700637 / 11593932,
        61727 / 225920,
    ),
)

ESDIRK5_TABLEAU = DiagonallyImplicitTableau(
    "ESDIRK5",
    order=5,
    rows=(
        (),
        (41 / 200,),
        (41 / 400, -567603406766 / 11931857230679),
        (683785636431 / 9252920307686, 0.0, -110385047103 / 1367015193373),
        (
            3016520224154 / 10081342136671,
            0.0,
            30586259806659 / 12414158314087,
            -22760509404356 / 11113319521817,
        ),
        (
            218866479029 / 1489978393911,
            0.0,
            638256894668 / 5436446318841,
            -1179710474555 / 5321154724896,
            -60928119172 / 8023461067671,
        ),
        (
            1020004230633 / 5715676835656,
            0.0,
            25762820946817 / 25263940353407,
            -2161375909145 / 9755907335909,
            -211217309593 / 5846859502534,
            -4269925059573 / 7827059040749,
        ),
        (
            -872700587467 / 9133579230613,
            0.0,
            0.0,
            22348218063261 / 9555858737531,
            -1143369518992 / 8141816002931,
            -39379526789629 / 19018526304540,
            32727382324388 / 42900044865799,
        ),
    ),
    gamma=41 / 200,
    begins_explicitly=True,
    embedded=(
        -975461918565 / 9796059967033,
        0.0,
        0.0,
        78070527104295 / 32432590147079,
        -548382580838 / 3424219808633,
        -33438840321285 / 15594753105479,
        3629800801594 / 4656183773603,
        4035322873751 / 18575991585200,
    ),
)
