"""Compare the accuracy of levit-edge and its peers: ``python -m benchmarks.accuracy --dist DIR --eval DATA``.

All are made of the embedded demo's checkpoint and calibration images, and judged on the same images against the
published float model in torch. Needs the `bench` extra for NNCF and OpenVINO; without it they are left out, and the
page says so. It takes about half an hour on one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from benchmarks import accuracy_page, coreml_peer, host, nncf_peer, ours, stock
from benchmarks.accuracy_rows import judge_all
from benchmarks.entry import Entry
from benchmarks.inputs import Inputs, opened, publish, step
from benchmarks.measure import compare
from calibration import Batch
from levit_edge.errors import InputError
from levit_edge.pipeline.images import EvaluationPass
from levit_edge.pipeline.options import BuildOptions
from levit_edge.progress import QUIET


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="folder of `levit-edge build`")
    parser.add_argument("--eval", type=Path, metavar="DATA", help="evaluation images; those of the demo without it")
    parser.add_argument("--images", type=int, metavar="N", help="use at most N of them")
    parser.add_argument("--samples", type=int, default=256, help="calibration images, as in the build")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/accuracy.json"), help="ACCURACY.md goes beside it")
    return parser.parse_args(argv)


def _build(options: argparse.Namespace, inputs: Inputs) -> tuple[list[Entry], dict[str, str]]:
    """Every int8 entry that can be built here, and why the others cannot."""
    model, images, folder = inputs.model, inputs.calibration, inputs.folder
    exported = folder / stock.ONNX_FILE
    with step("load ours"):
        built = ours.build(options.dist, ours.FAMILIES, options.samples, inputs.seed)
        entries = [entry for entry in built if entry.precision == "int8"]
    stock.export_onnx(model, torch.from_numpy(images[:1]), exported)
    for method in stock.ONNX_METHODS:
        with step(f"ONNX Runtime, {method}"):
            entries.append(stock.onnxruntime_int8(exported, images, folder, method))
    for make in (stock.executorch_static, stock.executorch_dynamic):
        with step(f"ExecuTorch, {make.__name__}"):
            entries.append(make(model, images, folder))
    with step("Core ML"):
        entries += coreml_peer.entries(model, images, folder)
    if skipped := nncf_peer.missing():
        return entries, skipped
    with step("NNCF + OpenVINO"):
        entries += nncf_peer.quantized(exported, images, folder)
    with step("NNCF + OpenVINO with accuracy control"), torch.no_grad():
        answers = np.concatenate([model(part).argmax(1).numpy() for part in torch.from_numpy(images).split(8)])
        entries.append(nncf_peer.controlled(exported, images, answers, folder))
    return entries, {}


def unseen(batches: Iterable[Batch], calibration: stock.Images) -> Iterator[Batch]:
    """The ``batches``; InputError when one has an image of ``calibration``, on which every recipe is too good."""
    seen = {sha256(image.tobytes()).digest() for image in calibration}
    for batch in batches:
        for name, image in zip(batch.names, batch.inputs, strict=True):
            if sha256(image.tobytes()).digest() in seen:
                raise InputError(f"{name} calibrates, too; evaluate on other images")
        yield batch


def _page(options: argparse.Namespace) -> str:
    build = BuildOptions(samples=options.samples, eval_data=options.eval, limit=options.images)
    with opened(build) as inputs:
        entries, skipped = _build(options, inputs)
        evaluation = EvaluationPass(inputs.evaluation)
        with step("accuracy"):
            compared = compare(inputs.model, unseen(evaluation.batches(QUIET, ""), inputs.calibration), entries)
    where = host.describe(_command(options))
    rows = judge_all(entries, compared)
    accuracy_page.write_json(options.out, where, evaluation.result(), rows, skipped)
    return accuracy_page.markdown(where, evaluation.result(), rows, skipped)


def _command(options: argparse.Namespace) -> str:
    """The command without the paths of this machine."""
    data = ["--eval", options.eval.name] if options.eval else []
    limit = ["--images", str(options.images)] if options.images else []
    return " ".join(["python -m benchmarks.accuracy --dist dist", *data, *limit, "--samples", str(options.samples)])


def main(argv: list[str] | None = None) -> int:
    """Compare, write the JSON file and ACCURACY.md, print the page. 2 when the input is bad."""
    options = _arguments(argv)
    return publish(options.out.with_name("ACCURACY.md"), partial(_page, options))


if __name__ == "__main__":
    sys.exit(main())
