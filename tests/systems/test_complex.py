"""A complex number is refused wherever a number may stand, by name of what holds it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import impindiff as ipd

COLD = {"x": ipd.Dirichlet(0.0)}


def system(*terms: Any, ends: Any = COLD, **more: Any) -> ipd.System:
    grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, 4)])
    known = {name: more.pop(name) for name in ("coefficients",) if name in more}
    return ipd.System(grid, {"u": ipd.Field(list(terms), ends, **more)}, **known)


@pytest.mark.parametrize(
    "make, whose",
    [
        (lambda: system(ipd.Diffusion(1 + 2j)), "the equation of 'u'"),
        (lambda: system(ipd.Diffusion(np.full(4, 1j))), "the equation of 'u'"),
        (lambda: system(ipd.Diffusion(1.0), ipd.Source(1j)), "the equation of 'u'"),
        (lambda: system(ipd.Diffusion(1.0), ipd.Advection(1j)), "the equation of 'u'"),
        (lambda: system(ipd.Diffusion(1.0), ends={"x": ipd.Dirichlet(1j)}), "conditions of 'u'"),
        (lambda: system(ipd.Diffusion(1.0), ends={"x": ipd.Robin(1j, 0.0)}), "conditions of 'u'"),
        (lambda: system(ipd.Diffusion(1.0), storage=1j), "'u'"),
        (lambda: system(ipd.Diffusion(1.0), initial=1j), "initial values of 'u'"),
        (lambda: system(ipd.Diffusion(1.0), coefficients={"k": 1j}), "the coefficient 'k'"),
    ],
)
def test_a_complex_number_is_refused(make: Callable[[], Any], whose: str):
    with pytest.raises(ipd.InputError, match=f"{whose}.*complex: coefficients are real"):
        make()
