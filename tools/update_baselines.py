"""Write the baselines of the regression tests from the report of a demo build.

From the root of a clone, on an otherwise idle machine to which the device ``qemu-arm64`` has been added:

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
from levit_edge.report.schema import Report, TargetReport, load_report

BASELINES = Path(__file__).parents[1] / "tests" / "baselines"


def baseline(entry: TargetReport) -> dict[str, Any]:
    """The figures of one target that the regression tests compare.

    ``speedup`` is None where nothing was executed; ``devices`` has the instructions of every device that counted them.
    Raises InputError for a target without accuracy.
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
        "devices": {
            name: found.instructions.model_dump(include={"runtime", "fp32_instructions", "instructions"})
            for name, found in entry.devices.items()
            if found.instructions is not None
        },
    }


def update(report: Report, folder: Path) -> list[Path]:
    """Write one file for each target of ``report``; returns their paths.

    Raises InputError, before anything is written, for a report without accuracy, and for one that lacks instructions
    which a file in ``folder`` has.
    """
    content = {folder / f"{name}.json": baseline(entry) for name, entry in report.targets.items()}
    for path, value in content.items():
        _check_devices(path, value)
    for path, value in content.items():
        write_json(path, value)
    return list(content)


def _check_devices(path: Path, value: dict[str, Any]) -> None:
    before = json.loads(path.read_text(encoding="utf-8"))["devices"] if path.exists() else {}
    for name in before.keys() - value["devices"].keys():
        raise InputError(f"{path} has instructions of {name}, the report has none: build with --device {name}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="report.json of a demo build")
    parser.add_argument("--folder", type=Path, default=BASELINES, help="where the baselines are")
    options = parser.parse_args(arguments)
    update(load_report(options.report), options.folder)


if __name__ == "__main__":
    main()
