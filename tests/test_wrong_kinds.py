"""Whatever is given to a public constructor, what is wrong with it is an `InputError`."""

import ast
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runtime_types

import impindiff as ipd

NAMES = {
    "ipd": ipd,
    "jnp": jnp,
    "key": jax.random.key(0),
    "grid": ipd.Grid.uniform((6, 5), ((0, 1), (0, 1))),
    "adamw": optax.adamw(1e-3),
    "error_of": lambda system: 0.0,
    "cube": np.zeros((1, 2, 6, 5)),
}

CALLS = """
ipd.Axis("x", 0.0, 1.0, 5, periodic=False)
ipd.Axis.from_faces("x", [0.0, 0.5, 1.0], periodic=False)
ipd.Axis.graded("x", 0.0, 1.0, 5, ratio=2.0)
ipd.Grid.uniform((6, 5), ((0, 1), (0, 1)), periodic=False)
ipd.System(None, {"u": [ipd.Source(1.0)]}, coefficients={}, parameters=())
ipd.Source(1.0, is_explicit=False)
ipd.Reaction(lambda u: u, is_explicit=False)
ipd.Diffusion(1.0, mean="harmonic")
ipd.Advection(1.0, scheme="upwind", form="conservative", is_explicit=True)
ipd.FluxOf("p")
ipd.Dirichlet(1.0)
ipd.Neumann(0.5)
ipd.Robin(5.0, 20.0)
ipd.Flux(-0.2)
ipd.Inflow(1.0)
ipd.Series([0.0, 1.0, 3.0], [0.2, 0.5, 0.1], "pchip")
ipd.Parameter("k", 0.1, (0.0, 1.0), dtype=None)
ipd.latents.LearnedSeries("inflow", [0, 6, 12, 24], 1.0, (0.0, 5.0), "pchip")
ipd.latents.CellField("k", jnp.ones((6, 5)), (0.0, 5.0))
ipd.SineField(2, ("v_x", "v_y"), width=8, depth=1, frequency=2.0, bounds=None, key=key)
ipd.latents.SpectralField(2, ("k",), (2, 1), (0.0, 0.4), degree=3)
ipd.latents.SeparableField(2, ("k",), (0.0, 0.4), key=key)
ipd.latents.FilmField(2, ("k",), (0.0, 0.4), key=key)
ipd.latents.HypernetworkField(2, ("k",), (0.0, 0.4), key=key)
ipd.NeuralClosure("r", {"u": (0.0, 1.0)}, initial=0.5, bounds=(0.0, 1.0), width=4, depth=1, key=key)
ipd.latents.ConvolutionalClosure("rate", {"u": (0.0, 1.0)}, 2, width=4, levels=1, key=key)
ipd.Cells("c", data="c", noise=0.1)
ipd.Sensors("c", data="wells", noise=0.02, positions=[(0.5, 0.5)])
ipd.observations.LineAverage("c", "beam", noise=0.1, start=(0, 0), end=(1, 1))
ipd.observations.VolumeAverage("c", "total", noise=0.1, weight=None)
ipd.observations.VolumeIntegral("supplied", "collected", noise=0.1, weight=-1.0)
ipd.observations.Measured(lambda u, v: u * v, "signal", noise=0.1)
ipd.observations.Smoothness("k", 1e-3)
ipd.observations.TotalVariation("k", 1e-3, epsilon=1e-2)
ipd.observations.DivergenceFree(("v_x", "v_y"), 1.0, walls="y")
ipd.observations.WeightDecay(1e-6)
ipd.Stage(ipd.Adam(), 100, dt=1e-2, batches=ipd.optimisers.Batching(samples=2), freeze="k")
ipd.Adam(learning_rate=1e-3)
ipd.LBFGS(memory=5, max_evaluations=9)
ipd.optimisers.Optax(adamw)
ipd.LevenbergMarquardt(damping=1e-3, max_attempts=5, max_products=7)
ipd.optimisers.Batching(samples=2, window=3)
ipd.FitOptions(dtype=jnp.float32, stepper=None, rescue=None, checkpoints=None, control=None)
ipd.FitOptions(memory=ipd.memory.KeepAll(), validation=ipd.Validation(), samples_at_once=2, seed=1)
ipd.Validation(error_of, every=10)
ipd.optimisers.Checkpoints("saved", every=20)
ipd.optimisers.EarlyStopping(patience=20, min_improvement=0.1)
ipd.memory.Snapshots(5)
ipd.memory.MemoryBudget("2GiB")
ipd.steppers.Theta(0.5, solver=None, preconditioner=None, keep_preconditioner=None)
ipd.steppers.ESDIRK4(solver=None, preconditioner=None, keep_preconditioner=None)
ipd.steppers.ARK4(solver=None, preconditioner=None, keep_preconditioner=None)
ipd.steppers.Tsitouras5(substeps=1)
ipd.steppers.QuasiSteady(max_steps=5)
ipd.steppers.StepControl(1e-3, atol=1e-3, max_dt=1.0, max_steps=10, breakpoints=(0.5,))
ipd.TimeGrid.build(0.0, [1.0], 0.1)
ipd.solvers.Affine(ipd.solvers.BiCGStab(rtol=1e-8))
ipd.solvers.Newton(ipd.solvers.GMRES(), adjoint=ipd.solvers.BiCGStab(), rtol=1e-5, max_steps=7)
ipd.solvers.Staggered((("a",), ("b", "c")), ipd.solvers.BiCGStab(), max_steps=7)
ipd.solvers.Anderson(rtol=1e-5, memory=5, mixing=1.0, max_steps=7)
ipd.solvers.Picard(rtol=1e-5, relaxation=1.0, max_steps=7)
ipd.solvers.GMRES(rtol=1e-6, atol=0.0, max_steps=200, restart=10)
ipd.solvers.CG(rtol=1e-6, check_symmetry=True)
ipd.solvers.DenseLU(1e-6, max_size=100)
ipd.solvers.ImplicitAdjoint(ipd.solvers.BiCGStab())
ipd.preconditioners.Multigrid("V", 1)
ipd.preconditioners.Line(0)
ipd.preconditioners.TransformLine(0)
ipd.to_dataset(grid, [0.0, 1.0], {"c": cube})
"""
WRONG = [object(), "no", float("nan"), None, -1.5, {}]
# Their parts are looked at where they meet a grid, a field or a dataset.
LOOKED_AT_LATER = [
    *("Dirichlet", "Neumann", "Robin", "Flux", "Inflow", "Source", "Diffusion", "Advection"),
    *("FluxOf", "Cells", "Sensors", "LineAverage", "VolumeAverage", "VolumeIntegral"),
    *("Measured", "Validation"),
]


