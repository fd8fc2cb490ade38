from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from exporters.errors import UserError
from runtimes import registry, targets
from runtimes.rules import CONDITIONS

TABLE = targets.load()


def test_the_targets_that_the_documentation_names_exist() -> None:
    for key in ("cpu/onnxruntime", "rtx-ada/trt-rtx1.7", "jetson-orin-agx/jp6.2/trt10.3"):
        assert TABLE.get(key).key == key


def test_a_key_is_its_device_and_its_software() -> None:
    for target in TABLE.targets.values():
        jetpack = f"jp{target.jetpack}/" if target.jetpack else ""
        assert target.key == f"{target.device}/{jetpack}{target.stack}"


def test_every_row_names_a_source_and_every_source_is_used() -> None:
    used = {
        row.source
        for rows in (TABLE.devices, TABLE.l4t, TABLE.stacks, TABLE.rules, TABLE.targets)
        for row in rows.values()
    }
    assert used == set(TABLE.sources)
    assert all(source.document for source in TABLE.sources.values())


def test_what_ran_here_and_what_was_read_are_told_apart() -> None:
    """A row claims a parser or builder exactly where its source is a run of one."""
    for rows in (TABLE.rules, TABLE.targets):
        for row in rows.values():
            assert (row.evidence.value != "written") == row.source.startswith("run-"), row.key


def test_jetsons_are_never_cross_built() -> None:
    for target in TABLE.targets.values():
        if target.jetpack:
            assert not TABLE.stack_of(target).cross_builds
            assert TABLE.device_of(target).compute_capability not in ("", "8.6", "8.9")


def test_words_in_the_table_are_words_of_the_code() -> None:
    operators = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    operators |= {"*", "MatMulNBits"}  # the second is a contribution of ONNX Runtime
    types = set(onnx.TensorProto.DataType.keys())
    for rule in TABLE.rules.values():
        assert rule.when in CONDITIONS, rule.key
        assert set(rule.op_types) <= operators, set(rule.op_types) - operators
        assert rule.severity in ("error", "note")
        assert (rule.limit > 0) == (rule.when == "k-above"), rule.key
    for stack in TABLE.stacks.values():
        assert set(stack.types) <= types
        assert stack.runtime in registry.names()
        assert re.fullmatch(r"\d+(\.\d+)?", stack.version)


def test_an_unknown_target_gets_the_nearest() -> None:
    with pytest.raises(UserError) as error:
        TABLE.get("jetson-orin-agx/jp6.2/trt10.4")
    assert "unknown target 'jetson-orin-agx/jp6.2/trt10.4'" in str(error.value)
    assert "Did you mean 'jetson-orin-agx/jp6.2/trt10.3'?" in str(error.value)
    assert "edgeport doctor" in str(error.value)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('jetpack = "6.2"', 'jetpak = "6.2"', "unknown key 'jetpak'. Did you mean 'jetpack'?"),
        ('device = "cpu"', 'device = "cpx"', "refers to 'cpx'"),
        (
            'key = "cpu/onnxruntime"',
            'key = "rtx-ada/trt11.1"',
            "targets[rtx-ada/trt11.1] occurs twice",
        ),
        ("[[sources]]", "[[source]]", "unknown table 'source'. Did you mean 'sources'?"),
        ('source = "run-ort"', 'source = "hearsay"', "refers to 'hearsay'"),
        ("edgeport.targets/1", "edgeport.targets/2", "schema 'edgeport.targets/2'"),
    ],
)
def test_a_slip_in_the_table_is_an_error(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    text = targets.TABLE.read_text()
    assert before in text
    path = tmp_path / "targets.toml"
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(UserError) as error:
        targets.load(path)
    assert words in str(error.value)
