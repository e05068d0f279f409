"""Diffusivities that are tensors: exact linear fields, orders, conservation, symmetry, refusals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rates

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.grid import SIDES, Axis, Grid
from impindiff.systems import FluxOf, Supply

DOUBLE = jnp.dtype("float64")
CRANK = ipd.CrankNicolson()
SOLID = lambda x, y: (abs(x - 0.5) < 0.2) & (abs(y - 0.6) < 0.2)  # noqa: E731


def turned(angle: float, first: Any = 1.0, second: Any = 0.01) -> dict[str, Any]:
    c, s = np.cos(angle), np.sin(angle)
    return {
        "x": first * c * c + second * s * s,
        "y": first * s * s + second * c * c,
        "xy": (first - second) * s * c,
    }


def in_space(first: Any = 1.0, second: Any = 0.01) -> dict[str, Any]:
    """One fast direction, oblique to all axes."""
    d = np.array([2.0, -1.0, 1.5]) / np.linalg.norm([2.0, -1.0, 1.5])
    names = "xyz"
    return {
        (names[a] if a == b else names[a] + names[b]): (first - second) * d[a] * d[b]
        + (second if a == b else 0)
        for a in range(3)
        for b in range(a, 3)
    }


def stretched(axes: int, cells: int) -> Grid:
    """Cells of a smooth map, which differ by a factor of two."""
    even = np.linspace(0, 1, cells + 1)
    place = even - 0.35 * np.sin(np.pi * even) ** 2 / np.pi
    return Grid([Axis.from_faces(name, place) for name in "xyz"[:axes]])


def matrix_on(tensor: dict[str, Any], names: tuple[str, ...]):
    def entry(a: str, b: str) -> Any:
        return tensor[a] if a == b else tensor.get(a + b, tensor.get(b + a, 0.0))

    return jnp.stack([jnp.stack([jnp.asarray(entry(a, b), float) for b in names]) for a in names])


CONDITIONS = {
    "held": lambda u, flux: ipd.Dirichlet(u),
    "flux": lambda u, flux: ipd.boundaries.Flux(flux),
    "exchange": lambda u, flux: ipd.Robin(0.8, u - flux / 0.8),
}


def ends_of(grid: Grid, u, flux, conditions: tuple[str, ...]) -> dict[str, Any]:
    """The conditions in turn for the ends of all axes, with what an exact field has there."""
    found, turn = {}, list(conditions) * 6
    for axis, name in enumerate(grid.names):
        pair = []
        for side, _ in enumerate(SIDES):
            index = tuple(-side if k == axis else slice(None) for k in range(grid.num_axes))
            at = jnp.stack([jnp.asarray(p[index]).ravel() for p in grid.face_centres(axis)], -1)
            sign, shape = 2 * side - 1, grid.face_centres(axis)[0][index].shape
            value = jax.vmap(u)(at).reshape(shape)
            passing = sign * jax.vmap(flux)(at)[:, axis].reshape(shape)
            pair.append(CONDITIONS[turn.pop(0)](value, passing))
        found[name] = tuple(pair)
    return found


def field_on(grid: Grid, function) -> jax.Array:
    at = jnp.stack([jnp.asarray(place).ravel() for place in grid.centres()], -1)
    values = jax.vmap(function)(at)
    return values.reshape(*grid.shape, *values.shape[1:])


def rate_of(system: ipd.System, field) -> np.ndarray:
    tendency = system.prepare(DOUBLE).at(jnp.zeros(()))
    return np.asarray(tendency({"u": jnp.asarray(field)})["u"])


@pytest.mark.parametrize(
    "conditions",
    [("held",), ("flux",), ("exchange",), ("held", "flux", "exchange", "flux", "held", "exchange")],
    ids=lambda names: names[0] if len(names) == 1 else "all",
)
@pytest.mark.parametrize("axes", [2, 3])
def test_a_linear_field_stays_as_it_is(axes: int, conditions):
    """Cells and their faces have no error at all, at the ends either, and in corners."""
    grid, tensor = stretched(axes, 5), turned(0.6) if axes == 2 else in_space()
    slope = jnp.array([0.7, -1.1, 0.4])[:axes]
    matrix = matrix_on(tensor, grid.names)
    u = lambda x: 2 + slope @ x  # noqa: E731
    ends = ends_of(grid, u, lambda x: -matrix @ slope, conditions)
    system = ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(tensor)], ends)})
    assert np.abs(rate_of(system, field_on(grid, u))).max() < 1e-12


def test_a_tensor_of_one_number_is_that_number():
    grid = stretched(2, 7)
    field = np.random.default_rng(0).normal(size=grid.shape)
    ends = {"x": (ipd.Dirichlet(1.0), ipd.Robin(0.3, 2.0)), "y": ipd.NoFlux()}

    def rate(diffusivity) -> np.ndarray:
        return rate_of(
            ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(diffusivity)], ends)}), field
        )

    one = rate(0.4)
    for same in (
        {"x": 0.4, "y": 0.4, "xy": 0.0},
        {"xx": 0.4, "yy": lambda x: 0.4 + 0 * x},
        {"y y": np.full(grid.shape, 0.4), "x": 0.4, "x y": 0.0},
        [0.4, lambda x: 0.4 + 0 * x],
        np.array([0.4, 0.4]),
        np.full((2, *grid.shape), 0.4),
    ):
        np.testing.assert_allclose(rate(same), one, rtol=1e-13, atol=1e-12)
    assert np.abs(rate({"x": 0.4, "y": 0.1}) - one).max() > 1


def test_each_axis_of_a_cylinder_has_its_own():
    r"""$u = r^2 / (4 D_r) - z^2 / (2 D_z)$ is steady."""
    grid = Grid([Axis("r", 0, 1, 12), Axis("z", 0, 1, 9)], "cylindrical")
    r, z = grid.centres()
    exact = lambda r, z: r**2 / (4 * 0.5) - z**2 / (2 * 0.02)  # noqa: E731
    ends = {
        "r": ipd.Dirichlet(lambda z: exact(1.0, z)),
        "z": (ipd.Dirichlet(lambda r: exact(r, 0.0)), ipd.Neumann(-1 / 0.02)),
    }
    terms = [ipd.Diffusion({"r": 0.5, "z": 0.02})]
    rate = rate_of(ipd.System(grid, {"u": ipd.Field(terms, ends)}), exact(r, z))
    assert np.abs(rate[1:-1, 1:-1]).max() < 1e-10


def random_tensor(grid: Grid, seed: int) -> dict[str, np.ndarray]:
    """Positive definite in each cell, over four orders of magnitude from cell to cell."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(*grid.shape, grid.num_axes, grid.num_axes))
    root *= 10 ** random.uniform(-2, 2, grid.shape)[..., None, None]
    whole = root @ np.swapaxes(root, -1, -2)
    names = grid.names
    return {
        (names[a] if a == b else names[a] + names[b]): whole[..., a, b]
        for a in range(len(names))
        for b in range(a, len(names))
    }


