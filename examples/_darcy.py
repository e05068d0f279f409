"""Steady flow of groundwater by Darcy's law, on the faces of a grid."""

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

import impindiff as ipd


def darcy(grid: ipd.Grid, permeability: np.ndarray, drop: float) -> list[np.ndarray]:
    r"""Velocities $\mathbf v = -K \nabla h$ at the faces, with as much out of each cell as in.

    The head is held on the left and the right, `drop` apart. Nothing passes walls and solid cells.
    """
    resistance = np.where(grid.solid, np.inf, 1 / permeability)
    ends, walls = ((1, 1), (0, 0)), ((0, 0), (1, 1))
    (width, height), size = grid.cell_widths, resistance.size
    along_x, along_y = np.pad(resistance, ends), np.pad(resistance, walls, constant_values=np.inf)
    k_x = 2 / width / (along_x[1:] + along_x[:-1])
    k_y = 2 / height / (along_y[:, 1:] + along_y[:, :-1])

    def velocity(head, held):
        outside = np.pad(head, ends, constant_values=((held, 0.0), (0.0, 0.0)))
        return [-k_x * np.diff(outside, axis=0), -k_y * np.diff(np.pad(head, walls), axis=1)]

    def outflow(head, held=0.0):
        v_x, v_y = velocity(head.reshape(grid.shape), held)
        return (np.diff(v_x, axis=0) / width + np.diff(v_y, axis=1) / height).ravel()

    balance = LinearOperator((size, size), outflow)
    head, failed = cg(balance, -outflow(np.zeros(size), drop), rtol=1e-10)
    if failed:
        raise RuntimeError("the head of the groundwater was not found")
    return velocity(head.reshape(grid.shape), drop)


def in_cells(faces: list[np.ndarray]) -> np.ndarray:
    """The mean of the two faces of each cell along each axis, `(axis, *grid.shape)`."""
    v_x, v_y = faces
    return np.stack([(v_x[1:] + v_x[:-1]) / 2, (v_y[:, 1:] + v_y[:, :-1]) / 2])
