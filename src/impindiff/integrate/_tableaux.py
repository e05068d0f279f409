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
class ExplicitTableau:
    r"""An explicit method.

    Attributes:
        name: of the method, for messages.
        order: of the end.
        rows: $a_{ij}$ left of the diagonal, a row for each stage. The first is empty.
        weights: $b$.
        embedded: $\hat b$; None where there is no other end.
    """

    name: str
    order: int
    rows: tuple[tuple[float, ...], ...] = field(repr=False)
    weights: tuple[float, ...] = field(repr=False)
    embedded: tuple[float, ...] | None = field(repr=False, default=None)

    @property
    def matrix(self) -> np.ndarray:
        """$A$, shape `(stages, stages)`."""
        size = len(self.rows)
        return np.array([[*row, *[0.0] * (size - len(row))] for row in self.rows])

    @property
    def nodes(self) -> np.ndarray:
        """$c$, the sums of the rows of $A$; rounding puts none of them behind the end."""
        return np.minimum(self.matrix.sum(axis=1), 1.0)

    @property
    def reach(self) -> int:
        """To the rates of how many stages before it a stage looks back."""
        stages, columns = np.nonzero(self.matrix)
        return int(np.max(stages - columns, initial=0))

    @property
    def rows_back(self) -> np.ndarray:
        r"""$a_{i,i-k}$ for $k = 1, 2, \dots$, shape `(stages, reach)`."""
        stages, steps = np.indices((len(self.rows), self.reach))
        columns = stages - steps - 1
        return np.where(columns < 0, 0.0, self.matrix[stages, columns])

    @property
    def stability_limit(self) -> float:
        r"""The largest $x$ with $|R(-y)| \le 1$ for all $y \in [0, x]$, $R$ as a step amplifies.

        $R(z) = 1 + \sum_{k \ge 1} z^k\, b^T A^{k - 1} 1$.
        """
        size, of_stage = len(self.rows), np.ones(len(self.rows))
        coefficients = [1.0]
        for _ in range(size):
            coefficients.append(float(np.array(self.weights) @ of_stage))
            of_stage = self.matrix @ of_stage
        amplification = np.polynomial.Polynomial(coefficients)(np.polynomial.Polynomial([0, -1]))
        ends = np.concatenate([(amplification - 1).roots(), (amplification + 1).roots()])
        ends = np.sort(ends.real[(np.abs(ends.imag) < 1e-9) & (ends.real > 1e-6)])
        return next(float(x) for x in ends if abs(amplification(1.001 * x)) > 1)


FORWARD_EULER_TABLEAU = ExplicitTableau("ForwardEuler", order=1, rows=((),), weights=(1.0,))

RUNGE_KUTTA4_TABLEAU = ExplicitTableau(
    "RungeKutta4",
    order=4,
    rows=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
)

# P. Bogacki, L. F. Shampine, Appl. Math. Lett. 2 (1989) 321.
BOGACKI_SHAMPINE3_TABLEAU = ExplicitTableau(
    "BogackiShampine3",
    order=3,
    rows=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    weights=(2 / 9, 1 / 3, 4 / 9, 0.0),
    embedded=(7 / 24, 1 / 4, 1 / 3, 1 / 8),
)

# Ch. Tsitouras, Comput. Math. Appl. 62 (2011) 770, table 1. The last row of $A$ is $b$.
_TSITOURAS5 = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
)
# The publication gives the embedded weights by how far they differ from those of the end.
_TSITOURAS5_DIFFERENCE = (
    -0.00178001105222577714,
    -0.0008164344596567469,
    0.007880878010261995,
    -0.1447110071732629,
    0.5823571654525552,
    -0.45808210592918697,
    1 / 66,
)
TSITOURAS5_TABLEAU = ExplicitTableau(
    "Tsitouras5",
    order=5,
    rows=(
        (),
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (
            5.86145544294642,
            -12.92096931784711,
            8.159367898576159,
            -0.071584973281401,
            -0.028269050394068383,
        ),
        _TSITOURAS5,
    ),
    weights=(*_TSITOURAS5, 0.0),
    embedded=tuple(b - d for b, d in zip((*_TSITOURAS5, 0.0), _TSITOURAS5_DIFFERENCE, strict=True)),
)


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


