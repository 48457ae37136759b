"""Where things lie: the one place that counts folders, so that a test file can move."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
CHECKPOINTS = TESTS / "data" / "checkpoints"
BASELINE = TESTS / "baselines" / "demo.json"  # `make baselines` writes it
BASELINE_GATES = BASELINE.parent / "gates.toml"
SHARED = ROOT.parent / "shared"  # larger data of the developers; tests skip where it is absent
