"""Names on their way out: nothing is lost, nobody is misled, nothing ends in a traceback."""

import csv
import io
import json
import os
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import class_folders

import alexnet
from alexnet.cli import main
from alexnet.words import FORMULA, ODD, cell, shown, spoken, typed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain Name-1.jpg", "plain Name-1.jpg"),
        ("fünf 猫 🐈\u200d⬛", "fünf 猫 🐈\u200d⬛"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("txt.\u202egpj", r"txt.\u202egpj"),
        ("two\nlines\x1b[31m", r"two\nlines\x1b[31m"),
        (7, "7"),
    ],
)
def test_what_is_odd_is_escaped(name, expected):
    assert shown(name) == expected


@given(st.text(st.characters(exclude_categories=[]), max_size=20))
def test_any_text_can_be_printed_and_is_no_formula(text):
    told = shown(text)
    told.encode("utf-8")
    assert all(unicodedata.category(one) not in ODD or one in "\u200c\u200d" for one in told)
    assert shown(told) == told
    assert not cell(text).startswith(FORMULA)
    assert cell(text).lstrip("'") == told.lstrip("'")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_files_with_odd_names_are_classified_and_told(photos_run, tmp_path, capsys, monkeypatch):
    data = class_folders(tmp_path / "new", {"a": 2})
    odd = os.fsencode(data / "a") + b"/caf\xe9.png"
    os.rename(data / "a/0.png", odd)
    os.rename(data / "a/1.png", data / "a/=1+1.png")
    monkeypatch.chdir(data / "a")
    table = tmp_path / "table.csv"
    assert main(["predict", str(photos_run), str(data), "--save", str(table)]) == 0
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"].rpartition("/")[2] for row in rows} == {r"caf\xe9.png", "=1+1.png"}
    capsys.readouterr()
    strict = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", strict)
    files = [os.fsdecode(odd), "=1+1.png"]
    for flags in ([], ["--csv"], ["--json"]):
        assert main(["predict", str(photos_run), *files, *flags]) == 0
    printed = strict.buffer.getvalue().decode("cp1252")
    assert r"caf\xe9.png: " in printed and "'=1+1.png," in printed
    for line in printed.splitlines()[-2:]:
        assert json.loads(line)["top"]


# -- flags, for those who type none


@pytest.mark.parametrize(
    ("typed_as", "called_with"),
    [
        ("Use --views 2, or a --crop below --image-size.", "views=2, or a crop below image_size."),
        ("Use --no-nesterov, or --optimizer sgd --momentum 0.9.",
         'nesterov=False, or optimizer="sgd", momentum=0.9.'),
        ("Use --no-cache and more", "cache=False and more"),
        ("Use --std 0.5 0.5 1e-3.", "std=(0.5, 0.5, 1e-3)."),
        ("Use --crop 227, or --mean RED GREEN BLUE.", "crop=227, or mean=(RED, GREEN, BLUE)."),
        ("Use --save OUT.mp4 to see", "save=OUT.mp4 to see"),
        ("Use --label-pattern '(?P<label>a b)_' or", "label_pattern='(?P<label>a b)_' or"),
        ("Use --image-size (--border adds black).", "image_size (border adds black)."),
        ("Use --freeze all-but-last.", 'freeze="all-but-last".'),
        ("Use --crop small-er than --border", "crop small-er than border"),
        ("Use --recipe finetune --weights backbone", 'recipe="finetune", weights="backbone"'),
        ("Use --device cuda, or --split val.", 'device="cuda", or split="val".'),
        ("Use --recipe or --val-size 5% of them", "recipe or val_size 5% of them"),
        ("Use `alexnet eval RUN --views 10`; --folds 0", "`alexnet eval RUN --views 10`; folds=0"),
        ("Use alexnet train DATA --lr 1; or --folds 0", "alexnet train DATA --lr 1; or folds=0"),
        ("Use a -- b --- c --, d--lr 1, it--self", "a -- b --- c --, d--lr 1, it--self"),
    ],
)  # fmt: skip
def test_flags_are_arguments_to_who_calls_functions(typed_as, called_with):
    assert spoken(typed_as) == f"Use {called_with}"
    assert spoken(called_with) == called_with
    with typed():
        assert spoken(typed_as) == typed_as


def test_python_is_told_of_arguments_and_a_terminal_of_flags(capsys):
    with pytest.raises(alexnet.AlexNetError, match="Use views=2, or a crop below image_size"):
        alexnet.recipe("digits", crop="auto", image_size=64, views=10)
    recipe = ["--crop", "auto", "--image-size", "64", "--views", "10"]
    assert main(["train", "digits", *recipe]) == 2
    assert "Use --views 2, or a --crop below --image-size" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(alexnet.AlexNetError, match="views=2"):  # also after a command
        alexnet.recipe("digits", crop="auto", image_size=64, views=10)
