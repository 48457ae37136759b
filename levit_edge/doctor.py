"""What works on this machine, found out without importing torch or any converter."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from levit_edge.report.answers import Availability, DoctorReport, DoctorRow
from targets.registry import TARGETS
from targets.target import Target

DISTRIBUTION = "levit-edge"


def examine(version: str, devices: Sequence[DoctorRow]) -> DoctorReport:
    """Every target, and then ``devices``, which speak for themselves; ``version`` is that of levit-edge."""
    limits = _requirements()
    return DoctorReport(
        levit_edge=version,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        rows=(*(_row(target, limits) for target in TARGETS.values()), *devices),
    )


def _row(target: Target, limits: Mapping[str, SpecifierSet]) -> DoctorRow:
    packages = {package: _version(package) for package in (*target.builds_with, *target.runs_with)}
    limits = {package: limits.get(package, SpecifierSet()) for package in packages}
    wrong = [package for package, version in packages.items() if not satisfies(version, limits[package])]
    notes = [", ".join(f"{package} is {packages[package] or 'missing'}" for package in wrong)]
    executes: Availability = "no" if set(wrong) & set(target.runs_with) else "yes"
    if target.executes_on and platform.system() not in target.executes_on:
        executes = f"needs {target.executing_systems}"
        notes.append(target.elsewhere)
    return DoctorRow(
        name=target.name,
        kind="target",
        lowers="no" if set(wrong) & set(target.builds_with) else "yes",
        executes=executes,
        packages=packages,
        note="; ".join(filter(None, notes)),
        fix=" ".join(["pip install", *(f"'{package}{limits[package]}'" for package in wrong)]) if wrong else "",
    )


def satisfies(version: str | None, limits: SpecifierSet) -> bool:
    """Whether ``version`` is installed (not None) and within ``limits``; pre-releases count like any other version."""
    return version is not None and limits.contains(version, prereleases=True)


def _requirements() -> dict[str, SpecifierSet]:
    """The limits in levit-edge's own metadata by package, such as ``torch==2.13.*``; those of extras do not count."""
    try:
        requirements = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        return {}
    return {
        requirement.name: requirement.specifier
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
