"""``levit-edge diff``: what differs between two builds, from the inputs down to the scale of a single layer."""

from __future__ import annotations

from levit_edge.bundle.files import check_folder_of, write_text
from levit_edge.bundle.manifest import PROGRAM_NAME, Bundle
from levit_edge.pipeline.bundles import open_verified
from levit_edge.pipeline.diff_sides import Side, open_sides
from levit_edge.pipeline.options import DiffOptions
from levit_edge.progress import QUIET, Progress
from levit_edge.report.cause import cause
from levit_edge.report.compare_records import manifest_changes, report_changes
from levit_edge.report.difference import BuildDifference, BundleDifference, Change, OperatorChange
from levit_edge.report.difference_tables import render_markdown
from targets.target import Contents

# Of a manifest, what is already compared by the names of a report, or otherwise.
_COMPARED_ELSEWHERE = {
    "schema_version": "a reader takes only its own",
    "target": "the same on both sides",
    "model": "the report's `model`",
    "calibration": "the report's `calibration`",
    "recipe": "the target's `recipe` and `recipe_settings`",
    "tool_versions": "the target's `tool_versions`",
    "model_file": "the target's `model_file`",
    "files": "named in `files`, without their sums",
}


def diff(options: DiffOptions, progress: Progress = QUIET) -> BuildDifference:
    """Explain the difference of two builds; with ``options.markdown`` it is also written as Markdown.

    Operators, scales and layers are compared where both sides have the bundle, one target at a time. Raises InputError
    for a page whose folder does not exist, a path that is no report, output folder or bundle, a bundle that is not as
    it was built or that the report beside it does not describe, and bundles of different targets.
    """
    check_folder_of(options.markdown)
    before, after = open_sides(options.before, options.after)
    shared = [name for name in before.targets if name in after.targets]
    bundles, changes = [], report_changes(before.facts, after.facts)
    for name in shared:
        with progress.step(f"{name}: compare"):
            found, described = _compare_target(name, before, after)
            bundles.append(found)
            changes += described
    compared = {name for name in shared if name in before.bundles and name in after.bundles}
    changes = [change for change in changes if not _is_counted_twice(change, compared)]
    old, new = before.targets.keys(), after.targets.keys()
    only = tuple(sorted(old - new)), tuple(sorted(new - old))
    bundles_differ, targets_differ = any(bundle.differs for bundle in bundles), any(only)
    difference = BuildDifference(
        before=before.name,
        after=after.name,
        differs=bool(changes) or bundles_differ or targets_differ,
        cause=cause(changes, bundles_differ=bundles_differ, targets_differ=targets_differ),
        changes=tuple(changes),
        targets_before=only[0],
        targets_after=only[1],
        bundles=tuple(bundle for bundle in bundles if bundle.differs or bundle.notes),
    )
    if options.markdown is not None:
        write_text(options.markdown, render_markdown(difference))
    return difference


def _is_counted_twice(change: Change, compared: set[str]) -> bool:
    """The counts of operators in a report, where those of the model files themselves are compared."""
    return change.target in compared and change.field.startswith(f"targets.{change.target}.delegation.operators")


def _compare_target(name: str, before: Side, after: Side) -> tuple[BundleDifference, list[Change]]:
    """The two bundles of one target, and what differs between their manifests."""
    lacking = [side.name for side in (before, after) if name not in side.bundles]
    if lacking:
        note = f"no bundle in {' and '.join(lacking)}: operators, scales and layers were not compared"
        return BundleDifference(target=name, notes=(note,)), []
    (old, target), (new, _) = (open_verified(side.bundles[name].path) for side in (before, after))
    changes = manifest_changes(name, old.manifest, new.manifest, _COMPARED_ELSEWHERE)
    files, operators = _changed_files(old, new), tuple[OperatorChange, ...]()
    if any(file.split("/")[0] == target.model_file for file in files):
        operators = _operator_changes(*(target.backend.contents(bundle.model_path) for bundle in (old, new)))
    difference = BundleDifference(target=name, files=files, operators=operators)
    return difference.model_copy(update=_compare_programs(old, new)), changes


def _compare_programs(before: Bundle, after: Bundle) -> dict[str, object]:
    """The fields of a BundleDifference that say what differs between the programs, or the note why there is none."""
    without = [str(bundle.path) for bundle in (before, after) if not (bundle.path / PROGRAM_NAME).is_file()]
    if without:
        return {"notes": (f"no {PROGRAM_NAME} in {' and '.join(without)}: scales and layers were not compared",)}
    if before.manifest.files[PROGRAM_NAME] == after.manifest.files[PROGRAM_NAME]:
        return {}
    from levit_edge.pipeline.diff_program import compare_programs  # imports torch, which reports do not need

    return vars(compare_programs(before.path / PROGRAM_NAME, after.path / PROGRAM_NAME))


def _operator_changes(before: Contents, after: Contents) -> tuple[OperatorChange, ...]:
    old, new = ({(o.name, o.precision, o.placement): o.count for o in c.operators} for c in (before, after))
    return tuple(
        OperatorChange(name=key[0], precision=key[1], placement=key[2], before=old.get(key, 0), after=new.get(key, 0))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def _changed_files(before: Bundle, after: Bundle) -> tuple[str, ...]:
    """Files with other bytes; the program is left out, because it is compared by its values."""
    old, new = before.manifest.files, after.manifest.files
    return tuple(name for name in sorted({**old, **new}) if name != PROGRAM_NAME and old.get(name) != new.get(name))
