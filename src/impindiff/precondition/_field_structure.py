"""What one field does to itself in an implicit step, in units of what its cells store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np

# Share of cells whose rows may be an exception.
EXCEPTIONAL = 0.05
# Below this share of a row what a cell stores is nothing, and the field is in balance.
NOTHING = 1e-6


@final
@dataclass(frozen=True)
class FieldStructure:
    """What one field does to itself, in units of what a cell stores.

    Attributes:
        mass: row sums: 1 where a cell does nothing but store, 0 where it stores nothing.
        diffusion: for each axis, at the upper face of each cell, the diffusion number.
        flow: the same of the Courant number.
        ends: for each axis whether it has any.
        is_algebraic: whether it stores nothing.
    """

    mass: np.ndarray
    diffusion: list[np.ndarray]
    flow: list[np.ndarray]
    ends: tuple[bool, ...]
    is_algebraic: bool

    @classmethod
    def of(
        cls,
        centre: np.ndarray,
        sides: Sequence[Sequence[np.ndarray]],
        volumes: np.ndarray,
        ends: tuple[bool, ...],
        slow: float,
    ) -> Self:
        """From its coefficients.

        Args:
            centre: of each cell.
            sides: for each axis those of the lower and the upper neighbours.
            volumes: of the cells, of mean one.
            ends: for each axis whether it has any.
            slow: the slowest rate of what it reacts in, relative to its own.
        """
        mass = (centre + sum(lower + upper for lower, upper in sides)) * volumes
        diffusion, flow = [], []
        for axis, (lower, upper) in enumerate(sides):
            # What one face does to the cells below and above it, per volume of both.
            onward = -volumes * upper
            back = np.roll(-volumes * lower, -1, axis)
            scale = np.sqrt(volumes * np.roll(volumes, -1, axis))
            diffusion.append(np.maximum((onward + back) / 2, 0) / scale)
            flow.append(np.abs(onward - back) / scale)
        mass = mass / volumes
        typical = float(np.median(np.abs(mass)))
        whole = float(np.median(np.abs(centre)))
        is_algebraic = typical <= NOTHING * whole
        unit = (whole if is_algebraic else typical * slow) or 1.0
        return cls(
            mass / unit,
            [part / unit for part in diffusion],
            [part / unit for part in flow],
            ends,
            is_algebraic,
        )

    def inner(self, axis: int, values: np.ndarray) -> np.ndarray:
        """Of the faces between two cells."""
        stop = values.shape[axis] - 1 if self.ends[axis] else values.shape[axis]
        return np.moveaxis(np.moveaxis(values, axis, 0)[:stop], 0, axis)

    @property
    def lowest(self) -> float:
        """The smallest mass, exceptions and what grows left out."""
        if self.is_algebraic:
            return 0.0
        # A fast reaction leaves something that is slow.
        return float(np.clip(np.quantile(self.mass, EXCEPTIONAL), 0.05, 1))

    def lengths(self, axis: int) -> np.ndarray:
        """For each cell its width in diffusion lengths."""
        return 1 / np.sqrt(np.maximum(self.diffusion[axis], 1e-12))

    @property
    def slowest(self) -> float:
        """What diffusion adds to the smoothest mode."""
        found = [
            (np.pi / self.inner(axis, self.lengths(axis)).sum(axis).max()) ** 2
            for axis, size in enumerate(self.mass.shape)
            if size > 1
        ]
        return min(found, default=0.0)

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue, about."""
        around = sum(d + np.roll(d, 1, axis) for axis, d in enumerate(self.diffusion))
        whole = self.mass + 2 * around
        return float(whole.max() / max(self.lowest + self.slowest, 1e-12))

    def cells(self, axis: int) -> float:
        """The most cells within a diffusion length, or what of the axis a smooth mode sees."""
        size = self.mass.shape[axis]
        most = size / np.pi
        if size == 1:
            return 0.0
        if self.is_algebraic:
            return most
        widths = np.moveaxis(self.inner(axis, self.lengths(axis)), axis, -1)
        widths = widths.reshape(-1, widths.shape[-1])
        # Of the lines some are enough.
        widths = widths[:: max(1, len(widths) // 64)]
        reach = np.concatenate([np.zeros((len(widths), 1)), np.cumsum(widths, 1)], 1)
        count = max(
            float((np.searchsorted(line, line + 1) - np.arange(line.size) - 1).max())
            for line in reach
        )
        few = float(np.sqrt(self.diffusion[axis].max()))
        return min(count if count > 1 else min(few, 1.0), most)

    def variation(self, along: int | None) -> float:
        """Largest over smallest coefficient, with what is stored added to both.

        Cells that are closed on all sides have none: nothing moves in them.

        Args:
            along: an axis along which they may vary.
        """
        stored = max(self.lowest, 0.05) if not self.is_algebraic else self.slowest
        across = tuple(a for a in range(self.mass.ndim) if a != along)
        is_open = sum(d + np.roll(d, 1, axis) for axis, d in enumerate(self.diffusion)) > 0
        found = 1.0
        for axis in range(self.mass.ndim):
            between = self.inner(axis, is_open & np.roll(is_open, -1, axis))
            if not between.any() or not across:
                continue
            values = self.inner(axis, self.diffusion[axis])
            over = across if along is not None else None
            most = np.where(between, values, -np.inf).max(over)
            least = np.where(between, values, np.inf).min(over)
            some = most >= least
            ratio = (stored + 4 * most[some]) / (stored + 4 * least[some])
            found = max(found, float(ratio.max()))
        return float(found)

    @property
    def anisotropy(self) -> float:
        """Of all but a tenth of the cells, where they exchange anything to speak of."""
        if self.mass.ndim == 1:
            return 1.0
        each = np.stack([d + np.roll(d, 1, axis) for axis, d in enumerate(self.diffusion)])
        stiff = each.max(0) > 1
        if not stiff.any():
            return 1.0
        ratio = each.max(0)[stiff] / np.maximum(each.min(0)[stiff], 1e-12)
        return float(np.quantile(ratio, 0.9))

    @property
    def peclet(self) -> float:
        """Largest ratio of flow to diffusion between two cells."""
        found = [
            float((flow / np.maximum(diffusion, 1e-12))[flow > 1e-3].max(initial=0.0))
            for flow, diffusion in zip(self.flow, self.diffusion, strict=True)
        ]
        return max(found, default=0.0)

    @property
    def closed(self) -> float:
        """Share of the inner faces that let nothing pass, if any lets something."""
        inner = [self.inner(axis, d) for axis, d in enumerate(self.diffusion)]
        if not any(part.any() for part in inner):
            return 0.0
        return float(np.mean(np.concatenate([part.ravel() == 0 for part in inner])))
