"""Run levit-edge and its peers side by side: ``python -m benchmarks.peers``.

Needs the `bench` extra for NNCF and OpenVINO; without it they are left out, and the page says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks import host, nncf_peer, ours, results_files, stock
from benchmarks.entry import Entry
from benchmarks.measure import accuracies, latencies, rows
from calibration import Batch
from levit_edge.demo import demo_checkpoint
from levit_edge.errors import LevitEdgeError
from levit_edge.pipeline.images import Images, Selection, open_images
from levit_edge.pipeline.load import load
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.verify import one_torch_thread
from levit_edge.progress import QUIET


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="evaluation images")
    parser.add_argument("--samples", type=int, default=256, help="calibration images, as in the build")
    parser.add_argument("--runs", type=int, default=60, help="timed rounds")
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="folder of `levit-edge build`")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="RESULTS.md goes beside it")
    return parser.parse_args(argv)


@contextmanager
def _step(label: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{label}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def _build(
    options: argparse.Namespace, images: stock.Images, seed: int, folder: Path
) -> tuple[stock.Published, list[Entry], dict[str, str]]:
    """The published model, every entry that can be built here, and why the others cannot."""
    model = stock.Published(demo_checkpoint().model).eval()
    with _step("load ours"):
        entries = ours.build(options.dist, options.samples, seed)
    with _step("stock ONNX Runtime"):
        entries += stock.onnxruntime_entries(model, images, folder)
    with _step("stock ExecuTorch"):
        entries += stock.executorch_entries(model, images, folder)
    absent = [name for name in nncf_peer.NEEDED if find_spec(name) is None]
    if absent:
        reason = f"{' and '.join(absent)} not installed; `pip install 'levit-edge[bench]'`"
        print(f"NNCF + OpenVINO left out: {reason}", file=sys.stderr)
        return model, entries, {"NNCF + OpenVINO": reason}
    with _step("NNCF + OpenVINO"):
        entries += nncf_peer.entries(folder / "stock.onnx", images, folder)
    return model, entries, {}


def _inputs(selection: Selection) -> list[Batch]:
    return list(selection.batches(QUIET, ""))


def _compare(options: argparse.Namespace, images: Images, seed: int, folder: Path) -> str:
    assert images.calibration is not None and images.evaluation is not None
    calibration = np.concatenate([batch.inputs for batch in _inputs(images.calibration)])  # [samples, C, H, W]
    model, entries, skipped = _build(options, calibration, seed, folder)
    with _step("accuracy"):
        accuracy = accuracies(model, images.evaluation.batches(QUIET, ""), entries)
    with _step("latency"):
        latency = latencies(entries, calibration[:1], options.runs)
    command = f"python -m benchmarks.peers --images {options.images} --samples {options.samples} --runs {options.runs}"
    found, where = rows(entries, accuracy, latency), host.describe(command)
    results_files.write_json(options.out, where, found, skipped)
    return results_files.markdown(where, found, skipped)


def main(argv: list[str] | None = None) -> int:
    """Compare, write the JSON files and RESULTS.md, print the page. 2 when the input is bad."""
    options = _arguments(argv)
    try:
        build = BuildOptions(samples=options.samples, limit=options.images, runs=options.runs)
        with ExitStack() as stack, one_torch_thread():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            images = stack.enter_context(open_images(build, load(build), calibrates=True))
            page = _compare(options, images, build.seed, folder)
    except LevitEdgeError as error:
        print(error, file=sys.stderr)
        return 2
    (options.out.parent / "RESULTS.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
