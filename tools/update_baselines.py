"""Write the baselines of the regression tests from the report of a demo build.

From the root of a clone, on an otherwise idle machine to which the emulated device has been added:

    levit-edge build --device qemu-arm64 --out dist && python -m tools.update_baselines dist/report.json

The tests compare against ``tests/baselines/<target>.json``; commit the change with the reason for it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from levit_edge.bundle.files import write_json
from levit_edge.errors import InputError
from levit_edge.metrics.instructions import ArmInstructions
from levit_edge.report.schema import Report, TargetReport, load_report

BASELINES = Path(__file__).parents[1] / "tests" / "baselines"


def baseline(entry: TargetReport) -> dict[str, Any]:
    """What the regression tests compare of one target.

    ``speedup`` is None where nothing was executed, ``arm64`` where no instructions were counted.
    """
    accuracy, delegation = entry.accuracy, entry.delegation
    if accuracy is None or delegation is None:
        raise InputError(f"{entry.bundle}: the report has no accuracy; build the demo with its own images")
    return {
        "recipe": entry.recipe,
        "tool_versions": entry.tool_versions,
        "accuracy": {
            "runtime": accuracy.runtime,
            "n": accuracy.n,
            "top1_fp32_pct": accuracy.top1_fp32_pct,
            "top1_drop_pp": accuracy.top1_drop_pp,
            "agreement_pct": accuracy.agreement_pct,
            "sqnr_db": accuracy.sqnr_db,
        },
        "delegation": delegation.model_dump(),
        "size_ratio": entry.size_ratio,
        "speedup": None if entry.latency is None else entry.latency.speedup,
        "arm64": None if entry.latency is None else _counted(entry.latency.arm64),
    }


def _counted(arm64: ArmInstructions | None) -> dict[str, Any] | None:
    if arm64 is None:
        return None
    return arm64.model_dump(include={"device", "runtime", "fp32_instructions", "instructions"})


def update(report: Report, folder: Path) -> list[Path]:
    """Write one file for each target of ``report``; gives back their paths.

    Raises InputError, before anything is written, for a report without accuracy, and for one without the instructions
    that a file in ``folder`` has.
    """
    content = {folder / f"{name}.json": baseline(entry) for name, entry in report.targets.items()}
    for path, value in content.items():
        _keep_count(path, value)
    for path, value in content.items():
        write_json(path, value)
    return list(content)


def _keep_count(path: Path, value: dict[str, Any]) -> None:
    if value["arm64"] is None and path.exists() and json.loads(path.read_text(encoding="utf-8"))["arm64"] is not None:
        raise InputError(f"{path} has a count of instructions, the report has none: build with --device qemu-arm64")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="report.json of a demo build")
    parser.add_argument("--folder", type=Path, default=BASELINES, help="where the baselines are")
    options = parser.parse_args(arguments)
    update(load_report(options.report), options.folder)


if __name__ == "__main__":
    main()
