"""What the benchmarks add to the peers' own code: how their calibration is fed, and which peers are left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest

from benchmarks import nncf_peer
from benchmarks.coreml_peer import tensor_ranges
from benchmarks.stock import _Reader
from targets.coreml.mil import Traced


class _Program:
    """One tensor: the pixels of the image."""

    def trace(self, image: np.ndarray, names: Iterable[str]) -> dict[str, Traced]:
        return {name: Traced(image) for name in names}


def test_ranges_are_those_of_all_images() -> None:
    images = np.array([[-3.0, 1.0], [0.0, 7.0], [0.0, 2.0]], np.float32)
    assert tensor_ranges(_Program(), images, ["x"])["x"].tolist() == [-3.0, 7.0]


def test_coremltools_keeps_the_range_of_the_last_image_alone() -> None:
    """Why there are two rows for it. Where this fails, coremltools was repaired, and one of them can go."""
    from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger

    ranges: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for values in ([-3.0, 7.0], [0.0, 2.0]):
        ModelDebugger.record_intermediate_output(np.array(values), "x", ranges)
    assert (ranges["x"]["rmin"], ranges["x"]["rmax"]) == (0.0, 2.0)


def test_the_reader_gives_every_image_once_also_a_few_at_a_time() -> None:
    images = np.arange(4, dtype=np.float32).reshape(4, 1)
    reader = _Reader(images)
    assert len(reader) == 4 and [item.item() for item in _all(reader)] == [0, 1, 2, 3]
    reader.set_range(2, 4)
    assert [item.item() for item in _all(reader)] == [2, 3] and reader.get_next() is None


def _all(reader: _Reader) -> Iterable[np.ndarray]:
    while (feed := reader.get_next()) is not None:
        yield from feed.values()


@pytest.mark.parametrize(("present", "absent"), [(("nncf",), "openvino"), ((), "nncf and openvino")])
def test_peers_that_are_not_installed_are_left_out_with_the_reason(
    present: tuple[str, ...], absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nncf_peer, "find_spec", lambda name: object() if name in present else None)
    assert nncf_peer.missing() == {"NNCF + OpenVINO": f"{absent} not installed; `pip install 'levit-edge[bench]'`"}
