"""Integrals over time, and the balances that they close."""

import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rates

import impindiff as ipd
from impindiff.precondition import Jacobi
from impindiff.systems import Field, FluxOf, Supply, System

STEPPERS = {
    "euler": ipd.steppers.ForwardEuler(),
    "parts": ipd.steppers.RungeKutta4(substeps=2),
    "pair": ipd.steppers.Tsitouras5(),
    "backward": ipd.BackwardEuler(),
    "trapezoid": ipd.CrankNicolson(),
    "sdirk": ipd.steppers.SDIRK2(),
    "additive": ipd.steppers.ARK3(),
}
UNEVEN = [
    ipd.Axis.graded("x", 0.5, 2, 6, 3.0),
    ipd.Axis.from_faces("y", [0, 0.4, 1, 1.5, 1.7, 2]),
]
LEARNED = ipd.Parameter("k", 1.0, (0.0, 2.0))
SOLID = np.zeros((6, 5), bool)
SOLID[2:4, 2] = True


def decay() -> System:
    """Half of what is lost is kept account of in one place, half in another."""
    return System(
        None,
        {"u": [ipd.Reaction(lambda lost: -lost)]},
        coefficients={"lost": lambda u, t: (1 + t) * u**2},
        integrals={
            "here": [ipd.Reaction(lambda lost: lost / 2)],
            "there": [ipd.Reaction(lambda lost: lost), ipd.Reaction(lambda lost: -lost / 2)],
        },
        balances={
            "all": {
                "left": lambda u: u,
                "here": lambda here: here,
                "there": lambda there: there,
            }
        },
    )


def pore(k=0.3) -> System:
    """A gas that closes the pores it is stored in: not affine, with a storage, on a grid."""
    return System(
        ipd.Grid.uniform((6,), ((0.0, 1.0),)),
        {
            "gas": Field(
                [ipd.Diffusion(lambda pores: pores), ipd.Reaction(lambda r: -r)],
                {"x": (ipd.Dirichlet(1.0), ipd.NoFlux())},
                storage=lambda gas, pores: gas * pores,
                scale=2.0,
            ),
            "pores": [ipd.Reaction(lambda r: -r)],
        },
        coefficients={"r": lambda gas, pores, k: k * gas**2 * pores, "k": k},
        integrals={"supplied": [Supply(FluxOf("gas"))]},
        balances={
            "mass": {
                "inside": lambda gas, pores: gas * pores,
                "deposited": lambda pores: -pores,
                "supplied": lambda supplied: -supplied,
            }
        },
    )


def filled() -> dict:
    return {"gas": jnp.full(6, 0.5), "pores": jnp.full(6, 0.8), "supplied": jnp.zeros(6)}


@pytest.mark.many
@pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS)
def test_what_leaves_one_account_enters_another(stepper):
    """To round-off, though the steps are long; and half of it by each of two ways."""
    system = decay()
    times = ipd.TimeGrid.build(0.0, [0.0, 0.3, 1.0], 0.35)
    start = {"u": jnp.array(1.0), "here": jnp.array(0.0), "there": jnp.array(0.0)}
    found = ipd.simulate(system, start, times, stepper)
    (balance,) = ipd.balances(system, found.states, times.saved).values()
    assert balance.worst < 1e-14
    assert balance.changes["left"][-1] < -0.4
    np.testing.assert_allclose(found.states["here"], found.states["there"], rtol=1e-13)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["backward", "trapezoid"])
def test_a_step_that_is_one_linear_solve_integrates_what_is_not_linear(name):
    """By the weights of the method, from the states at both ends of its steps."""
    grid = ipd.Grid.uniform((5,), ((0.0, 1.0),))
    ends = {"x": (ipd.Dirichlet(2.0), ipd.NoFlux())}
    squares = {"squares": [ipd.Reaction(lambda c: c**2)]}
    system = System(grid, {"c": Field([ipd.Diffusion(0.1)], ends)}, integrals=squares)
    steps = ipd.TimeGrid.build(0.0, [0.0, 0.2, 0.4, 0.6], 0.2)
    start = {"c": jnp.ones(5), "squares": jnp.zeros(5)}
    states = ipd.simulate(system, start, steps, STEPPERS[name]).states
    assert system.prepare(jnp.dtype("float64")).is_affine
    square = np.asarray(states["c"]) ** 2
    added = square[1:] if name == "backward" else (square[1:] + square[:-1]) / 2
    np.testing.assert_allclose(states["squares"][1:], 0.2 * np.cumsum(added, 0), rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["backward", "trapezoid", "sdirk"])
