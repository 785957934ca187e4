"""Writes what README, pages and named recipes say was measured, from the summaries in results/.

    uv run python docs/results.py            # write all of it
    uv run python docs/results.py --check    # 1 and the difference, where something is out of date
    uv run python docs/results.py add NAME RUN [RUN ...]     # runs -> results/NAME.json
    uv run python docs/results.py claims SWEEP SWEEP     # of paper-claims and of paper-relu

A summary is one measured thing: runs of one recipe with one or several seeds, and with several
runs of each seed where the data was tested in folds. Tables stand in pages between markers
(`BLOCKS`); what `alexnet recipes` says stands in src/alexnet/measured.json. results/not-run.json
has the named recipes that nobody ran to the end, and why; of the paper's claims, claims.py.
"""

import argparse
import dataclasses
import hashlib
import json
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import claims
import matplotlib
import numpy as np
from pages import wrapped, written
from scipy import stats

from alexnet.presets import RECIPES, STUDIES, default_recipe, nearest
from alexnet.runs.directory import RunDirectory
from alexnet.scoring.significance import mean_interval, training_noise

ROOT = Path(__file__).resolve().parent.parent
# files of results/ that are no summaries
NOT_RUN, CLAIMS, RACES = "not-run", "paper-claims", ("transfer-", "cifar10-speed")
# a table, or a figure inside a line: the name of a block, and of summaries
MARKED = re.compile(r"(<!-- results: (\w+)([^>]*) -->).*?(<!-- end of results -->)", re.DOTALL)

