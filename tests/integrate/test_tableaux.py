"""The numbers of the methods satisfy what theory asks of them, tree by tree."""

import itertools
import math

import numpy as np
import pytest

from impindiff.integrate import (
    ARK3,
    ARK4,
    ARK5,
    ESDIRK3,
    ESDIRK4,
    ESDIRK5,
    SDIRK2,
    BogackiShampine3,
    ForwardEuler,
    RungeKutta4,
    Tsitouras5,
)

TABLEAUX = [make().tableau for make in (SDIRK2, ESDIRK3, ESDIRK4, ESDIRK5)]
EXPLICIT = [make().tableau for make in (ForwardEuler, RungeKutta4, BogackiShampine3, Tsitouras5)]
ADDITIVE = [make().tableau for make in (ARK3, ARK4, ARK5)]
EMBEDDED = [tableau for tableau in TABLEAUX + EXPLICIT if tableau.embedded]
# Of sums of numbers of either sign that are of the size of ten.
ROUND_OFF = 3e-14

Tree = tuple["Tree", ...]


def partitions(total: int, most: int) -> list[list[int]]:
    """All ways to write a number as a sum, largest part first."""
    if not total:
        return [[]]
    return [
        [part, *rest]
        for part in range(min(total, most), 0, -1)
        for rest in partitions(total - part, part)
    ]


def trees(size: int) -> set[Tree]:
    """All rooted trees of so many nodes; a tree is the sorted tuple of those on its root."""
    return {
        tuple(sorted(branches))
        for parts in partitions(size - 1, size - 1)
        for branches in itertools.product(*(sorted(trees(part)) for part in parts))
    }


def size_of(tree: Tree) -> int:
    return 1 + sum(map(size_of, tree))


def density(tree: Tree) -> int:
    return size_of(tree) * int(np.prod([density(branch) for branch in tree]))


def elementary_weight(tree: Tree, matrix: np.ndarray) -> np.ndarray:
    weights = np.ones(len(matrix))
    for branch in tree:
        weights = weights * (matrix @ elementary_weight(branch, matrix))
    return weights


def defects(weights: np.ndarray, matrix: np.ndarray, order: int) -> list[float]:
    """What is missing in each condition of an order (Hairer, Noersett & Wanner I, II.2)."""
    return [
        abs(float(weights @ elementary_weight(tree, matrix)) - 1 / density(tree))
        for tree in trees(order)
    ]


def test_there_are_as_many_conditions_as_butcher_counted():
    assert [len(trees(order)) for order in range(1, 7)] == [1, 1, 2, 4, 9, 20]


@pytest.mark.parametrize("tableau", TABLEAUX + EXPLICIT, ids=lambda tableau: tableau.name)
def test_the_end_is_of_its_order_and_no_more(tableau):
    weights = np.array(tableau.weights)
    for order in range(1, tableau.order + 1):
        assert max(defects(weights, tableau.matrix, order)) < ROUND_OFF
    assert max(defects(weights, tableau.matrix, tableau.order + 1)) > 1e-4


@pytest.mark.parametrize("tableau", EMBEDDED, ids=lambda tableau: tableau.name)
def test_the_other_end_is_of_an_order_less(tableau):
    weights = np.array(tableau.embedded)
    for order in range(1, tableau.order):
        assert max(defects(weights, tableau.matrix, order)) < ROUND_OFF
    assert max(defects(weights, tableau.matrix, tableau.order)) > 1e-4


@pytest.mark.parametrize("tableau", TABLEAUX, ids=lambda tableau: tableau.name)
def test_stable_in_the_left_half_plane_and_damping_at_infinity(tableau):
    r"""$R(z) = 1 + z b^T (1 - z A)^{-1} 1$, at most 1 on the imaginary axis, and 0 far away."""
    matrix, ones = tableau.matrix, np.ones(len(tableau.matrix))

    def amplification(z: complex) -> complex:
        return 1 + z * tableau.weights @ np.linalg.solve(np.eye(len(ones)) - z * matrix, ones)

    heights = np.geomspace(1e-3, 1e6, 400)
    assert max(abs(amplification(1j * height)) for height in heights) < 1 + 1e-10
    assert abs(amplification(-1e6)) < 1e-4


