"""What the command line says of itself: help on one screen, versions, completion."""

import shutil
import subprocess
import sys

import pytest

import alexnet
from alexnet.cli import COMMANDS, main
from alexnet.presets import RECIPES


@pytest.fixture
def said(capsys, monkeypatch):
    """What a command prints on a screen of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        assert main(words) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_help_fits_the_width(words, flag, said):
    lines = said(*words.split(), flag).splitlines()
    assert lines[0].startswith(f"usage: alexnet {words}")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 60 or flag == "--help-all"


def test_help_names_the_recipe_whose_defaults_it_shows(said):
    page = " ".join(said("train", "--help").split())
    assert "those of the recipe folder, for a DATA that is a" in page
    assert f"[{RECIPES['folder'].recipe.epochs}]" in page
    for words in (["train", "digits"], ["train", "x", "--recipe", "digits"]):
        page = said(*words, "--help")
        assert "those of the recipe digits." in page and "[12]" in page
    assert "--momentum" not in page and "--momentum" in said("train", "--help-all")


def test_help_of_a_config_shows_its_values(said, tmp_path):
    (tmp_path / "a.toml").write_text("epochs = 77\n")
    page = said("train", "photos", "--config", str(tmp_path / "a.toml"), "--help")
    assert "a.toml" in page and "[77]" in page


def test_all_commands_stand_on_one_screen(said):
    pages = {said(), said("help"), said("--help"), said("-h")}
    [page] = pages
    assert len(page.splitlines()) <= 32 and max(map(len, page.splitlines())) <= 80
    assert all(f"  {words} " in page for words in COMMANDS)


@pytest.mark.parametrize("group", ["data", "weights"])
def test_a_group_alone_lists_its_commands(group, said):
    page = said(group)
    assert page == said("help", group)
    listed = [line.strip() for line in page.splitlines() if line.startswith(f"  {group} ")]
    assert len(listed) == sum(words.startswith(f"{group} ") for words in COMMANDS)


def test_help_is_that_of_the_command(said):
    assert said("help", "data", "prepare") == said("data", "prepare", "--help")
    assert said("help", "predict") == said("predict", "run", "a.jpg", "-h")


def test_versions_and_the_module(said):
    assert said("--version") == said("-V") == f"alexnet {alexnet.__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "alexnet", "-V"], capture_output=True, text=True, check=True
    )
    assert done.stdout == said("-V")


# -- completion ------------------------------------------------------------------------------------

TYPED = [
    ("alexnet tr", {"train"}),
    ("alexnet data ", {"prepare", "check", "subset", "fetch"}),
    ("alexnet help wei", {"weights"}),
    ("alexnet train --optimizer ", {"sgd", "adam", "adamw", "muon"}),
    ("alexnet train digits --recipe dig", {"digits"}),
    ("alexnet train --no-fl", {"--no-flip"}),
    ("alexnet data check --sh", {"--sheets"}),
    ("alexnet train dig", {"digits"}),
    ("alexnet completion ", {"bash", "zsh", "fish"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "expected"), TYPED)
@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes(line, expected, said):
    words = line.split(" ")
    given = " ".join(f"'{word}'" for word in words)
    script = f"{said('completion', 'bash')}\nCOMP_WORDS=({given}); COMP_CWORD={len(words) - 1}\n"
    script += '_shtab_alexnet; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize(("line", "expected"), TYPED)
@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish")
def test_fish_completes(line, expected, said):
    script = f"{said('completion', 'fish')}\ncomplete -C '{line}'"
    done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, check=True)
    assert {one.split("\t")[0] for one in done.stdout.splitlines()} >= expected


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh_takes_the_script(said):
    script = 'eval "$0"; print ${_comps[alexnet]}'
    command = ["zsh", "-f", "-c", script, said("completion", "zsh")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "_shtab_alexnet\n")
