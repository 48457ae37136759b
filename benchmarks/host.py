"""What the figures depend on: processor, versions, command. No date, no path, no name of a machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "levit-edge",
    "torch",
    "torchao",
    "executorch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "coremltools",
    "nncf",
    "openvino",
)
INTEGER_SETS = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")


@dataclass(frozen=True)
class Host:
    """Where and with what the run was made."""

    command: str
    processor: str
    integer_instructions: tuple[str, ...]
    cores: int
    system: str
    python: str
    versions: dict[str, str]


def describe(command: str) -> Host:
    """The host of this process, which ran ``command``."""
    return Host(
        command=command,
        processor=_cpuinfo("model name") or platform.processor() or platform.machine(),
        integer_instructions=tuple(
            name for name in INTEGER_SETS if name in (_cpuinfo("flags") or _cpuinfo("Features")).split()
        ),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: version for name in PACKAGES if (version := _version(name))},
    )


def host_lines(host: Host) -> list[str]:
    """The host as items of a Markdown list."""
    versions = " · ".join(f"{name} {version}" for name, version in host.versions.items())
    integer = ", ".join(host.integer_instructions) or "none of those looked for"
    return [
        f"- Processor: {host.processor}, {host.cores} cores, {host.system}; int8 instructions: {integer}.",
        f"- Python {host.python}; {versions}.",
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpuinfo(key: str) -> str:
    """The first value of ``key`` in /proc/cpuinfo, empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    values = [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key]
    return values[0] if values else ""
