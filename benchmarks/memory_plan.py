"""What a plan says of memory and time, beside what a gradient then takes.

The work: the training loss of steady advection-diffusion, 128 x 64 cells, 10 samples in float32,
Crank-Nicolson steps of 1e-2, the velocity a sine network. For each number of steps the policies of
a plan with 512 MiB. Measured is the growth of the resident set of a process of its own while it
computes one gradient, its peak set back before, and the arguments, which are there by then.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import impindiff as ipd
from impindiff.benchmark import announce
from impindiff.latent import learned
from impindiff.rollout import TimeGrid
from impindiff.train import Batch, Work, plan_memory

DT, STEPS, SAMPLES = 1e-2, (100, 1000, 10_000), 10
BUDGET = 512 * 2**20
# Nothing is run that needs more than this.
MOST_BYTES = 8 * 2**30


def work_of(num_steps: int) -> Work:
    """The gradient of a rollout of so many steps, observed at its end."""
    data = ipd.CASES["advection-diffusion-steady"].generate(SAMPLES, 0)
    grid = ipd.grid_of(data, "concentration")
    velocity = ipd.SineField(2, ("advection_x", "advection_y"), key=jax.random.key(0))
    system = ipd.advection_diffusion(grid, velocity, 1e-3)
    states = jnp.asarray(data["concentration"].values, jnp.float32)
    time_grid = TimeGrid.even(0.0, np.array([num_steps * DT]), num_steps)
    batch = Batch({"concentration": states[:, 0]}, {"concentration": states[:, -1:]}, time_grid)
    arrays, frozen = eqx.partition(system, learned(system))
    return Work(arrays, frozen, batch, ipd.CrankNicolson())


def measure(num_steps: int, snapshots: int) -> dict[str, Any]:
    """Bytes and seconds of one gradient, in this process; no snapshots: all states."""
    memory = ipd.memory.Snapshots(snapshots) if snapshots else ipd.memory.KeepAll()
    # A short one first: threads and libraries take some MiB, too, but not of the gradient.
    short, arrays = work_of(2).compiled(lambda work: work.evaluate(ipd.memory.KeepAll()))
    jax.block_until_ready(short(arrays))
    compiled, arrays = work_of(num_steps).compiled(lambda work: work.evaluate(memory))
    arrays = jax.block_until_ready(jax.device_put(arrays))
    given = compiled.memory_analysis()
    # What compiling has freed goes back to the system, and the peak counts anew from here on.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _status("VmRSS"), time.perf_counter()
    evaluation = jax.block_until_ready(compiled(arrays))
    seconds = time.perf_counter() - began
    measured = _status("VmHWM") - before + given.argument_size_in_bytes
    return {
        "measured_mib": measured / 2**20,
        "seconds": seconds,
        "is_finite": bool(evaluation.is_finite),
    }


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One for each number of steps and policy; quick: a hundred steps only."""
    for num_steps in STEPS[: 1 if quick else None]:
        announce(f"the plan of {num_steps} steps")
        for planned in plan_memory(work_of(num_steps), BUDGET).policies:
            row: dict[str, Any] = {
                "steps": num_steps,
                "policy": planned.policy,
                "states_kept": planned.snapshots,
                "planned_mib": planned.peak_bytes / 2**20,
                "planned_seconds": planned.seconds,
            }
            if planned.peak_bytes < MOST_BYTES:
                announce(f"{num_steps} steps: {planned.policy}")
                row |= _apart(num_steps, 0 if planned.policy == "keep-all" else planned.snapshots)
                row["planned_to_measured"] = row["planned_mib"] / row["measured_mib"]
            yield row


def _apart(num_steps: int, snapshots: int) -> dict[str, Any]:
    # Large pieces of memory go back when they are freed: what is taken from those that were kept
    # would not show.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, __file__, str(num_steps), str(snapshots)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _status(name: str) -> int:
    """A line of the kernel's account of this process [bytes]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
