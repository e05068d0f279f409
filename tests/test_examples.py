"""Every example is short, learns what it says it learns, and has true gradients."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from impindiff.implicit import Newton, check_gradient
from impindiff.integrate import CrankNicolson
from impindiff.latent import learned
from impindiff.linear import BiCGStab, DenseLU
from impindiff.observe import squared_misfit
from impindiff.rollout import TimeGrid, simulate
from impindiff.train import FitOptions, Observations

_ROOT = Path(__file__).parents[1]
_MOST_LINES = 40
_BEGIN, _END = "# --- The problem ---", "# --- What was measured, and what was found ---"


@dataclass(frozen=True)
class Example:
    """An example, and what its errors must stay below; an untrained model is above each."""

    name: str
    bounds: dict[str, float]
    # Until something has been read that depends on what is unknown.
    times_checked: int = 1


EXAMPLES = [
    Example("gray_scott", {"error_of_the_rate": 0.03}),
    Example("porous_medium", {"error_of_the_diffusivity_up_to_0.6": 0.1}),
    Example("robertson", {"error_of_k1": 0.01, "error_of_k2": 0.02, "error_of_k3": 0.02}),
    Example("diffusion_3d", {"error_of_the_conductivity": 0.12}),
    Example("aquifer", {"error_of_the_velocity": 0.215, "error_of_the_forecast": 0.2}, 8),
    Example("rod", {"error_of_the_conductivity": 0.05, "error_of_h": 0.04, "error_of_joint": 0.04}),
    Example("source", {"error_of_the_place": 0.03, "error_of_the_strength": 0.05}),
    Example("burgers_inverse", {"error_of_lambda1": 0.01, "error_of_lambda2": 0.05}),
    Example("darcy", {"error_of_the_permeability": 0.3}),
]
each = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(_ROOT / "examples")
    return importlib.import_module


# By `make test-examples`, and with all that is slow.
@pytest.mark.slow
@each
def test_it_learns(example: Example):
    """In a process of its own, compiled as for a user."""
    code = f"import json, {example.name} as it; print(json.dumps(it.main()))"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_ROOT / "examples",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    for name, bound in example.bounds.items():
        assert figures[name] < bound
    assert figures.get("untrained", 1.0) > 1.5 * max(example.bounds.values())


@pytest.mark.slow
@each
def test_its_gradient_is_true(example: Example, load):
    """Of the untrained model's loss on the first sample, to the first times observed."""
    module = load(example.name)
    loss, point = _loss(module, example.times_checked)
    assert check_gradient(loss, point, num_directions=1, accuracy=1e-11).passed


@each
def test_its_problem_is_short(example: Example):
    source = (_ROOT / "examples" / f"{example.name}.py").read_text(encoding="utf-8")
    lines = source[source.index(_BEGIN) : source.index(_END)].splitlines()[1:]
    assert sum(bool(line.strip()) for line in lines) < _MOST_LINES


@pytest.mark.parametrize("page", sorted((_ROOT / "docs" / "examples").glob("[!i]*.md")))
def test_a_page_shows_the_code_of_its_example(page: Path):
    """Excerpts are the script's own lines."""
    script = (_ROOT / "examples" / f"{page.stem}.py").read_text(encoding="utf-8")
    for block in page.read_text(encoding="utf-8").split("```python\n")[1:]:
        assert block.split("```")[0].strip() in script


def _loss(module: ModuleType, num_times: int):
    """The misfit as a function of the learned arrays, in float64 and with tight solves."""
    system = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf,
        module.untrained(),
    )
    point, frozen = eqx.partition(system, learned(system))
    fit = module.FIT
    data = Observations.of(
        system, module.make_data(), [0], fit["times"][:num_times], jnp.float64, fit.get("observe")
    )
    few = system.grid is None or system.grid.num_axes == 1
    linear = DenseLU(1e-13) if few else BiCGStab(rtol=1e-13)
    stepper = replace(
        fit.get("options", FitOptions()).stepper, solver=Newton(linear, linear, rtol=1e-13)
    )
    times = TimeGrid.build(data.start, list(data.times), fit["dt"])
    initial, observed, deviations = (
        {k: u[0] for k, u in part.items()}
        for part in (data.initial, data.observed, data.deviations)
    )

    def loss(point):
        found = simulate(eqx.combine(point, frozen), initial, times, stepper)
        read = {name: jax.vmap(of)(found.states) for name, of in data.operators.items()}
        return squared_misfit(found.states | read, observed, deviations=deviations)

    return loss, point


@pytest.mark.slow
def test_the_porous_medium_solver_meets_barenblatt(load):
    r"""$u = t^{-1/3} (C - x^2 / (12\,t^{2/3}))_+$, the closed form of 1952."""
    module = load("porous_medium")

    def error(cells: int) -> float:
        grid = module.ipd.Grid.uniform((cells,), ((0.0, 1.0),))
        (x,) = grid.centres()

        def exact(t: float):
            return t ** (-1 / 3) * jnp.maximum(0.02 - ((x - 0.5) / t ** (1 / 3)) ** 2 / 12, 0)

        start, end = 1e-3, 8e-3
        times = TimeGrid.build(start, [end], 3.5 / cells**1.5 * 1e-2)
        system = module.equations(module.truth, grid)
        found = simulate(system, {"u": exact(start)}, times, CrankNicolson())
        found.check(times)
        return float(jnp.abs(found.states["u"][-1] - exact(end)).sum() / exact(end).sum())

    coarse, fine = error(50), error(200)
    assert fine < 0.01 and fine < coarse / 3
