"""docs/cli.md and docs/api.md say what the commands and the public names are."""

import re
from pathlib import Path

import pytest

import alexnet
from alexnet.cli import COMMANDS, main

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def reference(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import reference

    return reference


@pytest.mark.slow
def test_the_pages_are_what_would_be_written_now(reference, capsys):
    assert reference.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.slow
def test_a_page_that_is_out_of_date_is_shown_and_written_again(
    reference, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(reference, "HERE", tmp_path)
    for page in ("cli.md", "api.md"):
        (tmp_path / page).write_bytes((DOCS / page).read_bytes().replace(b"--epochs", b"--epoch"))
    assert reference.main(["--check"]) == 1
    assert "+- `--epochs INT`" in capsys.readouterr().out
    assert "--epochs" not in (tmp_path / "cli.md").read_text("utf-8")
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


@pytest.mark.parametrize("words", COMMANDS)
def test_the_flags_of_a_page_are_those_of_help(words, reference, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*words.split(), "--help-all"]) == 0
    told = " ".join(re.findall(r"^  (--.*?)(?:  |$)", capsys.readouterr().out, re.MULTILINE))
    in_help = set(
        re.findall(r"--[a-z0-9-]+", re.sub(r"--\[no-\]([a-z0-9-]+)", r"--\1 --no-\1", told))
    )
    known = reference.flags(COMMANDS[words])
    if words in reference.with_recipe():
        known += reference.flags(alexnet.Recipe)
    assert in_help == set(re.findall(r"--[a-z0-9-]+", " ".join(one.call for one in known)))


def test_every_public_name_has_its_place(reference):
    page = (DOCS / "api.md").read_text("utf-8")
    for name in alexnet.__all__:
        assert f"\n## alexnet.{name}\n" in page
