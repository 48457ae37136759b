"""What ``diff`` compares: a report, the output folder of a build, or one bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from levit_edge.bundle.files import MANIFEST_NAME, size_bytes
from levit_edge.bundle.manifest import Bundle, CalibrationInfo, ModelInfo, open_bundle
from levit_edge.bundle.publish import settle
from levit_edge.errors import InputError
from levit_edge.pipeline.bundles import open_verified
from levit_edge.record import Record
from levit_edge.report.schema import Report, TargetReport, load_report
from levit_edge.wording import listed

REPORT_NAME = "report.json"


class BundleModel(ModelInfo):
    """What a manifest says of the checkpoint, by the names of a report."""

    image_size: int
    num_labels: int


class BundleTarget(Record):
    """What a manifest and the sizes of its files say of one target, by the names of a report."""

    model_file: str
    recipe: str
    recipe_base: JsonValue
    recipe_settings: dict[str, JsonValue]
    size_bytes: int
    fp32_size_bytes: int
    size_ratio: float
    tool_versions: dict[str, str]


class BundleFacts(Record):
    """A bundle without its report, by the names of a report, so that both can be compared."""

    model: BundleModel
    calibration: CalibrationInfo | None
    targets: dict[str, BundleTarget]


@dataclass(frozen=True)
class Side:
    """One of the two builds: its figures by the names of a report, and the bundles that lie beside them."""

    name: str
    facts: Report | BundleFacts
    bundles: Mapping[str, Bundle] = field(default_factory=dict)

    @property
    def targets(self) -> Mapping[str, TargetReport | BundleTarget]:
        """By name."""
        return self.facts.targets

    def only(self, target: str) -> Side:
        """This side without its other targets."""
        kept = self.facts.model_copy(update={"targets": {target: self.targets[target]}})
        return replace(self, facts=kept, bundles={n: bundle for n, bundle in self.bundles.items() if n == target})


def open_sides(before: Path, after: Path) -> tuple[Side, Side]:
    """Both sides, reduced to one target where a side is a bundle; bundles of a whole build are not verified yet.

    InputError for a path that is none of the three, and where a bundle's target is not in the other side.
    """
    sides = _open(before), _open(after)
    for side, other in (sides, sides[::-1]):
        if isinstance(side.facts, BundleFacts):
            (target,) = side.targets
            if target not in other.targets:
                there = listed(other.targets) or "no target"
                raise InputError(
                    f"{side.name} is a bundle of {target}, and {other.name} has {there}; compare bundles of one target"
                )
            return sides[0].only(target), sides[1].only(target)
    return sides


def _open(path: Path) -> Side:
    if path.is_file():
        return Side(str(path), load_report(path))
    if (path / MANIFEST_NAME).is_file():
        bundle, _ = open_verified(path)
        return Side(str(path), _facts(bundle), {bundle.manifest.target: bundle})
    if path.is_dir():
        return _open_output(path)
    raise InputError(
        f"{path} does not exist; name a {REPORT_NAME}, the output folder of a build such as dist, or a bundle such as "
        "dist/onnx"
    )


def _open_output(folder: Path) -> Side:
    settle(folder.absolute())
    if not (folder / REPORT_NAME).is_file():
        raise InputError(
            f"{folder} has neither {REPORT_NAME} nor {MANIFEST_NAME}; name the output folder of a build such as dist, "
            "or a bundle such as dist/onnx"
        )
    report = load_report(folder / REPORT_NAME)
    paths = {name: folder / entry.bundle for name, entry in report.targets.items()}
    bundles = {name: open_bundle(path) for name, path in paths.items() if (path / MANIFEST_NAME).is_file()}
    for name, bundle in bundles.items():
        _check_belongs(report, name, bundle)
    return Side(str(folder), report, bundles)


def _check_belongs(report: Report, name: str, bundle: Bundle) -> None:
    """InputError unless the report speaks of this bundle and not of one that was there before."""
    manifest, entry = bundle.manifest, report.targets[name]
    stated = name, report.model.sha256, report.calibration and report.calibration.sha256, entry.tool_versions
    found = manifest.target, manifest.model.sha256, manifest.calibration and manifest.calibration.sha256
    if (*found, manifest.tool_versions) != stated:
        raise InputError(
            f"{bundle.path} is not the bundle that {REPORT_NAME} beside it describes; build again, or compare the "
            f"{REPORT_NAME} or the bundle alone"
        )


def _facts(bundle: Bundle) -> BundleFacts:
    manifest = bundle.manifest
    size, reference_size = size_bytes(bundle.model_path), size_bytes(bundle.reference_path)
    model = BundleModel(
        **manifest.model.model_dump(), image_size=manifest.inputs[0].shape[-1], num_labels=len(manifest.labels)
    )
    target = BundleTarget(
        model_file=manifest.model_file,
        recipe=manifest.recipe.name,
        recipe_base=manifest.recipe.settings.get("base"),
        recipe_settings=manifest.recipe.settings,
        size_bytes=size,
        fp32_size_bytes=reference_size,
        size_ratio=size / reference_size,
        tool_versions=manifest.tool_versions,
    )
    return BundleFacts(model=model, calibration=manifest.calibration, targets={manifest.target: target})