def test_an_affine_step_takes_each_rate_at_its_own_time(name: str):
    """The integrals of 1, t and t c: the method's own sums, with its stages written out."""
    system = System(
        ipd.Grid.uniform((3,), ((0.0, 3.0),), periodic=True),
        {"c": [ipd.Diffusion(0.5), ipd.Reaction(lambda t: t)]},
        integrals={
            "of_one": [ipd.Source(1.0)],
            "of_t": [ipd.Reaction(lambda t: t)],
            "of_tc": [ipd.Reaction(lambda c, t: t * c)],
        },
    )
    assert system.prepare(jnp.dtype("float64")).is_affine
    spread = 0.5 * (np.ones((3, 3)) - 3 * np.eye(3))
    c, sums, dt, gamma = np.array([1.0, 2.0, 5.0]), np.zeros((3, 3)), 0.3, 1 - 0.5**0.5
    start = {"c": jnp.asarray(c), **dict.fromkeys(system.integrals, jnp.zeros(3))}
    times = ipd.TimeGrid.build(1.0, [1.6], dt)
    found = ipd.simulate(system, start, times, STEPPERS[name]).states

    def rate(c: np.ndarray, t: float) -> np.ndarray:
        return spread @ c + t

    def implicit(known: np.ndarray, t: float, weight: float) -> np.ndarray:
        return np.linalg.solve(np.eye(3) - weight * spread, known + weight * t)

    for t in (1.0, 1.0 + dt):
        if name == "backward":
            c = implicit(c, t + dt, dt)
            parts = [(dt, t + dt, c)]
        elif name == "trapezoid":
            before, c = c, implicit(c + dt / 2 * rate(c, t), t + dt, dt / 2)
            parts = [(dt / 2, t, before), (dt / 2, t + dt, c)]
        else:
            at, weight = t + gamma * dt, gamma * dt
            first = implicit(c, at, weight)
            c = implicit(c + (dt - weight) * rate(first, at), t + dt, weight)
            parts = [(dt - weight, at, first), (weight, t + dt, c)]
        sums += sum(w * np.array([np.ones(3), np.full(3, at), at * c]) for w, at, c in parts)
    np.testing.assert_allclose(found["c"][0], c, rtol=1e-8)
    np.testing.assert_allclose([found[name][0] for name in system.integrals], sums, rtol=1e-8)
    if name != "backward":
        # Methods of order two integrate t exactly.
        np.testing.assert_allclose(found["of_t"][0], (1.6**2 - 1) / 2, rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["backward", "trapezoid", "sdirk"])
def test_an_affine_step_loses_nothing(name: str):
    grid = ipd.Grid.uniform((5,), ((0.0, 1.0),))
    system = System(
        grid,
        {"c": Field([ipd.Diffusion(0.1)], {"x": (ipd.Dirichlet(1.0), ipd.NoFlux())})},
        integrals={"supplied": [Supply(FluxOf("c"))]},
        balances={"mass": {"inside": lambda c: c, "supplied": lambda supplied: -supplied}},
    )
    assert system.prepare(jnp.dtype("float64")).is_affine
    start = {"c": jnp.zeros(5), "supplied": jnp.zeros(5)}
    times = ipd.TimeGrid.build(0.0, [0.0, 2.0], 0.5)
    (balance,) = ipd.balances(
        system, ipd.simulate(system, start, times, STEPPERS[name]).states
    ).values()
    assert balance.changes["inside"][-1] > 0.3 and balance.worst < 1e-12