CLOSED = {
    "ring": Grid.uniform((5, 4), ((0, 1), (0, 1)), periodic=True),
    "channel": Grid.uniform((4, 5), ((0, 1), (0, 1)), periodic=(True, False)),
    "stretched": stretched(2, 5),
    "obstacle": Grid(stretched(2, 6).axes, solid=SOLID),
    "strip": Grid.uniform((5, 1), ((0, 1), (0, 0.3))),
    "box": Grid.uniform((3, 4, 3), ((0, 1), (0, 1), (0, 1)), periodic=(False, True, False)),
}


@pytest.mark.parametrize("mean", ["harmonic", "arithmetic"])
@pytest.mark.parametrize("name", CLOSED)
def test_what_is_closed_conserves_and_dissipates(name: str, mean: Any):
    """The matrix is symmetric and negative semi-definite, however the tensor jumps."""
    grid = CLOSED[name]
    ends = {a.name: ipd.NoFlux() for k, a in enumerate(grid.axes) if grid.has_end(k, 0)}
    terms = [ipd.Diffusion(random_tensor(grid, 3), mean)]
    system = ipd.System(grid, {"u": ipd.Field(terms, ends)})
    tendency: Any = system.prepare(DOUBLE).at(jnp.zeros(()))
    found = jax.jacobian(lambda u: tendency({"u": u})["u"])(jnp.zeros(grid.shape))
    size = int(np.prod(grid.shape))
    matrix = np.asarray(found).reshape(size, size) * grid.cell_volumes().reshape(-1, 1)
    scale = np.abs(matrix).max()
    np.testing.assert_allclose(matrix.sum(0), 0, atol=1e-14 * scale)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-14 * scale)
    assert np.linalg.eigvalsh(matrix).max() < 1e-13 * scale
    # Not of the two cells of a face alone, but for a strip, on which it is.
    linear = jax.jacobian(lambda u: tendency.linear_part({"u": u})["u"])(jnp.zeros(grid.shape))
    moved = np.abs(np.asarray(found) - np.asarray(linear)).max()
    assert moved > 1e-3 * np.abs(np.asarray(found)).max()


