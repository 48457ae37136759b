"""Run levit-edge and its peers side by side: ``python -m benchmarks.peers``.

Needs the `bench` extra for NNCF and OpenVINO; without it they are left out, and the page says so.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks import host, nncf_peer, ours, results_files, stock
from benchmarks.entry import Entry
from benchmarks.inputs import Inputs, opened, publish, step
from benchmarks.measure import Row, compare, latencies, rows
from levit_edge.pipeline.options import BuildOptions
from levit_edge.progress import QUIET


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="evaluation images")
    parser.add_argument("--samples", type=int, default=256, help="calibration images, as in the build")
    parser.add_argument("--runs", type=int, default=60, help="timed rounds")
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="folder of `levit-edge build`")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="RESULTS.md goes beside it")
    return parser.parse_args(argv)


def _build(options: argparse.Namespace, inputs: Inputs) -> tuple[list[Entry], dict[str, str]]:
    """Every entry that can be built here, and why the others cannot."""
    model, images, folder = inputs.model, inputs.calibration, inputs.folder
    with step("load ours"):
        entries = ours.build(options.dist, ours.EXECUTED, options.samples, inputs.seed)
    with step("stock ONNX Runtime"):
        entries += stock.onnxruntime_entries(model, images, folder)
    with step("stock ExecuTorch"):
        entries += stock.executorch_entries(model, images, folder)
    if skipped := nncf_peer.missing():
        return entries, skipped
    with step("NNCF + OpenVINO"):
        entries += nncf_peer.entries(folder / stock.ONNX_FILE, images, folder)
    return entries, {}


def _measure(options: argparse.Namespace, inputs: Inputs) -> tuple[list[Row], dict[str, str]]:
    entries, skipped = _build(options, inputs)
    with step("accuracy"):
        compared = compare(inputs.model, inputs.evaluation.batches(QUIET, ""), entries)
    accuracy = {name: found.accuracy for name, found in compared.items()}
    with step("latency"):
        latency = latencies(entries, inputs.calibration[:1], options.runs)
    return rows(entries, accuracy, latency), skipped


def _page(options: argparse.Namespace) -> str:
    with opened(BuildOptions(samples=options.samples, limit=options.images, runs=options.runs)) as inputs:
        found, skipped = _measure(options, inputs)
    command = f"python -m benchmarks.peers --images {options.images} --samples {options.samples} --runs {options.runs}"
    where = host.describe(command)
    results_files.write_json(options.out, where, found, skipped)
    return results_files.markdown(where, found, skipped)


def main(argv: list[str] | None = None) -> int:
    """Compare, write the JSON files and RESULTS.md, print the page. 2 when the input is bad."""
    options = _arguments(argv)
    return publish(options.out.parent / "RESULTS.md", partial(_page, options))


if __name__ == "__main__":
    sys.exit(main())