@pytest.mark.thorough
@pytest.mark.parametrize(
    "grid",
    [
        ipd.Grid.uniform((6, 5), ((0, 1), (0, 1)), periodic=(False, True)),
        ipd.Grid(UNEVEN, solid=SOLID),
        ipd.Grid(UNEVEN, "cylindrical"),
    ],
    ids=["channel", "obstacle", "ring"],
)
def test_supply_is_all_that_a_field_gets_but_by_reactions(grid):
    """Inner fluxes cancel in the sum over cells, so that those through the ends remain."""
    x_ends = (ipd.Dirichlet(1.0), ipd.Robin(0.5, 1.0))
    ends = {"x": x_ends} | ({} if grid.axes[1].periodic else {"y": ipd.Dirichlet(3.0)})
    system = System(
        grid,
        {"c": Field([ipd.Diffusion(lambda c: 1 + c)], ends)},
        integrals={"supplied": [Supply(FluxOf("c"))]},
    ).prepare(jnp.dtype("float64"))
    state = {"c": jnp.asarray(np.random.default_rng(0).uniform(size=grid.shape))}
    rates = system.at(jnp.zeros(()))(state)["c"]
    supplied = system.integrands(jnp.zeros(()), ("supplied",))(state)["supplied"]
    volumes = grid.cell_volumes()
    total = np.sum(volumes * rates)
    assert abs(total) > 0.1
    np.testing.assert_allclose(np.sum(volumes * supplied), total, rtol=1e-12)
    assert not np.any(np.asarray(supplied)[1:-1, 1:-1])


@pytest.mark.thorough
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_solve_that_is_not_exact_loses_nothing(order):
    """Newton's method keeps sums of the unknowns, at whatever residual it stops."""
    grid = ipd.Grid.uniform((6,), ((0.0, 1.0),))
    system = System(
        grid,
        {
            "gas": Field(
                [ipd.Diffusion(lambda gas: 1 + gas), ipd.Reaction(lambda r: -r)],
                {"x": (ipd.Dirichlet(1.0), ipd.NoFlux())},
            ),
            "solid": [ipd.Reaction(lambda r: r)],
        },
        coefficients={"r": lambda gas, solid: gas**2 * (1 - solid)},
        integrals={"supplied": [Supply(FluxOf("gas"))]},
        balances={
            "mass": {
                "inside": lambda gas: gas,
                "deposited": lambda solid: solid,
                "supplied": lambda supplied: -supplied,
            }
        },
    )
    start = {"gas": jnp.zeros(6), "solid": jnp.zeros(6), "supplied": jnp.zeros(6)}
    newton = ipd.solvers.Newton(ipd.solvers.Tridiagonal(1e-9), rtol=1e-2)
    stepper = ipd.steppers.SDIRK2(newton) if order == 2 else ipd.BackwardEuler(newton)
    times = ipd.TimeGrid.build(0.0, [0.0, 2.0], 0.25)
    found = ipd.simulate(system, start, times, stepper)
    (balance,) = ipd.balances(system, found.states).values()
    assert balance.changes["deposited"][-1] > 0.01
    assert float(found.outcome.relative_residual.max()) > 1e-9
    assert balance.worst < 1e-12