def test_a_strip_of_one_cell_diffuses_by_what_is_left_across():
    r"""Where nothing passes the sides $K_{xx} - K_{xy}^2 / K_{yy}$ is what moves anything."""
    tensor = turned(0.5)
    left = tensor["x"] - tensor["xy"] ** 2 / tensor["y"]

    def error(cells: int) -> float:
        strip = Grid.uniform((cells, 1), ((0, 1), (0, 0.2)), periodic=(True, False))
        terms = [ipd.Diffusion(tensor)]
        system = ipd.System(strip, {"u": ipd.Field(terms, {"y": ipd.NoFlux()})})
        wave = np.sin(2 * np.pi * strip.centres()[0])
        return np.abs(rate_of(system, wave) + 4 * np.pi**2 * left * wave).max()

    assert np.log2(error(32) / error(64)) == pytest.approx(2, abs=0.05)


def made_2d(x):
    return jnp.sin(1.7 * x[0] + 0.4) * jnp.cos(1.3 * x[1] - 0.2) + 0.5 * x[0] * x[1]


def made_3d(x):
    return made_2d(x[:2]) + jnp.sin(1.1 * x[2] + 0.3 * x[0])


def steady_error(
    axes: int, cells: int, conditions, slow: float = 0.01, periodic: bool = False
) -> float:
    names = "xyz"[:axes]
    fixed = turned(0.6, 1.0, slow) if axes == 2 else in_space(1.0, slow)
    if periodic:
        grid = Grid([Axis(name, 0, 1, cells, periodic=True) for name in names])
        u = lambda x: jnp.sin(2 * jnp.pi * x[0]) * jnp.cos(2 * jnp.pi * x[1])  # noqa: E731
        size = lambda x: 1 + 0.3 * jnp.cos(2 * jnp.pi * x[0])  # noqa: E731
    else:
        grid, u = stretched(axes, cells), made_2d if axes == 2 else made_3d
        size = lambda x: 1 + 0.3 * jnp.sin(x.sum())  # noqa: E731
    base = matrix_on(fixed, tuple(names))
    flux = lambda x: -size(x) * base @ jax.grad(u)(x)  # noqa: E731
    source = field_on(grid, lambda x: jnp.trace(jax.jacobian(flux)(x)))
    # So that there is a level where no end holds one.
    exact, sizes = field_on(grid, u), np.asarray(field_on(grid, size))
    tensor = {k: v * sizes for k, v in fixed.items()}
    terms = [
        ipd.Diffusion(tensor),
        ipd.Source(source + exact),
        ipd.Reaction(lambda u: -u),
    ]
    ends = {} if periodic else ends_of(grid, u, flux, conditions)
    found = ipd.steady(ipd.System(grid, {"u": ipd.Field(terms, ends)}))
    assert int(found.outcome.steps) == 1  # affine: one linear solve
    off = np.asarray(found.state["u"] - exact) ** 2
    return float(np.sqrt(np.average(off, weights=grid.cell_volumes())))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "axes, cells, conditions, slow",
    [
        (2, 12, ("held",), 0.01),
        (2, 12, ("flux",), 0.1),
        (2, 12, ("held", "exchange", "flux"), 0.1),
        pytest.param(2, 32, ("exchange", "held", "flux"), 0.01, marks=pytest.mark.slow),
        pytest.param(3, 8, ("held",), 0.01, marks=pytest.mark.slow),
        pytest.param(3, 10, ("held", "flux", "exchange"), 0.1, marks=pytest.mark.slow),
    ],
)
def test_a_steady_field_is_of_second_order(axes, cells, conditions, slow: float):
    """Principal diffusivities of up to 100 to 1, turned, on stretched cells."""
    coarse, fine = (steady_error(axes, n, conditions, slow) for n in (cells, 2 * cells))
    assert float(np.log2(coarse / fine)) == pytest.approx(2, abs=0.2)


