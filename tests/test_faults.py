"""A disk that is full or fails, also behind standard output, and too little memory: words, an exit
code, and every file the old one or the whole new one."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from makers import FROZEN, Colours, encoded, noise, write_pictures

import alexnet
from alexnet import atomic, cli, marks
from alexnet.atomic import replacing, sync
from alexnet.classification.predict import Copies, Table
from alexnet.commands.about import Recipes
from alexnet.data.trees import mark_output
from alexnet.errors import DiskError
from alexnet.sweeping import sweep
from alexnet.sweeping.trials import Space
from alexnet.sweeping.workers import in_processes
from alexnet.training import events

LONG = Path(__file__).parent / "long"
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="Linux has a disk that is always full")


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_file_that_the_disk_does_not_take_is_the_old_one(name, number, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, name, failing(number))
    with pytest.raises(DiskError), replacing(path) as aside:
        aside.write_text("new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folders_and_what_cannot_be_flushed_need_not_be(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    sync(tmp_path / "a")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    sync(tmp_path)
    with pytest.raises(OSError, match="Input/output"):
        sync(tmp_path / "a")


def test_a_copy_that_fails_leaves_no_empty_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(noise()))
    copies = Copies(tmp_path / "copies", ["cat"])
    monkeypatch.setattr(atomic, "sync", failing(errno.ENOSPC))
    with pytest.raises(DiskError, match="no space left"):
        copies.add(tmp_path / "a.png", 0)
    assert not any(path.is_file() for path in (tmp_path / "copies").rglob("*"))


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_takes_nobodys_name(links, tmp_path, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))  # FAT, for one
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "copies/cat").mkdir(parents=True)
    (tmp_path / "copies/cat/a.png").symlink_to("nowhere")
    copies = Copies(tmp_path / "copies", ["cat"])
    made = [copies.add(tmp_path / "a.png", 0) for _ in range(2)]
    assert [path.name for path in made] == ["a-2.png", "a-3.png"]
    assert {path.read_bytes() for path in made} == {b"one"}
    assert len(list((tmp_path / "copies/cat").iterdir())) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="a file has one name")
def test_a_copy_that_was_killed_between_its_two_names(tmp_path):
    """The next one takes the second name away, and leaves the file as it is."""
    (tmp_path / "a.png").write_bytes(b"two")
    copy = tmp_path / "copies/cat/a.png"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"one")
    os.link(copy, copy.with_name(f".a.png.{atomic.FIRST}.png"))
    assert Copies(tmp_path / "copies", ["cat"]).add(tmp_path / "a.png", 0).read_bytes() == b"two"
    assert copy.read_bytes() == b"one"
    assert sorted(path.name for path in copy.parent.iterdir()) == ["a-2.png", "a.png"]


def test_a_folder_that_was_killed_before_its_mark_gets_it(tmp_path):
    """Not so one that holds anything else."""
    for name in ("killed", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f".{marks.OUTPUT}.{atomic.FIRST}").touch()
    (tmp_path / "theirs/a.txt").touch()
    mark_output(tmp_path / "killed", "copies")
    mark_output(tmp_path / "theirs", "copies")
    assert [path.name for path in (tmp_path / "killed").iterdir()] == [marks.OUTPUT]
    assert not (tmp_path / "theirs" / marks.OUTPUT).exists()


def test_a_table_is_whole_or_not_there(tmp_path):
    classifier: Any = Colours()
    with pytest.raises(ZeroDivisionError), Table(tmp_path / "a.csv", classifier, 1):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


@needs_full
def test_event_files_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "open", lambda _, mode: FULL.open(mode), raising=False)
    with pytest.raises(DiskError, match="no space left"):
        events.EventFiles(tmp_path)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (RuntimeError("could not create a primitive"), "not enough memory"),
        (ImportError("failed to map segment from shared object"), "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
        (OSError(errno.EIO, "Input/output error", "there"), "there: Input/output error"),
    ],
)
def test_errors_of_the_machine_are_words(error, says, monkeypatch, capsys):
    def run(_):
        raise error

    monkeypatch.setattr(Recipes, "run", run)
    assert cli.main(["recipes"]) == 1
    assert says in capsys.readouterr().err


def test_a_package_that_is_not_there_is_named(monkeypatch, capsys):
    def run(_):
        import torch_of_next_year  # type: ignore[import-not-found]  # noqa: F401

    monkeypatch.setattr(Recipes, "run", run)
    assert cli.main(["recipes"]) == 2
    told = capsys.readouterr().err
    assert "No module named 'torch_of_next_year'" in told and "pip install alexnet\n" in told


def test_mistakes_of_the_program_are_not_hidden(monkeypatch):
    def run(_):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Recipes, "run", run)
    with pytest.raises(RuntimeError, match="a mistake"):
        cli.main(["recipes"])


@pytest.mark.slow
@needs_full
@pytest.mark.parametrize(
    ("words", "redirect", "code", "says"),
    [
        ("recipes", ">/dev/full", 1, "standard output takes no more: No space left"),
        ("recipes digits", ">/dev/full", 1, "standard output takes no more: No space left"),
        ("--help", ">/dev/full", 1, "standard output takes no more: No space left"),
        ("recipes", ">&-", 2, "standard output is closed"),
        ("recipes", "2>/dev/full", 0, ""),
        ("recipes", "2>&-", 0, ""),
        ("recipes nowhere", "2>/dev/full", 2, ""),
        ("recipes nowhere", "2>&-", 2, ""),
    ],
)
def test_streams_that_take_nothing(words, redirect, code, says):
    line = f'"$0" -m alexnet.cli {words} {redirect}'
    told = subprocess.run(["sh", "-c", line, sys.executable], capture_output=True, text=True)
    assert told.returncode == code
    assert says in told.stderr and not {"Traceback", "ignored"} & set(told.stderr.split())


@pytest.mark.slow
def test_a_worker_that_cannot_write_ends_the_sweep_and_fails_no_trial(tmp_path, monkeypatch):
    write_pictures(tmp_path / "photos")
    run = alexnet.train(tmp_path / "photos", alexnet.Recipe().replace(
        image_size=16, pool="max", width=0.125, epochs=1, tensorboard=False, report=False,
    ), out=tmp_path / "run")  # fmt: skip
    recipe = FROZEN.replace(weights=str(run), epochs=1)
    space: Space = {"lr": [0.1, 0.01], "batch_size": [8, 16]}
    path = tmp_path / "sweep"
    path.mkdir()

    def without_room(jobs, count):
        (path / "logs").write_text("no folder")
        yield from in_processes(jobs, count)

    monkeypatch.setattr(sweep, "in_processes", without_room)
    with pytest.raises(DiskError, match="a trial could not write"):
        sweep.sweep(tmp_path / "photos", recipe, space, out=path, jobs=2)
    assert not list(path.rglob("failed.json"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each command runs in a child")
@pytest.mark.parametrize(("case", "every"), [("predict --save", 4), ("pack", 16), ("train", 400)])
def test_faults_at_some_places(case, every):
    words = [sys.executable, str(LONG / "faults.py"), "--only", case, "--every", str(every)]
    told = subprocess.run(words, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert case in told.stdout
