"""What a user may ask of gates: the names, without imports, so that the help can show them."""

from __future__ import annotations

from typing import Literal, get_args

UndecidedPolicy = Literal["fail", "warn"]
"""Whether an undecided gate counts as a failure or is only reported."""

IdentityName = Literal["model", "evaluation", "calibration", "recipe", "host", "versions", "devices"]
"""What must be the same in two reports before their figures are compared."""

IDENTITIES: tuple[IdentityName, ...] = get_args(IdentityName)
