r"""Chemical vapour infiltration: a gas turns into carbon inside a hot porous slab, and closes it.

$$ \frac{\partial (\varepsilon C)}{\partial t} = \nabla\cdot(D(\varepsilon, T)\,\nabla C) - r, \qquad
   \varrho c_p\,\frac{\partial T}{\partial t} = \nabla\cdot(\lambda(\varepsilon, T)\,\nabla T), \qquad
   \frac{\partial \varepsilon}{\partial t} = -\frac{n_C M_C}{\varrho_C}\,r, $$

$r = S_v(\varepsilon)\,g(\varepsilon)\,k(T)\,C$. The surface of the pores per volume, $S_v$, is what
nobody knows: how the pores of a fabric close. It decides the reaction and, by the width of the
pores, the diffusion.

The slab is 1 cm deep and, in two dimensions, 2 cm wide. At x = 0 a hot gas-tight wall, at x = 1 cm
the gas, colder. All in SI units.
"""

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


def grid(depth: int = 100, width: int | None = None) -> ipd.Grid:
    """The slab's cells.

    Args:
        depth: cells along x.
        width: cells along y; a slab of one dimension without.
    """
    if width is None:
        return ipd.Grid.uniform((depth,), ((0.0, DEPTH),))
    return ipd.Grid.uniform((depth, width), ((0.0, DEPTH), (0.0, WIDTH)))


def build(
    grid: ipd.Grid | None = None,
    T_gas=1273.0,
    known: bool = False,
    isothermal: float | None = None,
    seed: int = 0,
) -> ipd.System:
    """The system.

    Args:
        grid: of the slab; 100 cells in one dimension by default.
        T_gas: temperature at the gas side [K]: a number, or any coefficient.
        known: whether the pores close by Deutschmann's law, or by one that is to be learned.
        isothermal: the temperature everywhere [K], in place of its equation.
        seed: of the first weights of what is learned.
    """
    grid = globals()["grid"]() if grid is None else grid
    across = {name: ipd.NoFlux() for name in grid.names[1:]}
    equations = {
        "gas": [
            ipd.Diffusion(lambda diffusivity: diffusivity, mean="arithmetic"),
            ipd.Reaction(lambda rate: -rate),
        ],
        "porosity": [ipd.Reaction(lambda rate: -CARBON_VOLUME * rate)],
    }
    inlet = ipd.Dirichlet(lambda T_gas: PRECURSOR_SHARE * PRESSURE / (GAS_CONSTANT * T_gas))
    boundaries = {"gas": {"x": (ipd.NoFlux(), inlet)} | across}
    coefficients = {
        "T_gas": T_gas,
        "pore_surface": deutschmann if known else closure(seed),
        # Pores vanish with their surface: what is learned is the surface for a volume of pores.
        "S_v": lambda porosity, pore_surface: porosity * pore_surface,
        "rate": lambda S_v, porosity, temperature, gas: (
            S_v * open_share(porosity) * speed(temperature) * gas
        ),
        "diffusivity": diffusivity,
    }
    scales = {"gas": 0.04, "porosity": 1.0}
    units = {"gas": "mol/m3", "porosity": "1"}
    capacities = {}
    if isothermal is None:
        equations["temperature"] = [ipd.Diffusion(conductivity, mean="arithmetic")]
        boundaries["temperature"] = {
            "x": (ipd.Dirichlet(WALL_TEMPERATURE), ipd.Dirichlet(lambda T_gas: T_gas))
        } | across
        capacities["temperature"] = heat_capacity
        scales["temperature"], units["temperature"] = 100.0, "K"
    else:
        coefficients["temperature"] = float(isothermal)
    return ipd.System(
        grid,
        equations,
        boundaries,
        coefficients=coefficients,
        storage={"gas": lambda porosity, gas: porosity * gas},
        capacities=capacities,
        scales=scales,
        units=units,
    )


def closure(seed: int = 0) -> ipd.NeuralClosure:
    """The unknown: the surface of the pores for a volume of pores [1/m], positive."""
    return ipd.NeuralClosure(
        "pore_surface",
        {"porosity": (0.0, 1.0)},
        initial=2e5,
        bounds=(0.0, jnp.inf),
        key=jax.random.key(seed),
    )


def deutschmann(porosity):
    """The true surface of the pores for a volume of pores [1/m], in the truth."""
    e = porosity
    return (((-385576.25 * e + 855854.19) * e - 610919.66) * e - 43517.58) * e + 219652.98


def overlapping_fibres(porosity):
    """What one might believe it to be: cylinders that grow from fibres, and overlap [1/m]."""
    q = porosity / INITIAL_POROSITY
    return 2 / FIBRE_RADIUS * (2 - INITIAL_POROSITY - q) / INITIAL_POROSITY


def open_share(porosity):
    """The reaction's smooth stop as pores close; a switch would break Newton's method."""
    return jnp.tanh((porosity - 0.02) / 0.02)


def speed(temperature):
    """Of the reaction on a surface, $k$ [m/s] (ethylene, Huttinger)."""
    return 72.4 * jnp.exp(-155000 / (GAS_CONSTANT * temperature))


def diffusivity(porosity, temperature, pore_surface):
    """Of the gas in the pores [m2/s]: collisions with other molecules and with walls, in series."""
    radius = 2 / pore_surface
    speed = jnp.sqrt(8 * GAS_CONSTANT * temperature / (jnp.pi * MOLAR_MASS))
    knudsen = 2 / 3 * radius * speed * porosity**2 / 1.444
    fick = FICK * (temperature / 1373) ** 1.75 * porosity ** (5 / 3)
    return 1 / (1 / knudsen + 1 / fick)


def conductivity(porosity, temperature):
    """Of fibres, carbon and gas, by volume [W/m/K]."""
    T = temperature
    fibre = 1.1176 + (-6.217e-4 + 8.3e-7 * T) * T
    carbon = -3.466 + (0.0271 + (-2.05e-5 + 5.3e-9 * T) * T) * T
    gas = -3.9333e-4 + (1.0184e-4 + (-4.8574e-8 + 1.5207e-11 * T) * T) * T
    e = porosity
    return e * gas + (1 - INITIAL_POROSITY) * fibre + (INITIAL_POROSITY - e) * carbon


def heat_capacity(porosity, temperature):
    """Of fibres and carbon, by volume [J/m3/K]; the gas weighs nothing beside them."""
    T = temperature
    density = (1 - INITIAL_POROSITY) * FIBRE_DENSITY + (INITIAL_POROSITY - porosity) * CARBON_DENSITY
    return density * (-42.4678 + (2.8516 - 0.001 * T) * T)


def start(grid: ipd.Grid, T_gas: float = 1273.0, porosity=INITIAL_POROSITY, isothermal=None):
    """The state before: gas as at the inlet, the temperature of the steady slab, the porosity.

    Args:
        grid: of the slab.
        T_gas: temperature at the gas side [K].
        porosity: a number, or one for each cell.
        isothermal: as in `build`.
    """
    depth = np.broadcast_to(grid.centres()[0], grid.shape) / DEPTH
    found = {
        "gas": np.full(grid.shape, PRECURSOR_SHARE * PRESSURE / (GAS_CONSTANT * T_gas)),
        "porosity": np.broadcast_to(porosity, grid.shape),
    }
    if isothermal is None:
        found["temperature"] = WALL_TEMPERATURE + depth * (T_gas - WALL_TEMPERATURE)
    return {field: jnp.asarray(value, float) for field, value in found.items()}
