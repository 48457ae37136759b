"""One build of the whole demo for every target: minutes, so only slow tests ask for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from levit_edge.devices import LOCAL, add_device, open_device
from levit_edge.devices.qemu.emulator import EMULATOR, INSTALL_EMULATOR
from levit_edge.devices.qemu.folder import CACHE_VARIABLE
from levit_edge.errors import MissingComponentError
from levit_edge.pipeline.build import build
from levit_edge.pipeline.options import BuildOptions
from levit_edge.report.schema import Report, load_report
from tests.shared_results import shared_folder

EMULATED = "qemu-arm64"


@pytest.fixture(scope="session")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The emulated ARM processor, added for this run where the user has not; skips where there is no emulator."""
    if shutil.which(EMULATOR) is None:
        pytest.skip(f"needs {EMULATOR}: {INSTALL_EMULATOR}")
    with pytest.MonkeyPatch.context() as patch:
        try:
            open_device(EMULATED)
        except MissingComponentError:
            cache = shared_folder(tmp_path_factory, "device-cache", lambda _: None)  # where the first process adds it
            patch.setenv(CACHE_VARIABLE, str(cache))
            add_device(EMULATED)
        yield EMULATED


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A build of the demo, on the emulated processor too where there is an emulator."""
    device = request.getfixturevalue("arm64") if shutil.which(EMULATOR) else LOCAL
    return shared_folder(tmp_path_factory, "demo", lambda folder: _build_demo(folder, device))


def _build_demo(folder: Path, device: str) -> None:
    build(BuildOptions(out=folder, device=device))


@pytest.fixture(scope="session")
def demo(demo_folder: Path) -> Report:
    """The report in ``demo_folder``."""
    return load_report(demo_folder / "report.json")
