"""What a check of the doctor hands back."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, whether it will do, and if not, what helps."""

    topic: str
    status: Status
    found: str
    remedy: str = ""


def judge_amount(
    topic: str, found: str, amount: int, little: int, too_little: int, remedy: str
) -> Finding:
    """A finding about an amount that is a warning below `little`, a problem below `too_little`."""
    if amount >= little:
        return Finding(topic, "ok", found)
    return Finding(topic, "problem" if amount < too_little else "warning", found, remedy)