@final
@dataclass(frozen=True)
class AdditiveTableau:
    r"""An implicit-explicit method: stages at the same times, and ends of the same weights.

    Attributes:
        name: of the method, for messages.
        implicit: its implicit half.
        rows: of its explicit half, $a_{ij}$ left of the diagonal, a row for each stage.
    """

    name: str
    implicit: DiagonallyImplicitTableau
    rows: tuple[tuple[float, ...], ...] = field(repr=False)

    @property
    def explicit(self) -> ExplicitTableau:
        """Its explicit half."""
        weights = tuple(self.implicit.weights.tolist())
        return ExplicitTableau(self.name, self.implicit.order, self.rows, weights)


_GAMMA_2 = 1 - 0.5**0.5
SDIRK2_TABLEAU = DiagonallyImplicitTableau(
    "SDIRK2",
    order=2,
    rows=((), (1 - _GAMMA_2,)),
    gamma=_GAMMA_2,
    begins_explicitly=False,
)

# The three that follow are the implicit halves of additive methods, whose explicit halves stand at
# the end: C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44 (2003) 139, appendices C and D:
# ARK3(2)4L[2]SA, ARK4(3)6L[2]SA and ARK5(4)8L[2]SA.
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

ARK3_TABLEAU = AdditiveTableau(
    "ARK3",
    ESDIRK3_TABLEAU,
    rows=(
        (),
        (1767732205903 / 2027836641118,),
        (5535828885825 / 10492691773637, 788022342437 / 10882634858940),
        (
            6485989280629 / 16251701735622,
            -4246266847089 / 9704473918619,
            10755448449292 / 10357097424841,
        ),
    ),
)

ARK4_TABLEAU = AdditiveTableau(
    "ARK4",
    ESDIRK4_TABLEAU,
    rows=(
        (),
        (1 / 2,),
        (13861 / 62500, 6889 / 62500),
        (
            -116923316275 / 2393684061468,
            -2731218467317 / 15368042101831,
            9408046702089 / 11113171139209,
        ),
        (
            -451086348788 / 2902428689909,
            -2682348792572 / 7519795681897,
            12662868775082 / 11960479115383,
            3355817975965 / 11060851509271,
        ),
        (
            647845179188 / 3216320057751,
            73281519250 / 8382639484533,
            552539513391 / 3454668386233,
            3354512671639 / 8306763924573,
            4040 / 17871,
        ),
    ),
)

ARK5_TABLEAU = AdditiveTableau(
    "ARK5",
    ESDIRK5_TABLEAU,
    rows=(
        (),
        (41 / 100,),
        (367902744464 / 2072280473677, 677623207551 / 8224143866563),
        (1268023523408 / 10340822734521, 0.0, 1029933939417 / 13636558850479),
        (
            14463281900351 / 6315353703477,
            0.0,
            66114435211212 / 5879490589093,
            -54053170152839 / 4284798021562,
        ),
        (
            14090043504691 / 34967701212078,
            0.0,
            15191511035443 / 11219624916014,
            -18461159152457 / 12425892160975,
            -281667163811 / 9011619295870,
        ),
        (
            19230459214898 / 13134317526959,
            0.0,
            21275331358303 / 2942455364971,
            -38145345988419 / 4862620318723,
            -1 / 8,
            -1 / 8,
        ),
        (
            -19977161125411 / 11928030595625,
            0.0,
            -40795976796054 / 6384907823539,
            177454434618887 / 12078138498510,
            782672205425 / 8267701900261,
            -69563011059811 / 9646580694205,
            7356628210526 / 4942186776405,
        ),
    ),
)
