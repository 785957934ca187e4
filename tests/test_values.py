"""What a value must be: of fields, flags, and arguments of public functions."""

import inspect
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import numpy as np
import pytest
from makers import write_image

import alexnet
from alexnet.cli import main
from alexnet.errors import InputError
from alexnet.values import Between, Count, Positive, Precision, checked

PUBLIC = {
    name: getattr(alexnet, name)
    for name in alexnet.__all__
    if inspect.isfunction(getattr(alexnet, name)) and name != "recipe"
}
ANYTHING = {"data", "grid", "recipe"}  # have doors of their own, with better answers


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, np.int64(7), 7),
        (float, 7, 7.0),
        (float, np.float32(0.5), 0.5),
        (bool, np.True_, True),
        (str, Path("run"), "run"),
        (Count, 1, 1),
        (Literal[0, 1, 2], np.int64(2), 2),
        (Precision, "fp32", "fp32"),
        (Count | None, None, None),
        (Annotated[float, Positive] | Literal["auto"], "auto", "auto"),
        (Annotated[float, Positive] | Literal["auto"], 1, 1.0),
        (tuple[float, float], [1, 2], (1.0, 2.0)),
        (tuple[float, float], np.ones(2), (1.0, 1.0)),
        (tuple[float, ...], (1,), (1.0,)),
        (str | Path, "run", "run"),
        (str | Path, Path("run"), Path("run")),
        (Sequence[str], "cat", ["cat"]),
        (Sequence[str], ("cat", "dog"), ["cat", "dog"]),
        (Sequence[str], np.array(["cat"]), ["cat"]),
        (Sequence[str | Path] | str | Path, [Path("a"), "b"], [Path("a"), "b"]),
        (Callable[[int], None], print, print),
    ],
)
def test_what_is_taken(hint: Any, value: Any, expected: Any) -> None:
    found = checked("it", value, hint)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "told"),
    [
        (int, True, "it is True, expected a whole number."),
        (int, 1.5, "it is 1.5, expected a whole number."),
        (int, 2**63, "expected a number below 2^63."),
        (float, float("nan"), "it is nan, expected a number below 2^63."),
        (float, "fast", "it is 'fast', expected a number."),
        (bool, 1, "it is 1, expected true or false."),
        (str, 1, "it is 1, expected text."),
        (Count, 0, "it is 0, expected at least 1."),
        (Annotated[int, Between(0, 65535)], 65536, "expected at least 0 and at most 65535."),
        (Literal[0, 1, 2], True, "it is True, expected one of 0, 1, 2."),
        (Literal[0, 1, 2], np.zeros(3), "expected one of 0, 1, 2."),
        (Precision, "fp31", "expected one of auto, bf16, fp32.\nDid you mean 'fp32'?"),
        (Count | None, "1", "it is '1', expected a whole number."),
        (tuple[float, float], (1, 2, 3), "expected 2 numbers.\nExample: it=(0.5, 0.5)"),
        (str | Path, None, "it is None, expected a path."),
        (str | Path, b"run", "it is b'run', expected a path."),
        (str | Path, "a\0b", "which no path can be."),
        (Path, "a" * 256, "longer than any name of a file."),
        (Sequence[str], 3, "it is 3, expected a list."),
        (Sequence[str], [3], "it is 3, expected text."),
        (Sequence[str], np.array("a"), "expected a list."),
        (Sequence[str | Path] | str | Path, 3, "it is 3, expected a list or a path."),
        (Callable[[int], None], 3, "it is 3, expected a function."),
        (alexnet.Recipe | str | None, 3, "it is 3, expected a Recipe or text."),
    ],
)
def test_what_is_refused(hint: Any, value: Any, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        checked("it", value, hint)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_look_at_their_arguments_first(name: str) -> None:
    function = PUBLIC[name]
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    named = [one for one in parameters if one.kind != one.VAR_KEYWORD and one.name not in ANYTHING]
    required = {one.name: fitting(hints[one.name]) for one in parameters if one.default is one.empty
                and one.kind != one.VAR_KEYWORD}  # fmt: skip
    for one in named:
        with pytest.raises(InputError, match=f"^{one.name} is <object"):
            function(**required | {one.name: object()})


FREE = {"device", "host", "out", "source"}  # words of any kind
LOOKED_UP = {("evaluate", "split")}  # ... among those that the data has


@pytest.mark.parametrize("name", PUBLIC)
def test_where_one_of_some_words_is_wanted_the_type_says_which(name: str) -> None:
    hints = get_type_hints(PUBLIC[name], include_extras=True)
    free = {
        one.name for one in inspect.signature(PUBLIC[name]).parameters.values()
        if isinstance(one.default, str) and one.default and get_origin(hints[one.name]) != Literal
    }  # fmt: skip
    assert free - FREE == {word for function, word in LOOKED_UP if function == name}


def fitting(hint: Any) -> Any:
    """Something that a type takes."""
    for value in ("nowhere", 1, print):
        try:
            return checked("it", value, hint)
        except InputError:
            continue
    return object.__new__(hint)


def test_a_slip_in_a_word_is_said_and_not_taken_for_the_default(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision is 'fp31'"):
        alexnet.load(tmp_path, precision="fp31")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"bad_images is 'skpi'.*\n.*'skip'"):
        alexnet.evaluate(tmp_path, bad_images="skpi")  # type: ignore[arg-type]


def test_none_means_left_out() -> None:
    network = alexnet.describe("small", classes=None, image_size=None)  # type: ignore[arg-type]
    assert network == alexnet.describe("small")
    with pytest.raises(InputError, match="model is None, expected a path"):
        alexnet.describe(None)  # type: ignore[arg-type]


# -- files that are written


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "report": lambda run, out: alexnet.report(run, out=out),
    "compare": lambda run, out: alexnet.report([run, run], out=out),
    "export": lambda run, out: alexnet.export(run, out=out),
    "export pt2": lambda run, out: alexnet.export(run, format="pt2", out=out),
    "evaluate": lambda run, out: alexnet.evaluate(run, save=out),
    "describe": lambda run, out: alexnet.describe("small").save(out),
    "describe it": lambda run, out: main(["describe", str(run), "--out", str(out)]),
    "predict": lambda run, out: main(
        ["predict", str(run), str(run.parent / "photos"), "--save", str(out)]
    ),
    "mend": lambda run, out: main(["teach", str(run), "--mend", "--labels", str(out)]),
}


