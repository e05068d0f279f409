r"""Burgers' equation with an unknown diffusivity.

$$ u_t + u\,u_x + u\,u_y = \nabla\cdot(k\,\nabla u) $$

The scalar $u$ is carried along both axes by itself; its flux is that of a velocity which is half of
what it carries, $(u^2/2, u^2/2)$.
"""

import impindiff as ipd

NAME = "diffusivity"
# Wider than what is expected: at a bound itself nothing could be learned.
BOUNDS = (5e-4, 2e-2)

STEADY = {
    "spectral": lambda key: ipd.SpectralField(2, NAME, (6, 3), bounds=BOUNDS),
    "network": lambda key: ipd.SineField(2, NAME, bounds=BOUNDS, key=key),
}
VARYING = {
    "spectral": lambda span, key: ipd.SpectralField(2, NAME, (6, 3), span, degree=1, bounds=BOUNDS),
    "separable": lambda span, key: ipd.SeparableField(2, NAME, span, bounds=BOUNDS, key=key),
    "film": lambda span, key: ipd.FilmField(2, NAME, span, bounds=BOUNDS, key=key),
    "hypernetwork": lambda span, key: ipd.HypernetworkField(2, NAME, span, bounds=BOUNDS, key=key),
}


def burgers(grid, diffusivity):
    """The equation."""
    carry = ipd.Advection(lambda velocity: (velocity / 2, velocity / 2), "central")
    return ipd.System(grid, {"velocity": [carry, ipd.Diffusion(diffusivity)]})


def build(grid, key, field="spectral"):
    """With a diffusivity of the position.

    Args:
        grid: of the data.
        key: random key of networks.
        field: what stands for it, one of `STEADY`.
    """
    check(field, STEADY)
    return burgers(grid, STEADY[field](key))


def build_varying(grid, key, conditioning="spectral", span=(0.0, 1.0)):
    """With a diffusivity of time and position.

    Args:
        grid: of the data.
        key: random key of networks.
        conditioning: how the field depends on time, one of `VARYING`.
        span: first and last time of data and forecasts.
    """
    check(conditioning, VARYING)
    return burgers(grid, VARYING[conditioning](span, key))


def check(found, allowed):
    """Refuse another name."""
    if found not in allowed:
        raise ipd.InputError(f"{found!r} is no kind of field; allowed: {', '.join(allowed)}.")