@pytest.mark.thorough
def test_a_periodic_field_is_of_second_order():
    coarse, fine = (steady_error(2, n, (), 0.1, periodic=True) for n in (16, 32))
    assert float(np.log2(coarse / fine)) == pytest.approx(2, abs=0.15)


@pytest.mark.thorough
def test_a_gaussian_spreads_along_the_principal_axes():
    r"""The covariance grows by $2 K t$: the heat kernel of an anisotropic medium."""
    tensor, until = turned(0.5, 0.02, 0.002), 0.4

    def kernel(grid: Grid, time: float) -> np.ndarray:
        matrix = 0.07**2 * np.eye(2) + 2 * time * np.asarray(matrix_on(tensor, ("x", "y")))
        x, y = grid.centres()
        at = np.stack([x - 0.5, y - 0.5], -1)
        exponent = np.einsum("...a,ab,...b", at, np.linalg.inv(matrix), at) / 2
        return np.exp(-exponent) / np.sqrt(np.linalg.det(matrix))

    def error(cells: int) -> float:
        grid = Grid.uniform((cells, cells), ((-0.5, 1.5), (-0.5, 1.5)), periodic=True)
        system = ipd.System(grid, {"u": [ipd.Diffusion(tensor)]})
        times = ipd.TimeGrid.build(0.0, [until], 0.8 / cells)
        found = ipd.simulate(system, {"u": jnp.asarray(kernel(grid, 0.0))}, times, CRANK)
        found.check(times)
        exact = kernel(grid, until)
        return float(np.abs(found.states["u"][-1] - exact).max() / exact.max())

    coarse, fine = error(48), error(96)
    assert fine < 0.01
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.15)


@pytest.mark.thorough
def test_the_solver_is_chosen_for_what_reaches_beyond_a_face():
    grid = stretched(2, 16)
    system = ipd.System(
        grid, {"u": ipd.Field([ipd.Diffusion(turned(0.7))], {a: ipd.Dirichlet(0.0) for a in "xy"})}
    )
    start = {"u": jnp.asarray(np.random.default_rng(0).uniform(size=grid.shape))}
    choice = ipd.solvers.select_solver(system, start, 0.5, ipd.BackwardEuler())
    times = ipd.TimeGrid.build(0.0, [1.0], 0.5)
    found = ipd.simulate(system, start, times, choice.stepper)
    found.check(times)
    exact = ipd.BackwardEuler(ipd.solvers.Affine(ipd.solvers.DenseLU()))
    dense = ipd.simulate(system, start, times, exact)
    np.testing.assert_allclose(found.states["u"], dense.states["u"], atol=1e-9)
    assert int(found.outcome.iterations.max()) < 150 and int(found.outcome.steps.max()) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("stored", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_tensor_that_depends_on_the_state_is_of_second_order(stored: bool):
    """The gradient of the field turns nothing, but its value stretches the tensor."""

    def error(cells: int) -> float:
        grid, base = stretched(2, cells), turned(0.6, 1.0, 0.1)
        matrix = matrix_on(base, ("x", "y"))
        flux = lambda x: -(1 + made_2d(x) ** 2) * matrix @ jax.grad(made_2d)(x)  # noqa: E731
        source = field_on(grid, lambda x: jnp.trace(jax.jacobian(flux)(x)))
        exact = field_on(grid, made_2d)
        tensor = {k: _scaled(value) for k, value in base.items()}
        terms = [ipd.Diffusion(tensor), ipd.Source(source + exact), ipd.Reaction(lambda u: -u)]
        ends = ends_of(grid, made_2d, flux, ("held", "flux", "exchange", "held"))
        field = ipd.Field(terms, ends, storage=0.5) if stored else ipd.Field(terms, ends)
        system = ipd.System(grid, {"u": field})
        assert not system.prepare(DOUBLE).is_affine
        found = ipd.steady(system, {"u": exact})
        off = np.asarray(found.state["u"] - exact) ** 2
        return float(np.sqrt(np.average(off, weights=grid.cell_volumes())))

    coarse, fine = error(10), error(20)
    assert float(np.log2(coarse / fine)) == pytest.approx(2, abs=0.2)


def _scaled(value: float) -> Any:
    return lambda u: value * (1 + u**2)


@pytest.mark.thorough
@pytest.mark.parametrize("varying", [False, True])
def test_fluxes_close_the_balance_and_carry_others(varying: bool):
    """What the ends supply is what is inside; a quasi-steady flux has no divergence."""
    grid = Grid(stretched(2, 6).axes, solid=SOLID)
    tensor = turned(0.5, 1.0, 0.1)
    if varying:
        tensor = {k: _scaled(value) for k, value in tensor.items()}
    ends = {"x": (ipd.Dirichlet(1.0), ipd.Robin(0.5, 0.0)), "y": (ipd.Dirichlet(0.5), ipd.NoFlux())}
    system = ipd.System(
        grid,
        {"u": ipd.Field([ipd.Diffusion(tensor)], ends)},
        integrals={"supplied": [Supply(FluxOf("u"))]},
        balances={"mass": {"inside": lambda u: u, "supplied": lambda supplied: -supplied}},
    )
    times = ipd.TimeGrid.build(0.0, [0.0, 0.4], 0.2)
    start = {"u": jnp.zeros(grid.shape), "supplied": jnp.zeros(grid.shape)}
    solver = ipd.solvers.Newton if varying else ipd.solvers.Affine
    exact = ipd.BackwardEuler(solver(ipd.solvers.DenseLU()))
    found = ipd.simulate(system, start, times, exact)
    (balance,) = ipd.balances(system, found.states, times.saved).values()
    assert balance.changes["inside"][-1] > 0.05 and balance.worst < 1e-11


@pytest.mark.thorough
@pytest.mark.parametrize("mean", ["harmonic", "arithmetic"])
def test_gradients_for_components_leave_a_second_order_remainder(mean: Any):
    grid = Grid(stretched(2, 5).axes, solid=SOLID)
    times = ipd.TimeGrid.build(0.0, [0.1], 0.05)
    x, y = grid.centres()

    def loss(parts):
        ends = {"x": (ipd.Dirichlet(1.0), ipd.Robin(parts["h"], 0.2)), "y": ipd.NoFlux()}
        system = ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(parts["K"], mean)], ends)})
        found = ipd.simulate(system, {"u": jnp.cos(2 * x + y)}, times, CRANK)
        return jnp.sum(found.states["u"][-1] ** 2)

    tensor = {k: jnp.full(grid.shape, v) for k, v in turned(0.5, 0.5, 0.1).items()}

    def of_parts(parts):
        return loss({"K": {k: parts[k] for k in tensor}, "h": parts["h"]})

    for name, rate in taylor_rates(of_parts, tensor | {"h": jnp.array(0.6)}, step=2e-3).items():
        assert rate == pytest.approx(2, abs=0.1), name


