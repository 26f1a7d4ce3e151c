"""How a run ended, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.progress import duration
from jobs.task import Task


@dataclass
class RunReport:
    """How a run ended. `status`: done, failed (something is missing) or interrupted."""

    run_id: str
    atlas: str
    status: str = "done"
    exit_code: int = 0
    neurons: int = 0  # of this run's selection, that the atlas now holds
    units_done: int = 0
    units_reused: int = 0
    units_failed: int = 0
    workers_lost: int = 0
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)
    error: str = ""


def missing_text(unit: Task) -> str:
    """What is missing, as people say it: neurons by their address, with the stage behind it."""
    text = str(unit)
    stage, _, rest = text.partition(" ")
    return rest if stage == "visualize" else f"{rest} ({stage})"


def summary(report: RunReport) -> list[str]:
    """The last lines of a run, for people."""
    lines = [
        f"{report.neurons:,} neurons in {report.atlas} after {duration(report.seconds)}: "
        f"{report.units_done} units done, {report.units_reused} reused, {report.units_failed} failed."
    ]
    if report.error:
        lines.append(f"Stopped: {report.error}")
    if report.missing:
        shown = report.missing[:8]
        lines.append(
            f"Missing ({len(report.missing)}): "
            + "; ".join(shown)
            + ("; ..." if len(report.missing) > len(shown) else "")
        )
        lines.append("What is committed stays. Run the same command again to do what is missing.")
    return lines
