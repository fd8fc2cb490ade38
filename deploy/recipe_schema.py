"""The JSON Schema of a recipe, with which an editor completes and checks ``recipe.yaml``.

Put this line on top of a recipe, and an editor with a YAML language server knows every key:

    # yaml-language-server: $schema=recipe.schema.json

It is made from the models that read a recipe: types and defaults from them, explanations from the
``Attributes`` of their docstrings, names of policies, methods and variants from their registries.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from deploy import recipe_parts
from deploy.contract.contracts import Contract
from deploy.recipe import Recipe

JSON = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> JSON:
    """The schema, draft 2020-12."""
    schema = Recipe.model_json_schema(by_alias=True)
    models: list[type[BaseModel]] = [Recipe, Contract, *_parts()]
    for model in models:
        part = schema if model is Recipe else schema["$defs"].get(model.__name__)
        if part is not None:
            _explain(part, model)
    _name_what_exists(schema)
    return {"$schema": DIALECT, "title": "edgeport recipe", **_without(schema, "title")}


def _parts() -> list[type[BaseModel]]:
    found = inspect.getmembers(recipe_parts, inspect.isclass)
    return [
        c for _, c in found if issubclass(c, BaseModel) and c.__module__ == recipe_parts.__name__
    ]


def _explain(part: JSON, model: type[BaseModel]) -> None:
    """First sentence of the docstring, and what it says of every attribute."""
    told = attributes_of(model)
    part["description"] = _plain((inspect.getdoc(model) or "").partition("\n\n")[0])
    part.pop("title", None)
    for name, field in model.model_fields.items():
        key = field.alias or name
        entry = part["properties"][key]
        entry.pop("title", None)
        if name in told:
            entry["description"] = told[name]


def attributes_of(model: type[BaseModel]) -> dict[str, str]:
    """What the ``Attributes`` section of a docstring says of each name."""
    section = (inspect.getdoc(model) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {6,}.*)*)", section, re.MULTILINE)
    return {name.strip(): _plain(text) for names, text in entries for name in names.split(",")}


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def _name_what_exists(schema: JSON) -> None:
    from calibration.options import SPLITS
    from calibration.qdq.policies import POLICIES
    from calibration.samples.findings import ALL, CODES
    from calibration.scales.methods import SCALES
    from exporters.variants import variants
    from runtimes import names as runtime_names

    parts = schema["$defs"]
    quantization = parts["QuantizationPart"]["properties"]
    quantization["policies"]["items"]["enum"] = sorted(POLICIES)
    quantization["scales"]["enum"] = sorted(SCALES)
    quantization["split"]["enum"] = sorted(SPLITS)
    parts["SamplesPart"]["properties"]["i_know"]["items"]["enum"] = sorted([*CODES, ALL])
    parts["EnginePart"]["properties"]["runtime"]["enum"] = sorted(runtime_names())
    variant = parts["ModelPart"]["properties"]["variant"]["anyOf"]
    _strings(variant)["enum"] = sorted(variants())


def _strings(choices: Iterable[JSON]) -> JSON:
    return next(choice for choice in choices if choice.get("type") == "string")


def _without(value: JSON, key: str) -> JSON:
    return {name: item for name, item in value.items() if name != key}
