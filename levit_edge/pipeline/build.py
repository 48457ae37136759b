"""``levit-edge build``: from a model and images to verified bundles and a report, or to nothing."""

from __future__ import annotations

from levit_edge.bundle.files import write_text
from levit_edge.bundle.publish import staged_outputs
from levit_edge.pipeline.calibrate import calibrate
from levit_edge.pipeline.choose import choose
from levit_edge.pipeline.describe import describe_bundle, make_report
from levit_edge.pipeline.images import open_images
from levit_edge.pipeline.load import load
from levit_edge.pipeline.lower import lower
from levit_edge.pipeline.measure import measure
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.plan import Job, make_plan
from levit_edge.pipeline.verify import examples, one_torch_thread, verify
from levit_edge.progress import QUIET, Progress
from levit_edge.report.markdown import render_markdown
from levit_edge.report.schema import Report


def build(options: BuildOptions | None = None, progress: Progress = QUIET) -> Report:
    """Build, verify and publish every target of ``options``; the report is also in ``options.out``.

    Raises InputError for bad input, MissingComponentError for a device that needs something first, and
    VerificationFailed for a model file that does not compute what its program does; then ``options.out`` is left as it
    was. A failed gate raises nothing: the report says so.
    """
    plan = make_plan(options or BuildOptions())
    with progress.step("load, fuse and trace the model"):
        subject = load(plan.options)
    with (
        one_torch_thread(),
        open_images(plan.options, subject, calibrates=plan.recipe.calibrates) as images,
        staged_outputs(plan.options.out, bundles=plan.options.targets) as staging,
    ):
        job = Job(plan, subject, images, staging, progress)
        calibrated = calibrate(job)
        chosen = choose(job, calibrated)
        shown = examples(job)
        built = []
        for target in plan.targets:
            lowered = verify(job, lower(job, target, chosen[target.name], calibrated), shown)
            describe_bundle(job, lowered, calibrated, shown)
            built.append(lowered)
        report = make_report(job, built, calibrated, measure(job, built, shown))
        write_text(staging / "report.json", report.to_json())
        write_text(staging / "report.md", render_markdown(report))
    return report
