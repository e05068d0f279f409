"""The stages of a training, ready before the first of them begins: what is refused is so now."""

from collections.abc import Sequence

import equinox as eqx
from jaxtyping import PyTree

from impindiff._errors import InputError
from impindiff.integrate import AbstractStepper
from impindiff.rollout import MemoryBudget, MemoryPolicy
from impindiff.systems import System
from impindiff.train._batch import Batches, Batching, divided
from impindiff.train._by_name import moving
from impindiff.train._expected import check_expected
from impindiff.train._listed import listed
from impindiff.train._memory_plan import Work, choose_policy
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser
from impindiff.train._stage import Stage


def ready(
    learned: PyTree,
    known: System,
    observations: Observations,
    stepper: AbstractStepper,
    dt: float,
    optimisers: Sequence[AbstractOptimiser],
    *,
    memory: MemoryPolicy | MemoryBudget,
    samples_at_once: int | None,
    freeze: tuple[str, ...],
    seed: int,
) -> list[Stage]:
    """A stage for each optimiser, with the memory policy that is left to it.

    Args:
        learned: the learned arrays of a system.
        known: the system without them.
        observations: what to fit.
        stepper: advances one step.
        dt: longest step, for stages that do not set their own.
        optimisers: one after the other.
        memory: which states are kept for the gradient, or how many bytes there are for them.
        samples_at_once: how many samples' states are held at a time; all where None.
        freeze: names of latents that keep their values throughout.
        seed: of the order in which batches are drawn.

    Raises: InputError for no stages, data beyond what learned functions expect, a division of the
        data that cannot be, a name that no latent has, or a memory budget that is too small.
    """
    optimisers = listed(optimisers, AbstractOptimiser, "stages", "[Adam(100)]")
    if not optimisers:
        raise InputError(
            "training needs at least one stage (Adam, LBFGS, LevenbergMarquardt, Optax)."
        )
    check_expected(eqx.combine(learned, known), observations)
    policies: dict[tuple[float, Batching, tuple[str, ...]], MemoryPolicy] = {}
    stages = []
    for optimiser in optimisers:
        longest, frozen = optimiser.dt or dt, (*freeze, *optimiser.freeze)
        moved, still = eqx.partition(learned, moving(learned, frozen))
        optimiser.check(moved)
        if known.initial and optimiser.batching.window is not None:
            raise InputError(
                f"the system gives initial values of {', '.join(known.initial)}, and windows begin "
                "at later states: leave out the window, or Field(..., initial=...)."
            )
        key = (longest, optimiser.batching, frozen)
        if key not in policies:
            batch = divided(observations, longest, optimiser.batching)
            work = Work(
                moved,
                eqx.combine(still, known),
                batch.first if isinstance(batch, Batches) else batch,
                stepper,
                samples_at_once,
            )
            policies[key] = choose_policy(work, memory)
        stages.append(
            Stage(
                optimiser,
                stepper,
                longest,
                known,
                frozen,
                observations,
                policies[key],
                samples_at_once,
                seed,
            )
        )
    return stages
