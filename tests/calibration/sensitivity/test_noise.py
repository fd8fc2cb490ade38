"""Noise shares: planted culprits are found, shares add up, and who computes does not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.sensitivity.noise import BROKEN, Workers, decibels, measure_atoms, noise_share
from calibration.sensitivity.notebook import Notebook
from calibration.sensitivity.workbench import Workbench, atoms_of
from tests.calibration import nets
from tests.calibration.sensitivity import planted


def measured(bench: Workbench, **options: object) -> dict[str, float]:
    samples = nets.samples(bench.job.file.proto, 4)
    return measure_atoms(bench, samples, Notebook(None, {}), **options)  # type: ignore[arg-type]


def made(proto: onnx.ModelProto, tmp_path: Path, **options: object) -> Workbench:
    file = nets.saved(proto, tmp_path / "m.onnx", keep_float={"head": "kept"})
    return planted.bench(file, **options)


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_a_loud_tensor_is_found(tmp_path: Path, policy: str) -> None:
    bench = made(planted.loud_tensor(), tmp_path, policy=policy, scales="minmax")
    noise = measured(bench)
    worst, second, *_ = sorted(noise, key=lambda name: -noise[name])
    assert worst == "tensor c2/relu_out"
    assert noise[worst] > 20 * noise[second]
    guilty = [u.name for u in bench.units if any(a.name == worst for a in atoms_of(u, bench))]
    # whoever makes integers has it too; TensorRT's convolutions hand on floats
    assert guilty == (["c2", "c3"] if policy == "onnxruntime" else ["c3"])


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_a_loud_weight_is_found(tmp_path: Path, policy: str) -> None:
    noise = measured(made(planted.loud_weight(), tmp_path, policy=policy))
    worst, second, *_ = sorted(noise, key=lambda name: -noise[name])
    assert worst == "weight c3"
    assert noise[worst] > 20 * noise[second]


@pytest.mark.parametrize("policy", ["tensorrt", "onnxruntime"])
def test_shares_add_up_to_the_noise_of_the_whole(tmp_path: Path, policy: str) -> None:
    """1.5 dB: roundings are nearly, not wholly independent, and ReLU takes part of their mean."""
    file = nets.saved(planted.plain(), tmp_path / "m.onnx", keep_float={"head": "kept"})
    bench = planted.bench(file, policy=policy)
    together = bench.rounded(bench.atoms)
    pairs = []
    for sample in nets.samples(file.proto, 4):
        import onnx_ir as ir

        true, blurred = nets.run(file, sample), nets.run(ir.to_proto(together), sample)
        pairs.append((true, blurred))
    whole = noise_share([a for a, _ in pairs], [b for _, b in pairs])
    assert decibels(sum(measured(bench).values())) == pytest.approx(decibels(whole), abs=1.5)


def test_whoever_computes_the_numbers_are_the_same(tmp_path: Path) -> None:
    bench = made(planted.plain(), tmp_path, policy="onnxruntime")
    alone = measured(bench)
    shared = measured(bench, workers=Workers("joblib", jobs=2))
    # one thread against all: sums in another order
    assert shared == pytest.approx(alone, rel=1e-3)


def test_every_variant_is_measured_once(tmp_path: Path) -> None:
    bench = made(planted.plain(), tmp_path, policy="onnxruntime")
    samples = nets.samples(bench.job.file.proto, 4)
    told: list[tuple[str, int, int]] = []
    notebook = Notebook(tmp_path / "state.json", {"model": "m"})
    first = measure_atoms(bench, samples, notebook, progress=lambda *a: told.append(a))
    assert told[-1] == ("layers", len(bench.atoms), len(bench.atoms))
    told.clear()
    again = Notebook(tmp_path / "state.json", {"model": "m"})
    assert measure_atoms(bench, samples, again, progress=lambda *a: told.append(a)) == first
    assert told == []


def test_a_share_is_the_relative_power_of_each_channel() -> None:
    true = np.ones([1, 2, 4, 4], np.float32)
    true[:, 1] = 10.0
    other = true.copy()
    other[:, 0] += 0.1  # 1 % of the first channel's power, 0.01 % of the second's
    assert noise_share([[true]], [[other]]) == pytest.approx(0.01 / 2, rel=1e-3)


def test_samples_are_pooled_so_that_a_silent_one_does_not_decide() -> None:
    loud, silent = np.ones([1, 8], np.float32), np.zeros([1, 8], np.float32)
    share = noise_share([[loud], [silent]], [[loud], [silent + 0.1]])
    assert share == pytest.approx(0.01, rel=1e-3)


def test_labels_count_only_where_there_are_no_floats() -> None:
    labels = np.zeros([1, 10], np.int64)
    changed = labels.copy()
    changed[0, :3] = 1
    floats = np.ones([1, 4], np.float32)
    assert noise_share([[labels]], [[changed]]) == pytest.approx(0.3**2)
    assert noise_share([[labels, floats]], [[changed, floats]]) == 0.0


def test_what_is_not_finite_is_broken() -> None:
    true = np.ones([1, 4], np.float32)
    assert noise_share([[true]], [[true * np.nan]]) == BROKEN
    assert noise_share([[true * 0]], [[true]]) == BROKEN
