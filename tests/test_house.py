"""The house: imports run one way, and the command line answers without torch."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import alexnet

SOURCE = Path(alexnet.__file__).parent
GROUND = {"errors", "atomic", "console", "recipes", "presets", "runtime"}
# each package imports only from the ground and from those before it
PACKAGES = [
    "scoring",
    "data",
    "network",
    "fitting",
    "runs",
    "reporting",
    "classification",
    "checking",
    "explaining",
    "training",
    "sweeping",
    "exporting",
    "serving",
    "commands",
    "cli",
]
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in SOURCE.rglob("*.py")
    if path.name != "__init__.py"
}


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module in {"alexnet", *(f"alexnet.{one}" for one in PACKAGES)}:
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
            else:
                found.add(node.module)
    return found


def own_imports(name: str) -> set[str]:
    """The modules of ours that one of them imports."""
    return {m.removeprefix("alexnet.") for m in imports(MODULES[name])} & set(MODULES)


def assert_runs(code: str) -> None:
    """In a fresh interpreter, which has imported nothing yet."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_module_has_its_place():
    assert {name.split(".")[0] for name in MODULES} == GROUND | set(PACKAGES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_run_one_way(name):
    package = name.split(".")[0]
    before = PACKAGES[: PACKAGES.index(package)] if package in PACKAGES else []
    allowed = GROUND | {package, *before}
    wrong = {other for other in own_imports(name) if other.split(".")[0] not in allowed}
    assert not wrong, f"{name} imports {wrong}, which do not come before it"


def test_imports_make_no_circle():
    order = graphlib.TopologicalSorter({name: own_imports(name) for name in MODULES})
    assert len(list(order.static_order())) == len(MODULES)


@pytest.mark.parametrize("name", ["recipes", "presets", "errors"])
def test_recipes_need_the_standard_library_only(name):
    assert {m for m in imports(MODULES[name]) if m.split(".")[0] not in {"alexnet"}} <= (
        sys.stdlib_module_names | {"collections.abc"}
    )


def listed() -> dict[str, bool]:
    """The modules that docs/architecture.md lists, and whether they have its star."""
    page = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text("utf-8")
    found, package, all_have_it = {}, "", False
    for line in page.split("```\n")[1].splitlines():
        word, star = re.match(r" *([\w./]*)( \*)?", line).groups()
        if word.endswith("/"):
            package, all_have_it = word.replace("/", "."), bool(star)
        elif word.endswith(".py"):
            inside = package if line.startswith(" ") else ""
            found[inside + word.removesuffix(".py")] = bool(star or (inside and all_have_it))
    return found


def test_every_module_is_listed():
    assert set(listed()) == {name for name in MODULES if not name.startswith("commands.")}


def test_what_has_a_star_needs_no_torch():
    names = [name for name, star in listed().items() if star]
    assert len(names) > 20
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(f'alexnet.{name}')\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} imports torch')\n"
    )
    assert_runs(code)


@pytest.mark.parametrize("name", ["network.model", "data.augment", "fitting.optimization"])
def test_networks_transforms_and_schedules_need_torch_only(name):
    outer = {m.split(".")[0] for m in imports(MODULES[name])} - {"alexnet"}
    assert outer - sys.stdlib_module_names <= {"torch"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["recipes", "digits"]])
def test_help_answers_without_torch(arguments):
    code = (
        "import sys\nfrom alexnet.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'sklearn', 'PIL', 'tensorboard'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert_runs(code)


def test_public_names():
    assert sorted(alexnet.__all__) == [
        "AlexNetError", "Classifier", "RECIPES", "Recipe", "evaluate", "fit", "load", "train",
    ]  # fmt: skip
    for name in alexnet.__all__:
        assert getattr(alexnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        alexnet.trian  # noqa: B018


def test_torchvision_is_not_needed_at_run_time():
    for path in MODULES.values():
        assert not any(m.startswith("torchvision") for m in imports(path))


def test_tests_share_makers_and_fixtures_only():
    """What one test module takes from another is imported, and so changed, with all of it."""
    for path in Path(__file__).parent.glob("*.py"):
        if path.name != "test_serve_page.py":  # the page and its server are tried with one server
            shared = {name for name in imports(path) if name and name.startswith("test_")}
            assert not shared, f"{path.name} imports from {shared}; move it to makers.py"
