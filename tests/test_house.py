"""The house: imports run one way, and the command line answers without torch."""

import ast
import contextlib
import functools
import graphlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from makers import class_folders, write_image
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import alexnet
from alexnet.cli import COMMANDS
from alexnet.presets import RECIPES, STUDIES
from alexnet.recipes import Recipe
from alexnet.words import FLAG, VALUES, is_value

SOURCE = Path(alexnet.__file__).parent
GROUND = set(
    "errors words values marks cache holding atomic console ranks recipes idle presets "
    "runtime".split()
)
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
    "teaching",
    "commands",
    "cli",
    "__main__",
]
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in SOURCE.rglob("*.py")
    if path.name != "__init__.py"
}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """The syntax of a file, the whole of it first."""
    return [*ast.walk(ast.parse(path.read_text()))]


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in it."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module in {"alexnet", *(f"alexnet.{one}" for one in PACKAGES)}:
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
            elif node.module:
                found.add(node.module)
    return found


def own_imports(name: str) -> set[str]:
    """The modules of ours that one of them imports."""
    return {m.removeprefix("alexnet.") for m in imports(MODULES[name])} & set(MODULES)


def assert_runs(code: str) -> None:
    """In a fresh interpreter, which has imported nothing yet."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# put before code: whoever imports one of the names gets the error that their absence would raise
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
class Without(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
"""


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


@pytest.mark.slow
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


def test_help_answers_without_torch():
    code = (
        "import contextlib, sys\nfrom alexnet.cli import main\n"
        "for words in (['--help'], ['train', '--help'], ['recipes', 'digits']):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main(words)\n"
        "    heavy = set('torch sklearn PIL numpy tensorboard rich'.split()) & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{words} imports {heavy}')\n"
    )
    assert_runs(code)


