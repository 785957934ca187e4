"""The house: imports run one way, and the command line answers without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import alexnet

SOURCE = Path(alexnet.__file__).parent
# each floor imports only from those above it
FLOORS = [
    {"errors"},
    {
        "atomic",
        "augment",
        "console",
        "drawing",
        "guard",
        "illustrations",
        "metrics",
        "model",
        "optimization",
        "recipes",
        "runtime",
        "significance",
    },
    {"bodies", "charts", "images", "pages", "presets", "rundir", "store", "trees", "trials"},
    {"checkpoint", "classifier", "duplicates", "features", "fetch", "layouts", "linear"}
    | {"lr_finder", "quantise", "report", "sheets"},
    {"comparison", "onnx_classifier", "onnx_graph", "subset", "sweep_page", "web", "weights"}
    | {"whole"},
    {"datasets"},
    {"evaluation", "headers"},
    {"description", "explain", "label_errors", "loop", "results", "run_classifier"},
    {"check", "export", "inputs", "predict", "showcase", "stack"} | {"batching"},
    {"api", "panels", "webcam"},
    {"run"},
    {"serve", "training"},
    {"estimates", "trial_runs"},
    {"search"},
    {"workers"},
    {"sweep"},
    {"cli"},
]
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "alexnet":
                found.update(f"alexnet.{alias.name}" for alias in node.names)
            else:
                found.add(node.module)
    return found


def test_every_module_has_its_floor():
    assert {path.stem for path in SOURCE.glob("*.py")} - {"__init__"} == set(FLOOR_OF)


@pytest.mark.parametrize("name", sorted(FLOOR_OF))
def test_imports_run_one_way(name):
    inner = {m.removeprefix("alexnet.") for m in imports(SOURCE / f"{name}.py") if "alexnet" in m}
    wrong = {other for other in inner if FLOOR_OF[other] >= FLOOR_OF[name]}
    assert not wrong, f"{name} imports {wrong}, which are not on a floor above it"


@pytest.mark.parametrize("name", ["recipes", "presets", "errors"])
def test_recipes_need_the_standard_library_only(name):
    assert {m for m in imports(SOURCE / f"{name}.py") if m.split(".")[0] not in {"alexnet"}} <= (
        sys.stdlib_module_names | {"collections.abc"}
    )


@pytest.mark.parametrize(
    "name",
    "classifier comparison console images metrics onnx_classifier predict report rundir "
    "significance sweep_page".split(),
)
def test_what_reads_a_run_needs_no_torch(name):
    code = f"import sys, alexnet.{name}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ["model", "augment", "optimization"])
def test_networks_transforms_and_schedules_need_torch_only(name):
    outer = {m.split(".")[0] for m in imports(SOURCE / f"{name}.py")} - {"alexnet"}
    assert outer - sys.stdlib_module_names <= {"torch"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["recipes", "digits"]])
def test_help_answers_without_torch(arguments):
    code = (
        "import sys\nfrom alexnet.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'sklearn', 'PIL', 'tensorboard'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_public_names():
    assert sorted(alexnet.__all__) == [
        "AlexNetError", "Classifier", "RECIPES", "Recipe", "evaluate", "fit", "load", "train",
    ]  # fmt: skip
    for name in alexnet.__all__:
        assert getattr(alexnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        alexnet.trian  # noqa: B018


def test_torchvision_is_not_needed_at_run_time():
    for path in SOURCE.glob("*.py"):
        assert not any(m.startswith("torchvision") for m in imports(path))
