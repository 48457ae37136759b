"""Instructions per inference on emulated ARM, beside the stock recipes: ``python -m benchmarks.instructions``.

Needs ``levit-edge device add qemu-arm64`` and bundles of the demo (``levit-edge build``).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks import host, stock
from benchmarks.inputs import opened
from levit_edge.devices import Device, Kernel, open_device, runtimes
from levit_edge.devices.qemu.cpus import DEFAULT_CPU, cpu_names
from levit_edge.errors import LevitEdgeError
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.verify import one_torch_thread
from targets.runner import Image

PAGE = "INSTRUCTIONS.md"
MILLION = 1e6
COUNTED = 5  # inferences in one guest
KERNELS = 10
PARALLEL = 2


@dataclass(frozen=True)
class Model:
    """One model file to count. ``title`` says whose recipe it is."""

    target: str
    title: str
    precision: str
    path: Path


@dataclass(frozen=True)
class Row:
    """A model on a core: the median count of each guest process, and the kernels of the first."""

    model: str
    target: str
    precision: str
    device: str
    runtime: str
    instructions: tuple[int, ...]
    kernels: tuple[Kernel, ...]

    @property
    def median(self) -> float:
        return float(median(self.instructions))

    @property
    def spread_pct(self) -> float:
        """Largest count of a guest less the smallest, as a share of the median."""
        return 100 * (max(self.instructions) - min(self.instructions)) / self.median


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--samples", type=int, default=256, help="calibration images of the stock recipes")
    parser.add_argument(
        "--guests", type=int, default=5, help="processes for each int8 model of ours on the default core"
    )
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="folder of `levit-edge build`")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help=f"{PAGE} and instructions.json go there")
    return parser.parse_args(argv)


def _ours(dist: Path) -> list[Model]:
    files = {"onnx": "model{}.onnx", "executorch": "model{}.pte"}
    return [
        Model(target, "levit-edge", precision, dist / target / name.format(infix))
        for target, name in files.items()
        for precision, infix in (("float32", ".fp32"), ("int8", ""))
    ]


def _stock(samples: int, folder: Path) -> tuple[list[Model], Image]:
    """The stock files, and the image to count on."""
    names = {"onnx": (stock.ONNX_FILE, "stock.int8.onnx"), "executorch": ("stock.pte", "stock.int8.pte")}
    with opened(BuildOptions(samples=samples)) as inputs:
        for entries in (stock.onnxruntime_entries, stock.executorch_entries):
            list(entries(inputs.model, inputs.calibration, folder))  # written as they are asked for
    models = [
        Model(target, "stock", precision, folder / name)
        for target, files in names.items()
        for precision, name in zip(("float32", "int8"), files, strict=True)
    ]
    return models, inputs.calibration[:1]


def _count(device: Device, model: Model, image: Image, guests: int) -> Row:
    counts = [device.count(model.target, (model.path,), image, COUNTED)[0] for _ in range(guests)]
    print(f"{device.name}: {model.target} {model.title} {model.precision}", file=sys.stderr, flush=True)
    return Row(
        model=model.title,
        target=model.target,
        precision=model.precision,
        device=device.name,
        runtime=device.runtime(model.target),
        instructions=tuple(round(median(count.instructions)) for count in counts),
        kernels=counts[0].kernels[:KERNELS],
    )


def _rows(options: argparse.Namespace, folder: Path) -> list[Row]:
    stock_models, image = _stock(options.samples, folder)
    ours = _ours(options.dist)
    work = []
    for cpu in cpu_names():
        device = open_device(f"qemu-arm64:{cpu}")
        main = cpu == DEFAULT_CPU
        for model in (*ours, *stock_models) if main else ours:
            if model.target not in runtimes(device, ("onnx", "executorch")):
                continue
            guests = options.guests if main and model.title == "levit-edge" and model.precision == "int8" else 1
            work.append((device, model, image, guests))
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(lambda job: _count(*job), work))


def page(where: host.Host, rows: Sequence[Row]) -> str:
    """The Markdown page."""
    versions = " · ".join(f"{name} {version}" for name, version in where.versions.items())
    main = [row for row in rows if row.device.endswith(DEFAULT_CPU)]
    parts = [
        "# Instructions per inference on emulated ARM",
        "The embedded demo (LeViT-128S, 10 classes, 224x224), batch 1, one thread, in QEMU's user-mode emulation:",
        f"```\nlevit-edge device add qemu-arm64\nlevit-edge build --out dist\n{where.command}\n```",
        f"- Built with {versions}; counted in {', '.join(sorted({row.runtime for row in main}))}.",
        (
            f"- A count is the number of guest instructions of one inference: the median of {COUNTED}, after two that"
            " warm up. Counts are not times: they leave out caches and pipelines."
        ),
        (
            "- Guests are the processes that counted a model. Spread is the largest of their counts less the smallest,"
            " as a share of the median."
        ),
        f"## {DEFAULT_CPU}",
        "\n".join(_table(main)),
        "## The other cores, levit-edge",
        "\n".join(_table([row for row in rows if row not in main])),
        *(_kernels(row) for row in main if (row.model, row.precision) == ("levit-edge", "int8")),
    ]
    return "\n\n".join(parts).replace(".\n\n- ", ".\n- ") + "\n"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| core | runtime | model | precision | millions | guests | spread % | less than stock float |"
    yield "|---|---|---|---|---:|---:|---:|---:|"
    for row in rows:
        floats = [
            other.median
            for other in rows
            if (other.target, other.model, other.precision) == (row.target, "stock", "float32")
        ]
        less = f"{floats[0] / row.median:.2f}x" if floats else "-"
        spread = f"{row.spread_pct:.4f}" if len(row.instructions) > 1 else "-"
        core = row.device.partition(":")[2]
        count = f"{row.median / MILLION:.2f}"
        yield (
            f"| {core} | {row.target} | {row.model} | {row.precision} | {count} | {len(row.instructions)} | {spread} "
            f"| {less} |"
        )


def _kernels(row: Row) -> str:
    lines = [
        f"| {kernel.library} | {kernel.function} | {kernel.kind} | {100 * kernel.instructions / row.median:.1f} |"
        for kernel in row.kernels
    ]
    head = f"## Where {row.target} int8 spends them on {DEFAULT_CPU}"
    return "\n".join([head, "", "| library | function | mostly | share % |", "|---|---|---|---:|", *lines])


def main(argv: list[str] | None = None) -> int:
    """Count, write the page and instructions.json, print the page. 2 or 3 when something is wrong or missing."""
    options = _arguments(argv)
    try:
        with tempfile.TemporaryDirectory() as folder, one_torch_thread():
            rows = _rows(options, Path(folder))
    except LevitEdgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    where = host.describe(f"python -m benchmarks.instructions --samples {options.samples} --guests {options.guests}")
    text = page(where, rows)
    document = asdict(where) | {"rows": [asdict(row) for row in rows]}
    (options.out / "instructions.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (options.out / PAGE).write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
