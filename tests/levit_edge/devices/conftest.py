"""Devices run the model files that the tests of the targets write."""

from __future__ import annotations

from tests.targets.conftest import written

__all__ = ["written"]