# program, what it claims, and the recipe or study of it as its code runs and as it says or should
PROGRAMS: list[tuple[str, str, str, str]] = [
    (
        "Tiny ImageNet, frozen convolutions, a small classifier",
        RECIPES["tiny-imagenet-frozen-as-run"].expected,
        "recipes tiny-imagenet-frozen-as-run",
        "recipes tiny-imagenet-frozen",
    ),
    (
        "Tiny ImageNet, only the last layer",
        RECIPES["tiny-imagenet-last-layer-as-run"].expected,
        "recipes tiny-imagenet-last-layer-as-run",
        "recipes tiny-imagenet-last-layer",
    ),
    (
        "Tiny Image10, a grid of networks from scratch: its best setting",
        RECIPES["tiny-image10-as-run"].expected,
        "recipes tiny-image10-as-run",
        "recipes tiny-image10",
    ),
    (
        "... all 12 settings",
        STUDIES["tiny-image10-as-run"].source,
        "studies tiny-image10-as-run",
        "studies tiny-image10",
    ),
    (
        "CIFAR-10 at 227 px, eight experiments",
        STUDIES["cifar10-ablation-as-run"].source,
        "studies cifar10-ablation-as-run",
        "studies cifar10-ablation",
    ),
    (
        "CIFAR-10, LRN and overlapping pooling",
        RECIPES["cifar10-lrn"].expected,
        "recipes cifar10-lrn-as-run",
        "recipes cifar10-lrn",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One measured thing; accuracies are shares from 0 to 1."""

    what: str  # data and start, as tables call them
    command: str
    recipe: str = ""  # the named recipe that it tells about,
    study: str = ""  # or the study
    digest: str = ""  # of the recipe asked for, with seed 0; empty: not known
    version: str
    commit: str
    split: str  # test or validation
    n: int  # how many images, in all folds
    seeds: Sequence[int]
    trainings: int
    each: Sequence[float]  # of each seed
    top1: float  # their mean
    interval: tuple[float, float] | None  # of 95 %, of the mean
    covers: str  # what else might have been drawn: for other images, trainings, ... it holds too
    seconds: float | None  # of one training
    timed: str  # of what: the whole command, or its epochs
    hardware: str
    threads: int
    date: str
    test_seen: bool  # whether the test split had been looked at while the recipe was made
    note: str = ""
    expected: str = ""  # what the recipe says to expect, with {share} and the like; else a default

    @property
    def share(self) -> str:
        """The accuracy, with as many digits as the number of images bears."""
        return f"{self.digits(self.top1)} %"

    @property
    def limits(self) -> str:
        """The interval."""
        return " to ".join(map(self.digits, self.interval)) if self.interval else "no interval"

    @property
    def counted(self) -> str:
        """Images and trainings."""
        seeds, folds = len(self.seeds), self.trainings // len(self.seeds)
        text = f"{self.n:,} images, {seeds} seed{'s' * (seeds > 1)}"
        return text + (f" of {folds} folds" if folds > 1 else "")

    @property
    def time(self) -> str:
        """Of one training."""
        if self.seconds is None:
            return "not timed"
        return f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.1f} min"

    @property
    def machine(self) -> str:
        """What it ran on."""
        return f"{cores(self.threads)} of an {self.hardware}"

    @property
    def changed(self) -> bool:
        """Whether the named recipe is another one today."""
        known = RECIPES.get(self.recipe)
        return bool(
            known
            and self.digest
            and self.command == known.command
            and self.digest != known.recipe.digest
        )

    def digits(self, share: float) -> str:
        """A share in per cent."""
        return f"{100 * share:.{1 if self.n < 1000 else 2}f}"

    def told(self) -> str:
        """All of it, as a recipe quotes it."""
        covers = f" for other {self.covers}" if self.interval else ""
        parts = [
            f"{self.what}: {self.share} {self.split} top-1 ({self.limits}{covers}; {self.counted})",
            f"{self.time} on {self.machine}",
            f"alexnet {self.version}, {self.date}",
        ]
        parts += ["the recipe has changed since"] * self.changed + [self.note] * bool(self.note)
        return "; ".join(parts)


def read(name: str) -> Any:
    """A file of results/."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


def summaries() -> dict[str, Summary]:
    """All summaries by name."""
    names = sorted(path.stem for path in (ROOT / "results").glob("*.json"))
    return {
        name: Summary(**read(name))
        for name in names
        if name not in (NOT_RUN, CLAIMS) and not name.startswith(RACES)
    }


def cores(threads: int) -> str:
    """How many of them worked."""
    return f"{threads} core{'s' * (threads > 1)}"


def hardware(around: Mapping[str, Any]) -> str:
    """Processor and arithmetic of the surroundings that a run notes."""
    return f"{re.sub('[(]R[)]| Processor', '', around['processor'])}, {around['precision']}"


# -- what is written -------------------------------------------------------------------------------


def measured() -> dict[str, dict[str, str]]:
    """What was measured of each recipe and study, and what to expect of recipes."""
    known, why = summaries(), read(NOT_RUN)
    found: dict[str, dict[str, str]] = {"expected": {}, "recipes": {}, "studies": {}}
    for kind, names in (("recipes", RECIPES), ("studies", STUDIES)):
        for name in names:
            its = [one for one in known.values() if about(one) == f"{kind} {name}"]
            text = [one.told() for one in its] + list(filter(None, [why[kind].get(name)]))
            if text:
                found[kind][name] = ". ".join(text)
            if its and kind == "recipes":
                found["expected"][name] = expectation(its[0], known)
    found["studies"] |= claims.told(read(CLAIMS))
    return found


def about(one: Summary) -> str:
    """The recipe or the study that a summary tells about."""
    return f"studies {one.study}" if one.study else f"recipes {one.recipe}"


def expectation(one: Summary, known: dict[str, Summary]) -> str:
    """What to expect, in a few words."""
    text = one.expected or "{share} {split} top-1 ({limits}): {what}"
    own = {name: getattr(one, name) for name in "share split limits what n time".split()}
    return text.format_map(known | own)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main_table(names: list[str]) -> str:
    """Some summaries in a few columns."""
    known = summaries()
    return table(
        ["data", "command", "top-1 (95 % interval)", "of", "it covers other", "time"],
        [
            [
                one.what,
                f"`{one.command}`",
                f"{one.share} ({one.limits})",
                one.counted,
                one.covers,
                f"{one.time}, {cores(one.threads)}",
            ]
            for one in map(known.__getitem__, names)
        ],
    )


def one_share(names: list[str]) -> str:
    """One accuracy, within a line."""
    return summaries()[names[0]].share


def speed(names: list[str]) -> str:
    """What a race of benchmarks/transfer.py came to, in a sentence."""
    found = read(names[0])
    ours, *others = found["contestants"]
    first, again = medians(ours)
    told = "; ".join(
        f"{one['name']} {medians(one)[0]:,.0f} s, **{times(medians(one)[0] / first)} and "
        f"{times(medians(one)[1] / again)} times** as long"
        for one in others
    )
    gaps = [one["difference"] for one in others if one["difference"]]
    same = (
        "the same within noise" if all(low <= 0 <= high for _, low, high in gaps) else "NOT equal"
    )
    tops = [f"{100 * statistics.mean(one['top1']):.1f}" for one in (ours, *others) if one["top1"]]
    equal = f"{', '.join(tops)} % test top-1, {same}; " if gaps else ""
    text = (
        f"Frozen layers run once. For {found['job']} we need {first:.0f} s, and {again:.0f} s the "
        f"second time; {told} ({equal}medians of {len(ours['seconds'])} runs, {found['caveat']}; "
        f"{cores(found['threads'])} of an {hardware(found)}; `benchmarks/transfer.py`)."
    )
    return f"\n{wrapped(text)}\n"


def part(names: list[str]) -> str:
    """A part of benchmarks/run.py: medians of its rounds, and their range."""
    name = f"speed/{names[0]}"
    if not (ROOT / "results" / f"{name}.json").exists():
        return "\nNot measured yet.\n"
    found = read(name)
    rounds, contestants = found["rounds"], found["contestants"]
    first = contestants[0]
    figures = list(dict.fromkeys(what for one in contestants for what in rounds[0][one]))

    def cell(one: str, what: str) -> str:
        seen = [each[one][what] for each in rounds if what in each[one]]
        if not seen:
            return ""
        low, middle, high = map(rounded, (min(seen), statistics.median(seen), max(seen)))
        return middle if low == high else f"{middle} ({low} to {high})"

    def compared(one: str) -> str:
        what = next(iter(rounds[0][first]))
        if what not in rounds[0][one]:
            return ""
        ratios = [each[one][what] / each[first][what] for each in rounds]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    rows = [[one, *(cell(one, what) for what in figures), compared(one)] for one in contestants]
    around = found["environment"]
    left = min(each["processor_share"] for each in rounds)
    several = f"Medians of {len(rounds)} rounds (least to most)"
    shown = several if len(rounds) > 1 else "A single round, which is no figure"
    text = (
        f"{shown}; the last column is the first figure over that of the first row, round by round. "
        f"{cores(around['threads'])} of an "
        f"{hardware(around)}, torch {around['torch']}, alexnet {around['alexnet']} (sources "
        f"{found['sources']}), {found['date']}; before and after each round other programs "
        f"left {left:.0%} of the processor or more."
    )
    heads = ["", *figures, "times the first"]
    return f"\n{found['what']}.\n{table(heads, rows)}\n{wrapped(text)}\n"


def rounded(number: float) -> str:
    """A figure with three digits that count."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def medians(contestant: dict[str, Any]) -> tuple[float, float]:
    """Seconds of a first run and of one that finds what the first kept, if it kept anything."""
    first = float(statistics.median(contestant["seconds"]))
    return first, float(statistics.median(contestant["again"])) if contestant["again"] else first


def times(ratio: float) -> str:
    """How many times as fast."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def programs_table(names: list[str]) -> str:
    """The five public programs, and what ours makes of them."""
    known, why = summaries(), read(NOT_RUN)

    def cell(name: str) -> str:
        kind, _, word = name.partition(" ")
        its = [
            f"{one.share} {one.split} ({one.limits}; {one.counted})"
            for one in known.values()
            if about(one) == name
        ]
        return "; ".join(its + list(filter(None, [why[kind].get(word)])))

    return table(
        ["program", "its claim", "as its code runs", "done right"],
        [[what, claim, cell(as_run), cell(right)] for what, claim, as_run, right in PROGRAMS],
    )


def all_table(names: list[str]) -> str:
    """Every summary, with how it came about."""
    return table(
        [
            "`results/`", "command", "top-1", "95 % interval", "for other", "of", "time", "on",
            "recipe", "alexnet", "date",
        ],
        [
            [
                f"[{name}](../results/{name}.json)",
                f"`{one.command}`",
                f"{one.share} {one.split}",
                one.limits,
                one.covers,
                one.counted,
                f"{one.time} ({one.timed})",
                one.machine,
                (one.digest or "not known") + ", changed since" * one.changed,
                f"{one.version}, {one.commit}",
                one.date,
            ]
            for name, one in summaries().items()
        ],
    )  # fmt: skip


def claims_table(names: list[str]) -> str:
    """The paper's claims, ours beside them, and how both came about."""
    found = read(names[0])
    heads = ["claim", "the paper, points of top-1", "here (95 % interval)", "do they agree?"]
    return f"{table(heads, claims.rows(found))}\n{wrapped(claims.section(found))}\n"


def claims_figure() -> str:
    """The same, drawn. Another matplotlib may set other bytes: then the figure that is there stays,
    as long as it was drawn from these figures."""
    text = json.dumps(read(CLAIMS))
    drawn_from = f"<!-- {CLAIMS} {hashlib.sha256(text.encode()).hexdigest()[:16]} by matplotlib "
    path = ROOT / "docs" / f"{CLAIMS}.svg"
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    stamp = f"{drawn_from}{matplotlib.__version__} -->"
    if drawn_from in there and stamp not in there:
        return there
    return f"{claims.figure(read(CLAIMS)).svg.decode()}{stamp}\n"


BLOCKS: dict[str, Callable[[list[str]], str]] = {
    "main": main_table,
    "share": one_share,
    "speed": speed,
    "part": part,
    "programs": programs_table,
    "all": all_table,
    "claims": claims_table,
}


def pages() -> dict[Path, str]:
    """Everything that is written, by its path."""
    found = {
        ROOT / "src" / "alexnet" / "measured.json": json.dumps(
            measured(), indent=2, ensure_ascii=False
        )
        + "\n",
        ROOT / "docs" / f"{CLAIMS}.svg": claims_figure(),
    }
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if MARKED.search(text):
            found[path] = MARKED.sub(
                lambda one: one[1] + BLOCKS[one[2]](one[3].split()) + one[4], text
            )
    return found


# -- what is read ----------------------------------------------------------------------------------


def interval_of(seeds: Sequence[Sequence[RunDirectory]]) -> tuple[tuple[float, float], str]:
    """The interval of the mean over seeds, the runs (one, or one for each fold) of each seed
    given, and for what else it holds."""
    hits = []
    for runs in seeds:
        predictions = [run.predictions() for run in runs]
        ids = [one for each in predictions for one in each.ids]
        right = np.concatenate([each.hits for each in predictions])
        hits.append(dict(zip(ids, right, strict=True)))
    if all(one.keys() == hits[0].keys() for one in hits):
        same = np.array([[one[image] for image in sorted(one)] for one in hits])
        covers = "images and trainings" if len(hits) > 1 else "images"
        return mean_interval(same, training_noise([same])), covers
    means = [float(np.mean(list(one.values()))) for one in hits]
    low, high = stats.t.interval(0.95, len(means) - 1, np.mean(means), stats.sem(means))
    return (float(low), min(1.0, float(high))), "splits and trainings"


def summary_of(runs: Sequence[RunDirectory], given: dict[str, Any]) -> Summary:
    """The summary of runs of one recipe; what is given goes before what the runs say."""
    settings = [run.settings for run in runs]
    of_seed: dict[int, list[RunDirectory]] = {}
    for run, its in zip(runs, settings, strict=True):
        of_seed.setdefault(its.asked.seed, []).append(run)
    # that it was watched less than usual changes nothing that is measured
    [asked, *others] = {
        its.asked.replace(seed=0, tensorboard=True, report=True) for its in settings
    }
    if others:
        raise SystemExit("These are runs of different recipes: give those of one.")
    around = settings[0].surroundings[0]
    data = Path(settings[0].data).name
    recipe, changes = nearest(asked, data)
    words = ["alexnet", "train", data]
    words += [] if asked == default_recipe(data) or not recipe else ["--recipe", recipe]
    for field, value in changes.items():
        words += [f"--{field.replace('_', '-')}", str(value)]
    images = [sum(run.metrics()["n"] for run in its) for its in of_seed.values()]
    tops = [
        sum(run.metrics()["top1"] * run.metrics()["n"] for run in its) / n
        for its, n in zip(of_seed.values(), images, strict=True)
    ]
    interval, covers = interval_of(list(of_seed.values()))
    found = {
        "what": data,
        "command": shlex.join(words),
        "recipe": recipe,
        "digest": asked.digest,
        "version": around["versions"]["alexnet"],
        "commit": commit(),
        "split": runs[0].metrics()["split"],
        "n": images[0],
        "seeds": sorted(of_seed),
        "trainings": len(runs),
        "each": [round(tops[list(of_seed).index(seed)], 6) for seed in sorted(of_seed)],
        "top1": round(float(np.mean(tops)), 6),
        "interval": tuple(round(limit, 6) for limit in interval),
        "covers": covers,
        "seconds": round(sum(e["seconds"] for r in runs for e in r.epochs()) / len(runs), 1),
        "timed": "its epochs",
        "hardware": hardware(around),
        "threads": around["threads"],
        "date": str(around["started"])[:10],
        "test_seen": True,
    }
    return Summary(**(found | {key: one for key, one in given.items() if one is not None}))


def commit() -> str:
    """Of this tree; with a + where it differs from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def add(arguments: list[str]) -> None:
    """Writes the summary of runs."""
    parser = argparse.ArgumentParser(prog="docs/results.py add")
    parser.add_argument("name", help="of the file in results/")
    parser.add_argument("runs", nargs="+", type=RunDirectory, metavar="RUN")
    for field in dataclasses.fields(Summary):  # what the runs do not know, or say otherwise
        if field.name in "what command recipe study commit timed hardware note expected".split():
            parser.add_argument(f"--{field.name}")
    parser.add_argument("--seconds", type=float, help="of one run, as you timed it")
    given = vars(parser.parse_args(arguments))
    name, runs = given.pop("name"), given.pop("runs")
    path = ROOT / "results" / f"{name}.json"
    if path.exists():  # the words for it stay
        kept = {key: read(name)[key] for key in ("what", "expected")}
        given = {key: kept.get(key) if one is None else one for key, one in given.items()}
    found = dataclasses.asdict(summary_of(runs, given))
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path}: {Summary(**found).told()}")


def add_claims(tricks: Path, relu: Path) -> None:
    """Writes what the two studies of the paper's claims came to."""
    around = claims.points(tricks, claims.TRICKS)[0][1][0].settings.surroundings[0]
    found = claims.found_in(tricks, relu) | {
        "machine": f"{cores(around['threads'])} of an {hardware(around)}",
        "version": around["versions"]["alexnet"],
        "commit": commit(),
        "date": str(around["started"])[:10],
    }
    path = ROOT / "results" / f"{CLAIMS}.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Adds a summary, or writes everything, or with --check compares; 1 where something differs."""
    if arguments[:1] == ["add"]:
        add(arguments[1:])
        return 0
    if arguments[:1] == ["claims"] and len(arguments) == 3:
        add_claims(Path(arguments[1]), Path(arguments[2]))
        return 0
    return written(pages(), arguments, "results.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
