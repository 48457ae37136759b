"""iOS: Core ML ML programs (``.mlpackage``). They convert anywhere; Apple's runtime executes them on macOS only."""

from __future__ import annotations

import json
import platform
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.export import ExportedProgram

from levit_edge.errors import InputError, MissingComponentError
from levit_edge.report.answers import Placement, Precision
from quantize.scheme import ATTENTION_INSIDE, RESIDUAL_STREAM, Role, Scheme
from targets.coreml import mil
from targets.target import INPUT_NAME, OUTPUT_NAME, Contents, Image, Logits, operator_rows

MINIMUM_DEPLOYMENT_TARGET = "iOS17"

# Unsigned activations, as Apple's own quantizer makes them. Everything between quantize and dequantize may run in
# integers from A17 Pro and M4 on; the rest computes in float16.
SCHEME = Scheme(
    activation_dtype="uint8",
    stored=frozenset(Role) - ATTENTION_INSIDE - RESIDUAL_STREAM - {Role.LOGITS},
    float_residual=True,
    constant_bias="weight",
)

_MOVES = {"reshape", "transpose", "expand_dims", "squeeze", "quantize", "dequantize", "cast", "identity"}
_WEIGHTS = "constexpr_"
_DEBUG_FILE = "executorch_debug_handle_mapping.json"  # for ExecuTorch's own profiler; no part of the package


def lower(program: ExportedProgram, path: Path, half: bool) -> None:
    """Write the ``.mlpackage``, which :func:`targets.coreml.verify.verify` compares with the program."""
    import coremltools
    from coremltools.converters.mil import Builder

    Builder.name_count.clear()  # or the names would go on counting from whatever else this process has built
    shape = tuple(program.example_inputs[0][0].shape)
    precision = coremltools.precision.FLOAT16 if half else coremltools.precision.FLOAT32
    model = coremltools.convert(
        program.run_decompositions({}),
        inputs=[coremltools.TensorType(name=INPUT_NAME, shape=shape, dtype=np.float32)],
        outputs=[coremltools.TensorType(name=OUTPUT_NAME, dtype=np.float32)],
        minimum_deployment_target=getattr(coremltools.target, MINIMUM_DEPLOYMENT_TARGET),
        compute_precision=precision,
        convert_to="mlprogram",
        skip_model_load=True,
    )
    model.save(str(path))
    _fix_identifiers(path)
    _fix_order(path)
    (path / _DEBUG_FILE).unlink(missing_ok=True)


def _fix_identifiers(package: Path) -> None:
    """Replace the random item identifiers of the package by ones made from the item paths: same input, same bytes."""
    manifest = package / "Manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    items, root = {}, content["rootModelIdentifier"]
    for old, entry in content["itemInfoEntries"].items():
        new = str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper()
        items[new] = entry
        root = new if old == root else root
    content["itemInfoEntries"], content["rootModelIdentifier"] = dict(sorted(items.items())), root
    manifest.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _fix_order(package: Path) -> None:
    """Write the maps of the specification in sorted order: protobuf's own order changes from process to process."""
    from coremltools.proto import Model_pb2

    (specification,) = package.rglob("*.mlmodel")
    model = Model_pb2.Model()
    model.ParseFromString(specification.read_bytes())
    specification.write_bytes(model.SerializeToString(deterministic=True))


class CoreMLRunner:
    """A ``.mlpackage`` in Core ML on this Mac's CPU."""

    executed = True

    def __init__(self, path: Path) -> None:
        import coremltools

        self._model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
        if self._model.__proxy__ is None:  # coremltools only warns when it could not load the model
            raise MissingComponentError("Core ML for iOS 17 models", "softwareupdate --install (macOS 14 or later)")
        self.runtime = f"coreml-macos-{platform.mac_ver()[0]}-cpu"

    def __call__(self, image: Image) -> Logits:
        logits: Logits = self._model.predict({INPUT_NAME: image})[OUTPUT_NAME].astype(np.float32)
        return logits


class ReferenceRunner:
    """A ``.mlpackage`` in the reference interpreter: every operator of the file on disk, float16 rounding included."""

    executed = False
    runtime = "mil-reference"

    def __init__(self, path: Path) -> None:
        self._program = mil.load(path)

    def __call__(self, image: Image) -> Logits:
        return self._program.run(image)

    def batch(self, images: Image) -> Logits:
        """float32 [B, C, H, W] -> float32 [B, classes], several images at once."""
        return self._program.run(images)


def load(path: Path, threads: int) -> CoreMLRunner | ReferenceRunner:
    """Core ML on macOS, where ``threads`` is Core ML's own business; the reference interpreter elsewhere."""
    del threads
    return CoreMLRunner(path) if sys.platform == "darwin" else ReferenceRunner(path)


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _operations(package: Path) -> list[Any]:
    import coremltools

    try:
        program = coremltools.utils.load_spec(str(package)).mlProgram
    except Exception as error:  # noqa: BLE001  # protobuf and file errors alike
        raise InputError(f"{package} is not a Core ML package: {_reason(error)}") from None
    if "main" not in program.functions:
        raise InputError(f"{package} is not a Core ML package: it has no function called main")
    function = program.functions["main"]
    operations: list[Any] = list(function.block_specializations[function.opset].operations)
    return operations


def _argument_names(operation: Any) -> Iterator[str]:
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.name:
                yield binding.name


def _classified(operations: list[Any]) -> Iterator[tuple[str, Precision, Placement]]:
    kinds = {output.name: operation.type for operation in operations for output in operation.outputs}
    quantized = {name for op in operations if op.type == "quantize" for name in _argument_names(op)}
    for operation in operations:
        if operation.type == "const" or operation.type.startswith(_WEIGHTS):
            continue
        if operation.type in _MOVES:
            yield operation.type, "move", "runtime"
            continue
        activations = [kinds[n] for n in _argument_names(operation) if kinds.get(n, "const") != "const"]
        dequantized = [kind == "dequantize" or kind.startswith(_WEIGHTS) for kind in activations]
        stored = any(output.name in quantized for output in operation.outputs)
        integer = bool(dequantized) and all(dequantized) and (stored or operation.type in ("linear", "matmul"))
        yield operation.type, "int8" if integer else "float", "runtime"


def contents(path: Path) -> Contents:
    """Operators of the package on disk. ``int8`` are those between dequantize and quantize: Core ML may fuse them."""
    notes = (f"minimum deployment target {MINIMUM_DEPLOYMENT_TARGET}; int8 kernels from A17 Pro and M4 on",)
    return Contents(None, operator_rows(_classified(_operations(path))), notes)