@pytest.mark.thorough
def test_components_are_learned():
    """Anisotropy and its angle from one later state, by functions of parameters."""
    grid = Grid.uniform((12, 12), ((0, 1), (0, 1)), periodic=True)

    def system(angle: Any, fast: Any) -> ipd.System:
        slow = 0.002
        tensor = {
            "x": lambda a, k: k * jnp.cos(a) ** 2 + slow * jnp.sin(a) ** 2,
            "y": lambda a, k: k * jnp.sin(a) ** 2 + slow * jnp.cos(a) ** 2,
            "xy": lambda a, k: (k - slow) * jnp.sin(a) * jnp.cos(a),
        }
        return ipd.System(
            grid, {"u": [ipd.Diffusion(tensor)]}, coefficients={"a": angle, "k": fast}
        )

    x, y = grid.centres()
    start = {"u": jnp.asarray(np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.02))}
    times = ipd.TimeGrid.build(0.0, [0.0, 0.1, 0.2], 0.05)
    truth = ipd.simulate(system(0.6, 0.05), start, times, CRANK).states["u"]
    data = ipd.to_dataset(grid, [0.0, 0.1, 0.2], {"u": np.asarray(truth)[None]})
    unknown = system(
        ipd.Parameter("angle", 0.2, (-0.7, 1.5)), ipd.Parameter("fast", 0.02, (0.0, 1.0))
    )
    stages = [ipd.Stage(ipd.optimisers.LevenbergMarquardt(), 20)]
    fitted = ipd.fit(unknown, data, stages=stages, dt=0.05)
    latents = fitted.latents()
    assert float(latents["angle"].mean()) == pytest.approx(0.6, abs=1e-4)
    assert float(latents["fast"].mean()) == pytest.approx(0.05, rel=1e-4)


