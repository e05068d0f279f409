"""Results in a few lines."""

import math
from collections.abc import Mapping
from pathlib import Path

from impindiff.data import open_dataset
from impindiff.forecast import BalanceScore, LatentError, ReadingError, ReadingScore, Scores
from impindiff.report import errors_of_no_change
from impindiff.rollout import format_bytes
from impindiff.runs import Certificate, RunFolder
from impindiff.train import MemoryPlan


def summary_lines(folder: RunFolder, scores: Scores) -> str:
    """What was learned, how good it is, and where to look."""
    summary = folder.read_json("summary.json")
    learned = ", ".join(f"{name} ({_of_latent(error)})" for name, error in scores.latent.items())
    names = ", ".join(scores.latent) or "the unknown coefficients"
    early = " (stopped early)" if summary.get("stopped_early") else ""
    trained = set(summary["training_samples"])
    lines = [
        f"Learned    {learned or names} from {_snapshots(summary)}: "
        f"{summary['trainable_parameters']} parameters, {summary['epochs']} epochs{early}, "
        f"{summary['training_seconds']:.0f} s of training"
        if trained
        else "Learned    nothing: all is known, and this is the forward model alone"
    ]
    unseen = "unseen " if trained and not trained & set(scores.samples) else ""
    ends = {field: errors.time[-1] for field, errors in scores.fields.items() if errors.time}
    still = errors_of_no_change(open_dataset(folder.forecast_file), ends)
    for field, end in ends.items():
        # A relative error alone says little of temperatures near 290 K.
        beside = f", where nothing changes {still[field]:.3g} %" if field in still else ""
        lines.append(
            f"Forecast   {field} of {_count(scores.samples, f'{unseen}sample')} to t = {end:g}: "
            f"{scores.fields[field].relative_l1_percent[-1]:.3g} % off (relative L1{beside})"
        )
    lines += [f"Readings   {line}" for line in reading_lines(scores.readings)]
    if not any(errors.time for errors in scores.fields.values()) and not scores.readings:
        lines.append("Forecast   not scored: the data hold nothing to compare it with")
    lines += halved_lines(summary.get("halved_steps", ""))
    lines += balance_lines(scores.balances)
    report = folder.path / "report.html"
    lines.append(
        f"Look at    {report}  ({_size(report)}); the forecast is {folder.forecast_file.name} "
        "beside it"
    )
    return "\n".join(lines)


def _of_latent(error: LatentError, digits: int = 2) -> str:
    found = error.relative_l2_percent
    if not math.isfinite(found):
        return "its truth is zero, so there is no relative error"
    return f"relative L2 error {found:.{digits}g} %"


def score_table(scores: Scores) -> str:
    """Errors against time, as text."""
    lines = []
    for field, errors in scores.fields.items():
        if not errors.time:
            lines.append(f"{field}: the data hold nothing to compare it with")
            continue
        lines.append(f"{field}: relative error, mean over samples {scores.samples}")
        lines.append(f"{'time':>10} {'L1 %':>10} {'L2 %':>10}")
        rows = zip(errors.time, errors.relative_l1_percent, errors.relative_l2_percent, strict=True)
        lines += [f"{t:>10g} {l1:>10.4g} {l2:>10.4g}" for t, l1, l2 in rows]
    for name, error in scores.latent.items():
        lines.append(f"{name}: {_of_latent(error, 4)}")
    lines += reading_lines(scores.readings)
    return "\n".join(lines + balance_lines(scores.balances))


def reading_lines(readings: Mapping[str, ReadingScore]) -> list[str]:
    """How far the forecast is from what each instrument read, a line each."""
    lines = []
    for name, score in readings.items():
        parts = {"trained on": score.trained, "held back": score.held_back}
        shown = [_of_readings(words, part) for words, part in parts.items() if part is not None]
        lines.append(f"{name}: {'; '.join(shown)}")
    return lines


def _of_readings(words: str, part: ReadingError) -> str:
    chi2 = part.chi2_per_reading
    noise = "" if chi2 is None else f", chi squared per reading {chi2:.3g}"
    return f"{part.rmse:.3g} off (root mean square of {part.count} {words}{noise})"


def halved_lines(halved: str) -> list[str]:
    """Which steps of a forecast were halved, in a line; none where none was."""
    return [f"Halved     steps that failed as a whole: {halved}"] if halved else []


def balance_lines(balances: Mapping[str, BalanceScore]) -> list[str]:
    """What each balance misses zero by, a line each."""
    return [
        f"Balance    {name}: {', '.join(of.changes)} add up to zero but for "
        f"{of.worst_defect:.1e} of the largest"
        for name, of in balances.items()
    ]


def plan_table(found: MemoryPlan) -> str:
    """What a gradient takes under each policy."""
    lines = [
        f"One gradient through {found.num_steps} steps; a state of all samples takes "
        f"{format_bytes(found.state_bytes)}, and {format_bytes(found.memory_bytes)} may be taken",
        f"{'policy':<10} {'states kept':>11} {'peak':>9} {'extra steps':>11} {'seconds':>8}  fits",
    ]
    for policy in found.policies:
        seconds = "" if policy.seconds is None else f"{policy.seconds:.2g}"
        lines.append(
            f"{policy.policy:<10} {policy.snapshots:>11} {format_bytes(policy.peak_bytes):>9} "
            f"{policy.extra_forward_steps:>11} {seconds:>8}  {'yes' if policy.fits else 'no'}"
        )
    return "\n".join(lines)


def certificate_table(found: Certificate) -> str:
    """What was tested, and what came of it."""
    width = max(len(d.with_respect_to) for d in found.check.directions) + 2
    lines = [f"Gradient of the training loss: {found.problem}"]
    lines.append(f"{'with respect to':<{width}} {'rate':>6} {'slope error':>12}")
    for direction in found.check.directions:
        verdict = "" if direction.passed else "  FAILED: a true gradient has rate 2"
        lines.append(
            f"{direction.with_respect_to:<{width}} {direction.rate:>6.2f} "
            f"{direction.relative_error:>12.1e}{verdict}"
        )
    adjoint = found.adjoint
    if adjoint.solves:
        lines.append(
            f"adjoint solves: {adjoint.solves}, of which {adjoint.failures} missed their "
            f"tolerance; mean relative residual {adjoint.relative_residual:.1e}"
        )
    if (error := found.check.reference_error) is not None:
        lines.append(f"difference from reverse mode through the iterations: {error:.1e}")
    lines.append(
        f"error of the gradient as trained ({found.as_trained}): {found.as_trained_error:.1e}"
    )
    lines.append("passed" if found.passed else "FAILED")
    return "\n".join(lines)


def _snapshots(summary: dict) -> str:
    times = ", ".join(f"{t:g}" for t in summary["training_times"])
    return f"{_count(summary['training_samples'], 'sample')} at t = {times}"


def _count(things: list, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
