"""Several systems from different first weights, trained side by side.

An epoch of all members is one compiled function, that of a training alone mapped over them. So a
member comes to what it would come to alone, to round-off.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree
from pydantic import BaseModel

from impindiff._errors import InputError, NumericsError
from impindiff.latent import learned as learned_mask
from impindiff.rollout import MemoryBudget
from impindiff.systems import Ensemble, System
from impindiff.train._adam_and_optax import Adam
from impindiff.train._adaptation import Adaptation
from impindiff.train._batches import Batches, Order
from impindiff.train._compiled_stage import CompiledStage, compile_stages
from impindiff.train._diagnosis import check_epoch
from impindiff.train._earlier_call import takes_earlier_calls
from impindiff.train._epoch import Fixed, init, refresh, strongly_typed, update
from impindiff.train._fit_options import FitOptions, FittedData
from impindiff.train._lbfgs import LBFGS
from impindiff.train._objective import Trial
from impindiff.train._observations import Observations
from impindiff.train._stages import Stage
from impindiff.train._time_steps import finest, is_due
from impindiff.train._units import Units


class EnsembleRecord(BaseModel):
    """What an epoch of an ensemble did.

    Attributes:
        epoch: counted from 1 over all stages.
        stage: the optimiser's name.
        losses: by seed, of the members that went on.
        diverged: by seed, what went wrong in this epoch.
        seconds: training time so far, compilation included.
    """

    epoch: int
    stage: str
    losses: dict[int, float]
    diverged: dict[int, str]
    seconds: float


@takes_earlier_calls
def fit_ensemble(
    make_system: Callable[[PRNGKeyArray], System],
    data: xr.Dataset,
    *,
    seeds: Iterable[int],
    members_at_once: int | None = None,
    dt: float | None = None,
    stages: Sequence[Stage] = (Stage(Adam(), 100), Stage(LBFGS(), 200)),
    options: FitOptions = FitOptions(),
    **fitted: Unpack[FittedData],
) -> Ensemble:
    """Train the same system from several first weights.

    A member that stalls waits for the others, and one whose solves, loss or gradient fail is left
    out from there on. There are no rescues, schedules of tolerance, validations or checkpoints:
    for these train members one by one (`fit`).

    Args:
        make_system: gives a system for a key of random numbers. Only its learned arrays may depend
            on the key.
        data: see `fit`.
        seeds: of the members, one for each.
        members_at_once: how many members are trained side by side, the others after them in each
            epoch; all where None.
        dt: longest time step, for stages that do not set their own; where None, steps follow their
            error as in `fit`. Members share them: to each time those of the member that takes most.
        stages: one after the other.
        options: see `fit`. A memory budget is that of all members that are trained side by side.
        fitted: `samples`, `times`, `start`, `observe` and `regularise` as `fit` takes them.

    Raises: InputError as `fit` does, for options that an ensemble has not, for fewer than two
        seeds, and for systems that differ in more than their learned arrays; NumericsError where
        fewer than two members are left.
    """
    _check_options(options)
    seeds = tuple(seeds)
    if len(set(seeds)) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(f"the seeds are {seeds}: give at least two, all different.")
    together = len(seeds) if members_at_once is None else min(members_at_once, len(seeds))
    if together < 1:
        raise InputError(f"members_at_once is {members_at_once}: it must be at least 1.")
    learned, known = _stacked(make_system, seeds)
    first = eqx.combine(jax.tree.map(lambda a: a[0], learned), known)
    observations = Observations.of(first, data, dtype=options.dtype, **fitted)
    if isinstance(options.memory, MemoryBudget):
        options = replace(options, memory=MemoryBudget(options.memory.num_bytes // together))
    one = jax.tree.map(lambda a: a[0], learned)
    compiled = compile_stages(one, known, observations, dt, stages, options)
    members = _Members(seeds, learned, together)
    for stage in compiled:
        members.train(stage, options.watch or (lambda record: None))
    survivors = np.flatnonzero(members.alive)
    systems = eqx.combine(jax.tree.map(lambda a: a[survivors], members.learned), known)
    left = tuple(seeds[member] for member in survivors)
    return Ensemble(systems, left, tuple(members.diverged.items()))


def _check_options(options: FitOptions) -> None:
    """Refuse what is done for one system at a time only."""
    without = FitOptions()
    for name in ("rescue", "progressive_tolerance", "validation", "checkpoints"):
        if getattr(options, name) != getattr(without, name):
            raise InputError(
                f"fit_ensemble has no {name}: leave it out of the options, or train members one by "
                "one with fit."
            )


class _Members:
    """The members of an ensemble in training."""

    def __init__(self, seeds: tuple[int, ...], learned: PyTree, at_once: int) -> None:
        self.seeds, self.learned, self.at_once = seeds, learned, at_once
        self.alive = np.ones(len(seeds), bool)
        self.diverged: dict[int, str] = {}
        self.number, self.began = 0, time.perf_counter()
        self.units: Units = ()

    def train(self, stage: CompiledStage, watch: Callable[[EnsembleRecord], None]) -> None:
        """To the end of a stage, or until no member can go on."""
        active, fixed = self.alive.copy(), stage.fixed
        begin = partial(stage.begin, adaptation=Adaptation())
        adaptation = self._shared(begin, Adaptation(), active)
        if active.any():
            # Members differ in their first weights, and share what is unknown, and so its unit.
            first = jax.tree.map(lambda a: a[int(np.argmax(active))], self.learned)
            known = adaptation.model_copy(update={"units": self.units})
            self.units = stage.with_units(first, known).units
        trial = Adaptation(units=self.units).trial(stage.observations.num_samples)
        data, *_ = stage.data(0, adaptation)
        state = _init(fixed, data, self.learned, jnp.asarray(active), self.at_once)
        for epochs_done in range(stage.stage.epochs):
            go_on = partial(stage.go_on, adaptation=adaptation, epochs=epochs_done)
            others = self._shared(go_on, adaptation, active) if is_due(epochs_done) else adaptation
            data, order, grids = stage.data(self.number + 1, others)
            if others != adaptation:
                adaptation = others
                given = self.learned, state, jnp.asarray(active)
                state = _refresh(fixed, data, *given, self.at_once)
            given = (self.learned, state, jnp.asarray(active))
            self.learned, state, epochs = _update(fixed, data, order, trial, *given, self.at_once)
            epochs, losses, failed = jax.device_get(epochs), {}, {}
            for member in np.flatnonzero(active):
                epoch = jax.tree.map(lambda leaf, member=member: leaf[member], epochs)
                try:
                    check_epoch(epoch, self.number + 1, grids)
                except NumericsError as error:
                    failed[self.seeds[member]] = str(error)
                    active[member] = self.alive[member] = False
                else:
                    active[member] = not epoch.stalled
                    if not epoch.stalled:
                        losses[self.seeds[member]] = float(epoch.evaluation.loss)
            self._leave_out(failed)
            if losses or failed:
                self.number += 1
                watch(
                    EnsembleRecord(
                        epoch=self.number,
                        stage=stage.stage.optimiser.name,
                        losses=losses,
                        diverged=failed,
                        seconds=time.perf_counter() - self.began,
                    )
                )
            if not active.any():
                return

    def _shared(
        self, adapted: Callable[..., Adaptation], before: Adaptation, active: np.ndarray
    ) -> Adaptation:
        """The adaptation with the finest of the steps that the members need."""
        found, failed = [], {}
        for member in np.flatnonzero(active):
            learned = jax.tree.map(lambda a, member=member: a[member], self.learned)
            try:
                found.append(adapted(learned).steps)
            except NumericsError as error:
                failed[self.seeds[member]] = str(error)
                active[member] = self.alive[member] = False
        self._leave_out(failed)
        return before.model_copy(update={"steps": finest(found)})

    def _leave_out(self, failed: dict[int, str]) -> None:
        """Keep what went wrong with some.

        Raises: NumericsError where fewer than two are left.
        """
        self.diverged |= failed
        if self.alive.sum() < 2:
            reasons = " ".join(f"Seed {seed}: {why}" for seed, why in self.diverged.items())
            raise NumericsError(f"fewer than two members are left. {reasons}")


def _stacked(
    make_system: Callable[[PRNGKeyArray], System], seeds: tuple[int, ...]
) -> tuple[PyTree, System]:
    """The learned arrays of all members along a leading axis, and what they have in common."""
    parts = []
    for seed in seeds:
        system = make_system(jax.random.key(seed))
        parts.append(eqx.partition(system, learned_mask(system)))
    first, known = parts[0]
    for seed, (learned, other) in zip(seeds, parts, strict=True):
        shapes, wanted = (eqx.filter_eval_shape(lambda t: t, tree) for tree in (learned, first))
        if not (eqx.tree_equal(shapes, wanted) and eqx.tree_equal(other, known)):
            raise InputError(
                f"the systems of seeds {seeds[0]} and {seed} differ in more than the values of "
                "their learned arrays: let make_system use its key for first weights only, and "
                "take functions from outside of it. One defined within it, a lambda too, is "
                "another one at every call."
            )
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(learned for learned, _ in parts))
    return strongly_typed(stacked), known


@eqx.filter_jit
def _init(fixed: Fixed, data: Batches, learned: PyTree, active, at_once: int) -> Any:
    given = _with_stand_ins(learned, active)
    return jax.lax.map(lambda member: init(fixed, data, Trial(), member), given, batch_size=at_once)


@eqx.filter_jit
def _refresh(fixed: Fixed, data: Batches, learned: PyTree, state: Any, active, at_once: int) -> Any:
    return jax.lax.map(
        lambda member: refresh(fixed, data, Trial(), *member),
        _with_stand_ins((learned, state), active),
        batch_size=at_once,
    )


@eqx.filter_jit
def _update(
    fixed: Fixed,
    data: Batches,
    order: Order,
    trial: Trial,
    learned: PyTree,
    state: Any,
    active: Bool[Array, " members"],
    at_once: int,
):
    *updated, epochs = jax.lax.map(
        lambda member: update(fixed, data, order, trial, *member),
        _with_stand_ins((learned, state), active),
        batch_size=at_once,
    )
    goes_on = active & ~epochs.stalled
    kept = jax.tree.map(
        lambda new, old: jnp.where(_like(goes_on, new), new, old), tuple(updated), (learned, state)
    )
    return *kept, epochs


def _with_stand_ins(tree: PyTree, active: Bool[Array, " members"]) -> PyTree:
    """Members that have ended do what one does that has not: no loop then waits for them."""
    other = jnp.argmax(active)
    return jax.tree.map(lambda a: jnp.where(_like(active, a), a, a[other]), tree)


def _like(mask: Bool[Array, " members"], leaf: Array) -> Bool[Array, "..."]:
    return mask.reshape(-1, *(1,) * (leaf.ndim - 1))
