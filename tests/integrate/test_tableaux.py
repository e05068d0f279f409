"""The numbers of the methods satisfy what theory asks of them, tree by tree."""

import itertools

import numpy as np
import pytest

from impindiff.integrate import ESDIRK3, ESDIRK4, ESDIRK5, SDIRK2

TABLEAUX = [make().tableau for make in (SDIRK2, ESDIRK3, ESDIRK4, ESDIRK5)]
EMBEDDED = [tableau for tableau in TABLEAUX if tableau.embedded]
ROUND_OFF = 1e-14

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


@pytest.mark.parametrize("tableau", TABLEAUX, ids=lambda tableau: tableau.name)
def test_the_end_is_of_its_order_and_no_more(tableau):
    for order in range(1, tableau.order + 1):
        assert max(defects(tableau.weights, tableau.matrix, order)) < ROUND_OFF
    assert max(defects(tableau.weights, tableau.matrix, tableau.order + 1)) > 1e-4


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
