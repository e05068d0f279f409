"""The memory and time of one gradient through many steps, by what is kept of them.

The work: periodic advection-diffusion, 128 x 64 cells, 10 samples, Crank-Nicolson steps of 1e-2,
float32; the gradient is that of the mean square of the last state with respect to the velocity
field. Beside our policies: every step rematerialised by `jax.checkpoint`, and the checkpointed loop
of equinox (which diffrax uses) around the same step. Bytes are the temporaries of the compiled
gradient, by XLA's own account.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce, median_seconds
from impindiff.cases import CASES

DT, STEPS = 1e-2, (100, 1000, 10_000)
# Nothing is run that needs more than this.
MOST_BYTES = 6 * 2**30
STEPPER = ipd.CrankNicolson()


def ours(memory, system, initial, num_steps):
    """Our own rollout."""
    time_grid = ipd.TimeGrid.build(0.0, [num_steps * DT], DT)
    return ipd.simulate(system, initial, time_grid, STEPPER, memory=memory).states["c"][-1]


def one_step(dynamics, state):
    """The same step, for loops of others."""
    return STEPPER.step(dynamics, jnp.zeros(()), jnp.asarray(DT, jnp.float32), state)[0]


def remat_each(system, initial, num_steps):
    """Each step by `jax.checkpoint`."""
    step = jax.checkpoint(one_step)
    dynamics = system.prepare(jnp.float32)
    return jax.lax.scan(lambda u, _: (step(dynamics, u), None), initial, length=num_steps)[0]["c"]


def equinox_loop(snapshots, system, initial, num_steps):
    """The loop of equinox with so many checkpoints."""
    dynamics = system.prepare(jnp.float32)
    return eqx.internal.scan(
        lambda u, _: (one_step(dynamics, u), None),
        initial,
        None,
        length=num_steps,
        kind="checkpointed",
        checkpoints=snapshots,
    )[0]["c"]


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One for each number of steps and policy; quick: a hundred steps only."""
    data = CASES["advection-diffusion-steady"].generate(10, 0)
    grid = ipd.grid_of(data, "concentration")
    velocity = jnp.asarray(np.stack([data[f"advection_{axis}"].values for axis in "xy"]), "float32")
    initial = jnp.asarray(data["concentration"].values[:, 0])

    def loss(run, num_steps, velocity, initial):
        system = ipd.System(grid, {"c": [ipd.Advection(velocity), ipd.Diffusion(1e-3)]})
        last = jax.vmap(lambda u: run(system, {"c": u}, num_steps))(initial)
        return jnp.mean(last**2)

    for num_steps in STEPS[: 1 if quick else None]:
        root = math.isqrt(num_steps)
        runs = {
            "KeepAll()": partial(ours, ipd.memory.KeepAll()),
            f"Snapshots({root})": partial(ours, ipd.memory.Snapshots(root)),
            "Snapshots(10)": partial(ours, ipd.memory.Snapshots(10)),
            "jax.checkpoint, each step": remat_each,
            f"equinox, {root} checkpoints": partial(equinox_loop, root),
        }
        for name, run in runs.items():
            announce(f"{num_steps} steps: {name}")
            gradient = jax.jit(jax.grad(partial(loss, run, num_steps)))
            compiled = gradient.lower(velocity, initial).compile()
            bytes_needed = compiled.memory_analysis().temp_size_in_bytes
            seconds = None
            if bytes_needed < MOST_BYTES:
                repeats = 3 if num_steps > 1000 else 5
                seconds = median_seconds(partial(compiled, velocity, initial), repeats)
            yield {
                "steps": num_steps,
                "kept": name,
                "temporaries_mib": bytes_needed / 2**20,
                "gradient_seconds": seconds,
            }
