"""What the case is compared with: a network that knows no equation.

The equation itself is one that configs know by name, `system.kind = "advection-diffusion"`.
"""

import impindiff as ipd


def build_network(grid, key):
    """A rate of change that is a network of the whole field."""
    rate = ipd.ConvolutionalClosure("rate", {"concentration": (0.0, 2.2)}, 2, width=8, key=key)
    return ipd.System(grid, {"concentration": [ipd.Reaction(rate)]})
