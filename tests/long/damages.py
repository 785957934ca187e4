"""Damages files of a run and of its Stores, its exported file and named weights: a bit, a byte,
4 KiB, or all behind some place. Whoever reads them afterwards says the same as before, or names the
file or its folder: in an error, or in a warning beside an answer that lacks what the file held.

uv run python tests/long/damages.py [--count 1000] [--seed 0] [--cheap]

The short form is a test (tests/test_damages.py).
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from children import Outcome, command, contents, in_child, restore, warm, world  # noqa: E402
from makers import picture, write_pictures  # noqa: E402

BLOCK = 4096
CHANCE = 0.15  # of a command that takes a second, where others read the file too
FLAGS = (
    "--recipe scratch --image-size 16 --crop 16 --crop-area 1 --pool max --width 0.125 "
    "--batch-size 8 --lr 0.05 --dropout 0 --precision fp32"
).split()
LIGHT = ["--no-tensorboard", "--no-report"]
HEAD = (
    "--recipe scratch --image-size 16 --crop 16 --weights made --freeze conv --epochs 1 "
    "--batch-size 16 --lr 0.05 --precision fp32"
).split() + LIGHT
HALF = ["train", "photos", *FLAGS, "--epochs", "3", *LIGHT, "--out", "half"]
PAIR = ["one.png", "two.png"]


@dataclass(frozen=True)
class Command:
    """A command that reads what was written. What it says, and what it leaves in `leaves`, is its
    answer."""

    name: str
    words: list[str]
    cheap: bool = False
    leaves: tuple[str, ...] = ("out",)


COMMANDS = [
    Command("eval", ["eval", "run", "--format", "json"], cheap=True),
    Command("eval a head", ["eval", "head", "--save", "out/head.npz"], cheap=True),
    Command("predict", ["predict", "run", *PAIR, "--json"], cheap=True),
    Command("predict .onnx", ["predict", "run/model.onnx", *PAIR, "--csv"], cheap=True),
    Command("weights list", ["weights", "list"], cheap=True),
    Command("check data", ["data", "check", "photos", "--image-size", "16", "--json"]),
    Command("report", ["report", "run", "--out", "out/report.html"]),
    Command("report with pictures", ["report", "run", "--pictures"], leaves=("run",)),
    Command("compare", ["report", "run", "head", "--out", "out/comparison.html"]),
    Command("go on", [*HALF, "--resume"], leaves=("half",)),
    Command("export", ["export", "run", "--out", "out/model.onnx"]),
    Command("explain", ["explain", "run", *PAIR, "--out", "out/explained"]),
    Command("train a head", ["train", "photos", *HEAD, "--out", "out/head"]),
]  # fmt: skip


def build(folder: Path) -> None:
    """A run, a head on cached features, half a run, an exported file and named weights."""
    write_pictures(folder / "photos", per_class=12)
    for number, name in enumerate(("red", "blue")):
        picture(name, 900 + number).save(folder / PAIR[number])
    steps: list[Callable[[], int | None]] = [
        command("train", "photos", *FLAGS, "--epochs", 2, "--out", "run"),
        command("weights", "import", "run/best.safetensors", "--as", "made"),
        command("train", "photos", *HEAD, "--out", "head"),
        half_a_run,
        command("export", "run"),
    ]
    for step in steps:
        found = in_child(step)
        assert found.code == 0, found.err


def half_a_run() -> None:
    """Training that ends after its second epoch of three."""
    from alexnet import cli
    from alexnet.training.train import set_up

    given = cli.parse(HALF)
    run = set_up("photos", given.fields)
    with run.opened("half", resume=False):
        for epoch in run.train():
            if epoch.epoch == 2:
                return


def damaged(data: bytes, kind: str, draw: random.Random) -> bytes:
    """A file's content with one damage; empty ones stay as they are."""
    place = draw.randrange(len(data)) if data else 0
    if kind == "truncation":
        return data[:place]
    found = bytearray(data)
    if kind == "bit":
        found[place] ^= 1 << draw.randrange(8)
    elif kind == "byte":
        found[place] ^= draw.randrange(1, 256)
    else:
        start = place - place % BLOCK
        found[start : start + BLOCK] = draw.choice([bytes, draw.randbytes])(
            min(BLOCK, len(found) - start)
        )
    return bytes(found)


KINDS = ["bit", "byte", "block", "truncation"]


def answer(one: Command, folder: Path) -> tuple[Outcome, dict[str, object]]:
    """Runs a command; how it ended, and what it left."""
    found = in_child(command(*one.words))
    return found, contents(*(folder / name for name in one.leaves)) if found.code == 0 else {}


