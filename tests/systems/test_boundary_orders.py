r"""Every condition with every term on every kind of grid: manufactured solutions and their order.

A field solves $u - L u = u_e - L_e u_e$ with the discrete $L$ on the left and the exact one on the
right. All fields of a grid are assembled at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from contracts import final_classes

from impindiff.coefficients import Closure
from impindiff.grid import Axis, Grid
from impindiff.linear import Stencil
from impindiff.systems import AffineTendency, Field, System
from impindiff.terms import (
    AbstractBoundary,
    AbstractTerm,
    Advection,
    Diffusion,
    Dirichlet,
    Flux,
    Inflow,
    Neumann,
    NoFlux,
    Outflow,
    Robin,
)

TRANSFER, SPREAD = 0.7, 0.25
SCHEMES: dict[Any, int] = {"diffusion": 2, "central": 2, "upwind": 1}
CELLS = {1: 48, 2: 24, 3: 14}


def uneven(name: str, lower: float, upper: float, cells: int) -> Axis:
    """A smooth map of equal cells: widths vary by a factor of two."""
    even = np.linspace(0, 1, cells + 1)
    place = even - 0.35 * np.sin(np.pi * even) ** 2 / np.pi
    return Axis.from_faces(name, lower + (upper - lower) * place)


MADE: dict[str, Callable[[int, int], Grid]] = {
    "even": lambda axes, n: Grid([Axis(a, 0, 1, n) for a in "xyz"[:axes]]),
    "stretched": lambda axes, n: Grid([uneven(a, 0, 1, n) for a in "xyz"[:axes]]),
    "ring": lambda axes, n: Grid(
        [Axis("r", 0.5, 1.5, n), uneven("z", 0, 1, n)][:axes], "cylindrical"
    ),
    "disc": lambda axes, n: Grid([uneven("r", 0, 1, n), Axis("z", 0, 1, n)][:axes], "cylindrical"),
    "shell": lambda _, n: Grid([uneven("r", 0.5, 1.5, n)], "spherical"),
    "ball": lambda _, n: Grid([Axis("r", 0, 1, n)], "spherical"),
}
GRIDS = [(kind, axes) for kind in ("even", "stretched") for axes in (1, 2, 3)]
GRIDS += [(kind, axes) for kind in ("ring", "disc") for axes in (1, 2)]
GRIDS += [("shell", 1), ("ball", 1)]
# How many directions a surface at a radius curves in.
CURVED = {"cartesian": 0, "cylindrical": 1, "spherical": 2}
# What others of every run contain goes with the slow tests.
_LONG = {("even", 2), ("even", 3), ("stretched", 3), ("ring", 1), ("disc", 2), ("stretched", 2)}


class Exact:
    r"""A field $u = 2 + \sum_a f(x_a)$ with velocities $v_a(x_a)$ and a diffusivity."""

    def __init__(self, condition: str, scheme: str, grid: Grid) -> None:
        # Conditions that leave no choice want a field that is flat at the ends, and a wall
        # wants a flow along it.
        self.walled = condition == "no-flux"
        self.flat = self.walled or condition == "outflow"
        self.names = grid.names
        self.lowers = [axis.lower for axis in grid.axes]
        self.moves, self.curved = scheme != "diffusion", CURVED[grid.coordinates]
        self.centred = not grid.has_end(0, 0)
        # What is of first order has to show beside what is of second.
        self.spread = {"upwind": SPREAD}.get(scheme, 1.0)

    def f(self, axis: int, x, order: int = 0):
        at = x[axis] - self.lowers[axis]
        if self.flat:
            return 0.3 * np.pi**order * jnp.cos(np.pi * (at + order / 2))
        if self.centred and axis == 0:  # even at the axis of symmetry, or the centre
            return 1.7**order * jnp.cos(1.7 * at + order * np.pi / 2)
        return 1.3**order * jnp.sin(1.3 * at + 0.6 + order * np.pi / 2)

    def u(self, *x):
        return 2 + sum(self.f(axis, x) for axis in range(len(x)))

    def v(self, axis: int, x, order: int = 0):
        at = x[axis] - self.lowers[axis]
        if self.walled:
            return 0.5 * np.pi**order * jnp.sin(np.pi * (at + order / 2))
        if self.centred and axis == 0:
            return (0.5 * at, 0.5)[order]
        return (0.7 - 0.1 * at, -0.1)[order]

    def velocity(self, *x):
        return tuple(self.v(axis, x) for axis in range(len(x)))

    def diffusivity(self, *x):
        return self.spread * (1 + 0.3 * sum(jnp.cos(a) for a in x) / len(x))

    def rate(self, *x):
        """With $(r^n f)'/r^n = f' + n f/r$ for fluxes along a radius."""
        total = jnp.zeros_like(x[0])
        for axis, a in enumerate(x):
            along = self.diffusivity(*x) * self.f(axis, x, 1)
            total += self.diffusivity(*x) * self.f(axis, x, 2)
            total -= self.spread * 0.3 / len(x) * jnp.sin(a) * self.f(axis, x, 1)
            if self.moves:
                along -= self.v(axis, x) * self.u(*x)
                total -= self.v(axis, x, 1) * self.u(*x) + self.v(axis, x) * self.f(axis, x, 1)
            total += self.curved * along / a if axis == 0 else 0
        return total

    def end(self, axis: int, side: int) -> "End":
        outward = 1 if side else -1

        def slope(*x):
            return outward * self.f(axis, x, 1)

        def speed(*x):
            return outward * self.v(axis, x) if self.moves else 0.0

        def timed(function):
            return Closure(lambda t, *x: function(*x), fields=("t", *self.names))

        return End(
            value=timed(self.u),
            slope=timed(slope),
            flux=timed(lambda *x: speed(*x) * self.u(*x) - self.diffusivity(*x) * slope(*x)),
            ambient=timed(lambda *x: self.u(*x) + self.diffusivity(*x) * slope(*x) / TRANSFER),
            upstream=timed(lambda *x: self.u(*x) - self.diffusivity(*x) * slope(*x) / speed(*x)),
            is_inlet=side == 0,
        )


class End(NamedTuple):
    """What the exact field has at one end, as functions of the place."""

    value: Closure
    slope: Closure
    flux: Closure
    ambient: Closure
    upstream: Closure
    is_inlet: bool


CONDITIONS: dict[str, Callable[[End], AbstractBoundary]] = {
    "dirichlet": lambda end: Dirichlet(end.value),
    "neumann": lambda end: Neumann(end.slope),
    "flux": lambda end: Flux(end.flux),
    "robin": lambda end: Robin(TRANSFER, end.ambient),
    "inflow": lambda end: Inflow(end.upstream) if end.is_inlet else Dirichlet(end.value),
    "outflow": lambda end: Outflow(),
    "no-flux": lambda end: NoFlux(),
}


def test_every_condition_is_under_contract():
    ends = [Exact("", "upwind", Grid([Axis("x", 0, 1, 4)])).end(0, side) for side in (0, 1)]
    found = {type(make(end)) for make in CONDITIONS.values() for end in ends}
    assert found == final_classes(AbstractBoundary)


def matrix(stencil: Stencil, shape: tuple[int, ...]):
    """The stencil as a sparse matrix; what would wrap around is zero, and checked to be."""
    stencil, cells = jax.tree.map(np.asarray, stencil), np.arange(np.prod(shape)).reshape(shape)
    total = scipy.sparse.diags_array(np.ravel(stencil.centre)).tocsr()
    for axis, pair in enumerate(stencil.sides):
        for offset, side in zip((1, -1), pair, strict=True):
            assert not np.take(side, 0 if offset == 1 else -1, axis).any()
            other = np.roll(cells, offset, axis)
            total += scipy.sparse.csr_array((np.ravel(side), (cells.ravel(), other.ravel())))
    return total


def errors(kind: str, axes: int, cells: int) -> dict[str, float]:
    grid = MADE[kind](axes, cells)
    centres = tuple(map(jnp.asarray, grid.centres()))
    exact, fields = {}, {}
    for condition in CONDITIONS:
        for scheme in SCHEMES:
            if condition == "inflow" and (kind in ("disc", "ball") or scheme == "diffusion"):
                continue
            name = f"{condition}, {scheme}"
            one = exact[name] = Exact(condition, scheme, grid)
            terms: list[AbstractTerm] = [Diffusion(one.diffusivity(*centres))]
            if one.moves:
                terms.append(Advection(jnp.stack(one.velocity(*centres)), scheme))
            ends = {
                axis.name: [
                    CONDITIONS[condition](one.end(k, side))
                    for side in (0, 1)
                    if grid.has_end(k, side)
                ]
                for k, axis in enumerate(grid.axes)
            }
            fields[name] = Field(terms, ends)
    system = System(grid, fields)
    tendency = system.prepare(jnp.dtype("float64")).at(jnp.zeros(()))
    assert isinstance(tendency, AffineTendency)
    volumes, found = grid.cell_volumes(), {}
    constant = tendency({name: jnp.zeros(grid.shape) for name in exact})
    for name, stencil in tendency.stencils.items():
        assert stencil is not None
        one = exact[name]
        truth, rate = (np.asarray(f(*centres)) for f in (one.u, one.rate))
        operator = scipy.sparse.eye_array(truth.size) - matrix(stencil, grid.shape)
        rhs = (truth - rate + np.asarray(constant[name])).ravel()
        solved, failed = scipy.sparse.linalg.bicgstab(operator, rhs, truth.ravel(), rtol=1e-9)
        assert not failed
        off = (solved.reshape(grid.shape) - truth) ** 2
        found[name] = float(np.sqrt((off * volumes).sum() / volumes.sum()))
    return found


@pytest.mark.thorough
@pytest.mark.parametrize(
    "kind, axes",
    [pytest.param(*each, marks=[pytest.mark.slow] * (each in _LONG)) for each in GRIDS],
)
def test_every_condition_reaches_the_order_of_its_scheme(kind: str, axes: int):
    coarse, fine = (errors(kind, axes, CELLS[axes] * factor) for factor in (1, 2))
    orders = {name: float(np.log2(coarse[name] / fine[name])) for name in coarse}
    wanted = {name: SCHEMES[name.split(", ")[1]] for name in orders}
    off = {name: order for name, order in orders.items() if abs(order - wanted[name]) > 0.1}
    assert not off, off
