"""The script behind the README's picture: it shows what was measured, and says what was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.report.schema import Report, TargetReport
from tests.levit_edge.report import reports

pytest.importorskip("matplotlib", reason="the picture needs matplotlib, of the dependency group dev")
from tools import draw_result


def _texts(report: Report) -> list[str]:
    figure = draw_result.draw(report)
    return [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title, axes._left_title)]


def _write(report: Report, folder: Path) -> Path:
    path = folder / "report.json"
    path.write_text(report.to_json(), encoding="utf-8")
    return path


def test_a_target_that_ran_has_a_bar_for_each_figure_and_its_speedup() -> None:
    target = reports.target()
    texts = _texts(reports.report(onnx=target))
    assert {"31.0", "8.8 (28 %)", "81.3", "81.0", "8.0", "4.0 (2.00x)", "onnxruntime 1.31.1", "executed"} <= set(texts)
    assert "not timed here" not in texts


def test_what_was_not_timed_or_has_no_labels_says_so_and_has_no_bar() -> None:
    simulated = reports.accuracy(runtime="mil-reference", executed=False)
    figure = draw_result.draw(reports.report(coreml=reports.target(bundle="coreml", accuracy=simulated, latency=None)))
    size, top1, latency = figure.axes
    assert [len(axes.patches) for axes in (size, top1, latency)] == [2, 2, 0]
    assert [text.get_text() for text in latency.texts] == ["not timed here"]
    assert "simulated" in [text.get_text() for text in size.texts]
    unlabelled = reports.target(accuracy=None)
    assert {"no labels", "not measured"} <= set(_texts(reports.report(onnx=unlabelled)))


def test_letters_are_at_least_nine_points_high() -> None:
    figure = draw_result.draw(reports.report(onnx=reports.target()))
    texts = [*figure.texts, *figure.legends[0].get_texts(), *(text for axes in figure.axes for text in axes.texts)]
    assert min(text.get_fontsize() for text in texts) >= 9


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_same_report_gives_the_same_bytes(ending: str, tmp_path: Path) -> None:
    path, pictures = _write(reports.report(onnx=reports.target()), tmp_path), []
    for name in ("first", "second"):
        out = tmp_path / f"{name}.{ending}"
        draw_result.main([str(path), str(out)])
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]


def test_a_report_without_targets_is_refused() -> None:
    targets: dict[str, TargetReport] = {}
    with pytest.raises(ValueError, match="no target"):
        draw_result.draw(reports.report(**targets))
