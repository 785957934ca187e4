"""Kills commands with SIGKILL, gives them again until they come to an end, and compares every file
they leave with what the same commands leave that nobody killed.

OMP_NUM_THREADS=1 uv run python tests/long/kills.py --count 200

Most kills are aimed by a counter, and so hit what they are aimed at however fast the machine is:
before the n-th training step, before the n-th change to the disk, before the n-th rename with the
file half written, in the middle of the n-th chunk of a Store. The others come at any moment. Every
command begins in a process that has imported what it needs already, in which it is always the same
day, and whose clock counts how often it is looked at: so even times are the same, and every file is
compared byte by byte, but for Optuna's database, locks, and TensorBoard's files, of which each
start writes one more; of those, what TensorBoard shows.

The short form is a test (tests/test_training.py).
"""

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from makers import write_pictures  # noqa: E402

IMPORTED = (
    "alexnet.cli alexnet.training.train alexnet.sweeping.sweep alexnet.exporting.export "
    "alexnet.explaining.showcase alexnet.checking.description alexnet.reporting.report "
    "alexnet.classification.onnx_classifier onnx onnxruntime optuna sklearn.linear_model "
    "matplotlib.figure torch.utils.tensorboard tensorboard.compat torch._dynamo torch.export "
    "optuna.storages._rdb.storage optuna.samplers._tpe.sampler alembic.command"
)
TRAIN = (
    "{data} --recipe scratch --image-size 16 --crop 16 --pool max --width 0.125 --batch-size 12 "
    "--lr 0.05 --warmup 1 --precision fp32 --log-every 1 "
)
HEAD = TRAIN + "--weights {world}/base --freeze conv --fc-layers 2 --hidden 16 --dropout 0.2 "
EPOCH_OF_ZIP = 315_532_800  # 1980
OUT = "--out {world}/out "


@dataclass(frozen=True)
class Scenario:
    """A command, how often kills hit it, and how often they are aimed at what."""

    words: str
    share: int
    aims: dict[str, int]
    bare: bool = False  # nothing is packed and nothing trained before


ALSO = {"change": 1, "torn": 1}  # wherever files are written
SCENARIOS = {
    "packing": Scenario(
        "data prepare {data} --image-size 24", 6, ALSO | {"chunk": 2, "moment": 1}, bare=True
    ),
    "training": Scenario(
        f"train {TRAIN} --epochs 4 --save-every 2 --average 0.9 --jitter 0.2 --no-report {OUT}",
        24,
        ALSO | {"step": 10, "moment": 1},
    ),
    "training, and its report": Scenario(
        f"train {TRAIN} --lr auto --epochs 2 --no-tensorboard {OUT}", 8, ALSO | {"step": 4}
    ),
    "a head": Scenario(f"train {HEAD} --epochs 5 --no-report {OUT}", 14, ALSO | {"step": 8}),
    "fine-tuning": Scenario(
        f"train {HEAD} --epochs 2 --finetune-epochs 3 --finetune-lr 0.01 --no-report {OUT}",
        20,
        ALSO | {"step": 10, "moment": 1},
    ),
    "extracting": Scenario(
        f"train {HEAD} --cached-views 3 --epochs 1 --no-report {OUT}", 6, {"chunk": 2, "change": 1}
    ),
    "a sweep of networks": Scenario(
        f"sweep {TRAIN} --epochs 2 --grid lr=0.05,0.01 --no-report {OUT}", 8, ALSO | {"step": 5}
    ),
    "a sweep of heads": Scenario(
        f"sweep {HEAD} --epochs 4 --grid lr=0.05,0.01 --grid momentum=0.9,0.5 --no-report {OUT}",
        8,
        ALSO | {"step": 5},
    ),
    "a search": Scenario(
        f"sweep {TRAIN} --epochs 2 --search tpe --trials 3 --grid lr=0.001..0.1 --no-report {OUT}",
        4,
        ALSO | {"step": 2, "moment": 1},
    ),
    "a report": Scenario("report {world}/base --pictures", 3, ALSO | {"moment": 1}),
    "export": Scenario("export {world}/base", 2, ALSO | {"moment": 1}),
    "export, a page": Scenario(
        "export {world}/base --format web --out {world}/page", 2, ALSO | {"moment": 1}
    ),
}


