"""What ExecuTorch prints while it loads."""

from __future__ import annotations

import os

import pytest

from targets.native_output import hushed_stderr
from targets.xnnpack.run import NOISE


def test_known_native_noise_is_held_back_and_the_rest_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with hushed_stderr(NOISE):
        os.write(2, b"[cpuinfo_utils.cpp:71] Reading file\n[threadpool.cpp:66] Resetting threadpool to 1 threads.\n")
        os.write(2, b"[program.cpp:168] Program identifier is wrong\n")
    assert capfd.readouterr().err == "[program.cpp:168] Program identifier is wrong\n"
