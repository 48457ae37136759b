"""Writing a ``.pte``: every operator goes into one XNNPACK delegate."""

from __future__ import annotations

from pathlib import Path

from torch.export import ExportedProgram


def lower(program: ExportedProgram, path: Path, half: bool) -> None:
    """Write the ``.pte``. ``half`` is ignored: XNNPACK computes float operators in float32."""
    del half
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(edge.to_executorch().buffer)
