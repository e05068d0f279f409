"""Unknown numbers stay inside their bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate
from smooth import box

from impindiff._errors import InputError
from impindiff.latent import Parameter

GRID = box(4)


@pytest.mark.parametrize(
    "initial, bounds",
    [
        (0.1, (0, 1)),
        (1e-3, (1e-4, 1e-2)),
        (-3.0, (-5, -1)),
        (999.0, (0, 1000)),
        (1e-9, (0, np.inf)),
        (3.5, (3.0, np.inf)),
        (-1.5, (-2.0, np.inf)),
        (-2.0, (-np.inf, np.inf)),
    ],
)
def test_it_starts_where_it_is_told(initial: float, bounds):
    parameter = Parameter("d", initial, bounds)
    assert float(parameter.evaluate(GRID)) == pytest.approx(initial, rel=1e-5)
    assert parameter.evaluate(GRID).dtype == jnp.float64
    assert parameter.names == ("d",) and parameter.is_steady


@pytest.mark.parametrize("raw", [-1e30, -50.0, -1.0, 0.0, 2.0, 50.0, 1e30])
def test_whatever_is_learned_it_stays_inside_its_bounds(raw: float):
    parameter = Parameter("d", 0.5, (0.2, 3.0))
    pushed = jax.tree.map(lambda _: jnp.asarray(raw), parameter)
    assert 0.2 <= float(pushed.evaluate(GRID)) <= 3.0


@pytest.mark.parametrize(
    "bounds, raw, value",
    [
        ((3.0, 7.0), 0.0, 5.0),
        ((3.0, 7.0), np.log(3), 6.0),
        ((3.0, 7.0), -np.log(3), 4.0),
        ((3.0, np.inf), 0.0, 4.0),
        ((-3.0, np.inf), np.log(5), 2.0),
        ((-np.inf, np.inf), -2.5, -2.5),
    ],
)
def test_what_is_learned_is_transformed_as_documented(bounds, raw: float, value: float):
    """And back: a start at that value is learned as that number."""
    pushed = jax.tree.map(lambda _: jnp.asarray(raw), Parameter("d", 5.0, bounds))
    assert pushed.bounds == bounds
    assert float(pushed.evaluate(GRID)) == pytest.approx(value, rel=1e-14)
    assert float(Parameter("d", value, bounds).raw) == pytest.approx(raw, abs=1e-14)


@pytest.mark.parametrize("raw", [-50.0, 0.0, 50.0])
def test_a_positive_one_is_learned_by_its_logarithm(raw: float):
    pushed = jax.tree.map(lambda _: jnp.asarray(raw), Parameter("k", 1.0, (0.0, np.inf)))
    assert float(pushed.evaluate(GRID)) == pytest.approx(np.exp(raw))


@pytest.mark.parametrize("bounds", [(0.2, 3.0), (0.2, np.inf)])
def test_its_gradient(bounds):
    parameter = jax.tree.map(lambda a: a.astype(jnp.float64), Parameter("d", 0.5, bounds))
    assert taylor_rate(lambda p: jnp.exp(p.evaluate(GRID)), parameter) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    "initial, bounds, said",
    [
        (0.0, (0, 1), r"starts at 0.0, which is not inside its bounds \(0, 1\)"),
        (1.0, (0, 1), "not inside"),
        (2.0, (0, 1), "not inside"),
        (0.5, (1, 0), "nothing inside"),
        (np.nan, (0, 1), "not inside"),
        (0.0, (0, np.inf), "not inside"),
        (0.5, (-np.inf, 1), "two finite numbers"),
        (0.5, (np.nan, 1), "two finite numbers"),
        (0.5, (0, np.nan), "two finite numbers"),
    ],
)
def test_a_start_outside_its_bounds_is_refused(initial: float, bounds, said: str):
    with pytest.raises(InputError, match=f"parameter 'd' .*{said}"):
        Parameter("d", initial, bounds)
