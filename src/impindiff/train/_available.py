"""How much memory there is."""

from pathlib import Path

import jax
import psutil

CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_bytes(control_group: Path = CONTROL_GROUP) -> int:
    """What a run may take on the device it would run on [bytes].

    An accelerator's own memory; else the machine's that is free, a container's or batch system's
    limit included.
    """
    # Not every backend keeps such statistics; that of the CPU has none.
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return int(limit) if limit else free_bytes(control_group)


def free_bytes(control_group: Path = CONTROL_GROUP) -> int:
    """The machine's memory that is free, its control group's limit included [bytes]."""
    free, limit = psutil.virtual_memory().available, control_group_limit(control_group)
    return free if limit is None else min(free, limit)


def control_group_limit(folder: Path = CONTROL_GROUP) -> int | None:
    """The memory limit of the control group [bytes], versions 2 and 1; None where there is none."""
    limits = []
    for file in (folder / "memory.max", folder / "memory" / "memory.limit_in_bytes"):
        text = file.read_text().strip() if file.is_file() else "max"
        if text.isdigit() and int(text) < 2**60:  # version 1 writes "no limit" as about 2**63
            limits.append(int(text))
    return min(limits, default=None)
