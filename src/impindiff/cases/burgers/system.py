r"""Burgers' equation with an unknown diffusivity.

$$ u_t + u\,u_x + u\,u_y = \nabla\cdot(k\,\nabla u) $$

The scalar $u$ is carried along both axes by itself; its flux is that of a velocity which is half of
what it carries, $(u^2/2, u^2/2)$. Or a vector with two components,

$$ \mathbf u_t + (\mathbf u\cdot\nabla)\,\mathbf u = \nabla\cdot(k\,\nabla\mathbf u), $$

each carried by both, which conserves neither.
"""

import impindiff as ipd

NAME = "diffusivity"
# Wider than what is expected: at a bound itself nothing could be learned.
BOUNDS = (5e-4, 2e-2)

STEADY = {
    "spectral": lambda key: ipd.latents.SpectralField(2, NAME, (6, 3), bounds=BOUNDS),
    "network": lambda key: ipd.SineField(2, NAME, bounds=BOUNDS, key=key),
}
VARYING = {
    "spectral": lambda span, key: ipd.latents.SpectralField(
        2, NAME, (6, 3), span, degree=1, bounds=BOUNDS
    ),
    "separable": lambda span, key: ipd.latents.SeparableField(
        2, NAME, span, bounds=BOUNDS, key=key
    ),
    "film": lambda span, key: ipd.latents.FilmField(2, NAME, span, bounds=BOUNDS, key=key),
    "hypernetwork": lambda span, key: ipd.latents.HypernetworkField(
        2, NAME, span, bounds=BOUNDS, key=key
    ),
}
MODELS = ("equation", "network")
COMPONENTS = ("velocity_x", "velocity_y")


def burgers(grid, diffusivity):
    """The equation."""
    carry = ipd.Advection(lambda velocity: (velocity / 2, velocity / 2), "central")
    return ipd.System(grid, {"velocity": [carry, ipd.Diffusion(diffusivity)]})


def vector_burgers(grid, diffusivity):
    """The equation of the vector; one diffusivity for both components."""

    def velocity(velocity_x, velocity_y):
        return velocity_x, velocity_y

    terms = [
        ipd.Advection(velocity, "central", form="advective"),
        ipd.Diffusion(lambda k: k),
    ]
    return ipd.System(grid, dict.fromkeys(COMPONENTS, terms), coefficients={"k": diffusivity})


def build(grid, key, field="spectral", model="equation"):
    """With a diffusivity of the position.

    Args:
        grid: of the data.
        key: random key of networks.
        field: what stands for it, one of `STEADY`.
        model: "equation", or "network" for a network that knows none, to compare with.
    """
    check("field", field, STEADY)
    check("model", model, MODELS)
    return network(grid, key) if model == "network" else burgers(grid, STEADY[field](key))


def build_varying(grid, key, conditioning="spectral", span=(0.0, 1.0), model="equation"):
    """With a diffusivity of time and position.

    Args:
        grid: of the data.
        key: random key of networks.
        conditioning: how the field depends on time, one of `VARYING`.
        span: first and last time of data and forecasts.
        model: as in `build`.
    """
    check("conditioning", conditioning, VARYING)
    check("model", model, MODELS)
    if model == "network":
        return network(grid, key)
    return burgers(grid, VARYING[conditioning](span, key))


def build_vector(grid, key, field="spectral"):
    """The vector, with a diffusivity of the position.

    Args:
        grid: of the data.
        key: random key of networks.
        field: what stands for it, one of `STEADY`.
    """
    check("field", field, STEADY)
    return vector_burgers(grid, STEADY[field](key))


def network(grid, key):
    """What knows no equation: a rate of change that is a network of the whole field."""
    rate = ipd.latents.ConvolutionalClosure("rate", {"velocity": (0.0, 1.0)}, 2, width=8, key=key)
    return ipd.System(grid, {"velocity": [ipd.Reaction(rate)]})


def check(option, found, allowed):
    """Refuse another name."""
    if found not in allowed:
        raise ipd.InputError(f"{option} is {found!r}; allowed: {', '.join(map(repr, allowed))}.")