BOX = Grid.uniform((4, 3), ((0, 1), (0, 1)), periodic=True)
LINE = Grid.uniform((4,), ((0, 1),), periodic=True)
INDEFINITE = {"x": 1.0, "y": 1.0, "xy": 1.2}


class Barrier(ipd.boundaries.AbstractBoundary):
    def flux(self, face):
        return 0.0, 0.1


@pytest.mark.parametrize(
    "grid, terms, said",
    [
        (BOX, [ipd.Diffusion({"x": 1.0})], "has no component 'y': give one for each axis"),
        (BOX, [ipd.Diffusion({"x": 1.0, "y": 1.0, "xz": 0.1})], "has a component 'xz': name an"),
        (LINE, [ipd.Diffusion({"x": 1.0, "xy": 0.1})], r"an axis of the grid \('x'\)\.$"),
        (BOX, [ipd.Diffusion({"x": 1.0, "y": 1.0, "q": 0.1})], "has a component 'q': name an axis"),
        (BOX, [ipd.Diffusion({"x": 1, "y": 1, "xy": 0.1, "yx": 0.1})], "component 'xy' twice"),
        (BOX, [ipd.Diffusion(INDEFINITE)], "'xy': 1.2}, which is not positive definite"),
        (
            BOX,
            [ipd.Diffusion({"x": 1.0, "y": np.eye(4, 3) + 0.1, "xy": 0.5})],
            r"in cell \(0, 1\), which is not positive definite",
        ),
        (
            Grid.uniform((2, 2, 2), ((0, 1),) * 3, periodic=True),
            [ipd.Diffusion({"x": 1, "y": 1, "z": 1, "xy": -0.9, "xz": 0.9, "yz": 0.9})],
            "not positive definite",
        ),
        (BOX, [ipd.Diffusion({"x": 1, "y": 1, "xy": 0.1}), ipd.Diffusion(1.0)], "in one term"),
        (BOX, [ipd.Diffusion([lambda x: 1.0 + x])], "has 1 components: give one for each"),
        (
            Grid([Axis("r", 0, 1, 3), Axis("z", 0, 1, 3, periodic=True)], "cylindrical"),
            [ipd.Diffusion({"r": 1.0, "z": 1.0, "rz": 0.1})],
            "'rz' on a cylindrical grid",
        ),
    ],
)
def test_what_is_no_tensor_is_refused(grid: Grid, terms, said: str):
    ends = {"r": ipd.NoFlux()} if grid.names[0] == "r" else {}
    with pytest.raises(InputError, match=said):
        rate_of(ipd.System(grid, {"u": ipd.Field(terms, ends)}), np.zeros(grid.shape))


def test_what_no_condition_says_is_refused():
    grid = Grid.uniform((4, 3), ((0, 1), (0, 1)), periodic=(False, True))
    terms = [ipd.Diffusion({"x": 1.0, "y": 1.0, "xy": 0.1})]
    with pytest.raises(InputError, match=r"Barrier does not say .* made_up\(face\)"):
        rate_of(ipd.System(grid, {"u": ipd.Field(terms, {"x": Barrier()})}), np.zeros((4, 3)))
    with pytest.raises(InputError, match=r"Neumann gives the gradient .* Flux\(outward\)"):
        rate_of(
            ipd.System(grid, {"u": ipd.Field(terms, {"x": ipd.Neumann(0.0)})}), np.zeros((4, 3))
        )
    for wrong, said in (
        ({"x": -1.0, "y": 1.0}, "component 'x' of the diffusivity is -1.0"),
        ({1: 1.0}, "component of the name 1"),
        ({"x": None, "y": 1.0}, "the component 'x' of the diffusivity is None"),
    ):
        with runtime_types.without(), pytest.raises(InputError, match=said):
            ipd.Diffusion(wrong)


def test_a_learned_tensor_that_turns_indefinite_fails_the_step():
    """What is known when a rollout begins raises; what is traced is an outcome."""
    times = ipd.TimeGrid.build(0.0, [0.1], 0.05)

    def run(cross):
        system = ipd.System(BOX, {"u": [ipd.Diffusion({"x": 1.0, "y": 1.0, "xy": cross})]})
        return ipd.simulate(system, {"u": jnp.zeros((4, 3))}, times, CRANK)

    jax.jit(run)(0.5).check(times)
    with pytest.raises(ipd.NumericsError, match="diffusivity"):
        jax.jit(run)(1.2).check(times)
