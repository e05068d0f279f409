"""What may be wrong with an installation or a machine, looked at piece by piece.

A check that fails in any way becomes a finding, and the checks after it still run.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from impindiff.cli import _doctor_machine as machine, _doctor_software as software
from impindiff.cli._doctor_finding import Finding

_REINSTALL = "Install again: make clean install, in the repository"


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and the versions of Python, impindiff and the packages it requires."""

    findings: tuple[Finding, ...]
    versions: dict[str, str | None]

    @property
    def exit_status(self) -> int:
        """0 where nothing keeps impindiff from working, else 2. Warnings do not count."""
        return 2 if any(finding.status == "problem" for finding in self.findings) else 0

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as plain objects, ready for JSON."""
        return {
            "passed": self.exit_status == 0,
            "versions": self.versions,
            "findings": [asdict(finding) for finding in self.findings],
        }


def diagnose(folder: Path | None = None) -> Diagnosis:
    """Look at Python, packages, devices, precision, a gradient, memory, disk and file formats.

    Args:
        folder: where runs are to be written; the current folder unless given.
    """
    # Topic and remedy stand here for a check that does not get as far as to say them itself.
    checks: list[tuple[str, Callable[[], Iterator[Finding]], str]] = [
        ("python", software.check_python, _REINSTALL),
        ("packages", software.check_packages, _REINSTALL),
        ("jax", software.check_numerics, _REINSTALL),
        ("memory", machine.check_memory, _REINSTALL),
        ("disk", lambda: machine.check_disk(folder), "Change to a folder that you may write to."),
        ("hdf5", machine.check_hdf5, _REINSTALL),
        ("netcdf", machine.check_netcdf, _REINSTALL),
        ("zarr", machine.check_zarr, _REINSTALL),
    ]
    findings: list[Finding] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for topic, check, remedy in checks:
            try:
                for finding in check():
                    findings.append(finding)
            except Exception as error:
                findings.append(Finding(topic, "problem", software.describe(error), remedy))
    return Diagnosis(tuple(findings), software.collect_versions())


def render(diagnosis: Diagnosis) -> str:
    """The diagnosis as lines of text: each remedy below what it mends, the verdict last."""
    width = max(len(finding.topic) for finding in diagnosis.findings)
    lines = []
    for finding in diagnosis.findings:
        lines.append(f"{finding.status:<7}  {finding.topic:<{width}}  {finding.found}")
        if finding.remedy:
            lines.append(f"{'':<7}  {'':<{width}}  -> {finding.remedy}")
    counts = [
        f"{number} {status}{'' if number == 1 else 's'}"
        for status in ("problem", "warning")
        if (number := sum(finding.status == status for finding in diagnosis.findings))
    ]
    return "\n".join([*lines, "", ", ".join(counts) or "Everything is in order."])
