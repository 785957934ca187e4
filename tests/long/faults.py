"""Faults at every place where a command writes: opening, writing, flushing, renaming, making a
folder. The disk is full from there on, or fails once (EIO, EACCES), or the program is killed before
a rename. Afterwards: words and an exit code; every file the old one or a whole new one; nothing
half-written left but by a kill; and the same command with room gives what it would have given.

Also: standard output and standard error that are full or closed, and too little memory.

uv run python tests/long/faults.py [--every 1] [--seed 0]

The short form is a test (tests/test_faults.py).
"""

import argparse
import builtins
import errno
import io
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from children import command, content, in_child, restore, warm, world  # noqa: E402
from makers import picture, write_pictures  # noqa: E402

import alexnet  # noqa: E402

KILLED = 137
SMALL = (
    "--recipe scratch --image-size 16 --crop 16 --crop-area 1 --pool max --width 0.125 "
    "--batch-size 16 --lr 0.05 --dropout 0 --precision fp32 --epochs 2 --no-report"
).split()
PLAIN = ["--no-report", "--no-tensorboard"]
HEAD = (
    "--recipe scratch --image-size 16 --crop 16 --weights made --freeze conv --epochs 1 "
    "--batch-size 16 --lr 0.05 --precision fp32"
).split() + PLAIN
FAULTS = ["ENOSPC", "EIO", "EACCES", "kill"]


@dataclass(frozen=True)
class Case:
    """A command that writes, what it needs beforehand, and what it leaves."""

    name: str
    words: list[str]
    leaves: tuple[str, ...]
    run: str = ""  # the run directory that it goes on with, if there is something in it
    before: tuple[str, ...] = ()  # names of cases that come first
    once: bool = False  # it refuses what it has made
    prints: bool = False  # what it prints is an answer


CASES = [
    Case("pack", ["data", "prepare", "photos", "--image-size", "32"], ("cache",)),
    Case(
        "train",
        ["train", "photos", *SMALL, "--out", "run"],
        ("run", "cache"),
        run="run",
        before=("pack",),
    ),
    Case(
        "import weights",
        ["weights", "import", "run/best.safetensors", "--as", "made"],
        ("cache/weights",),
        before=("train",),
    ),
    Case(
        "train on features",
        ["train", "photos", *HEAD, "--out", "head"],
        ("head", "cache"),
        run="head",
        before=("train", "import weights"),
    ),
    Case("report", ["report", "run", "--pictures"], ("run",), before=("train",)),
    Case("export", ["export", "run"], ("run",), before=("train",)),
    Case("explain", ["explain", "run", "one.png"], ("explanations",), before=("train",)),
    Case(
        "sweep",
        ["sweep", "photos", "--grid", "lr=0.05,0.01", *HEAD, "--out", "sweep"],
        ("sweep",),
        before=("train", "import weights", "train on features"),
    ),
    Case(
        "predict --save",
        ["predict", "run", "one.png", "two.png", "--save", "table.csv"],
        ("table.csv",),
        before=("train",),
    ),
    Case(
        "predict --sheets --copy-to",
        ["predict", "run", "one.png", "--csv", "--sheets", "sheets", "--copy-to", "copies"],
        ("sheets", "copies"),
        before=("train",),
        prints=True,
    ),
    Case("eval --save", ["eval", "run", "--save", "e.npz"], ("e.npz",), before=("train",)),
    Case(
        "subset",
        ["data", "subset", "photos", "part", "--classes", "2", "--per-class", "2/1/1"],
        ("part",),
        once=True,
    ),
]


