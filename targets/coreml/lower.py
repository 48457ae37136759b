"""Writing a ``.mlpackage``: the conversion runs on any operating system, and gives the same bytes every time."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
from torch.export import ExportedProgram

from targets.coreml import MINIMUM_DEPLOYMENT_TARGET
from targets.target import INPUT_NAME, OUTPUT_NAME

_DATE = "com.github.apple.coremltools.conversion_date"
_DEBUG_FILE = "executorch_debug_handle_mapping.json"  # for ExecuTorch's own profiler; no part of the package


def lower(program: ExportedProgram, path: Path, half: bool) -> None:
    """Write the ``.mlpackage``: in float16 where ``half``, else in float32, with float32 input and output.

    Nothing is checked here; :func:`targets.coreml.verify.verify` compares the package with the program.
    """
    import coremltools
    from coremltools.converters.mil import Builder

    Builder.name_count.clear()  # names would otherwise continue the numbering of earlier conversions in this process
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
    _fix_specification(path)
    (path / _DEBUG_FILE).unlink(missing_ok=True)


def _fix_identifiers(package: Path) -> None:
    """Derive the identifiers of the package's items, which coremltools makes at random, from the items' paths."""
    manifest = package / "Manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    items, root = {}, content["rootModelIdentifier"]
    for old, entry in content["itemInfoEntries"].items():
        new = str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper()
        items[new] = entry
        root = new if old == root else root
    content["itemInfoEntries"], content["rootModelIdentifier"] = dict(sorted(items.items())), root
    manifest.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _fix_specification(package: Path) -> None:
    """Drop the date, and write the maps in sorted order: that of protobuf changes from process to process."""
    from coremltools.proto import Model_pb2

    (specification,) = package.rglob("*.mlmodel")
    model = Model_pb2.Model()
    model.ParseFromString(specification.read_bytes())
    model.description.metadata.userDefined.pop(_DATE, None)
    specification.write_bytes(model.SerializeToString(deterministic=True))
