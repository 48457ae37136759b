"""Which gates stop a damaged build of the demo: real builds, each damaged in one way, against the recorded baseline.

    python -m benchmarks.gate_faults --work DIR [--rebuilds N] [--only NAME]

First the demo is rebuilt ``N`` times as it is, then every damage of :mod:`benchmarks.damages` is built. ``levit-edge
gate`` compares each report with ``tests/baselines/demo.json``. The gates that stopped it are read from the JSON output,
the JUnit file and the Markdown summary, which must name the same ones. The result is printed as the tables of
``docs/gates.md``; the exit code is 1 when a sound build is stopped, or a damage trips other gates than it should.

Needs ``levit-edge device add qemu-arm64``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.damages import DAMAGES, ROOT, UNDECIDED, Damage
from levit_edge.bundle.manifest import open_bundle
from levit_edge.devices import LOCAL
from levit_edge.pipeline.build import build
from levit_edge.pipeline.options import BuildOptions
from levit_edge.report.schema import load_report
from targets.registry import TARGETS

BASELINE = ROOT / "tests" / "baselines" / "demo.json"
GATES = BASELINE.parent / "gates.toml"
DEVICE = "qemu-arm64"
STOPPED = ("failed", "undecided")
ROW = re.compile(r"^\| (?P<target>\w+) \| (?P<gate>\w+)", re.MULTILINE)

Gates = frozenset[tuple[str, str, str]]  # (target, gate, outcome)


@dataclass(frozen=True)
class Stopped:
    """The gates of one build that failed or stayed undecided, as each output names them, and the exit code."""

    code: int
    table: Gates
    junit: Gates
    summary: frozenset[tuple[str, str]]

    @property
    def agree(self) -> bool:
        """The three outputs name the same gates, and the exit code says whether there are any."""
        named = {(target, gate) for target, gate, _ in self.table}
        return self.table == self.junit and named == self.summary and self.code == bool(named)

    @property
    def gates(self) -> frozenset[str]:
        """``gate`` where it failed, ``gate (undecided)`` where it is."""
        return frozenset(gate if outcome == "failed" else f"{gate}{UNDECIDED}" for _, gate, outcome in self.table)

    @property
    def words(self) -> str:
        """The gates for a table."""
        return ", ".join(sorted(self.gates)) or "none"


def judge(folder: Path) -> Stopped:
    """``levit-edge gate`` on the report in ``folder``, against the targets of the baseline that were built."""
    report, baseline = folder / "report.json", load_report(BASELINE)
    built = load_report(report).targets
    before = baseline.model_copy(update={"targets": {name: baseline.targets[name] for name in built}})
    (folder / "baseline.json").write_text(before.to_json(), encoding="utf-8")
    junit, summary = folder / "gates.xml", folder / "gates.md"
    command = [sys.executable, "-m", "levit_edge", "gate", str(report), "--baseline", str(folder / "baseline.json")]
    command += ["--gates", str(GATES), "--json", "--junit", str(junit), "--markdown", str(summary)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode > 1:
        raise RuntimeError(done.stderr)
    results = json.loads(done.stdout)["targets"]
    return Stopped(
        code=done.returncode,
        table=frozenset((t, g["name"], g["outcome"]) for t in results for g in results[t] if g["outcome"] in STOPPED),
        junit=frozenset(_in_junit(junit)),
        summary=frozenset(
            (row["target"], row["gate"])
            for row in ROW.finditer(summary.read_text(encoding="utf-8").partition("<details>")[0])
            if row["gate"] != "gate"
        ),
    )


def _in_junit(path: Path) -> Iterator[tuple[str, str, str]]:
    for suite in ET.parse(path).iter("testsuite"):
        for case in suite.iter("testcase"):
            for kind, outcome in (("failure", "failed"), ("error", "undecided")):
                if case.find(kind) is not None:
                    yield suite.attrib["name"], case.attrib["name"].split()[0], outcome


def rebuild(folder: Path) -> tuple[Stopped, dict[str, str]]:
    """Build the demo in a process of its own: the gates that stop it, and the SHA-256 of each model file."""
    command = [sys.executable, "-m", "levit_edge", "build", "--out", str(folder.absolute())]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    sums: dict[str, str] = {}
    for name in TARGETS:
        manifest = open_bundle(folder / name).manifest
        inside = (f"{manifest.model_file}/", f"{manifest.reference_file}/")
        sums |= {
            f"{name}/{file}": value
            for file, value in manifest.files.items()
            if file in (manifest.model_file, manifest.reference_file) or file.startswith(inside)
        }
    return judge(folder), sums


def build_damaged(damage: Damage, folder: Path) -> Stopped:
    """Build the demo for one target with ``damage``: the gates that stop it."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    device = DEVICE if damage.on_device else LOCAL
    with damage.damaged():
        build(BuildOptions(targets=(damage.target,), out=folder, device=device, **damage.options(inputs)))
    return judge(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_faults", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="new folder for the builds")
    parser.add_argument("--rebuilds", type=int, default=20, help="builds of the demo as it is")
    parser.add_argument("--only", choices=[damage.name for damage in DAMAGES], action="append", help="repeatable")
    return parser.parse_args()


def main() -> int:
    """Build, judge and print."""
    given, wrong, files = _arguments(), 0, set()
    for index in range(given.rebuilds):
        stopped, sums = rebuild(given.work / f"rebuild-{index}")
        files.add(json.dumps(sums, sort_keys=True))
        wrong += bool(stopped.table) or not stopped.agree
        print(f"rebuild {index + 1}: stopped by {stopped.words}", file=sys.stderr)
    if given.rebuilds:
        print(f"{given.rebuilds} rebuilds: {wrong} stopped or undecided, {len(files)} different sets of model files.\n")
    print("| damage | target | gates that stop the build |\n|---|---|---|")
    for damage in DAMAGES:
        if given.only and damage.name not in given.only:
            continue
        stopped = build_damaged(damage, given.work / damage.name.replace(" ", "-"))
        as_it_should = stopped.agree and damage.must <= stopped.gates <= damage.must | damage.may
        wrong += not as_it_should
        mark = "" if as_it_should else f" (WRONG: must be {sorted(damage.must)}, may be {sorted(damage.may)})"
        print(f"| {damage.words} | {damage.target} | {stopped.words}{mark} |", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
