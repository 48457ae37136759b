"""The files that CI systems read: what they promise, and that the documentation shows them as they are."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci.runner import ACTION, Build, Runner
from tests.levit_edge.report import reports
from tests.places import ROOT

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
GITHUB_EXAMPLE = ROOT / "docs" / "ci" / "github-workflow.yml"
GITLAB_EXAMPLE = ROOT / "docs" / "ci" / "gitlab-ci.yml"
OWN_WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
ROW = re.compile(r"^\| `(?P<name>[a-z-]+)` \| .+? \|(?: (?:`(?P<default>.+)` )?\|)?$", re.MULTILINE)
PINNED = re.compile(r"\./|[\w-]+/[\w-]+@(v\d+|REF)")


def parse(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def rows(heading: str) -> dict[str, str]:
    """The names in the table under ``heading`` with their defaults."""
    section = re.split(r"^##+ ", PAGE.partition(f"### {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return {match["name"]: match["default"] or "" for match in ROW.finditer(section)}


@pytest.mark.parametrize("path", [GITHUB_EXAMPLE, GITLAB_EXAMPLE], ids=lambda path: path.name)
def test_the_page_shows_the_example_that_make_check_validates(path: Path) -> None:
    assert f"```yaml\n{path.read_text(encoding='utf-8')}```" in PAGE
    assert str(path.relative_to(ROOT)) in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_page_has_every_input_with_its_default_and_every_output() -> None:
    assert rows("Inputs") == {name: spec["default"] for name, spec in ACTION["inputs"].items()}
    assert set(rows("Outputs")) == set(ACTION["outputs"])


@pytest.mark.parametrize("path", [GITHUB_EXAMPLE, OWN_WORKFLOW], ids=lambda path: path.name)
def test_a_workflow_asks_for_little_and_ends_in_time(path: Path) -> None:
    workflow = parse(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 90 and "permissions" not in job
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            assert "uses" not in step or PINNED.fullmatch(step["uses"]), step


def test_the_action_pins_what_it_uses() -> None:
    used = [step["uses"] for step in ACTION["runs"]["steps"] if "uses" in step]
    assert used and all(PINNED.fullmatch(name) for name in used)


@pytest.mark.parametrize("path", [GITHUB_EXAMPLE, OWN_WORKFLOW], ids=lambda path: path.name)
def test_a_workflow_gives_the_action_inputs_that_it_has(path: Path) -> None:
    steps = [step for job in parse(path)["jobs"].values() for step in job["steps"]]
    given = [step["with"] for step in steps if step.get("uses") in ("./", "OWNER/levit-edge@REF")]
    assert given and all(inputs.keys() <= ACTION["inputs"].keys() for inputs in given)
    names = {name for step in steps for name in re.findall(r"steps\.\w+\.outputs\.([\w-]+)", str(step))}
    assert names <= ACTION["outputs"].keys()


def test_our_own_workflow_runs_what_a_developer_runs() -> None:
    jobs = parse(OWN_WORKFLOW)["jobs"]
    scripts = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert ".ci/run" in scripts["linux"] and os.access(ROOT / ".ci" / "run", os.X_OK)
    assert any(script.endswith("pytest -m macos") for script in scripts["macos"])


@pytest.mark.parametrize(
    ("build", "report", "ends", "verbs"),
    [
        (0, {}, 0, ["build", "gate"]),
        (1, {"accuracy": reports.accuracy(agreement_pct=50.0)}, 1, ["build", "gate"]),
        (2, {}, 2, ["build"]),
    ],
)
def test_the_job_for_gitlab_ends_as_its_gates_do(
    build: int, report: dict[str, Any], ends: int, verbs: list[str], tmp_path: Path
) -> None:
    """Its script runs as GitLab runs it, line by line with ``set -eo pipefail``; only ``build`` is a stand-in."""
    made = tmp_path / "made.json"
    made.write_text(reports.report(onnx=reports.target(**report)).to_json(), encoding="utf-8")
    runner = Runner(tmp_path, Build(made, build))
    (runner.workspace / "gates.toml").write_text("schema_version = 1\n", encoding="utf-8")
    # The same report, so that nothing differs but what a report without its images cannot show to be the same.
    (runner.workspace / "baseline.json").write_bytes(made.read_bytes())
    job = parse(GITLAB_EXAMPLE)["model-gates"]
    accepted = "--accept-difference evaluation --accept-difference host"
    script = "\n".join(job["script"]).replace("--accept-difference host", accepted)
    path = os.pathsep.join([str(runner.home), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=runner.workspace, env={"PATH": path},
        capture_output=True, encoding="utf-8", check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, [call[0] for call in runner.calls()]) == (ends, verbs), done.stdout + done.stderr
    files = [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]
    assert job["artifacts"]["when"] == "always"
    assert all((runner.workspace / name).exists() for name in files) is ("gate" in verbs)
