"""The matrix of a finite-volume scheme, by loops: another way to the same answer."""

import numpy as np


def conductance_matrix(k: np.ndarray) -> np.ndarray:
    """Of $-\\nabla\\cdot(k\\,\\nabla u)$ on a unit square or line, $u = 0$ at all ends.

    Faces have the harmonic mean. An outer face has what the two cells before it lead to, at least
    half and at most twice that of the cell.
    """
    number = np.arange(k.size).reshape(k.shape)
    matrix = np.zeros((k.size, k.size))
    for axis, count in enumerate(k.shape):
        cells, values = np.moveaxis(number, axis, 0), np.moveaxis(k, axis, 0)
        between = 2 * values[1:] * values[:-1] / (values[1:] + values[:-1]) * count**2
        one, other, rate = (a.ravel() for a in (cells[:-1], cells[1:], between))
        np.add.at(matrix, (one, one), rate)
        np.add.at(matrix, (other, other), rate)
        np.add.at(matrix, (one, other), -rate)
        np.add.at(matrix, (other, one), -rate)
        for end, inner in ((0, 1), (-1, -2)):
            led_to = 1.5 * values[end] - 0.5 * values[inner]
            at_face = np.clip(led_to, values[end] / 2, 2 * values[end])
            beside = np.ravel(cells[end])
            np.add.at(matrix, (beside, beside), 2 * count**2 * np.ravel(at_face))
    return matrix
