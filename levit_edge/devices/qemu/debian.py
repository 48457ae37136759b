"""The arm64 system: Debian's C library and Python, which apt fetches and verifies and dpkg unpacks, without root.

apt works in folders of its own (apt.conf(5), "Directories"), so it neither reads nor changes the packages of the host.
It checks every package against the index, and the index against the signature of the Debian archive.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from levit_edge.bundle.files import sha256_file
from levit_edge.devices.qemu.folder import machine_folder
from levit_edge.errors import InputError, MissingComponentError

SUITE = "bookworm"  # its Python is 3.11, for which every runtime still publishes wheels
PYTHON = "python3.11"
PACKAGES = (
    f"{PYTHON}-minimal",
    f"lib{PYTHON}-minimal",
    f"lib{PYTHON}-stdlib",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "zlib1g",
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
_TOOLS = {"apt-get": "apt", "apt-config": "apt", "dpkg-deb": "dpkg"}


def check_tools() -> None:
    """MissingComponentError unless apt, dpkg and the keys of the Debian archive are here."""
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise MissingComponentError(tool, f"sudo apt-get install {package} (on a Debian or Ubuntu system)")
    if not KEYRING.is_file():
        raise MissingComponentError(str(KEYRING), "sudo apt-get install debian-archive-keyring")


def fetch_system(folder: Path, mirror: str) -> dict[str, str]:
    """Fill ``folder`` with the root of an arm64 system; gives the SHA-256 of each package.

    ``mirror`` is the address of a Debian mirror. Raises InputError, with the reason, where apt or dpkg fails.
    """
    state = machine_folder() / "apt"
    shutil.rmtree(state, ignore_errors=True)
    try:
        environment = _apt(state, mirror)
        packages = state / "packages"
        _run(["apt-get", "-qq", "update"], environment, state)
        _run(["apt-get", "-qq", "download", *PACKAGES], environment, packages)
        files = sorted(packages.glob("*.deb"))
        for file in files:
            _run(["dpkg-deb", "--extract", str(file), str(folder)], environment, packages)
        return {file.name: sha256_file(file) for file in files}
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _apt(state: Path, mirror: str) -> dict[str, str]:
    """Make the folders and the configuration of a private apt; gives the environment that selects it."""
    for name in ("lists/partial", "cache/archives/partial", "etc/preferences.d", "packages"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    sources = state / "etc" / "debian.sources"
    sources.write_text(
        f"Types: deb\nURIs: {mirror}\nSuites: {SUITE} {SUITE}-updates\nComponents: main\nArchitectures: arm64\n"
        f"Signed-By: {KEYRING}\n",
        encoding="utf-8",
    )
    settings = {
        "Dir": state,
        "Dir::State": state,
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc": state / "etc",
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Parts": "/dev/null",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",  # else a mirror that cannot be reached is only a warning
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    configuration = state / "apt.conf"
    lines = [f'{key} "{value}";\n' for key, value in settings.items()]
    configuration.write_text(_proxies() + "".join(lines), encoding="utf-8")
    return os.environ | {"APT_CONFIG": str(configuration), "LC_ALL": "C"}


def _proxies() -> str:
    """The lines of the host's apt configuration that say how to reach the network; nothing else of it applies here."""
    dump = subprocess.run(
        ["apt-config", "dump", "Acquire::http", "Acquire::https"], capture_output=True, text=True, check=False
    )
    return dump.stdout


def _run(command: list[str], environment: dict[str, str], folder: Path) -> None:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg"))] or [done.stderr.strip()]
        raise InputError(f"{command[0]} could not make the arm64 system: {lines[0]}; check the network and --mirror")
