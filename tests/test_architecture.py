"""What holds for the code base as a whole: its size, its floors, its imports, its wheel."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("exporters", "calibration", "runtimes", "deploy")
HEAVY = (
    "torch",
    "tensorrt",
    "tensorrt_rtx",
    "onnxruntime",
    "PIL",
    "jinja2",
    "onnxscript",
    "joblib",
    "dask",
    "distributed",
    "numba",
)
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 70


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def modules(package: str) -> Iterator[str]:
    for path in sources(package):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_files_and_functions_stay_small() -> None:
    long = []
    for path in sources(*PACKAGES, "tests", "benchmarks"):
        text = path.read_text()
        name = path.relative_to(ROOT)
        if text.count("\n") > MAX_FILE_LINES:
            long.append(f"{name} has {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                # the signature of a command is its documentation, one option after the other
                body = lines - (node.body[0].lineno - node.lineno)
                if (body if "commands" in path.parts else lines) > MAX_FUNCTION_LINES:
                    long.append(f"{name}:{node.lineno} {node.name} has {lines} lines")
    assert long == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES, "benchmarks")
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_interface_is_declared_and_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__, f"{package} declares nothing"
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        # importing a submodule sets it as an attribute of the package, and would hide the name
        assert not (ROOT / package / f"{name}.py").exists()
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(module, "no_such_name")  # noqa: B009 - the lazy __getattr__ is what is tested


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_is_cheap(package: str) -> None:
    code = f"import sys, {package}; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    assert run_python("-c", code).split() == []


def test_the_command_line_is_cheap_until_a_command_runs() -> None:
    code = (
        "import sys; from deploy.cli import run; run(['--help']); "
        f"print('HEAVY', *(m for m in {HEAVY!r} if m in sys.modules))"
    )
    assert run_python("-c", code).split("HEAVY")[1].split() == []


def test_every_module_can_be_imported() -> None:
    names = [name for package in PACKAGES for name in modules(package)]
    code = f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)"
    run_python("-W", "ignore", "-c", code)


def test_nothing_imports_upwards() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed; pip install 'edgeport[dev]'")
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_file_names_a_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    names = ("/ro" + "ot/", "/ho" + "me/", "/wo" + "rk/")
    found = [
        f"{file} names {name}"
        for file in tracked
        if (ROOT / file).suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".html", ""}
        and (ROOT / file).is_file()
        for name in names
        if name in (ROOT / file).read_text(errors="ignore")
    ]
    assert found == []


@pytest.mark.slow
def test_the_wheel_works_beside_foreign_folders_of_the_same_names(tmp_path: Path) -> None:
    """``deploy`` and ``exporters`` are names that a user's own folder may well have."""
    wheel = build_wheel(tmp_path)
    python = install_alone(wheel, tmp_path / "venv")
    project = tmp_path / "project"
    for name in ("deploy", "exporters"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    command = python.parent / "edgeport"
    for arguments, words in ((["--help"], "quantize"), (["models"], "flashocc-m0")):
        done = subprocess.run(
            [command, *arguments], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
    page = "from pathlib import Path; import deploy.report as r; "
    page += "print(len(list(Path(r.__file__).parent.rglob('*.html'))))"
    done = subprocess.run(
        [python, "-c", page], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) >= 1, "the wheel lacks the report's page"


def build_wheel(folder: Path) -> Path:
    """The wheel of a copy of the tree, so that the build leaves nothing in it."""
    source = folder / "source"
    source.mkdir()
    for name in (*PACKAGES, "pyproject.toml", "LICENSE", "README.md"):
        item = ROOT / name
        if item.is_dir():
            shutil.copytree(item, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(item, source / name)
    run_python("-m", "build", "--wheel", "--outdir", str(folder), str(source))
    return next(folder.glob("*.whl"))


def install_alone(wheel: Path, folder: Path) -> Path:
    """An environment that has the wheel, and everything else from the one that runs the tests."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = next((folder / "lib").glob("python*/site-packages"))
    here = next(path for path in sys.path if path.endswith("site-packages"))
    options = ("--quiet", "--no-deps", "--no-index")
    run_python("-m", "pip", "--python", str(python), "install", *options, str(wheel))
    # an editable install of this checkout must not answer in place of the wheel
    (site / "tests-environment.pth").write_text(f"import sys; sys.path.append({here!r})\n")
    return python


def run_python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
