"""What the figures depend on, in words: processor, memory, versions, date."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform

PACKAGES = ("llama-index-core", "numpy", "pannier")


def installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(source tree)"


def field(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8") as f:
            return next((x.split(":", 1)[1].strip() for x in f if x.startswith(name)), "unknown")
    except OSError:
        return "unknown"


def facts() -> dict[str, str]:
    memory = field("/proc/meminfo", "MemTotal").split()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{int(memory) / 1e6:.0f} GB" if memory.isdigit() else memory,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: installed(name) for name in PACKAGES},
    }


def describe(found: dict[str, str]) -> str:
    """One line of them."""
    return (
        f"{found['date']}: pannier {found['pannier']}, llama-index-core {found['llama-index-core']}, "
        f"{found['python']}, numpy {found['numpy']}, {found['cpu']}, {found['memory']}, {found['system']}"
    )
