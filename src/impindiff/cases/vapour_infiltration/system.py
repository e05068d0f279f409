r"""Chemical vapour infiltration: a gas turns into carbon inside a hot porous slab, and closes it.

$$ \partial_t(\varepsilon C) = \nabla\cdot(D(\varepsilon, T)\,\nabla C) - r, \qquad
   \varrho c_p\,\partial_t T = \nabla\cdot(\lambda(\varepsilon, T)\,\nabla T), \qquad
   \partial_t \varepsilon = -\frac{n_C M_C}{\varrho_C}\,r, $$

$r = S_v(\varepsilon)\,g(\varepsilon)\,k(T)\,C$. The surface of the pores per volume, $S_v$, is what
nobody knows: how the pores of a fabric close. It decides the reaction and, by the width of the
pores, the diffusion.

The slab is 1 cm deep and, in two dimensions, 2 cm wide. At x = 0 a hot gas-tight wall, at x = 1 cm
the gas, colder. All in SI units.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd

GAS_CONSTANT = 8.314
PRESSURE = 20e3
PRECURSOR_SHARE = 0.02
WALL_TEMPERATURE = 1373.0
INITIAL_POROSITY = 0.88

MOLAR_MASS = 0.02805
"""Of the gas, ethylene [kg/mol]."""

FICK = 1.275e-3
"""Diffusivity of the precursor in methane at 1373 K and 20 kPa [m2/s], by Fuller's formula for
acetylene. For ethylene that gives 1.205e-3, which moves the mean porosity by 0.008; the published
porosities that the case is held against belong to this value."""

CARBON_DENSITY, FIBRE_DENSITY, FIBRE_RADIUS = 2100.0, 1780.0, 5e-6

CARBON_VOLUME = 2 * 0.012011 / CARBON_DENSITY
"""Of the carbon from one mole of gas, $n_C M_C / \\varrho_C$ [m3/mol]."""

DAY = 86400.0
DEPTH, WIDTH = 0.01, 0.02


def slab(depth: int = 100, width: int | None = None) -> ipd.Grid:
    """The slab's cells.

    Args:
        depth: cells along x.
        width: cells along y; a slab of one dimension without.
    """
    if width is None:
        return ipd.Grid.uniform((depth,), ((0.0, DEPTH),))
    return ipd.Grid.uniform((depth, width), ((0.0, DEPTH), (0.0, WIDTH)))


def build(
    grid: ipd.Grid,
    key: Any = None,
    T_gas: Any = None,
    initial_porosity: Any = INITIAL_POROSITY,
    pore_surface: Any = None,
    known: bool = False,
    isothermal: float | None = None,
    start_porosity: Any = None,
) -> ipd.System:
    """The system.

    Args:
        grid: of the slab.
        key: random key of the first weights of what is learned.
        T_gas: temperature at the gas side [K]: a number, or any coefficient. By default each
            sample brings its own.
        initial_porosity: of which the fibres are the rest: a number, or any coefficient.
        pore_surface: surface of the pores for a volume of pores [1/m], any coefficient of the
            porosity; to be learned by default.
        known: whether it is Deutschmann's, the truth.
        isothermal: the temperature everywhere [K], in place of its equation.
        start_porosity: at the start, the same in all furnaces: any coefficient, or "learned" for
            one more unknown, a smooth field. As data say without.
    """
    if pore_surface is None:
        pore_surface = deutschmann if known else closure(key)
    coefficients = {
        "initial_porosity": initial_porosity,
        "pore_surface": pore_surface,
        # Pores vanish with their surface: what is learned is the surface for a volume of pores.
        "S_v": lambda porosity, pore_surface: porosity * pore_surface,
        # One rate in both balances: every mole that leaves the gas is found in the carbon.
        "rate": lambda S_v, porosity, temperature, gas: (
            S_v * open_share(porosity) * surface_rate(temperature) * gas
        ),
        "diffusivity": diffusivity,
    }
    walls = {name: ipd.NoFlux() for name in grid.names[1:]}
    fields = {
        "gas": ipd.Field(
            [
                ipd.Diffusion(lambda diffusivity: diffusivity, mean="arithmetic"),
                ipd.Reaction(lambda rate: -rate),
            ],
            {"x": (ipd.NoFlux(), ipd.Dirichlet(gas_outside)), **walls},
            storage=lambda porosity, gas: porosity * gas,
            initial=gas_outside,
            scale=0.04,
            # Of what is dilute a solve may leave a little less than nothing.
            bounds=(-1e-6, np.inf),
            unit="mol/m3",
        ),
        "porosity": ipd.Field(
            [ipd.Reaction(lambda rate: -CARBON_VOLUME * rate)],
            initial=None if start_porosity is None else lambda start_porosity: start_porosity,
            scale=1.0,
            bounds=(0.0, 1.0),
            unit="1",
        ),
    }
    if isothermal is None:
        fields["temperature"] = ipd.Field(
            [ipd.Diffusion(conductivity, mean="arithmetic")],
            {"x": (ipd.Dirichlet(WALL_TEMPERATURE), ipd.Dirichlet(lambda T_gas: T_gas)), **walls},
            # div(lambda grad T) / (rho c_p): as carbon grows, heat is not what is conserved.
            capacity=heat_capacity,
            initial=between_the_sides,
            scale=WALL_TEMPERATURE,
            bounds=(0.0, np.inf),
            unit="K",
        )
    else:
        coefficients["temperature"] = float(isothermal)
    if T_gas is not None:
        coefficients["T_gas"] = T_gas
    if start_porosity is not None:
        is_learned = isinstance(start_porosity, str) and start_porosity == "learned"
        coefficients["start_porosity"] = smooth_start(grid) if is_learned else start_porosity
    return ipd.System(
        grid,
        fields,
        coefficients=coefficients,
        parameters=("T_gas",) if T_gas is None else (),
        integrals={"supplied": [ipd.Supply(ipd.FluxOf("gas"))]},
        balances={
            "carbon": {
                "as carbon": lambda porosity: -porosity / CARBON_VOLUME,
                "as gas": lambda porosity, gas: porosity * gas,
                "supplied": lambda supplied: -supplied,
            }
        },
        # A balance is integrated over the slab, per unit of what it does not extend along.
        units={"supplied": "mol/m3", "carbon": {1: "mol/m2", 2: "mol/m"}[grid.num_axes]},
    )


def observe(grid: ipd.Grid) -> list[ipd.Cells | ipd.Sensors]:
    """What is measured: porosity maps, and temperatures at four places along the depth."""
    middle = [WIDTH / 2] * (grid.num_axes - 1)
    places = [[share * DEPTH, *middle] for share in (0.2, 0.4, 0.6, 0.8)]
    return [
        # The same for all cells: weights by what was read would favour what was read too low.
        ipd.Cells("porosity", "porosity_map", noise=0.005),
        ipd.Sensors("temperature", "thermocouples", noise=2.0, positions=places),
    ]


def stepper(
    grid: ipd.Grid, rtol: float | None = None, order: int = 2
) -> ipd.steppers.AbstractImplicitStepper:
    """SDIRK-2, or backward Euler for order 1, with Newton's method.

    In one dimension lines are eliminated directly. In two, BiCGStab with lines along x in the
    cosine modes of y: coefficients vary by orders of magnitude along x, and little across it.

    Args:
        grid: of the slab.
        rtol: of each step, relative to what it changes; by default as the precision allows.
        order: of the method.
    """
    if grid.num_axes == 1:
        linear, preconditioner = ipd.solvers.Tridiagonal(rtol), None
    else:
        linear, preconditioner = ipd.solvers.BiCGStab(rtol), ipd.preconditioners.TransformLine(0)
    make = ipd.steppers.SDIRK2 if order == 2 else ipd.BackwardEuler
    return make(ipd.solvers.Newton(linear, linear, rtol=rtol), preconditioner)


def start(system: ipd.System, porosity: Any = INITIAL_POROSITY) -> dict[str, jax.Array]:
    """The first state: gas and temperature as the system says, and a porosity.

    Args:
        system: of `build`; its `T_gas` does not depend on samples.
        porosity: a number, or one for each cell.
    """
    dtype = jnp.asarray(1.0).dtype
    of_system = system.start(0.0, dtype)
    given = jnp.broadcast_to(jnp.asarray(porosity, dtype), of_system["gas"].shape)
    return of_system | {"porosity": given}


def closure(key: Any = None) -> ipd.NeuralClosure:
    """The unknown: the surface of the pores for a volume of pores [1/m], positive."""
    return ipd.NeuralClosure(
        "pore_surface",
        {"porosity": (0.0, 1.0)},
        initial=2e5,
        bounds=(0.0, jnp.inf),
        key=jax.random.key(0) if key is None else key,
    )


def smooth_start(grid: ipd.Grid) -> ipd.latents.SpectralField:
    """Another unknown: the porosity at the start."""
    low, high = INITIAL_POROSITY - 0.05, INITIAL_POROSITY + 0.05
    return ipd.latents.SpectralField(
        grid.num_axes, ("start_porosity",), 2, output_range=(low, high), bounds=(0.0, 1.0)
    )


def deutschmann(porosity):
    """The true surface of the pores for a volume of pores [1/m], in the truth."""
    e = porosity
    return (((-385576.25 * e + 855854.19) * e - 610919.66) * e - 43517.58) * e + 219652.98


def overlapping_fibres(porosity, initial_porosity):
    """What one may believe it to be: cylinders that grow around fibres, and overlap [1/m]."""
    share = porosity / initial_porosity
    return 2 / FIBRE_RADIUS * (2 - initial_porosity - share) / initial_porosity


def gas_outside(T_gas):
    """The precursor at the gas side [mol/m3]."""
    return PRECURSOR_SHARE * PRESSURE / (GAS_CONSTANT * T_gas)


def between_the_sides(x, T_gas):
    """The temperature at first [K]: a straight line."""
    return WALL_TEMPERATURE + (T_gas - WALL_TEMPERATURE) * x / DEPTH


def open_share(porosity):
    """The reaction's smooth stop as pores close; a switch would break Newton's method."""
    return jnp.tanh((porosity - 0.02) / 0.02)


def surface_rate(temperature):
    """Of the reaction on a surface, $k$ [m/s] (ethylene, Huttinger)."""
    return 72.4 * jnp.exp(-155000 / (GAS_CONSTANT * temperature))


def diffusivity(porosity, temperature, pore_surface):
    """Of the gas in the pores [m2/s]: collisions with other molecules and with walls, in series."""
    radius = 2 / pore_surface
    speed = jnp.sqrt(8 * GAS_CONSTANT * temperature / (jnp.pi * MOLAR_MASS))
    knudsen = 2 / 3 * radius * speed * porosity**2 / 1.444
    fick = FICK * (temperature / 1373) ** 1.75 * porosity ** (5 / 3)
    return 1 / (1 / knudsen + 1 / fick)


def conductivity(porosity, temperature, initial_porosity):
    """Of fibres, carbon and gas, by volume [W/m/K]."""
    T = measured_range(temperature)
    fibre = 1.1176 + (-6.217e-4 + 8.3e-7 * T) * T
    carbon = -3.466 + (0.0271 + (-2.05e-5 + 5.3e-9 * T) * T) * T
    gas = -3.9333e-4 + (1.0184e-4 + (-4.8574e-8 + 1.5207e-11 * T) * T) * T
    grown = initial_porosity - porosity
    return porosity * gas + (1 - initial_porosity) * fibre + grown * carbon


def measured_range(temperature):
    """Not below room temperature: fits of what was measured above would there be negative.

    No slab gets as cold. But solvers take the residual at zero for a measure of what is small.
    """
    return jnp.maximum(temperature, 273.0)


def heat_capacity(porosity, temperature, initial_porosity):
    """Of fibres and carbon, by volume [J/m3/K]; the gas weighs nothing beside them."""
    grown = initial_porosity - porosity
    density = (1 - initial_porosity) * FIBRE_DENSITY + grown * CARBON_DENSITY
    T = measured_range(temperature)
    return density * (-42.4678 + (2.8516 - 0.001 * T) * T)