@pytest.mark.thorough
def test_fields_are_the_same_whether_a_state_has_integrals_or_not():
    system, times = pore(), ipd.TimeGrid.build(0.0, [1.0], 0.25)
    newton = ipd.solvers.Newton(ipd.solvers.BiCGStab(1e-12), rtol=1e-12)
    stepper = ipd.steppers.SDIRK2(newton, Jacobi())
    start = filled()
    whole = ipd.simulate(system, start, times, stepper)
    whole.check(times)
    start.pop("supplied")
    fields = ipd.simulate(system, start, times, stepper).states
    assert set(fields) == {"gas", "pores"}
    for name, values in fields.items():
        np.testing.assert_allclose(whole.states[name], values, rtol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("linear", ["one", pytest.param("each", marks=pytest.mark.slow)])
def test_fields_that_are_solved_for_in_turn_keep_account(linear):
    """Groups name fields; integrals come last of their own, and so do preconditioners."""
    groups = ("pores", "gas")
    solve = ipd.solvers.BiCGStab(1e-10)
    solver = ipd.solvers.Staggered(groups, solve if linear == "one" else (solve, solve), rtol=1e-9)
    preconditioning = None if linear == "one" else ipd.preconditioners.ByGroup(groups, Jacobi())
    times = ipd.TimeGrid.build(0.0, [1.0], 0.25)
    found = ipd.simulate(pore(), filled(), times, ipd.BackwardEuler(solver, preconditioning))
    found.check(times)
    states = {f: jnp.stack([u, found.states[f][0]]) for f, u in filled().items()}
    balance = ipd.balances(pore(), states)["mass"]
    assert balance.changes["deposited"][-1] > 0.01
    assert balance.worst < 1e-10


@pytest.mark.thorough
@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(ipd.memory.KeepAll(), id="all", marks=pytest.mark.slow),
        pytest.param(ipd.memory.Snapshots(2), id="snapshots"),
    ],
)
def test_the_gradient_through_an_integral(memory):
    times = ipd.TimeGrid.build(0.0, [0.5], 0.25)
    newton = ipd.solvers.Newton(ipd.solvers.DenseLU(), ipd.solvers.DenseLU(), rtol=1e-12)

    def loss(parts):
        system = System(
            None,
            {"u": [ipd.Reaction(lambda u, k: -k * u**2)]},
            coefficients={"k": parts["k"]},
            integrals={"s": [ipd.Reaction(lambda u, k: k * u**3)]},
        )
        start = {"u": parts["u"], "s": jnp.array(0.0)}
        states = ipd.simulate(system, start, times, ipd.BackwardEuler(newton), memory=memory).states
        return states["s"][-1] ** 2

    rates = taylor_rates(loss, {"k": jnp.array(0.8), "u": jnp.array(1.2)})
    assert all(rate == pytest.approx(2, abs=0.1) for rate in rates.values()), rates


@pytest.mark.slow
def test_the_gradient_through_what_entered():
    newton = ipd.solvers.Newton(
        ipd.solvers.Tridiagonal(1e-12), ipd.solvers.Tridiagonal(1e-12), rtol=1e-12
    )
    times = ipd.TimeGrid.build(0.0, [0.5], 0.25)

    def loss(parts):
        system = pore(parts["k"])
        start = filled() | {"pores": parts["pores"]}
        states = ipd.simulate(system, start, times, ipd.steppers.SDIRK2(newton)).states
        return jnp.sum(states["supplied"] ** 2)

    rates = taylor_rates(loss, {"k": jnp.array(0.3), "pores": jnp.full(6, 0.8)})
    assert all(rate == pytest.approx(2, abs=0.1) for rate in rates.values()), rates


