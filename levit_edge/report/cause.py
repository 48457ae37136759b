"""Why two builds differ, in one line: only what the reports and manifests themselves state."""

from __future__ import annotations

import re
from collections.abc import Sequence

from levit_edge.report.difference import Change
from levit_edge.wording import listed

NO_DIFFERENCE = "no difference"
ONLY_TIMING = "only timing differs"
NOT_VISIBLE = "no cause is visible in the identities"
OTHER_TARGETS = "the builds have other targets; in those that both have, "

# In the order of the flow: what comes first explains what comes after it.
_CAUSES = (
    ("another variant of the model", r"model\.variant"),
    ("other weights", r"model\.sha256"),
    ("random weights on one side", r"model\.random_weights"),
    ("another image size", r"model\.image_size"),
    ("other labels", r"model\.num_labels|targets\.[^.]+\.manifest\.labels.*"),
    ("another preprocessing", r"targets\.[^.]+\.manifest\.preprocessing\..+"),
    ("calibrated on one side only", r"calibration"),
    ("another calibration", r"calibration\.(sha256|samples|seed)"),
    ("another recipe", r"targets\.[^.]+\.(recipe|recipe_base|recipe_settings\..+)"),
    ("other options of the target", r"targets\.[^.]+\.manifest\.options\..+"),
    ("other versions", r"targets\.[^.]+\.tool_versions\..+"),
    ("other evaluation images", r"evaluation\.(sha256|n)"),
    ("another host", r"host\..+"),
)


def cause(changes: Sequence[Change], *, bundles_differ: bool, targets_differ: bool) -> str:
    """One line: the likely causes with the fields that show them, or that there is none to see.

    ``bundles_differ``: something in the model files or programs differs. ``targets_differ``: one side has a target that
    the other lacks.
    """
    found = [f"{words} ({listed(fields, 4)})" for words, pattern in _CAUSES if (fields := _fields(changes, pattern))]
    if found:
        return f"most likely cause: {'; '.join(found)}"
    effects = [change for change in changes if change.kind != "identity"]
    if bundles_differ or any(change.kind != "timing" for change in effects):
        return NOT_VISIBLE
    rest = ONLY_TIMING if effects else NO_DIFFERENCE
    if changes and not effects:
        rest = f"only what the builds are called differs ({listed(_fields(changes, '.+'), 4)})"
    return f"{OTHER_TARGETS}{rest}" if targets_differ else rest


def _fields(changes: Sequence[Change], pattern: str) -> list[str]:
    """The last names of the fields that match, each once."""
    return list(dict.fromkeys(c.field.rpartition(".")[2] for c in changes if re.fullmatch(pattern, c.field)))