def variants(call: str):
    """The call with each of its arguments in turn taken from the name `wrong`."""
    arguments = len(ast.parse(call, mode="eval").body.args)  # type: ignore[attr-defined]
    keywords = len(ast.parse(call, mode="eval").body.keywords)  # type: ignore[attr-defined]
    for number in range(arguments + keywords):
        tree: Any = ast.parse(call, mode="eval")
        wrong = ast.Name("wrong", ast.Load())
        if number < arguments:
            tree.body.args[number] = wrong
        else:
            tree.body.keywords[number - arguments].value = wrong
        yield compile(ast.fix_missing_locations(tree), f"<{call}: {number}>", "eval")


@pytest.mark.parametrize("call", CALLS.strip().splitlines(), ids=lambda call: call.split("(")[0])
def test_a_wrong_argument_is_an_input_error(call: str):
    """Or it is none, such as None for what may be left out: an object without anything never is."""
    with runtime_types.without():
        eval(call, NAMES)
        for code in variants(call):
            for wrong in WRONG:
                try:
                    eval(code, NAMES | {"wrong": wrong})
                except ipd.InputError:
                    continue
                is_nothing = type(wrong) is object
                name = call.split("(")[0].split(".")[-1]
                assert not is_nothing or name in LOOKED_AT_LATER, code.co_filename
