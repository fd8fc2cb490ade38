"""report.json is read strictly: what is unknown, missing or damaged is named."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from deploy.report.reading import load_report, parse_report
from exporters.errors import UserError
from tests.deploy.report.fixture import full_report, minimal_report


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    return full_report(images=[])


def refused(report: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        parse_report(report, "bundle/report.json")
    return str(caught.value)


def test_a_full_and_a_minimal_report_are_read(full: dict[str, Any]) -> None:
    assert parse_report(full).verdict is not None
    assert parse_report(minimal_report()).latency is None


def test_every_section_may_be_null(full: dict[str, Any]) -> None:
    needed = {"schema", "title", "created", "notes"}
    empty = {key: value if key in needed else None for key, value in full.items()}
    assert parse_report(empty).model is None


def test_an_unknown_key_is_named_with_its_place_and_the_nearest_known_one(
    full: dict[str, Any],
) -> None:
    report = copy.deepcopy(full)
    case = report["latency"]["cases"][1]
    case["throughput_herz"] = case.pop("throughput_hz")
    message = refused(report)
    assert "bundle/report.json does not follow edgeport.report/2" in message
    assert "latency.cases[1].throughput_herz is unknown" in message
    assert "did you mean 'throughput_hz'?" in message


def test_a_missing_key_is_named_with_its_place(full: dict[str, Any]) -> None:
    report = copy.deepcopy(full)
    del report["model"]["files"][2]["sha256"]
    assert "model.files[2].sha256 is missing" in refused(report)


def test_many_problems_are_counted(full: dict[str, Any]) -> None:
    report = full | {f"made_up_{index}": 1 for index in range(8)}
    assert "and 3 more" in refused(report)


@pytest.mark.parametrize("schema", ["edgeport.report/1", None, 1])
def test_another_schema_version_is_refused(schema: object) -> None:
    message = refused(minimal_report() | {"schema": schema})
    assert "this edgeport reads 'edgeport.report/2'" in message
    assert "edgeport run" in message


@pytest.mark.parametrize("data", [[], "text", {}, {"title": "no schema"}])
def test_what_is_no_report_is_refused(data: Any) -> None:
    assert "no edgeport report" in refused(data)


def with_labels(full: dict[str, Any], labels: str) -> dict[str, Any]:
    report = copy.deepcopy(full)
    report["occupancy"][0]["grids"][0]["labels"] = labels
    return report


def test_a_grid_of_the_wrong_size_is_refused(full: dict[str, Any]) -> None:
    labels = base64.b64encode(zlib.compress(bytes(10))).decode()
    assert "grid 'fp32' holds 10 labels, its shape 640000" in refused(with_labels(full, labels))


def test_a_grid_that_inflates_beyond_its_shape_is_not_inflated_whole(full: dict[str, Any]) -> None:
    bomb = base64.b64encode(zlib.compress(bytes(1 << 26))).decode()
    assert "holds 640001 labels" in refused(with_labels(full, bomb))


@pytest.mark.parametrize("labels", ["%%%", base64.b64encode(b"not zlib").decode()])
def test_damaged_labels_are_refused(full: dict[str, Any], labels: str) -> None:
    assert "labels are not base64 of zlib data" in refused(with_labels(full, labels))


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/tracker.png",
        "javascript:alert(1)",
        "data:text/html;base64,AAAA",
        'data:image/png;base64,AAAA" onerror="x',
    ],
)
def test_an_image_that_is_no_image_is_refused(full: dict[str, Any], uri: str) -> None:
    report = copy.deepcopy(full)
    report["occupancy"][0]["images"] = [{"camera": "CAM_FRONT", "data_uri": uri}]
    assert "occupancy[0].images[0].data_uri" in refused(report)


def test_keys_that_belong_to_others_are_open(full: dict[str, Any]) -> None:
    report = copy.deepcopy(full)
    report["engines"][0]["passport"]["dla_layers"] = 3
    report["environment"]["governor"] = "performance"
    report["agreement"][0]["summary"]["ray_iou"] = 0.5
    assert parse_report(report).engines[0].passport["dla_layers"] == 3  # type: ignore[index]


def test_a_missing_file_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no report.json in .*edgeport run"):
        load_report(tmp_path / "report.json")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(minimal_report())[:-9])
    with pytest.raises(UserError, match=r"report.json is not readable JSON"):
        load_report(path)
