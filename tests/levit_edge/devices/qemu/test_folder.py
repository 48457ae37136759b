"""Parts of the machine appear whole or not at all, and are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.devices.qemu.folder import make_part, part_path, read_part
from levit_edge.errors import InputError


def _fill(text: str) -> dict[str, str]:
    return {f"{text}.whl": "0" * 64}


def _writer(text: str, calls: list[str]):  # type: ignore[no-untyped-def]
    def fill(folder: Path) -> dict[str, str]:
        calls.append(text)
        (folder / "module.py").write_text(text, encoding="utf-8")
        return _fill(text)

    return fill


def test_a_part_is_made_once_and_again_when_something_else_is_wanted(cache: Path) -> None:
    calls: list[str] = []
    first = make_part("numpy", ("numpy==1",), _writer("one", calls))
    again = make_part("numpy", ("numpy==1",), _writer("one", calls))
    assert calls == ["one"] and first == again == read_part("numpy")
    assert first.size_bytes == 3 and first.files == _fill("one")
    make_part("numpy", ("numpy==2",), _writer("other", calls))
    assert calls == ["one", "other"]
    assert (part_path("numpy") / "module.py").read_text(encoding="utf-8") == "other"
    assert sorted(path.name for path in (cache / "parts").iterdir()) == ["numpy", "numpy.json"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, InputError])
def test_an_interrupted_part_is_no_part(failure: type[BaseException], cache: Path) -> None:
    calls: list[str] = []

    def half(folder: Path) -> dict[str, str]:
        (folder / "half.py").write_text("half", encoding="utf-8")
        raise failure("stopped")

    with pytest.raises(failure):
        make_part("torch", ("torch==1",), half)
    assert read_part("torch") is None and not part_path("torch").exists()
    make_part("torch", ("torch==1",), _writer("whole", calls))
    assert [path.name for path in part_path("torch").iterdir()] == ["module.py"]


def test_a_failed_replacement_leaves_what_was_there(cache: Path) -> None:
    make_part("ort", ("ort==1",), _writer("one", []))

    def fail(folder: Path) -> dict[str, str]:
        raise InputError("no network")

    with pytest.raises(InputError):
        make_part("ort", ("ort==2",), fail)
    found = read_part("ort")
    assert found is not None and found.wanted == ("ort==1",)
    assert (part_path("ort") / "module.py").read_text(encoding="utf-8") == "one"


@pytest.mark.parametrize("text", ["", "{", "{}", '{"wanted": 1}'])
def test_a_damaged_record_is_no_part(text: str, cache: Path) -> None:
    make_part("numpy", ("numpy==1",), _writer("one", []))
    part_path("numpy").with_suffix(".json").write_text(text, encoding="utf-8")
    assert read_part("numpy") is None
