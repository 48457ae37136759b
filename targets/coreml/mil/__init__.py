"""A reference interpreter for Core ML programs: it computes a ``.mlpackage`` from its files, without a Mac."""

from targets.coreml.mil.program import BATCH_IMAGES, Program, load
from targets.coreml.mil.records import Operation, Precision, Quantization, Traced, Value

__all__ = ["BATCH_IMAGES", "Operation", "Precision", "Program", "Quantization", "Traced", "Value", "load"]