class TestBalances:
    def test_tell_what_is_missing(self):
        system = decay()
        states = {"u": [1.0, 0.75], "here": [0.0, 0.125], "there": [0.0, 0.0625]}
        states = {name: jnp.asarray(values) for name, values in states.items()}
        (balance,) = ipd.balances(system, states).values()
        assert {part: float(of[-1]) for part, of in balance.changes.items()} == {
            "left": -0.25,
            "here": 0.125,
            "there": 0.0625,
        }
        assert balance.defect.tolist() == [0.0, -0.25]

    def test_are_of_free_cells_by_volume(self):
        grid = ipd.Grid(UNEVEN, solid=SOLID)
        ends = {name: ipd.NoFlux() for name in grid.names}
        system = System(
            grid,
            {"c": Field([ipd.Diffusion(1.0)], ends)},
            balances={"all": {"inside": lambda c, x: 3 * c + x}},
        )
        states = {"c": jnp.stack([jnp.zeros(grid.shape), jnp.ones(grid.shape)])}
        (balance,) = ipd.balances(system, states).values()
        free = np.sum(grid.cell_volumes()[~SOLID])
        assert balance.changes["inside"][-1] == pytest.approx(3 * free)

    def test_say_nothing_of_round_off(self):
        """Half an ulp that goes nowhere is not all that there is; a thousandth that does is."""
        system = System(
            None,
            {"u": [ipd.Reaction(lambda u: 0 * u)], "v": [ipd.Reaction(lambda v: 0 * v)]},
            balances={"all": {"u": lambda u: u, "v": lambda v: v}},
        )
        near = np.array([1e3, np.nextafter(np.float32(1e3), np.float32(2e3))], np.float32)
        assert near[1] > near[0]
        (balance,) = ipd.balances(system, {"u": near, "v": np.zeros(2, np.float32)}).values()
        assert 0 < balance.worst < 1e-3
        leak = {"u": np.array([1e3, 999]), "v": np.array([0, 0.75])}
        assert ipd.balances(system, leak)["all"].worst == 0.25

    @pytest.mark.parametrize(
        "states, found",
        [
            ({"c": jnp.ones(5)}, r"of the shape \(time, 5\) all, and found c \(5,\)"),
            ({"c": jnp.ones((2, 3, 5))}, r"c \(2, 3, 5\)"),
            ({}, "found no field"),
        ],
    )
    def test_want_states_of_several_times(self, states, found):
        grid = ipd.Grid.uniform((5,), ((0.0, 1.0),), periodic=True)
        account = {"all": {"inside": lambda c: c}}
        system = System(grid, {"c": [ipd.Diffusion(1.0)]}, balances=account)
        with pytest.raises(ipd.InputError, match=found):
            ipd.balances(system, states)

    def test_want_states_of_the_same_times_without_a_grid_too(self):
        whole = {"u": jnp.ones(2), "here": jnp.ones(2), "there": jnp.ones(2)}
        for wrong in ({"u": jnp.array(1.0)}, {"u": jnp.ones(3)}):
            with pytest.raises(ipd.InputError, match=r"of the shape \(time, \.\.\.\) all"):
                ipd.balances(decay(), whole | wrong)
        with pytest.raises(ipd.InputError, match=r"times have the shape \(3,\).*those of 2 times"):
            ipd.balances(decay(), whole, [0.0, 1.0, 2.0])

    def test_want_what_they_are_functions_of(self):
        with pytest.raises(ipd.InputError, match="'here' of the balance 'all'.*hold u"):
            ipd.balances(decay(), {"u": jnp.ones(2)})


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"integrals": {"s": [ipd.Diffusion(1.0)]}}, "moves nowhere"),
        ({"integrals": {"s": []}}, "the integral 's' must be a list"),
        ({"integrals": {"u": [ipd.Reaction(lambda u: u)]}}, "'u' is a field and an integral"),
        ({"integrals": {"s": [ipd.Reaction(lambda s: s)]}}, "asks for 's'"),
        ({"integrals": [ipd.Reaction(lambda u: u)]}, r"System\(integrals=.*mapping by name"),
        ({"integrals": {"time": [ipd.Reaction(lambda u: u)]}}, "'time' is an integral.*all data"),
        ({"integrals": {"sample": [ipd.Reaction(lambda u: u)]}}, "'sample' is an integral"),
        ({"balances": [lambda u: u]}, r"System\(balances=.*mapping by name"),
        ({"balances": {"all": {}}}, "at least one part"),
        ({"balances": {"all": {"u": None}}}, "at least one part to its density.*'u': None"),
        ({"balances": {"u": {"here": lambda u: u}}}, "'u' is a field and a balance"),
        ({"balances": {"all": {"u": lambda v: v}}}, "balance 'all' asks for 'v'"),
        (
            {"balances": {"all": {"u": ipd.Parameter("k", 1.0, (0.0, 2.0))}}},
            "holds the learned 'k'",
        ),
    ],
)
def test_what_is_no_account_is_refused(wrong, message):
    with runtime_types.without(), pytest.raises(ipd.InputError, match=message):
        System(None, {"u": [ipd.Reaction(lambda u: -u)]}, **wrong)


