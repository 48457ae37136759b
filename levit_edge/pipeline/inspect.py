"""``levit-edge inspect``: what runs where in a finished bundle, or the first layer that departs."""

from __future__ import annotations

from levit_edge.bundle.files import size_bytes
from levit_edge.pipeline.bundles import open_verified
from levit_edge.pipeline.options import InspectOptions
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import Inspection
from levit_edge.report.divergence import Divergence


def inspect(options: InspectOptions, progress: Progress = QUIET) -> Inspection | Divergence:
    """What runs where, read from the bundle's model file; every layer compared where ``options.diverge`` is an image.

    Raises InputError when the bundle is not as it was built, and what :func:`levit_edge.pipeline.diverge.diverge` does.
    """
    if options.diverge is not None:
        from levit_edge.pipeline.diverge import diverge  # imports torch, which the operators of some files do not need

        with progress.step("compare every layer"):
            return diverge(options.bundle, options.diverge)
    bundle, target = open_verified(options.bundle)
    contents = target.backend.contents(bundle.model_path)
    return Inspection(
        bundle=str(options.bundle),
        target=target.name,
        model_file=target.model_file,
        size_bytes=size_bytes(bundle.model_path),
        delegates=contents.delegates,
        int8_ops=contents.count("int8"),
        float_ops=contents.count("float"),
        fallback_ops=contents.fallback_ops,
        operators=contents.operators,
        notes=contents.notes,
    )