def said_by(
    write: Callable[[Path, Path], object], run: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> str:
    """What a function or a command says to a name that it refuses."""
    try:
        assert write(run, Path(out)) == 2  # of the command line
        return capsys.readouterr().err
    except InputError as error:
        return error.message


@pytest.mark.parametrize("writer", WRITERS)
def test_no_other_file_is_lost_and_no_folder_is_written(
    writer: str, photos_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    picture = Path("holiday.tiff")
    picture.write_bytes(b"a picture")
    Path("folder").mkdir()
    for out, told in [(".", "is a folder"), ("..", "is a folder"), ("/", "is a folder"),
                      ("folder", "is a folder"), (str(picture), "ends in .tiff, expected ."),
                      ("new.xlsx", "ends in .xlsx"), ("new", "ends in nothing")]:  # fmt: skip
        assert told in said_by(WRITERS[writer], photos_run, out, capsys)
    assert picture.read_bytes() == b"a picture"
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"folder", picture.name}


NEW_FOLDERS: dict[str, Callable[[Path, Path], object]] = {
    "train": lambda run, out: alexnet.train("digits", out=out),
    "train it": lambda run, out: main(["train", "digits", "--out", str(out)]),
    "sweep": lambda run, out: alexnet.sweep("digits", grid={"seed": [0, 1]}, out=out),
    "explain": lambda run, out: alexnet.explain(run, [run.parent / "photos"], out=out),
    "web": lambda run, out: alexnet.export(run, format="web", out=out),
    "subset": lambda run, out: alexnet.subset(run.parent / "photos", out, classes=2),
    "suggest": lambda run, out: alexnet.suggest(run, [run.parent / "photos"], out=out),
    "check": lambda run, out: alexnet.check(run.parent / "photos", sheets=out),
    "sheets": lambda run, out: main(
        ["predict", str(run), str(run.parent / "photos"), "--sheets", str(out)]
    ),
    "judged": lambda run, out: main(["eval", str(run), "--sheets", str(out)]),
    "copies": lambda run, out: main(
        ["predict", str(run), str(run.parent / "photos"), "--copy-to", str(out)]
    ),
    "teach": lambda run, out: main(["teach", str(run.parent / "photos"), "--out", str(out)]),
}


@pytest.mark.parametrize("writer", NEW_FOLDERS)
def test_no_folder_is_called_like_a_file(
    writer: str, photos_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    picture = Path("holiday.png")
    picture.write_bytes(b"a picture")
    for out, told in {
        "model.pt": "model.pt ends in .pt as a file, expected the name of a folder",
        "A.CSV": "A.CSV ends in .CSV as a file",
        "holiday.png": "holiday.png is a file, expected a folder",
    }.items():
        assert told in said_by(NEW_FOLDERS[writer], photos_run, out, capsys)
    assert picture.read_bytes() == b"a picture"
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", picture.name}


def test_a_file_of_the_kind_is_replaced(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("an older one")
    assert alexnet.describe("small").save(table) == table
    assert "an older one" not in table.read_text()


def test_so_do_the_methods_of_a_classifier(photos_run: Path) -> None:
    model: Any = alexnet.load(photos_run)
    picture = np.zeros((8, 8, 3), np.uint8)
    for told, call in {
        "names is 'yes', expected true or false": lambda: model.predict(picture, names="yes"),
        "abstain is 'much', expected a number": lambda: model.predict_set(picture, abstain="much"),
        "neighbours is -1, expected at least 0": lambda: model.explain(picture, neighbours=-1),
        "files is 3, expected a list": lambda: model.predict_files(3),
    }.items():
        with pytest.raises(InputError, match=told):
            call()
    file = next((photos_run.parent / "photos").rglob("*.*g"))
    assert [one.file for one in model.predict_files(str(file))] == [file]


FOLDERS: dict[str, tuple[str, Callable[[Path, Path, Path], object]]] = {
    "explain": ("001-0.png", lambda run, out, image: alexnet.explain(run, image, out)),
    "suggest": ("suggestions.csv", lambda run, out, image: alexnet.suggest(run, [image], out=out)),
    "export": ("style.css", lambda run, out, image: alexnet.export(run, format="web", out=out)),
}


@pytest.mark.slow
@pytest.mark.parametrize("writer", FOLDERS)
def test_nothing_is_replaced_in_a_folder_of_somebody_else(
    writer: str, photos_run: Path, tmp_path: Path
) -> None:
    name, write = FOLDERS[writer]
    out, image = tmp_path / "mine", tmp_path / "0.png"
    write_image(image, size=(40, 30))
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} is .*lost"):
        write(photos_run, out, image)
    assert (out / name).read_text() == "mine"
    for _ in range(2):  # what it wrote itself it writes again
        write(photos_run, tmp_path / "new", image)


def test_pictures_are_not_copied_to_where_they_lie(
    photos_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(photos_run.parent / "photos", photos)
    before = sorted(photos.rglob("*"))
    assert main(["predict", str(photos_run), str(photos), "--copy-to", str(photos)]) == 2
    assert "lies where copies would be put" in capsys.readouterr().err
    assert sorted(photos.rglob("*")) == before
    assert main(["predict", str(photos_run), str(photos), "--copy-to", str(tmp_path)]) == 0
