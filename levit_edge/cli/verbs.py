"""The verbs. Each gathers its options, asks the pipeline, shows the answer, and gives back its exit code."""

from __future__ import annotations

from pathlib import Path

import typer

from levit_edge import __version__
from levit_edge.cli import options as opt
from levit_edge.cli.working import working

DONE, GATE_FAILED = 0, 1


def _chosen(targets: list[opt.TargetName] | None) -> tuple[str, ...]:
    """Every target once, in the order of the contract; all of them without a choice."""
    everything = not targets or opt.TargetName.ALL in targets
    names = [name for name in opt.TargetName if name is not opt.TargetName.ALL]
    return tuple(name.value for name in names if everything or name in (targets or ()))


def build(
    model: opt.Model = None,
    target: opt.Targets = None,
    calibration: opt.CalibrationData = None,
    eval_data: opt.EvalData = None,
    recipe: opt.Recipe = "int8",
    samples: opt.Samples = 256,
    seed: opt.Seed = 0,
    out: opt.Out = Path("dist"),
    random_weights: opt.RandomWeights = False,
    labels: opt.Labels = None,
    skip_bad_images: opt.SkipBadImages = False,
    thresholds: opt.ThresholdsFile = None,
    threads: opt.Threads = 1,
    runs: opt.Runs = 60,
    limit: opt.Limit = None,
    device: opt.Device = "local",
    as_json: opt.AsJson = False,
) -> int:
    """Quantize a LeViT, lower it for each target, and verify what was written."""
    if random_weights and model is None:
        raise typer.BadParameter("it needs --model with the name of a variant", param_hint="--random-weights")
    with working() as progress:
        from levit_edge import pipeline

        choice = pipeline.BuildOptions(
            model=model, targets=_chosen(target), calibration=calibration, eval_data=eval_data, recipe=recipe,
            samples=samples, seed=seed, out=out, random_weights=random_weights, skip_bad_images=skip_bad_images,
            thresholds=thresholds, threads=threads, runs=runs, limit=limit, labels=labels,
            device=device,
        )  # fmt: skip
        report = pipeline.build(choice, progress=progress)
    from levit_edge.cli import console, view

    console.emit_json(report) if as_json else console.emit(*view.build(report, out))
    return DONE if report.passed else GATE_FAILED


def evaluate(
    bundle: opt.BundlePath,
    data: opt.Data = None,
    limit: opt.Limit = None,
    device: opt.Device = "local",
    as_json: opt.AsJson = False,
) -> int:
    """Measure a bundle's accuracy against its float reference."""
    with working() as progress:
        from levit_edge import pipeline

        evaluation = pipeline.evaluate(bundle, data=data, limit=limit, device=device, progress=progress)
    from levit_edge.cli import console, view

    console.emit_json(evaluation) if as_json else console.emit(*view.evaluation(evaluation))
    return GATE_FAILED if evaluation.verdict == "failed" else DONE


def bench(
    bundles: opt.BundlePaths,
    device: opt.Device = "local",
    threads: opt.Threads = 1,
    runs: opt.BenchRuns = None,
    as_json: opt.AsJson = False,
) -> int:
    """Time bundles against their float references, in turns; on an emulated processor, count their instructions."""
    with working() as progress:
        from levit_edge import pipeline

        result = pipeline.bench(bundles, device=device, threads=threads, runs=runs, progress=progress)
    from levit_edge.cli import console, view

    console.emit_json(result) if as_json else console.emit(*view.bench(result))
    return DONE


def gate(
    report: opt.ReportPath,
    baseline: opt.Baseline = None,
    junit: opt.JunitFile = None,
    thresholds: opt.ThresholdsFile = None,
    as_json: opt.AsJson = False,
) -> int:
    """Check the figures of a report against limits, and against an earlier report."""
    from levit_edge.bundle.files import write_text
    from levit_edge.cli import console, view
    from levit_edge.gates.gate import check_report
    from levit_edge.gates.junit import to_junit
    from levit_edge.gates.limits import load_thresholds
    from levit_edge.report.answers import GateCheck
    from levit_edge.report.schema import load_report

    changes = None if thresholds is None else load_thresholds(thresholds)
    earlier = None if baseline is None else load_report(baseline)
    results = check_report(load_report(report), changes, earlier)
    if junit is not None:
        write_text(junit, to_junit(results))
    passed = all(result.passed is not False for gates in results.values() for result in gates)
    check = GateCheck(
        report=str(report), baseline=None if baseline is None else str(baseline), passed=passed, targets=results
    )
    console.emit_json(check) if as_json else console.emit(*view.gates(check))
    return DONE if passed else GATE_FAILED


def inspect(bundle: opt.BundlePath, diverge: opt.DivergeImage = None, as_json: opt.AsJson = False) -> int:
    """Show what runs where: operators, int8 or float, delegated or not, size.

    With --diverge, compare every layer with the quantized program on an image; exit code 1 when one departs.
    """
    if diverge is not None:
        return _diverge(bundle, diverge, as_json)
    with working():
        from levit_edge import pipeline

        inspection = pipeline.inspect(bundle)
    from levit_edge.cli import console, view

    console.emit_json(inspection) if as_json else console.emit(*view.inspection(inspection))
    return DONE


def _diverge(bundle: Path, image: Path, as_json: bool) -> int:
    with working():
        from levit_edge import pipeline

        divergence = pipeline.diverge(bundle, image)
    from levit_edge.cli import console, view

    console.emit_json(divergence) if as_json else console.emit(*view.divergence(divergence))
    return DONE if divergence.first is None else GATE_FAILED


def predict(bundle: opt.BundlePath, images: opt.ImagePaths, as_json: opt.AsJson = False) -> int:
    """Show the five most probable labels of each image."""
    with working():
        from levit_edge import pipeline

        predictions = pipeline.predict(bundle, images)
    from levit_edge.cli import console, view
    from levit_edge.report.answers import Predictions

    answer = Predictions(bundle=str(bundle), images=predictions)
    console.emit_json(answer) if as_json else console.emit(*view.predictions(answer))
    return DONE


def doctor(as_json: opt.AsJson = False) -> int:
    """Show which targets and devices work here, and what adds the missing ones."""
    from levit_edge.cli import console, view
    from levit_edge.devices import qemu_row
    from levit_edge.doctor import examine

    diagnosis = examine(__version__, qemu_row())
    console.emit_json(diagnosis) if as_json else console.emit(*view.doctor(diagnosis))
    return DONE
