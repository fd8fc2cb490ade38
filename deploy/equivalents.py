"""A command line as the Python, and as the recipe, that do the same.

Each function takes the values that were typed, without those that are defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from exporters.errors import UserError

Params = Mapping[str, Any]

_INT8_OPTIONS = (
    "policy",
    "scales",
    "split",
    "equalize",
    "rounding",
    "correct_bias",
    "weights",
    "block",
    "rest",
    "keep_float",
    "quantize_also",
    "min_samples",
    "i_know",
    "overwrite",
)
_SEARCH_OPTIONS = (
    "metric",
    "cost",
    "threads",
    "jobs",
    "scheduler",
    "sure",
    "effort",
    "write_anyway",
    "state",
)


def _export_python(given: Params) -> str:
    options = {("input" if k == "image_input" else k): v for k, v in given.items()}
    _drop(options, "as_json")
    variant, output = options.pop("variant"), options.pop("output")
    call = _call("export", [variant, output], options)
    return _program(["from exporters import export"], [f"result = {call}", "print(result.report)"])


def _quantize_python(given: Params) -> str:
    _refuse(given, "Python", {"statistics": "the pass over the samples is part of quantize()"})
    budget = "budget" in given
    names = ["QuantizeOptions", "open_samples", *([] if budget else ["quantize"])]
    imports = [f"from calibration import {', '.join(names)}"]
    lines = [f"model = ModelFile({_literal(given['model'])})"]
    options = {key: given[key] for key in _INT8_OPTIONS if key in given}
    for key in ("keep_float", "quantize_also", "i_know"):
        if key in options:
            options[key] = tuple(options[key])
    samples = f"open_samples({_literal(given['samples'])}, model.spec)"
    arguments = ["model", samples, _literal(given["output"])]
    extra: list[str] = []
    if "report" in given:
        extra.append("measure_layers=True")
    if budget:
        imports.append("from deploy.budgeting import SearchOptions, quantize_to_budget")
        search = {key: given[key] for key in _SEARCH_OPTIONS if key in given}
        validation = f"open_samples({_literal(given['validate'])}, model.spec)"
        extra = [
            f"budget={_literal(given['budget'])}",
            f"validation={validation}",
            f"options={_call('QuantizeOptions', [], options)}",
            f"search={_call('SearchOptions', [], search)}",
            *extra,
        ]
        lines += _spread("result = quantize_to_budget", [*arguments, *extra])
    else:
        if "evaluation" in given:
            judges = f"open_samples({_literal(given['evaluation'])}, model.spec)"
            extra.append(f"evaluation={judges}")
        chosen = [_call("QuantizeOptions", [], options)] if options else []
        lines += _spread("result = quantize", [*arguments, *chosen, *extra])
    if "report" in given:
        imports.append("from deploy.report.quantization import write_quantization_report")
        report = "result.result.report" if budget else "result.report"
        lines.append(f"write_quantization_report({report}, Path({_literal(given['report'])}))")
        imports.insert(0, "from pathlib import Path")
    imports.append("from exporters.modelfile import ModelFile")
    return _program(imports, lines)


def _build_python(given: Params) -> str:
    options = dict(given)
    _drop(options, "as_json")
    shapes = [options.pop(f"{end}_shapes", "") for end in ("min", "opt", "max")]
    model, output = options.pop("model"), options.pop("output")
    runtime = options.pop("runtime", "tensorrt")
    imports = ["from runtimes import BuildOptions, build"]
    arguments = dict(options)
    if "compute_capability" in arguments:
        arguments["compute_capabilities"] = tuple(arguments.pop("compute_capability"))
    if "timeout" in arguments:
        arguments["timeout_s"] = arguments.pop("timeout")
    chosen = _call("BuildOptions", [], arguments)
    if any(shapes):
        imports.append("from runtimes.shapes import shape_ranges")
        ranges = f"shapes=shape_ranges({', '.join(map(_literal, shapes))})"
        chosen = chosen[:-1] + (", " if arguments else "") + ranges + ")"
    call = f"build({_literal(model)}, {_literal(output)}, {_literal(runtime)}, {chosen})"
    return _program(imports, [f"engine = {call}", "print(engine.passport)"])


def _bench_python(given: Params) -> str:
    known = {"files", "runtime", "runs", "seconds", "warmup", "threads", "samples", "seed"}
    _require_only(given, known | {"as_json"}, "Python of a few lines")
    runs = given.get("runs")
    plan: dict[str, Any] = {"min_runs": runs or 30, "max_runs": runs or 10_000}
    plan["min_seconds"] = 0.0 if runs else given.get("seconds", 10.0)
    plan["warmup"] = given.get("warmup", 3)
    plan["settle_s"] = 0.0 if "warmup" in given else 10.0
    plan["seed"] = given.get("seed", 0)
    imports = ["from pathlib import Path", "", "from runtimes import Case, Plan, bench"]
    lines = [f"files = [Path(name) for name in {_literal([str(f) for f in given['files']])}]"]
    if "samples" in given:
        imports = [
            "from itertools import islice",
            "from pathlib import Path",
            "",
            "from calibration.samples import inputs_of, open_samples",
            "from exporters.modelfile import ModelFile",
            "from runtimes import Case, Plan, bench",
        ]
        samples = _literal(given["samples"])
        lines.append(f"source = open_samples({samples}, ModelFile(files[0]).spec)")
        lines.append("feeds = [inputs_of(sample) for sample in islice(source, 4)]")
        inputs = "feeds"
    else:
        imports.append("from runtimes.feeding import inputs_of_file, random_feeds")
        inputs = f"[random_feeds(inputs_of_file(file), {given.get('seed', 0)})]"
    case = f"Case(file.name, file, {inputs}, {given.get('runtime')!r}, {given.get('threads')!r})"
    lines.append(f"cases = [{case} for file in files]")
    lines.append(f"result = bench(cases, {_call('Plan', [], plan)})")
    lines.append("print(result.to_json())")
    return _program(imports, lines)


def _verify_python(given: Params) -> str:
    boards = {"board", "board_runtime", "board_python", "board_cache", "jobs", "scheduler"}
    _require_only(given, set(given) - boards, "Python of a few lines")
    options = {k: given[k] for k in ("metric", "layers", "threads", "i_know") if k in given}
    contract = ""
    if "require" in given:
        contract = f", contract=Contract(require={_literal(given['require'])})"
    files = [given["reference"], given["candidate"], given["samples"]]
    call = _call("verify", files, options)[:-1] + contract + ")"
    names = "Contract, verify" if contract else "verify"
    ending = ["print(comparison.verdict.status)", "raise SystemExit(comparison.verdict.exit_code)"]
    return _program([f"from deploy import {names}"], [f"comparison = {call}", *ending])


def _cast_python(given: Params) -> str:
    options = dict(given)
    _drop(options, "as_json")
    if "keep_float" in options:
        options["keep_float"] = tuple(options["keep_float"])
    call = _call("cast", [options.pop("model"), options.pop("output")], options)
    return _program(["from calibration import cast"], [f"result = {call}", "print(result.report)"])


def _run_python(given: Params) -> str:
    options = {key: given[key] for key in ("overwrite", "fresh") if key in given}
    recipe = f"load_recipe(Path({_literal(given['recipe'])}))"
    arguments = [recipe, _literal(given["output"]), *(f"{k}={v}" for k, v in options.items())]
    return _program(
        ["from pathlib import Path", "", "from deploy import load_recipe, run"],
        [
            f"bundle = run({', '.join(arguments)})",
            'raise SystemExit(0 if bundle.report["verdict"]["status"] == "pass" else 1)',
        ],
    )


def _export_recipe(given: Params) -> str:
    model: dict[str, Any] = {"variant": given["variant"]}
    own = {"checkpoint": "checkpoint", "rig": "rig", "seed": "seed", "image_input": "input"}
    for key, name in own.items():
        if key in given:
            model[name] = _plain(given[key])
    known = {"variant", "output", "overwrite", "as_json", *own}
    options = {k: _plain(v) for k, v in given.items() if k not in known}
    return _recipe({"model": model | ({"options": options} if options else {})})


def _quantize_recipe(given: Params) -> str:
    how = ("scales", "split", "equalize", "rounding", "correct_bias", "weights", "block", "rest")
    keys = (*how, "keep_float")
    known = {"model", "output", "samples", "policy", "evaluation", "i_know", "budget", "validate"}
    known |= {"metric", "overwrite", "as_json", "statistics", "write_anyway", "report", *keys}
    _require_only(given, known, "a recipe")
    part = {"policies": [given.get("policy", "tensorrt")]}
    part |= {key: _plain(given[key]) for key in (*keys, "budget", "metric") if key in given}
    names = {"samples": "calibration", "evaluation": "evaluation", "validate": "validation"}
    samples = {name: _plain(given[key]) for key, name in names.items() if key in given}
    if "i_know" in given:
        samples["i_know"] = _plain(given["i_know"])
    file = {"file": _plain(given["model"])}
    return _recipe({"model": file, "samples": samples, "quantization": part})


def _build_recipe(given: Params) -> str:
    known = {"model", "output", "runtime", "target", "overwrite", "as_json"}
    _require_only(given, known, "a recipe")
    engine = {"from": "fp32", "runtime": given.get("runtime", "tensorrt"), "required": True}
    if "target" in given:
        engine["target"] = given["target"]
    return _recipe({"model": {"file": _plain(given["model"])}, "engines": [engine]})


def _bench_recipe(given: Params) -> str:
    known = {"files", "runs", "warmup", "threads", "samples", "as_json"}
    _require_only(given, known, "a recipe")
    if len(given["files"]) != 1 or "samples" not in given:
        raise UserError(
            "a recipe times the files that it makes, on samples",
            fix="Name one model file and --samples; or take --print-python",
        )
    part = {key: given[key] for key in ("runs", "warmup", "threads") if key in given}
    return _recipe(
        {
            "model": {"file": _plain(given["files"][0])},
            "samples": {"evaluation": given["samples"]},
            "benchmark": {**part, "files": ["fp32"]},
        }
    )


def _verify_recipe(given: Params) -> str:
    raise UserError(
        f"a recipe makes the files that it compares, and {given['reference']} is there already",
        fix="Take --print-python, or write a recipe that makes both: docs/recipes.md",
    )


def _cast_recipe(given: Params) -> str:
    raise UserError(
        f"a recipe casts the files that it makes, and {given['model']} is there already",
        fix="Take --print-python; a recipe's fp16 file is that of engines from fp16",
    )


def _run_recipe(given: Params) -> str:
    """The recipe as it was understood: defaults and absolute paths included."""
    from deploy.recipe import load_recipe

    whole = load_recipe(given["recipe"]).model_dump(mode="json", by_alias=True)
    text: str = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    return text


PYTHON = {
    "run": _run_python,
    "cast": _cast_python,
    "export": _export_python,
    "quantize": _quantize_python,
    "build": _build_python,
    "bench": _bench_python,
    "verify": _verify_python,
}
RECIPES = {
    "run": _run_recipe,
    "cast": _cast_recipe,
    "verify": _verify_recipe,
    "export": _export_recipe,
    "quantize": _quantize_recipe,
    "build": _build_recipe,
    "bench": _bench_recipe,
}


def _recipe(parts: dict[str, Any]) -> str:
    """YAML; what the command does not do is null."""
    absent = {key: None for key in ("quantization", "benchmark", "verify") if key not in parts}
    text: str = yaml.safe_dump({**parts, **absent}, sort_keys=False, allow_unicode=True)
    return text


def _program(imports: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join([*imports, "", *lines]) + "\n"


def _call(function: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> str:
    parts = [_literal(value) for value in arguments]
    parts += [f"{name}={_literal(value)}" for name, value in options.items()]
    return f"{function}({', '.join(parts)})"


def _spread(function: str, arguments: Sequence[str]) -> list[str]:
    """A call with an argument a line."""
    return [f"{function}(", *(f"    {argument}," for argument in arguments), ")"]


def _literal(value: Any) -> str:
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _drop(options: dict[str, Any], *names: str) -> None:
    for name in names:
        options.pop(name, None)


def _require_only(given: Params, known: set[str], what: str) -> None:
    reason = f"it has no place in {what}"
    _refuse(given, what, {name: reason for name in given if name not in known})


def _refuse(given: Params, what: str, reasons: Mapping[str, str]) -> None:
    for name in (name for name in reasons if name in given):
        flag = f"--{name.replace('_', '-')}"
        raise UserError(
            f"{flag} cannot be said in {what}: {reasons[name]}", fix=f"Leave {flag} away to print"
        )
