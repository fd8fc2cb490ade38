"""The bundle's bill of materials: a CycloneDX 1.6 ML-BOM, ``bom.cdx.json``.

    metadata.component    the bundle itself, with its verdict
    components            every model file and engine (machine-learning-model) and every sample set
                          (data), with SHA-256 and licence; libraries with their versions
    dependencies          which file was made from which

Serial number and time come from the manifest's content, so that equal bundles have equal bills.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import MissingRequirementError
from exporters.files import write_text

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

BILL = "bom.cdx.json"
JSON = Mapping[str, Any]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "edgeport.bill")


def write_bill(folder: Path, manifest: JSON, report: JSON) -> Path:
    """Write ``folder/bom.cdx.json`` from a manifest and a report that are already loaded.

    Raises:
        MissingRequirementError: cyclonedx-python-lib is not installed.
    """
    write_text(folder / BILL, bill_of(manifest, report), overwrite=True)
    return folder / BILL


def is_available() -> bool:
    from importlib.util import find_spec

    return find_spec("cyclonedx") is not None


def bill_of(manifest: JSON, report: JSON) -> str:
    """The bill as CycloneDX JSON."""
    try:
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError as error:
        raise MissingRequirementError(
            "a bill of materials needs cyclonedx-python-lib", fix="pip install 'edgeport[bundle]'"
        ) from error
    text: str = JsonV1Dot6(_bom(manifest, report)).output_as_string(indent=2)
    return text + "\n"


def _bom(manifest: JSON, report: JSON) -> Bom:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType

    bundle = Component(
        name=report["title"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="bundle",
        properties=[Property(name="edgeport:verdict", value=report["verdict"]["status"])],
    )
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, manifest["recipe_sha256"] + manifest["created"]))
    bom.metadata.timestamp = datetime.fromisoformat(manifest["created"])
    bom.metadata.component = bundle
    licences = {entry["part"]: entry["licence"] for entry in manifest["licences"]}
    files = [_file(file, report["model"], licences.get("weights")) for file in _model_files(report)]
    sets = [_data(one, licences.get(one["name"])) for one in manifest["inputs"]]
    libraries = [
        _library(n, v) for n, v in manifest["environment"].get("versions", {}).items() if v
    ]
    for component in (*files, *sets, *libraries):
        bom.components.add(component)
    bom.register_dependency(bundle, [*files, *libraries])
    for component in files:
        bom.register_dependency(component, sets)
    return bom


def _model_files(report: JSON) -> list[JSON]:
    engines = [
        {"role": engine["name"], "sha256": engine["passport"]["engine_sha256"]}
        for engine in report["engines"] or ()
        if engine["passport"].get("engine_sha256")
    ]
    return [*report["model"]["files"], *engines]


def _file(file: JSON, model: JSON, licence: str | None) -> Component:
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name=f"{model['variant']} {file['role']}",
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{file['role']}",
        hashes=_hashes(file["sha256"]),
        licenses=_licences(licence),
        description=f"{model['task']} model, {model['weights']}",
    )


def _data(one: JSON, licence: str | None) -> Component:
    from cyclonedx.model.component import Component, ComponentType

    is_data = "samples" in one
    return Component(
        name=f"{one['name']} {Path(one['source']).name}",
        type=ComponentType.DATA if is_data else ComponentType.FILE,
        bom_ref=f"input:{one['name']}",
        hashes=_hashes(one["sha256"]),
        licenses=_licences(licence),
    )


def _library(name: str, version: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    url = PackageURL("pypi", name=name.lower().replace("_", "-"), version=version)
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, bom_ref=f"library:{name}", purl=url
    )


def _hashes(sha256: str) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _licences(name: str | None) -> list[Any]:
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [] if name is None else [LicenseFactory().make_from_string(name)]
