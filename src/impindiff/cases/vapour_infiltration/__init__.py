"""Chemical vapour infiltration of a slab: which law closes the pores?"""

from functools import partial

import numpy as np
import xarray as xr

from impindiff.cases._case import Case, check_request
from impindiff.cases.vapour_infiltration import data, system as slab_of
from impindiff.observe import measure

# Three to learn from, then two never seen, beyond them on either side.
_SETTINGS = (1273.0, 1173.0, 1223.0, 1323.0, 1143.0)
_DAYS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
_VISITED = (0.2, 0.88)


def generate(
    samples: int = 5,
    seed: int = 0,
    cells: tuple[int, ...] = (100,),
    porosity_range: tuple[float, float] | None = None,
    noise: float = 0.01,
    temperature_noise: float = 2.0,
) -> xr.Dataset:
    """Make the data: furnace runs, what was measured in them, and what nobody is told.

    `porosity_map` and `thermocouples` are measured and noisy; `porosity`, `gas`, `temperature` and
    the law `pore_surface` are true, and so is `start_porosity`, where all begin. `T_gas` is each
    furnace's setting.

    Args:
        samples: furnaces; their settings are 1273, 1173, 1223, 1323 and 1143 K, then random.
        seed: of the noise, the initial porosity and further settings.
        cells: of the slab, `(depth,)` or `(depth, width)`.
        porosity_range: of a smooth random initial porosity; uniform at 0.88 without.
        noise: standard deviation of measured porosities, as a share of their value.
        temperature_noise: standard deviation of measured temperatures [K].

    Raises: InputError for fewer than one sample or a negative seed, and as `data.generate`.
    """
    check_request(samples, seed)
    rng = np.random.default_rng(seed)
    more = rng.uniform(min(_SETTINGS), max(_SETTINGS), max(0, samples - len(_SETTINGS)))
    settings = (*_SETTINGS[:samples], *more)
    exact = data.generate(settings, _DAYS, cells, porosity_range, seed=seed)
    grid = slab_of.slab(*cells)
    read = measure(exact, grid, slab_of.observe(grid))

    def noisy(values: xr.DataArray, spread: np.ndarray | float) -> xr.DataArray:
        return values.copy(data=values.values + spread * rng.standard_normal(values.shape))

    porosity_map = noisy(exact["porosity"], noise * exact["porosity"].values)
    thermocouples = noisy(read["thermocouples"], temperature_noise)
    thermocouples.attrs |= {"units": "K", "long_name": "readings of the thermocouples"}
    porosity_map.attrs |= {"long_name": "measured share of pores by volume"}
    known = np.linspace(*_VISITED, 201)
    law = xr.DataArray(
        slab_of.deutschmann(known),
        {"pore_surface_porosity": known},
        attrs={"units": "1/m", "long_name": "surface of the pores for a volume of pores"},
    )
    law["pore_surface_porosity"].attrs |= {"units": "1", "long_name": "porosity"}
    start = (
        exact["porosity"]
        .isel(sample=0, time=0, drop=True)
        .assign_attrs(long_name="share of pores by volume at the start")
    )
    return exact.assign(
        porosity_map=porosity_map,
        thermocouples=thermocouples,
        pore_surface=law,
        start_porosity=start,
    )


_case = partial(
    Case,
    folder="vapour_infiltration",
    changes={"quick": {"training.stages": [{"optimiser": "lbfgs", "epochs": 20}]}},
    samples=5,
    known=("system.options.known=true",),
)

VAPOUR_INFILTRATION = _case(
    name="vapour-infiltration",
    summary="chemical vapour infiltration of a slab with an unknown law of its pores",
    generate=generate,
)

VAPOUR_INFILTRATION_PLANE = _case(
    name="vapour-infiltration-2d",
    summary="the same in two dimensions, with an uneven initial porosity",
    generate=partial(generate, cells=(48, 24), porosity_range=(0.85, 0.90)),
    config_file="plane.toml",
)
