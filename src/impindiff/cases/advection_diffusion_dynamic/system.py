r"""Advection-diffusion whose velocity varies in time and is unknown.

$$ c_t + \nabla\cdot(\mathbf v(t, x, y)\,c) = \nabla\cdot(D\,\nabla c) $$
"""

import impindiff as ipd

NAMES = ("advection_x", "advection_y")
DIFFUSIVITY = 1e-3

FIELDS = {
    # What is known of the velocity: it closes around the box, is smooth, and drifts smoothly.
    "spectral": lambda span, key: ipd.latents.SpectralField(2, NAMES, (6, 3), span, degree=3),
    "separable": lambda span, key: ipd.latents.SeparableField(2, NAMES, span, key=key),
    "film": lambda span, key: ipd.latents.FilmField(2, NAMES, span, key=key),
    "hypernetwork": lambda span, key: ipd.latents.HypernetworkField(2, NAMES, span, key=key),
}


def build(grid, key, conditioning="spectral", span=(0.0, 0.4), model="equation"):
    """The equation with the velocity unknown.

    Args:
        grid: of the data.
        key: random key of networks.
        conditioning: how the field depends on time, one of `FIELDS`.
        span: first and last time of data and forecasts.
        model: "equation", or "network" for a network that knows none, to compare with.
    """
    if model == "network":
        rate = ipd.latents.ConvolutionalClosure(
            "rate", {"concentration": (0.0, 2.2)}, 2, width=8, key=key
        )
        return ipd.System(grid, {"concentration": [ipd.Reaction(rate)]})
    if model != "equation":
        raise ipd.InputError(f"model is {model!r}; allowed: 'equation', 'network'.")
    if conditioning not in FIELDS:
        raise ipd.InputError(
            f"conditioning is {conditioning!r}; allowed: {', '.join(map(repr, FIELDS))}."
        )
    velocity = FIELDS[conditioning](span, key)
    terms = [ipd.Advection(velocity, "upwind"), ipd.Diffusion(DIFFUSIVITY)]
    return ipd.System(grid, {"concentration": terms})