@dataclass
class Disk:
    """What is written below a folder, counted; at the place `at` it fails."""

    folder: Path
    fault: str = ""
    at: int = 0
    count: int = 0
    renames: list[int] = field(default_factory=list)  # places

    def meets(self, path: Any, kind: str = "") -> None:
        """Called before each write to a path."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        where = os.path.abspath(os.fsdecode(path))
        if not where.startswith(f"{self.folder}/") or where.endswith((".lock", ".txt")):
            return
        self.count += 1
        if kind == "rename":
            self.renames.append(self.count)
        if self.fault == "kill":
            if self.count == self.at:
                os._exit(KILLED)
        elif self.count == self.at or (self.fault == "ENOSPC" and self.count > self.at > 0):
            number = getattr(errno, self.fault)
            raise OSError(number, os.strerror(number), str(path))

    def mount(self) -> None:
        """Puts itself between this process and its files, for good."""
        disk = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                disk.meets(self.fileno())
                return super().write(data)

        def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
            if not set("wxa+") & set(mode) or more.get("opener"):
                return real_open(file, mode, buffering, *rest, **more)
            if not isinstance(file, int):
                disk.meets(file)
            raw = Raw(file, mode.replace("b", "").replace("t", ""), more.pop("closefd", True))
            if buffering == 0:
                return raw
            buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffer if "b" in mode else io.TextIOWrapper(buffer, *rest, **more)

        def os_opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & os.O_CREAT:
                disk.meets(path)
            return real_os_open(path, flags, *rest, **more)

        def before(name: str, place: int, kind: str = "") -> None:
            real = getattr(os, name)

            def met(*arguments: Any, **more: Any) -> Any:
                disk.meets(arguments[place], kind)
                return real(*arguments, **more)

            setattr(os, name, met)

        real_open, real_os_open = builtins.open, os.open
        builtins.open = io.open = opened
        os.open = os_opened
        before("fsync", 0)
        before("mkdir", 0)
        before("rename", 1, "rename")
        before("replace", 1, "rename")
        before("link", 1, "rename")
        before("sendfile", 0)


def again(case: Case, folder: Path) -> list[str]:
    """The words that go on after a fault."""
    there = case.run and (folder / case.run / "recipe.json").exists()
    return [*case.words, "--resume"] if there else case.words


def what_is_there(case: Case, folder: Path) -> dict[str, object]:
    """What everything says that a case leaves."""
    found = {}
    for name in case.leaves:
        top = folder / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            said = path.is_file() and path.suffix not in (".lock", ".txt", ".log")
            said &= path.suffix != ".html" or case.name == "report"  # others tell the time
            if said and not (hidden and path.name != ".alexnet-output"):
                found[str(path.relative_to(folder))] = content(path)
    return {name: said for name, said in found.items() if said is not None}


def leftovers(folder: Path) -> list[Path]:
    """What nobody will take up, or take away."""
    return [
        path
        for path in folder.rglob(".*")
        if path.name != ".alexnet-output"
        and path.suffix != ".lock"
        and not path.name.startswith(".unfinished-")
    ]


def broken(folder: Path, before: dict[Path, bytes], sound: dict[str, object]) -> list[str]:
    """The files that are neither what they were nor whole."""
    wrong = []
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if not path.is_file() or "/." in f"/{name}" or path.suffix in (".lock", ".log"):
            continue
        if path.name.startswith("events.out") or "locks" in path.parts:
            continue
        if before.get(path) == path.read_bytes():
            continue
        try:
            content(path)
            whole = path.suffix not in (".onnx", ".csv", ".npz") or content(path) == sound.get(
                name, content(path)
            )
        except Exception as error:  # whatever it is, somebody will read the file
            whole = False
            wrong.append(f"{name}: {type(error).__name__} {error}")
        if not whole:
            wrong.append(name)
    return wrong


def check(
    case: Case, folder: Path, kept: Path, disk: Disk, expected: tuple[bytes, dict[str, object]]
) -> str:
    """One fault; what went wrong, or nothing."""
    restore(folder, kept)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def do() -> int:
        disk.mount()
        return command(*case.words)()

    found = in_child(do)
    wrong = []
    if found.code == KILLED and disk.fault == "kill":
        pass
    elif not found.documented:
        wrong.append(f"code {found.code}: {found.err[-2500:]}")
    elif leftovers(folder):
        wrong.append(f"left behind: {leftovers(folder)}")
    if found.code == 0:
        wrong += differences((found.out, what_is_there(case, folder)), expected, case.prints)
    wrong += broken(folder, before, expected[1])
    for path in before:
        if not path.exists():
            wrong.append(f"{path} is gone")
    if found.code == 0 and case.once:
        return "; ".join(wrong)
    repeated = in_child(command(*again(case, folder)))
    if repeated.code != 0:
        wrong.append(f"again: code {repeated.code}: {repeated.err[-1500:]}")
    else:
        now = repeated.out, what_is_there(case, folder)
        wrong += [f"again: {one}" for one in differences(now, expected, case.prints)]
        if leftovers(folder):
            wrong.append(f"again: left behind {leftovers(folder)}")
    return "; ".join(wrong)


def differences(
    found: tuple[bytes, dict[str, object]], expected: tuple[bytes, dict[str, object]], prints: bool
) -> list[str]:
    """What is not as it is without a fault."""
    wrong = [f"{name} is missing" for name in expected[1] if name not in found[1]]
    wrong += [
        f"{name} is another"
        for name, said in expected[1].items()
        if name in found[1] and found[1][name] != said
    ]
    if prints and found[0] != expected[0]:
        wrong.append("it printed something else")
    return wrong


def faults(cases: Sequence[Case], every: int, seed: int) -> dict[str, Counter[str]]:
    """Faults at every so many-th place of each case, all kinds; how many by case and kind.

    Raises:
        AssertionError: something was lost, or ended without words.
    """
    warm()
    draw, wrong, found = random.Random(seed), [], {}
    with world() as folder, tempfile.TemporaryDirectory() as keep:
        write_pictures(folder / "photos", per_class=8)
        for number, name in enumerate(("one.png", "two.png")):
            picture("red", 900 + number).save(folder / name)
        for case in cases:
            kept = Path(keep) / case.name.replace(" ", "-")
            prepare(case, folder)
            shutil.copytree(folder, kept)
            disk = Disk(folder)
            sound = in_child(lambda case=case, disk=disk: counted(case, disk, folder))
            assert sound.code == 0, sound.err
            count, *renames = map(int, (folder / "count").read_text().split())
            (folder / "count").unlink()
            expected = sound.out, what_is_there(case, folder)
            tally = found[case.name] = Counter()
            for fault in FAULTS:
                places = renames if fault == "kill" else range(1, count + 1)
                for place in list(places)[draw.randrange(min(every, len(places))) :: every]:
                    told = check(case, folder, kept, Disk(folder, fault, place), expected)
                    tally[fault] += 1
                    if told:
                        wrong.append(f"{case.name}: {fault} at {place} of {count}: {told}")
                        print(wrong[-1], flush=True)
            restore(folder, kept)
            for one in folder.iterdir():
                if one.name not in ("photos", "one.png", "two.png"):
                    shutil.rmtree(one) if one.is_dir() else one.unlink()
    assert not wrong, "\n".join(wrong)
    return found


def prepare(case: Case, folder: Path) -> None:
    """Runs the cases that come before."""
    for name in case.before:
        first = next(one for one in CASES if one.name == name)
        found = in_child(command(*first.words))
        assert found.code == 0, found.err


def counted(case: Case, disk: Disk, folder: Path) -> int:
    """Runs a case without a fault, and notes how often it writes, and where it renames."""
    disk.mount()
    code = command(*case.words)()
    places = " ".join(map(str, [disk.count, *disk.renames]))
    (folder / "count").write_text(places)
    return code


# -- standard output, standard error, memory -------------------------------------------------------


def streams() -> Counter[str]:
    """Standard output and standard error that take nothing, of programs of their own."""
    found = Counter()
    with world() as folder:
        write_pictures(folder / "photos", per_class=4)
        train = ["train", "photos", *SMALL, *PLAIN, "--out", "run"]
        assert in_child(command(*train)).code == 0
        photo = "photos/red/0.png"
        for words, redirect, code, says in (
            (["recipes"], ">/dev/full", 1, "standard output takes no more"),
            (["--help"], ">/dev/full", 1, "standard output takes no more"),
            (["recipes"], ">&-", 2, "standard output is closed"),
            (["predict", "run", photo, "--csv"], ">/dev/full", 1, "standard output takes no more"),
            (["eval", "run", "--format", "json"], ">/dev/full", 1, "standard output takes"),
            (["eval", "run"], "2>/dev/full", 0, ""),
            (["predict", "run", photo], "2>&-", 0, ""),
            (["predict", "nowhere", photo], "2>/dev/full", 2, ""),
            (["predict", "run", "-"], "<&-", 2, "standard input is closed"),
            ([*train[:-1], "other"], "2>/dev/full", 0, ""),
        ):
            line = f'exec "$0" -m alexnet.cli "$@" {redirect}'
            told = subprocess.run(
                ["sh", "-c", line, sys.executable, *words],
                capture_output=True,
                text=True,
                env=os.environ | {"PYTHONPATH": str(Path(alexnet.__file__).parents[1])},
            )
            assert told.returncode == code, (words, redirect, told)
            assert says in told.stderr and "Traceback" not in told.stderr, (words, redirect, told)
            assert "Exception ignored" not in told.stderr, (words, redirect, told)
            if code == 0 and words[0] == "predict":
                assert "red" in told.stdout
            found[redirect] += 1
    return found


def little_memory(steps: Sequence[int]) -> Counter[str]:
    """Commands that may take so many MB more than the process has: an answer, or words."""
    warm()
    found = Counter()
    with world() as folder:
        write_pictures(folder / "photos", per_class=8)
        train = ["train", "photos", *SMALL, *PLAIN, "--out", "run"]
        for words in (train, ["export", "run"]):
            assert in_child(command(*words)).code == 0
        for words in (
            ["predict", "run", "photos/red/0.png"],
            ["predict", "run/model.onnx", "photos/red/0.png"],
            ["eval", "run"],
            ["export", "run", "--out", "other.onnx"],
            ["report", "run", "--pictures"],
            [*train[:-1], "other"],
        ):
            for step in steps:
                shutil.rmtree(folder / "other", ignore_errors=True)
                ended = in_child(lambda words=words, step=step: limited(words, step))
                assert ended.documented, (words, step, ended)
                told = "memory" in ended.err or "resources" in ended.err
                assert ended.code == 0 or told, (words, step, ended)
                found["an answer" if ended.code == 0 else "words"] += 1
    return found


def limited(words: Sequence[str], megabytes: int) -> int:
    """Runs a command with so much more memory, at most."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    return command(*words)()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="only each so many-th place")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="one case")
    given = parser.parse_args()
    cases = [one for one in CASES if not given.only or one.name == given.only]
    for name, counts in faults(cases, given.every, given.seed).items():
        print(f"{sum(counts.values()):5} {name:30} {dict(counts)}", flush=True)
    if not given.only:
        print("streams:", dict(streams()))
        print("memory:", dict(little_memory([0, 1, 2, 4, 8, 16, 32, 64, 128, 256])))


if __name__ == "__main__":
    main()
