"""What a benchmark ran on, as far as it matters for reading its figures."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def description() -> dict[str, object]:
    """Processor, cores, accelerator, library versions; no host name, no path."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "amx": _flag("amx_tile"),
        "avx512": _flag("avx512f"),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
    }


def public(argv: list[str]) -> list[str]:
    """The command without the folders of this machine."""
    return [Path(part).name if part.startswith(("/", "..")) else part for part in argv]


def put(report: Mapping[str, Any], out: str | Path | None) -> None:
    """Print a report as JSON, and write it where a file is named."""
    text = json.dumps(report, indent=1)
    print(text)
    if out:
        Path(out).write_text(text + "\n")


def _cpuinfo() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return lines.read()
    except OSError:
        return ""


def _processor() -> str:
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _flag(name: str) -> bool:
    return f" {name} " in _cpuinfo().replace("\n", " ")
