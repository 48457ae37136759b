"""The program of several images at once, for what only torch computes."""

from __future__ import annotations

from torch.export import ExportedProgram

from levit_edge.pipeline.images import BATCH
from levit_edge.pipeline.load import Subject
from quantize.flow import trace
from quantize.sensitivity import storable


def batched_program(subject: Subject) -> ExportedProgram:
    """The program of BATCH images at once, where it stores the same tensors as that of one; else that of one.

    A model may compute a batch with other operators. What is measured must be what is lowered.
    """
    program = trace(subject.fused, subject.example.repeat(BATCH, 1, 1, 1))
    same = storable(program.module()) == storable(subject.program.module())
    return program if same else subject.program