def test_no_name_stands_for_a_balance_and_something_else():
    """It would take the other's units."""
    unknown = {"k": ipd.Parameter("rate", 1.0, (0.0, 2.0))}
    for name, said in (
        ("rate", "rate is the name of a learned coefficient and of a balance"),
        ("k", "'k' is a balance and a coefficient"),
        ("s", "'s' is an integral and a balance"),
    ):
        with pytest.raises(ipd.InputError, match=said):
            System(
                None,
                {"u": [ipd.Reaction(lambda u, k: -k * u)]},
                coefficients=unknown,
                integrals={"s": [ipd.Reaction(lambda u: u)]},
                balances={name: {"here": lambda u: u}},
            )


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS)
def test_without_a_grid_an_integral_has_the_shape_of_its_rate(stepper):
    """And not that of some field."""
    system = System(
        None,
        {"many": [ipd.Reaction(lambda many: -many)], "one": [ipd.Reaction(lambda one: -one)]},
        integrals={
            "of_one": [ipd.Reaction(lambda one: one)],
            "of_many": [ipd.Reaction(lambda many: many), ipd.Reaction(lambda one: 0 * one)],
            "of_all": [ipd.Reaction(lambda one: one)],
        },
    )
    start = {"many": jnp.arange(1.0, 4.0), "one": jnp.array(2.0)}
    zeros = {"of_one": jnp.zeros(()), "of_many": jnp.zeros(3), "of_all": jnp.zeros(3)}
    times = ipd.TimeGrid.build(0.0, [0.5], 0.25)
    found = ipd.simulate(system, start | zeros, times, stepper).states
    assert {name: found[name].shape[1:] for name in zeros} == {
        name: value.shape for name, value in zeros.items()
    }
    lost = start["many"] - found["many"][-1]
    np.testing.assert_allclose(found["of_many"][-1], lost, rtol=1e-12)
    np.testing.assert_allclose(found["of_all"][-1], jnp.full(3, found["of_one"][-1]), rtol=1e-12)
    with pytest.raises(ipd.InputError, match=r"'of_many' has the shape \(\), its rate \(3,\)"):
        ipd.simulate(system, start | zeros | {"of_many": jnp.zeros(())}, times, stepper)


def test_no_equation_may_follow_from_an_integral():
    with pytest.raises(ipd.InputError, match="asks for 's'"):
        System(
            None,
            {"u": [ipd.Reaction(lambda u, s: -u * s)]},
            integrals={"s": [ipd.Reaction(lambda u: u)]},
        )


def test_there_is_no_supply_where_nothing_is_conserved():
    still = ipd.Advection((0.5,), form="advective")
    with pytest.raises(ipd.InputError, match="integral 's'.*term there is not conservative"):
        System(
            ipd.Grid.uniform((4,), ((0.0, 1.0),)),
            {"u": Field([still], {"x": (ipd.Inflow(1.0), ipd.Outflow())})},
            integrals={"s": [Supply(FluxOf("u"))]},
        )


@pytest.mark.parametrize(
    "flux, said",
    [
        ("still", "nothing moves 'still' through faces.*Diffusion or Advection"),
        ("w", "no field 'w'. Its fields are u, still"),
    ],
)
def test_there_is_no_flux_of_what_does_not_move(flux, said):
    with pytest.raises(ipd.InputError, match=said):
        System(
            ipd.Grid.uniform((4,), ((0.0, 1.0),), periodic=True),
            {"u": [ipd.Diffusion(1.0)], "still": [ipd.Reaction(lambda u: u)]},
            integrals={"s": [Supply(FluxOf(flux))]},
        )


@pytest.mark.parametrize("flux", [1.0, None, lambda c: c])
def test_supply_is_that_of_a_flux(flux):
    with pytest.raises(ipd.InputError, match=r"Supply\(FluxOf"):
        Supply(flux)


def test_balances_have_no_fluxes():
    with pytest.raises(ipd.InputError, match="a flux is known to terms alone"):
        System(
            ipd.Grid.uniform((4,), ((0.0, 1.0),), periodic=True),
            {"u": [ipd.Diffusion(1.0)]},
            balances={"all": {"out": FluxOf("u")}},
        )