# -- in the process that is killed


class Killer:
    """Counts what a process does, and kills it before the n-th thing of a kind: `aim` is "kind n",
    or something else for no kill."""

    def __init__(self, world, aim):
        self.world, self.aim, self.counts = world, aim, Counter()

    def at(self, kind, before_death=lambda: None):
        self.counts[kind] += 1
        if self.aim == f"{kind} {self.counts[kind]}":
            before_death()
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(self, event, given):
        """An audit hook: whatever changes the disk."""
        changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        opens = event == "open" and isinstance(given[2], int) and given[2] & writing
        if not (opens or event in changes) or isinstance(given[0], int):
            return
        path = os.fsdecode(given[0])
        if path.startswith(self.world):
            self.at("change")
            if event == "os.rename" and os.path.isfile(path):
                self.at("torn", lambda: os.truncate(path, os.path.getsize(path) // 2))

    def counted_step(self, step):
        def counted(*given, **named):
            self.at("step")
            return step(*given, **named)

        return counted

    def counted_append(self, append):
        def counted(writer, x):
            half = x.tobytes()[: x.nbytes // 2]
            self.at("chunk", lambda: writer.file.write(half))
            append(writer, x)

        return counted


def work(words, world, aim, notes):
    """Runs a command; its exit code is that of this process."""
    with open(notes / "said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.environ["ALEXNET_CACHE"] = f"{world}/cache"
    sys.argv = ["alexnet"]  # which a run writes down; whoever goes on has one word more
    from alexnet.cli import main
    from alexnet.data.store import StoreWriter
    from alexnet.fitting.step import training_step

    killer = Killer(str(world), aim)
    others = {
        "alexnet.data.store.StoreWriter.append": killer.counted_append(StoreWriter.append),
        "alexnet.data.datasets.CHUNK_IMAGES": 8,
        "alexnet.network.frozen.CHUNK": 8,
        "time.perf_counter": itertools.count().__next__,
        "time.localtime": lambda *_: time.gmtime(EPOCH_OF_ZIP),
        "time.strftime": lambda *_: "one day",
    }
    for module in ("loop", "stack", "lr_finder"):
        others[f"alexnet.fitting.{module}.training_step"] = killer.counted_step(training_step)
    for module in ("loop", "stack"):
        others[f"alexnet.fitting.{module}.peak_memory"] = lambda device: 0
    for name, other in others.items():
        mock.patch(name, other).start()
    sys.addaudithook(killer.heard)
    code = main(words)
    (notes / "counts").write_text(json.dumps(killer.counts))
    sys.exit(code)


# -- beside it


def contents(world):
    """What there is to compare of every file and folder below `world`, by name."""
    found = {}
    for path in sorted(world.rglob("*")):
        name = path.relative_to(world).as_posix()
        if "events.out." in path.name:  # each start writes one more
            found.setdefault(f"{path.parent.relative_to(world)}/events", points(path.parent))
        elif path.is_dir() or path.suffix == ".db" or "locks" in path.parts:
            found[name] = None
        else:
            found[name] = path.read_bytes()
    return found


def points(folder):
    """What TensorBoard shows of a folder: {name: {(step, value)}}, and what else there is."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every start
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    found = {
        tag: {(one.step, one.value) for one in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }
    return found | {"others": set(events.summary_metadata)}


class Kills:
    """A folder to work in, and what came of it."""

    def __init__(self, folder, seed):
        self.draw = random.Random(seed)
        self.folder, self.world, self.notes = folder, folder / "world", folder / "notes"
        self.notes.mkdir()
        self.whole = {}  # scenario: contents, counts and seconds of the command left alone
        self.kills, self.cases, self.tries = Counter(), Counter(), Counter()
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(IMPORTED.split())
        self.data = write_pictures(folder / "data", per_class=16, side=20)
        (folder / "bare").mkdir()
        self.begin("bare")
        base = f"train {TRAIN} --epochs 2 --no-tensorboard --no-report --out {{world}}/base"
        assert self.run(base) == 0, self.said()
        os.rename(self.world, folder / "trained")

    def begin(self, template):
        shutil.rmtree(self.world, ignore_errors=True)
        shutil.copytree(self.folder / template, self.world)

    def said(self):
        return (self.notes / "said").read_text()

    def run(self, command, aim="none"):
        """The exit code of a command; -9 if it was killed. `aim` "moment S" kills after S
        seconds."""
        words = command.format(data=self.data, world=self.world).split()
        child = self.processes.Process(target=work, args=(words, self.world, aim, self.notes))
        child.start()
        kind, _, number = aim.partition(" ")
        child.join(float(number) if kind == "moment" else None)
        if child.is_alive():
            child.kill()
            child.join()
        return child.exitcode

    def left_alone(self, name):
        """What a scenario comes to, how often it does what, and how long it takes."""
        if name not in self.whole:
            one = SCENARIOS[name]
            self.begin("bare" if one.bare else "trained")
            start = time.monotonic()
            assert self.run(one.words) == 0, self.said()
            seconds = time.monotonic() - start
            counts = json.loads((self.notes / "counts").read_text())
            self.whole[name] = contents(self.world), counts | {"moment": seconds}
        return self.whole[name]

    def aim(self, name):
        """Where the next kill of a scenario is to hit."""
        aims = SCENARIOS[name].aims
        [kind] = self.draw.choices(list(aims), list(aims.values()))
        most = self.left_alone(name)[1][kind]
        if kind == "moment":
            return f"{kind} {self.draw.uniform(0.05, most):.3f}"
        return f"{kind} {self.draw.randint(1, most)}"

    def next(self, words):
        """The command that is given now: the same, or one of the two that go on with a run."""
        out = self.world / "out"
        if not words.startswith("train") or not out.exists():
            return words
        begun = (out / "environment.json").exists()
        return f"resume {out}" if begun and self.draw.random() < 0.5 else f"{words} --resume"

    def case(self, name, most):
        """A command, killed once or several times, that comes to the same end.

        Raises:
            AssertionError: it does not.
        """
        one, (expected, _) = SCENARIOS[name], self.left_alone(name)
        self.begin("bare" if one.bare else "trained")
        aims = [self.aim(name) for _ in range(min(most, self.draw.choice([1, 1, 1, 2, 3])))]
        for aim in [*aims, "none"]:
            code = self.run(self.next(one.words), aim)
            self.tries[name] += 1
            if code == 0:
                break
            assert code == -9 and aim != "none", f"{name}, {aims}: {code}: {self.said()}"
            self.kills[name, aim.split()[0]] += 1
        self.cases[name] += 1
        found = contents(self.world)
        wrong = sorted(
            path
            for path in found.keys() | expected.keys()
            if path not in found or path not in expected or found[path] != expected[path]
        )
        assert not wrong, f"{name}, killed at {aims}: {', '.join(wrong)} are not what they were"


def kill(count, seed, names=tuple(SCENARIOS)):
    """So many kills; raises AssertionError if anything comes out otherwise for them. Returns how
    many of each (scenario, aim)."""
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    kills = Kills(folder, seed)
    shares = [SCENARIOS[name].share for name in names]
    while (left := count - kills.kills.total()) > 0:
        [name] = kills.draw.choices(names, shares)
        kills.case(name, left)
        print(f"{kills.kills.total()} of {count}: {name}", file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    return kills


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(SCENARIOS), choices=list(SCENARIOS))
    given = parser.parse_args()
    begun = time.monotonic()
    kills = kill(given.count, given.seed, given.only)
    for name in given.only:
        aims = ", ".join(f"{n} {aim}" for (one, aim), n in kills.kills.items() if one == name)
        print(f"{name}: {kills.cases[name]} cases in {kills.tries[name]} starts; kills: {aims}")
    steps = sum(n for (_, aim), n in kills.kills.items() if aim == "step")
    seconds = time.monotonic() - begun
    print(f"{kills.kills.total()} kills, {steps} of them before a step of an epoch: all recovered,")
    print(f"every file the same; {sum(kills.tries.values())} starts in {seconds:.0f} s")


if __name__ == "__main__":
    main()
