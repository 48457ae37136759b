"""Rules for every test: one thread for torch, no trace records of torch, and ``macos`` tests only there."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _single_thread() -> Iterator[None]:
    """Small models are slowed down by threads that wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep pytest from collecting torch's trace records, which torch then renders: a third of the time of a test.

    Pytest listens to every logger that does not propagate; torch's trace writes once it has a listener.
    """
    logging.getLogger("torch.__trace").propagate = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform == "darwin":
        return
    for item in items:
        if item.get_closest_marker("macos"):
            item.add_marker(pytest.mark.skip(reason="needs macOS"))
