"""Rules for all tests: torch uses one thread and writes no trace records, and ``macos`` tests run only on macOS."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Whether a test passes must depend neither on how busy the machine is nor on luck: the examples are always the same.
settings.register_profile(
    "repeatable", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _single_thread() -> Iterator[None]:
    """Give torch one thread: on a busy machine, threads that wait for one another slow a small model down.

    When no test file has imported torch, none needs it, and its import would only take time.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep pytest from collecting torch's trace records, whose rendering takes a third of the time of a test.

    pytest attaches a handler to every logger that does not propagate, and torch renders trace records as soon as their
    logger has a handler.
    """
    logging.getLogger("torch.__trace").propagate = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform == "darwin":
        return
    for item in items:
        if item.get_closest_marker("macos"):
            item.add_marker(pytest.mark.skip(reason="needs macOS"))
