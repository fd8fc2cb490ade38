"""What ``edgeport verify`` says of two files: tables, notes, terms and the verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deploy.comparison import Comparison
from deploy.console import Output
from deploy.layers_alone import worst_first
from deploy.metrics.pooled import PairedMetric

if TYPE_CHECKING:
    from deploy.language.verifying import TextVerdict

_SHOWN_LAYERS = 12


def tell_texts(out: Output, judged: TextVerdict) -> None:
    found = judged.comparison
    rows = [
        [name, found.value(name), *((None, None) if i is None else (i.low, i.high))]
        for name, i in found.measures.items()
    ]
    out.table(
        f"{judged.candidate} against {judged.reference}: {found.tokens} tokens of {judged.text}",
        ["measure", "value", "from", "to (95 %)"],
        [["reference perplexity", found.reference_perplexity, None, None], *rows],
    )
    for note in judged.notes:
        out.say(f"note: {note}")
    for check in judged.verdict.checks:
        out.say(str(check))
    out.say(f"verdict: {judged.verdict.status}")


def tell_comparison(out: Output, comparison: Comparison) -> None:
    names = list(dict.fromkeys(key for m in comparison.outputs.values() for key in m))
    rows = [
        [sample.name, output, *(metrics.get(name) for name in names)]
        for sample in comparison.samples
        for output, metrics in sample.outputs.items()
    ]
    rows += [
        ["all", output, *(metrics.get(name) for name in names)]
        for output, metrics in comparison.outputs.items()
    ]
    title = f"{comparison.candidate} against {comparison.reference}"
    out.table(title, ["sample", "output", *names], rows)
    _show_paired(out, comparison)
    _show_classes(out, comparison)
    _show_layers(out, comparison)
    for note in comparison.notes:
        out.say(f"note: {note}")
    for check in comparison.verdict.checks:
        out.say(str(check))
    out.say(f"verdict: {comparison.verdict.status}")


def _show_paired(out: Output, comparison: Comparison) -> None:
    if not comparison.paired:
        return
    columns = ["metric", "unit", "reference", "candidate", "95 % interval", "these samples show"]
    rows = [
        [
            f"{metric.output} {metric.name}".strip(),
            metric.unit,
            metric.reference,
            metric.candidate,
            _interval(metric),
            _detectable(metric),
        ]
        for metric in comparison.paired
    ]
    out.table("Over all samples, each compared with itself", columns, rows)


def _interval(metric: PairedMetric) -> str:
    interval = metric.interval
    if interval is None:
        return f"none: {metric.why_not}"
    what = "" if metric.reference is None else "difference "
    return f"{what}{interval.low:.4g} to {interval.high:.4g} ({interval.method})"


def _detectable(metric: PairedMetric) -> str:
    interval = metric.interval
    if interval is None:
        return ""
    if math.isnan(interval.detectable):
        return "all are alike"
    return f"a loss of {interval.detectable:.2g} or more"


def _show_classes(out: Output, comparison: Comparison) -> None:
    for output, parts in comparison.parts.items():
        rows = [
            [row["name"], row["reference_count"], row["candidate_count"], row["iou"]]
            for row in parts.get("class", ())
            if row.get("reference_count") or row.get("candidate_count")
        ]
        if rows:
            columns = ["class", "reference", "candidate", "IoU between them"]
            out.table(f"{output}: labels by class", columns, rows)


def _show_layers(out: Output, comparison: Comparison) -> None:
    if comparison.layers is None:
        return
    worst = comparison.layers.worst_first[:_SHOWN_LAYERS]
    out.table(
        f"Worst of {len(comparison.layers.layers)} quantization boundaries",
        ["tensor", "made by", "SQNR dB", "cosine", "max error"],
        [
            [
                layer.tensor,
                layer.op_type,
                layer.error.sqnr_db,
                layer.error.cosine,
                layer.error.max_abs,
            ]
            for layer in worst
        ],
    )
    alone = worst_first(comparison.layers.alone)
    out.table(
        "Layers that lose most by themselves, from the reference's inputs",
        ["layer", "operator", "SQNR dB", "outputs dB"],
        [
            [one.node, one.op_type, one.error.sqnr_db, one.outputs_db]
            for one in alone[:_SHOWN_LAYERS]
        ],
    )
    kernels = ", ".join(f"{n} {op}" for op, n in comparison.layers.integer_kernels.items())
    out.say(f"integer kernels in ONNX Runtime: {kernels or 'none'}")