def test_one_place_opens_images():
    places = {
        (name, node.func.attr)
        for name, path in MODULES.items()
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            (node.func.attr == "open" and ast.unparse(node.func.value) in ("Image", "PIL.Image"))
            or node.func.attr in ("imread", "imdecode", "open_heif", "read_heif", "read_image")
        )
    }
    assert places == {("data.images", "open")}
    source = nodes(MODULES["data.images"])[0]
    opens = [
        node
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert all([word.arg for word in node.keywords] == ["formats"] for node in opens)


def described() -> dict[str, str]:
    """The public names of the table in docs/python.md, and the words of the command of each."""
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text("utf-8")
    return dict(re.findall(r"^\| `alexnet\.(\w+).*?` \| (?:`(.*?)` )?\|", page, re.MULTILINE))


def test_public_names():
    assert sorted(described()) == sorted(alexnet.__all__)
    shown = [name for name in dir(alexnet) if not name.startswith("__")]
    assert shown == sorted(alexnet.__all__)
    for name in alexnet.__all__:
        assert getattr(alexnet, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'trian'") as caught:
        alexnet.trian  # type: ignore[attr-defined]  # noqa: B018
    # with which Python asks: Did you mean: 'train'?
    assert (caught.value.name, caught.value.obj) == ("trian", alexnet)
    with pytest.raises(AttributeError, match=r"'predict': alexnet.load\(run\).predict"):
        alexnet.predict  # type: ignore[attr-defined]  # noqa: B018


def test_every_command_has_its_function_and_every_function_its_command():
    no_command = {"fit", "labelled"}  # for arrays of one's own; what flags of `train` say
    functions = {n for n in alexnet.__all__ if inspect.isfunction(getattr(alexnet, n))}
    assert {name for name, words in described().items() if words} == (
        functions - no_command | {"RECIPES"}
    )
    words = {words.replace(" NAME", "") for words in described().values() if words}
    assert words == set(COMMANDS) - {"completion"}  # which is for shells


def texts(path: Path) -> list[str]:
    """The text of a file's code, its documentation left out."""
    tree = nodes(path)[0]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def literals(path: Path) -> set[str]:
    """The words in them."""
    return {word for text in texts(path) for word in re.findall(r"[\w.-]+", text)}


def arguments() -> set[str]:
    """What can be given to a public function or method."""
    public = [getattr(alexnet, name) for name in alexnet.__all__]
    methods = [
        method
        for one in public
        if inspect.isclass(one)
        for name, method in inspect.getmembers(one, inspect.isfunction)
        if not name.startswith("_")
    ]
    return {
        name
        for one in [*public, *methods]
        if callable(one)
        for name in inspect.signature(one).parameters
    }


def test_flags_in_messages_are_arguments_and_their_words_are_known():
    """As `words.spoken` makes them, which cannot tell the value of a flag from the next word."""
    only_typed = {"json", "max_restarts", "grid"}
    known, fields, found = arguments(), get_type_hints(Recipe), 0
    for name, path in MODULES.items():
        if name.startswith(("commands.", "cli", "presets", "reporting.")):
            continue
        for text in texts(path):
            for flag in FLAG.finditer(text):
                if (argument := (flag["name"] or "").replace("-", "_")) in {"", *only_typed}:
                    continue
                found += 1
                assert argument in known, (name, flag[0])
                word = "" if flag["value"] else (flag["word"] or "").strip()
                hint = fields.get(argument, str)
                choices = [one for part in (hint, *get_args(hint)) for one in get_args(part)]
                values = {*choices, *RECIPES, *STUDIES, *VALUES}
                assert is_value(argument, word) == (word in values), (name, flag[0])
    assert found > 100


RUN_FILES = """epochs.jsonl best.safetensors last.safetensors metrics.json
    predictions.npz calibration.npz illustrations.json data.json
    learning-curve.json lr.json lr.svg failed.json
    pruned.json test.json epochs.csv classes.csv confusion.csv network.csv""".split()
MARKS = ["recipe.json", "environment.json", "sweep.json", "store.json"]
SWEEP_FILES = "results.csv configurations.csv summary.json optuna.db".split()


@pytest.mark.parametrize(
    ("keeper", "names"),
    [("marks", MARKS), ("runs.directory", RUN_FILES), ("sweeping.directory", SWEEP_FILES)],
)
def test_file_names_are_spelt_by_their_keeper_alone(keeper, names):
    assert not set(names) - literals(MODULES[keeper]), "the keeper does not know them"
    for name, path in MODULES.items():
        if name != keeper:
            assert not literals(path) & set(names), f"{name} has a file name of its own"


def calls(path: Path, attribute: str) -> int:
    """How often a file calls something of that name."""
    return sum(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func).endswith(attribute)
        for node in nodes(path)
    )


@pytest.mark.parametrize("call", ["optimizer.step", ".zero_grad", "clip_grad_norm_"])
def test_there_is_one_training_step(call):
    counts = {name: calls(path, call) for name, path in MODULES.items()}
    assert {name: count for name, count in counts.items() if count} == {"fitting.step": 1}


@pytest.mark.slow
def test_every_module_and_the_main_path_do_without_torchvision(tmp_path, monkeypatch):
    """Nor does anything that is imported on the way, such as torch, ask for it. Training does
    without torch's compiler as well, which takes a second to import."""
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "photos", {"cat": 12, "dog": 12}, size=(20, 16))
    words = "--epochs 1 --warmup 0 --width 0.1 --image-size 32 --crop 0 --batch-size 8".split()
    train = ["train", "photos", "--out", "run", *words]
    code = WITHOUT.format(names={"torchvision"}) + (
        "import importlib\n"
        f"for name in {sorted(MODULES)}:\n"
        "    importlib.import_module(f'alexnet.{name}')\n"
        "from alexnet.cli import main\n"
        f"for words in ({train}, ['eval', 'run'], ['predict', 'run', 'photos/cat/0.png'],\n"
        "              ['explain', 'run', 'photos/cat/0.png'], ['export', 'run'],\n"
        "              ['data', 'check', 'photos']):\n"
        "    assert main(words) == 0, words\n"
        "    assert words[0] == 'export' or 'torch._dynamo' not in sys.modules\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    assert_runs(code)


def test_what_is_absent_is_noticed():
    """The instrument of the test above."""
    with pytest.raises(AssertionError, match="No module named 'fractions'"):
        assert_runs(WITHOUT.format(names={"fractions"}) + "import statistics")


def brought(names: Iterable[str]) -> set[str]:
    """The distributions that `pip install` of these brings, they themselves included."""
    asked = [Requirement(one) for one in names]
    found: set[str] = set()
    for one in asked:  # which grows
        name = canonicalize_name(one.name)
        if name not in found:
            found.add(name)
            with contextlib.suppress(PackageNotFoundError):  # for other systems
                further = [Requirement(text) for text in requires(name) or []]
                asked += [
                    one for one in further if not one.marker or one.marker.evaluate({"extra": ""})
                ]
    return found


@pytest.mark.slow
def test_an_exported_file_needs_what_the_page_installs(photos_run, tmp_path):
    """docs/export.md: what is imported from anywhere else is not there."""
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text("utf-8")
    run, image = str(photos_run), tmp_path / "a.png"
    model = str(alexnet.export(run, out=tmp_path / "m.onnx"))
    write_image(image)
    there: list[str] = []
    for words, commands in (
        ("predict", [["predict", model, str(image), how] for how in ("--csv", "--json")]),
        ("serve", [["serve", model, "--port", "0"]]),
    ):
        [installed] = re.findall(f"pip install ([a-z -]+?) +# alexnet {words} model", page)
        there += installed.split()
        allowed = {"alexnet"} | brought(there)
        absent = {
            name
            for name, owners in packages_distributions().items()
            if allowed.isdisjoint(map(canonicalize_name, owners))
        }
        assert {"torch", "sklearn", "matplotlib", "onnx"} <= absent
        needs_more = [["doctor"], ["train", "digits"], ["describe", "2012"], ["eval", run]]
        assert_runs(
            WITHOUT.format(names=absent)
            + "from alexnet.cli import main\n"
            + "import uvicorn; uvicorn.Server.run = lambda *_: None\n" * (words == "serve")
            + f"for words in {commands}: assert main(words) == 0, words\n"
            + f"for words in {needs_more}: assert main(words) == 2, words\n"
        )


def test_the_container_holds_what_the_page_installs():
    root = Path(__file__).parent.parent
    page = (root / "docs" / "export.md").read_text("utf-8")
    dockerfile = (root / "Dockerfile").read_text("utf-8").replace("\\\n", "")
    lists = re.findall("pip install ([a-z -]+?) +# alexnet (?:predict|serve) model", page)
    [installed] = re.findall("pip install --no-cache-dir ([a-z].*)", dockerfile)
    assert installed.split() == " ".join(lists).split()
    taken = re.findall("^!(.+)$", (root / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    copied = " ".join(re.findall("^COPY ([a-zA-Z].+) .+$", dockerfile, re.MULTILINE)).split()
    assert sorted(copied) == sorted(taken) and all((root / one).exists() for one in taken)


@pytest.mark.slow
def test_tests_share_makers_and_fixtures_only():
    """What one test module takes from another is imported, and so changed, with all of it."""
    for path in Path(__file__).parent.glob("*.py"):
        if path.name != "test_serve_page.py":  # the page and its server are tried with one server
            shared = {name for name in imports(path) if name.startswith("test_")}
            assert not shared, f"{path.name} imports from {shared}; move it to makers.py"