def readers(
    commands: list[Command], folder: Path, kept: Path
) -> tuple[dict[str, tuple[bytes, object]], dict[Path, set]]:
    """The sound answers of all commands, by their names, and which of them open a file."""
    sound, opened = {}, defaultdict(set)
    for one in commands:
        restore(folder, kept)
        found, left = answer(one, folder)
        assert found.code == 0, found.err
        sound[one.name] = found.out, left
        restore(folder, kept)
        told = in_child(lambda one=one: _open_told(one, folder))
        for path in told.err.split("\0"):
            if path.startswith(str(folder)):
                opened[Path(path)].add(one.name)
    assert len(opened) > len(commands), "nobody was heard opening files"
    return sound, opened


def _open_told(one: Command, folder: Path) -> int:
    paths: set[str] = set()

    def hear(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | Path):
            paths.add(str(folder / Path(str(arguments[0]))))

    sys.addaudithook(hear)
    code = command(*one.words)()
    sys.stderr.write("\0" + "\0".join(paths) + "\0")
    return code


def judged(found: Outcome, same: bool, path: Path, kept: Path) -> str:
    """How a command came off a damage: "no change", "named"; anything else is a mistake."""
    lines = found.out.decode("utf-8", "replace").splitlines()
    listed = [one for one in lines if "damaged:" in one]  # a list has its damaged ones in it
    said = "\n".join([found.err, *listed])
    named = path.name in said or str(path.parent) in said
    if found.code == 0 and same:
        return "named, no change" if named else "no change"
    if found.documented and named:
        return "named" if found.code else "named, and left out"
    return f"code {found.code}, {'same' if same else 'another'} answer\n{found.err[-2000:]}"


def damage(count: int, seed: int, cheap: bool = False) -> dict[str, Counter[str]]:
    """So many damages; by file, what came of them. Read by all commands, or the cheap ones alone.

    Raises:
        AssertionError: something was silently wrong, or ended without words.
    """
    warm()
    draw, found = random.Random(seed), defaultdict(Counter)
    wrong, commands = [], [one for one in COMMANDS if one.cheap or not cheap]
    with world() as folder, tempfile.TemporaryDirectory() as keep:
        build(folder)
        kept = Path(keep) / "kept"
        shutil.copytree(folder, kept)
        sound, opened = readers(commands, folder, kept)
        files = [
            path.relative_to(kept)
            for top in ("run", "head", "half", "cache")
            for path in sorted((kept / top).rglob("*"))
            if path.is_file() and path.suffix != ".lock"
        ]
        draw.shuffle(files)
        for number in range(count):
            name, kind = files[number % len(files)], draw.choice(KINDS)
            able = [one for one in commands if one.name in opened[folder / name]]
            chosen = [one for one in able if one.cheap or draw.random() < CHANCE]
            chosen = chosen or [draw.choice(able or [one for one in commands if one.cheap])]
            content = damaged((kept / name).read_bytes(), kind, draw)
            verdicts = set()
            for one in chosen:
                restore(folder, kept)
                (folder / name).write_bytes(content)
                ended, left = answer(one, folder)
                same = (ended.out, left) == sound[one.name]
                verdict = judged(ended, same, folder / name, kept)
                verdicts.add(verdict.partition("\n")[0])
                if "\n" in verdict:
                    wrong.append(f"{number}: {kind} in {name}, {one.name}: {verdict}")
                    print(wrong[-1], flush=True)
            told = next((one for one in sorted(verdicts, reverse=True) if "answer" in one), "")
            told = told or ("named" if any("named" in one for one in verdicts) else "no change")
            found[_family(name)][told] += 1
            if (number + 1) % 50 == 0:
                print(f"{number + 1} damages: {dict(sum(found.values(), Counter()))}", flush=True)
    assert not wrong, "\n".join(wrong)
    return found


def _family(name: Path) -> str:
    """Files of one kind: those of all feature Stores, say, are one."""
    parts = name.parts
    if parts[0] != "cache":
        return f"{parts[0]}/{'events' if parts[1].startswith('events') else parts[1]}"
    return f"cache/{parts[1]}/{name.name if len(parts) > 3 else name.suffix}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cheap", action="store_true", help="only commands of a moment")
    given = parser.parse_args()
    total = Counter()
    for name, counts in sorted(damage(given.count, given.seed, given.cheap).items()):
        total.update(counts)
        print(f"{sum(counts.values()):5} {name:40} {dict(counts)}")
    print(f"{sum(total.values()):5} {'all':40} {dict(total)}")


if __name__ == "__main__":
    main()