@pytest.mark.parametrize("tableau", TABLEAUX, ids=lambda tableau: tableau.name)
def test_stages_have_one_weight_and_the_last_is_the_end(tableau):
    diagonal = np.diag(tableau.matrix)[int(tableau.begins_explicitly) :]
    np.testing.assert_array_equal(diagonal, tableau.gamma)
    np.testing.assert_array_equal(tableau.weights, tableau.matrix[-1])
    assert tableau.nodes[-1] == 1.0


@pytest.mark.parametrize("tableau", EXPLICIT, ids=lambda tableau: tableau.name)
def test_explicit_stages_look_back_only(tableau):
    np.testing.assert_array_equal(np.triu(tableau.matrix), 0)
    assert tableau.nodes[0] == 0.0 and tableau.nodes.max() <= 1.0
    found = np.zeros_like(tableau.matrix)
    for stage, row in enumerate(tableau.rows_back):
        for back, entry in enumerate(row[:stage], start=1):
            found[stage, stage - back] = entry
    np.testing.assert_array_equal(found, tableau.matrix)


def test_how_far_explicit_methods_are_stable():
    r"""Of $s$ stages and order $s$, $R$ is the sum of the exponential series: its roots."""
    euler, classical, bogacki, _ = (tableau.stability_limit for tableau in EXPLICIT)
    assert euler == pytest.approx(2, rel=1e-12)
    for limit, order in ((classical, 4), (bogacki, 3)):
        series = sum((-limit) ** k / math.factorial(k) for k in range(order + 1))
        assert abs(series) == pytest.approx(1, rel=1e-9)


def coloured_weights(tree: Tree, matrices: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Those of a tree for all ways in which each of its branches can be of either matrix."""
    found = [np.ones(len(matrices[0]))]
    for branch in tree:
        inner = coloured_weights(branch, matrices)
        found = [w * (matrix @ v) for w in found for v in inner for matrix in matrices]
    return found


@pytest.mark.parametrize("tableau", ADDITIVE, ids=lambda tableau: tableau.name)
def test_both_halves_together_are_of_their_order(tableau):
    """So are the two ends, an order apart, with all conditions of one half in the other."""
    matrices = tableau.implicit.matrix, tableau.explicit.matrix
    np.testing.assert_allclose(*(matrix.sum(axis=1) for matrix in matrices), atol=ROUND_OFF)
    np.testing.assert_array_equal(np.triu(matrices[1]), 0)
    ends = (
        (tableau.implicit.weights, tableau.implicit.order),
        (np.array(tableau.implicit.embedded), tableau.implicit.order - 1),
    )
    for weights, last in ends:
        for tree in itertools.chain.from_iterable(trees(size) for size in range(1, last + 1)):
            of_tree = coloured_weights(tree, matrices)
            assert len(of_tree) == 2 ** (size_of(tree) - 1)
            for each in of_tree:
                assert weights @ each == pytest.approx(1 / density(tree), abs=ROUND_OFF)


@pytest.mark.parametrize("tableau", TABLEAUX, ids=lambda tableau: tableau.name)
def test_stages_start_where_polynomials_through_the_rates_so_far_lead(tableau):
    """Exactly so where the rate is a polynomial of a degree below the number of rates used."""
    for row, end in zip(tableau.extrapolation, tableau.nodes, strict=True):
        used = np.flatnonzero(row)
        for degree in range(len(used)):
            exact = end ** (degree + 1) / (degree + 1)
            assert row @ tableau.nodes**degree == pytest.approx(exact, abs=1e-12)
        assert np.abs(row).sum() <= 3
    # The first of the implicit stages has nothing to go by but the rate at the step's start.
    first = int(tableau.begins_explicitly)
    assert not tableau.extrapolation[: first + 1].any()
    assert all(row.any() for row in tableau.extrapolation[first + 1 :])
