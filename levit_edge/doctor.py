"""What works on this machine, found out without importing anything heavy."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from levit_edge.report.answers import Availability, DoctorReport, DoctorRow

DISTRIBUTION = "levit-edge"

# Packages that build a target's model file, and those that run it.
_TARGETS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "executorch": (("torch", "torchao", "executorch"), ("executorch", "torch", "torchao")),
    "coreml": (("torch", "torchao", "coremltools"), ("coremltools",)),
    "onnx": (("torch", "torchao", "onnx", "onnxscript"), ("onnxruntime",)),
}
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?P<limits>[^;\[]*)(?P<rest>.*)")
_LIMIT = re.compile(r"(?P<sign>==|>=|<)\s*(?P<version>\d+(?:\.\d+)*)(?P<any>\.\*)?")


@dataclass(frozen=True)
class _Device:
    """A way to reach another processor: the program it needs, and what installs that on Linux and on macOS."""

    name: str
    program: str
    linux: str
    macos: str


_DEVICES = (
    _Device("ssh", "ssh", "sudo apt-get install openssh-client", ""),
    _Device("adb", "adb", "sudo apt-get install adb", "brew install --cask android-platform-tools"),
)
_NOT_BY_THIS_VERSION = "this version does not run bundles there"


def examine(version: str, emulated: DoctorRow) -> DoctorReport:
    """Every target and every device of the contract; ``version`` is that of levit-edge.

    ``emulated`` is what the emulated machine says of itself.
    """
    limits = _requirements()
    targets = tuple(_target(name, lowering, running, limits) for name, (lowering, running) in _TARGETS.items())
    local = DoctorRow(name="local", kind="device", executes="yes", note=platform.machine())
    return DoctorReport(
        levit_edge=version,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        rows=(*targets, local, emulated, *(_device(device) for device in _DEVICES)),
    )


def _target(name: str, lowering: tuple[str, ...], running: tuple[str, ...], limits: Mapping[str, str]) -> DoctorRow:
    packages = {package: _version(package) for package in dict.fromkeys((*lowering, *running))}
    wrong = [package for package, version in packages.items() if not satisfies(version, limits.get(package, ""))]
    lowers: Availability = "no" if set(wrong) & set(lowering) else "yes"
    executes: Availability = "no" if set(wrong) & set(running) else "yes"
    note = ", ".join(f"{package} is {packages[package] or 'missing'}" for package in wrong)
    if name == "coreml" and platform.system() != "Darwin":
        executes = "needs macOS"
        note = "; ".join(
            filter(
                None, (note, "elsewhere a reference interpreter judges its accuracy, and its latency is not measured")
            )
        )
    fix = " ".join(["pip install", *(f"'{package}{limits.get(package, '')}'" for package in wrong)]) if wrong else ""
    return DoctorRow(name=name, kind="target", lowers=lowers, executes=executes, packages=packages, note=note, fix=fix)


def _device(device: _Device) -> DoctorRow:
    found = shutil.which(device.program) is not None
    note = f"{device.program} {'is' if found else 'is not'} installed; {_NOT_BY_THIS_VERSION}"
    command = device.macos if platform.system() == "Darwin" else device.linux
    return DoctorRow(name=device.name, kind="device", executes="no", note=note, fix="" if found else command)


def _requirements() -> dict[str, str]:
    """What levit-edge's own metadata demands, such as ``{"torch": "==2.13.*"}``; extras do not count."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    matches = [match for line in lines if (match := _REQUIREMENT.match(line)) and "extra" not in match["rest"]]
    return {match["name"]: match["limits"].strip(" ()") for match in matches}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def satisfies(version: str | None, limits: str) -> bool:
    """Whether ``version`` keeps every limit of the forms ``==1.2``, ``==1.2.*``, ``>=1.2`` and ``<2``."""
    return version is not None and all(_keeps(_numbers(version), limit) for limit in _LIMIT.finditer(limits))


def _keeps(have: tuple[int, ...], limit: re.Match[str]) -> bool:
    wanted = _numbers(limit["version"])
    if limit["sign"] == ">=":
        return have >= wanted
    if limit["sign"] == "<":
        return have < wanted
    return have[: len(wanted)] == wanted if limit["any"] else have == wanted


def _numbers(version: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` as (2, 13, 0); anything after the numbers is left out."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()
