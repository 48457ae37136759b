"""Running a ``.pte`` in ExecuTorch's own runtime."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from levit_edge.errors import InputError
from levit_edge.wording import first_line
from targets.native_output import hushed_stderr
from targets.runner import Image, Logits

# ExecuTorch looks for the identity of an ARM core on every machine and reports on standard error that it found none. It
# also reports there that the number of its threads was set.
NOISE = re.compile(rb"\[cpuinfo_utils\.cpp:\d+\]|\[threadpool\.cpp:\d+\] Resetting threadpool")


class XnnpackRunner:
    """A ``.pte`` in ExecuTorch's own runtime, through its Python bindings; InputError when it cannot be loaded.

    ``threads`` is the number for the whole process: ExecuTorch has one pool of threads.
    """

    executed, runtime = True, "executorch-xnnpack"

    def __init__(self, path: Path, threads: int) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        try:
            with hushed_stderr(NOISE):
                if portable_lib._threadpool_get_thread_count() != threads:
                    portable_lib._unsafe_reset_threadpool(threads)  # must precede the load
                self._program = Runtime.get().load_program(path.read_bytes())
                self._method = self._program.load_method("forward")
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path} is not a program that this ExecuTorch can load: {first_line(error)}") from None

    def execute(self, image: Image) -> list[torch.Tensor]:
        """Every output of the program on ``image`` float32 [1, C, H, W]; copies, in the order of the file."""
        contiguous = torch.from_numpy(np.ascontiguousarray(image))  # the runtime ignores strides
        return [output.clone() for output in self._method.execute([contiguous])]

    def __call__(self, image: Image) -> Logits:
        logits: Logits = self.execute(image)[0].numpy()
        return logits


def current_threads() -> int:
    """How many threads the pool of this process has now: loading a program with another number would change it."""
    from executorch.extension.pybindings import portable_lib

    with hushed_stderr(NOISE):
        return int(portable_lib._threadpool_get_thread_count())
