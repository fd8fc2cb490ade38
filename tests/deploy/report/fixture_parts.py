"""The made-up sections of ``fixture.full_report``."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OPERATORS = {
    "Conv": 57,
    "Relu": 49,
    "Add": 21,
    "Concat": 6,
    "Resize": 3,
    "MaxPool": 1,
    "Softmax": 1,
    "Gather": 9,
    "ReduceSum": 4,
    "Mul": 5,
    "Reshape": 12,
    "Transpose": 9,
    "ArgMax": 1,
    "Cast": 4,
    "Sub": 2,
    "Gemm": 2,
    "Softplus": 1,
}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def environment() -> dict[str, Any]:
    return {
        "cpu": "Made-up CPU 8000 (avx2, avx512f, avx512_vnni)",
        "cores": 2,
        "threads": 2,
        "python": "3.11.7",
        "os": "Linux 6.1, x86_64",
        "load": [0.42, 0.3, 0.2],
        "versions": {
            "edgeport": "0.1.0",
            "numpy": "2.3.4",
            "onnx": "1.23.0",
            "onnxruntime": "1.31.0",
            "torch": "2.13.0+cpu",
            "tensorrt-rtx": "1.7.1.116",
            "polygraphy": "0.49.26",
            "pydantic": "2.14.3",
            "tensorrt": None,
        },
    }


def verdict() -> dict[str, Any]:
    return {
        "status": "pass",
        "checks": [
            {
                "name": "int8-onnxruntime: agreement",
                "value": 0.99678,
                "threshold": 0.97,
                "comparison": ">=",
                "unit": "",
                "ok": True,
                "note": "",
            },
            {
                "name": "int8-onnxruntime: speed-up, lower bound",
                "value": 2.694,
                "threshold": 2.0,
                "comparison": ">=",
                "unit": "",
                "ok": True,
                "note": "",
            },
            {
                "name": "Peak memory of quantization",
                "value": 1874,
                "threshold": 3072,
                "comparison": "<=",
                "unit": "MiB",
                "ok": True,
                "note": "",
            },
        ],
    }


def model(classes: list[str]) -> dict[str, Any]:
    quantized = {**_OPERATORS, "QuantizeLinear": 92, "DequantizeLinear": 206}

    def file(role: str, name: str, size_bytes: int, operators: dict[str, int]) -> dict[str, Any]:
        return {
            "role": role,
            "path": name,
            "size_bytes": size_bytes,
            "sha256": digest(name),
            "opset": 17,
            "nodes": sum(operators.values()),
            "operators": operators,
        }

    return {
        "variant": "flashocc-m0",
        "family": "flashocc",
        "task": "occupancy",
        "weights": "random weights, seed 0",
        "parameters": 39_942_136,
        "classes": classes,
        "files": [
            file("fp32", "models/flashocc-m0.onnx", 160_212_480, _OPERATORS),
            file("int8-onnxruntime", "models/flashocc-m0.int8.onnx", 41_871_003, quantized),
            file("int8-tensorrt", "models/flashocc-m0.int8-trt.onnx", 41_902_771, quantized),
        ],
    }


def stages() -> list[dict[str, Any]]:
    rows = [
        ("samples", 2.1, 312.0, False, ["4 samples from the synthetic world, seed 0"]),
        ("export", 21.4, 1490.0, True, []),
        ("quantize", 31.8, 1874.0, False, ["entropy scales, 16 samples"]),
        ("build", 48.2, 2210.0, False, []),
        ("bench", 74.0, 1108.0, False, []),
        ("verify", 12.3, 1422.0, False, []),
    ]
    return [
        {"name": n, "seconds": s, "peak_rss_mib": m, "cached": c, "notes": notes}
        for n, s, m, c, notes in rows
    ]


def samples() -> dict[str, Any]:
    return {
        "sets": [
            {
                "role": role,
                "source": "made-up-drives",
                "samples": count,
                "scenes": scenes,
                "sha256": digest(role),
            }
            for role, count, scenes in (("calibration", 16, 8), ("evaluation", 8, None))
        ],
        "shared": 0,
        "findings": [
            {
                "code": "drift",
                "severity": "error",
                "message": "energy effect size 0.63, p = 0.001",
                "fix": "Take both from the same places",
                "samples": [],
                "samples_concerned": 0,
                "numbers": {"effect_size": 0.63, "p": 0.001},
            }
        ],
        "overridden": ["drift"],
    }


def quantization() -> list[dict[str, Any]]:
    skipped = [
        {
            "node": f"/view_transformer/pooling/{op}_{index}",
            "op_type": op,
            "reason": "BEV pooling sums many cells; int8 sums would saturate",
        }
        for index in range(4)
        for op in ("Gather", "ReduceSum", "Mul")
    ]
    skipped += [
        {
            "node": "/view_transformer/depth/Softmax",
            "op_type": "Softmax",
            "reason": "depth softmax: a distribution over 44 bins needs more than 8 bits",
        },
        {
            "node": "/occupancy_head/predicter/predicter.2/Gemm",
            "op_type": "Gemm",
            "reason": "final class projection: its rounding decides labels directly",
        },
    ]
    common = {
        "schema": "edgeport.quantization/2",
        "split": "auto",
        "samples": {"count": 16, "sha256": digest("samples")},
        "source_sha256": digest("fp32"),
        "source_size_bytes": 160_212_480,
        "size_bytes": 41_871_003,
        "multiply_adds": {"quantized": 98_400_000_000, "total": 99_100_000_000},
        **quantized_layers(),
        "calibration_set": {
            "findings": [
                {"code": "few", "severity": "note", "message": "16 samples are few", "fix": "More"}
            ],
            "overridden": [],
        },
        "total": {"Conv": 57, "Gemm": 2, "Add": 21, "MaxPool": 1, "Softmax": 1},
    }
    done = {"Conv": 57, "Gemm": 1, "Add": 16, "MaxPool": 1}
    return [
        common
        | {
            "policy": policy,
            "scales": "entropy",
            "quantized": done,
            "skipped": skipped,
            "seconds": {"observe": 20.1, "measure layers": 8.2, "write": 3.5, "total": 31.8},
            "peak_rss_mib": 1874.0,
            "made_up_by_tomorrow": {"a key of": "a method that is not written yet"},
        }
        for policy in ("onnxruntime", "tensorrt")
    ]


def quantized_layers(count: int = 24) -> dict[str, Any]:
    """Ranges, errors, splits and corrections of a made-up network."""
    rng = np.random.default_rng(9)
    names = [f"/img_backbone/layer{1 + i // 6}/conv{i % 6}/Conv" for i in range(count)]
    bell = [int(100 * np.exp(-(((i - 20) / 7) ** 2))) for i in range(40)]
    activations, weights, layers = [], [], []
    for index, name in enumerate(names):
        high = float(rng.lognormal(1.5, 0.8))
        cut = index % 5 == 3
        activations.append(
            {
                "tensor": f"{name}_output_0",
                "node": name,
                "op_type": "Conv",
                "minimum": 0.0 if index % 2 else -high / 2,
                "maximum": high,
                "low": 0.0 if index % 2 else -high / 2,
                "high": high * 0.6 if cut else high,
                "clipped": 2.4e-5 if cut else 0.0,
                "method": "mse" if cut else "minmax",
                "shared_by": 2 if index == 7 else 1,
                "bars": [] if index == 4 else bell,
            }
        )
        weights.append(
            {
                "node": name,
                "op_type": "Conv",
                "shape": [64, 64, 3, 3],
                "minimum": -0.3,
                "maximum": 0.41,
                "smallest_scale": 0.00021,
                "largest_scale": 0.0032,
                "peak_to_rms": 14.0 if index == 9 else 5.1,
                "sqnr_db": None if index == 2 else 41.2,
                "bars": bell,
            }
        )
        before = 38 - 0.6 * index + float(rng.normal(0, 1)) - 12 * (index == 9)
        layers.append(
            {
                "node": name,
                "op_type": "Conv",
                "multiply_adds": 115_605_504,
                "integer": index != 23,
                "sqnr_before_db": None if index == 5 else before,
                "sqnr_after_db": before + 2.5 + 9 * (index == 9) - 4 * (index == 14),
            }
        )
    return {
        "activation_ranges": activations,
        "weight_ranges": weights,
        "layers": layers,
        "split_nodes": [
            {"node": names[9], "range_ratio": 9.1, "plain_sqnr_db": 21.4, "split_sqnr_db": 33.0}
        ],
        "whole_nodes": [
            {"node": names[3], "op_type": "Conv", "reason": "gains 0.4 dB at its output"}
        ],
        "corrected_nodes": [
            {"node": names[1], "sqnr_before_db": 30.0, "sqnr_after_db": 31.5, "kept": True},
            {"node": names[2], "sqnr_before_db": 30.0, "sqnr_after_db": 29.5, "kept": False},
        ],
        "uncorrected_nodes": [{"node": "m", "op_type": "MatMul", "reason": "a MatMul has no bias"}],
        "respelled": [{"node": "s", "op_type": "Softplus", "reason": "as Max and Log"}],
        "scale_methods": {"minmax": 14, "mse": 5},
    }


def engines() -> list[dict[str, Any]]:
    def passport(name: str, size_bytes: int, build_s: float) -> dict[str, Any]:
        return {
            "runtime": "tensorrt-rtx",
            "runtime_version": "1.7.1.116",
            "evidence": "built",
            "compute_capabilities": ["8.9", "12.0"],
            "model_sha256": digest(name + "model"),
            "engine_sha256": digest(name),
            "size_bytes": size_bytes,
            "build_s": build_s,
            "model": {"variant": "flashocc-m0"},
            "log": {"weights_bytes": 41_000_000, "scratch_bytes": 1 << 20},
        }

    note = {
        "severity": "note",
        "message": "ArgMax runs in INT32, the labels are cast after it",
        "node": "/labels/ArgMax",
        "op_type": "ArgMax",
        "fix": "",
        "source": "parser 1.7.1.116",
        "evidence": "built",
    }
    return [
        {
            "name": "fp32 tensorrt",
            "passport": passport("fp32", 161_440_812, 19.8),
            "findings": [],
        },
        {
            "name": "int8-tensorrt tensorrt",
            "passport": passport("int8", 43_120_652, 28.4),
            "findings": [note],
        },
    ]


def layers(count: int = 72) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    rows = []
    for index in range(count):
        sqnr = 41 - 0.19 * index + float(rng.normal(0, 2.2)) - 9 * (index in (31, 52))
        layer = f"layer{1 + index // 18}"
        node = f"/img_backbone/{layer}/{layer}.{index % 6}/conv{1 + index % 3}/Conv"
        rows.append(
            {
                "tensor": node + "_output_0",
                "node": node,
                "op_type": "Conv",
                "sqnr_db": None if index == 0 else sqnr,  # the first is an exact copy
                "cosine": 1 - 10 ** (-sqnr / 10) / 2,
                "max_abs": 0.0 if index == 0 else 0.02 + float(rng.random()) * 0.4,
            }
        )
    return rows


def alone() -> list[dict[str, Any]]:
    """The same layers by themselves: one is at fault, one has a larger error that costs nothing."""
    keys = ("node", "op_type", "tensor")
    rows = [
        {**{key: row[key] for key in keys}, "sqnr_db": 38.0 + index % 7}
        for index, row in enumerate(layers())
    ]
    rows[12] |= {"sqnr_db": 0.1, "outputs_db": 31.0}
    rows[40] |= {"sqnr_db": 0.3, "outputs_db": 4.2}
    return rows


def paired(names: list[str]) -> list[dict[str, Any]]:
    """Agreement with its interval, mIoU with a loss that four samples cannot show, SQNR without."""

    def metric(name: str, unit: str, reference: float | None, values: list[float], reach: float):  # type: ignore[no-untyped-def]
        middle = float(np.mean(values))
        return {
            "name": name,
            "output": "" if name == "miou" else "labels",
            "unit": unit,
            "reference": reference,
            "candidate": (reference or 0.0) + middle,
            "interval": {
                "value": middle,
                "low": middle - reach,
                "high": middle + reach,
                "confidence": 0.95,
                "samples": len(values),
                "detectable": 1.31 * reach,
                "method": "Student's t",
            },
            "values": [{"sample": n, "value": v} for n, v in zip(names, values, strict=True)],
        }

    without = metric("sqnr_db", "dB", None, [31.2, 30.8, 33.0, 31.9], 0.9)
    return [
        metric("miou", "%", 39.21, [-0.8, 0.3, -0.2, -0.5], 0.74),
        metric("agreement", "", 1.0, [-0.0032, -0.0043, -0.0054, -0.0065], 0.0022),
        without,
        without
        | {"name": "cosine", "interval": None, "values": [], "why_not": "the copy is exact"},
    ]


def agreement(
    reference: NDArray[np.uint8], candidate: NDArray[np.uint8], classes: list[str]
) -> list[dict[str, Any]]:
    per_class = []
    for label, name in enumerate(classes):
        a, b = reference == label, candidate == label
        union = int((a | b).sum())
        per_class.append(
            {
                "class": name,
                "reference_count": int(a.sum()),
                "candidate_count": int(b.sum()),
                "iou": float((a & b).sum() / union) if union else None,
            }
        )
    equal = float((reference == candidate).mean())
    samples = [
        {
            "name": f"synthetic-{index}",
            "outputs": {
                "labels": {
                    "agreement": equal - 0.0011 * index,
                    "agreement_occupied": 0.981 - 0.004 * index,
                }
            },
        }
        for index in range(4)
    ]
    return [
        {
            "name": "int8-onnxruntime",
            "reference": "fp32",
            "candidate": "int8-onnxruntime",
            "samples": samples,
            "summary": {"agreement": equal - 0.00165, "agreement_occupied": 0.975},
            "paired": paired([sample["name"] for sample in samples]),
            "per_class": per_class,
            "layers": layers(),
            "alone": alone(),
        }
    ]


def waterfall() -> list[dict[str, Any]]:
    """A chain of four steps, one of which has no evidence."""
    rows: list[dict[str, Any]] = [
        {"stage": "PyTorch", "value": 31.7},
        {"stage": "traced", "owner": "tracer", "after": "PyTorch", "value": 31.7, "exact": True},
        {"stage": "INT8", "owner": "rounding", "after": "traced", "value": 30.9, "sqnr_db": 24.5},
        {"stage": "engine", "owner": "builder", "after": "INT8", "missing": "no device here"},
    ]
    rows[1] |= {"loss": 0.0, "low": 0.0, "high": 0.0}
    rows[2] |= {"loss": 0.8, "low": 0.3, "high": 1.3, "step_sqnr_db": 24.5, "exact": False}
    rows[2]["also"] = [{"metric": "raypq", "value": 12.5, "loss": 1.5, "low": 0.7, "high": 2.3}]
    return [{**row, "metric": "" if "missing" in row else "miou", "samples": 4} for row in rows]
