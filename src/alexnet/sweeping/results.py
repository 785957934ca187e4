"""What a sweep came to: its table, and in words what is signal and what is noise."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from alexnet.console import say, warn
from alexnet.errors import RunError
from alexnet.recipes import BYSTANDERS
from alexnet.runs.directory import Predictions, RunDirectory
from alexnet.runs.evaluation import evaluate_run
from alexnet.scoring.significance import (
    Difference,
    Hits,
    TrainingNoise,
    behind_best,
    difference,
    mean_interval,
    training_noise,
)
from alexnet.sweeping.directory import SweepDirectory
from alexnet.sweeping.trials import Trial, told


@dataclass(frozen=True)
class Result:
    """What became of a trial. Accuracies are shares from 0 to 1."""

    trial: Trial
    status: str  # done, failed, pruned, missing
    run: RunDirectory
    reason: str = ""
    epochs: int = 0
    best_epoch: int = 0
    train_top1: float | None = None  # of the best epoch, as are the three below
    train_loss: float | None = None
    val_top1: float | None = None
    val_loss: float | None = None
    seconds: float | None = None

    @cached_property
    def predictions(self) -> Predictions:
        """Of the validation images."""
        return self.run.predictions()

    @property
    def hits(self) -> Hits:
        """(N,) whether each validation image was classified right."""
        return self.predictions.hits


def result(sweep: SweepDirectory, trial: Trial) -> Result:
    """What became of a trial, read from its directory.

    Raises:
        RunError: a file of it is damaged.
    """
    run = sweep.trial(trial.name)
    state = run.status
    if state == "missing":
        return Result(trial, state, run)
    epochs = run.epochs()
    if state == "failed":
        return Result(trial, state, run, run.failure(), len(epochs))
    if state == "pruned":
        reason = f"others were better after epoch {len(epochs)}"
        top = max((one["val_top1"] for one in epochs), default=None)
        return Result(trial, state, run, reason, len(epochs), val_top1=top)
    best = next((one for one in reversed(epochs) if one["best"]), None)
    figures = run.metrics()
    return Result(
        trial,
        state,
        run,
        epochs=len(epochs),
        best_epoch=int(best["epoch"]) if best else 0,
        train_top1=best["train_top1"] if best else None,
        train_loss=best["train_loss"] if best else None,
        val_top1=figures["top1"],
        val_loss=best["val_loss"] if best else figures["nll"],
        seconds=sum(one["seconds"] for one in epochs),
    )


def write_results(sweep: SweepDirectory, results: Sequence[Result]) -> None:
    """The table: one row per trial."""
    fields = list(results[0].trial.settings)
    columns = "epochs best_epoch train_top1 train_loss val_top1 val_loss seconds".split()
    rows: list[list[Any]] = [["trial", *fields, "status", "reason", *columns]]
    for one in results:
        values = [getattr(one, column) for column in columns]
        rounded = [f"{v:.6g}" if isinstance(v, float) else v for v in values]
        settings = [one.trial.settings[field] for field in fields]
        rows.append([one.trial.name, *settings, one.status, one.reason, *rounded])
    sweep.write_table(rows)


@dataclass(frozen=True)
class Configuration:
    """One point of the grid, with all its seeds."""

    settings: dict[str, Any]
    results: list[Result]
    top1: float  # mean validation accuracy over the seeds

    @cached_property
    def hits(self) -> Hits:
        """(S, N)"""
        return np.stack([one.hits for one in self.results])

    def trains_as(self, other: "Configuration") -> bool:
        """Whether both are one recipe, and differ by chance alone."""
        return self.results[0].trial.recipe.trains_as(other.results[0].trial.recipe)


def configurations(results: Sequence[Result]) -> list[Configuration]:
    """The points all of whose trials are done, best first."""
    grouped: dict[str, list[Result]] = {}
    for one in results:
        settings = {name: v for name, v in one.trial.settings.items() if name != "seed"}
        grouped.setdefault(json.dumps(settings), []).append(one)
    found = []
    for group in grouped.values():
        if all(one.status == "done" for one in group):
            settings = {n: v for n, v in group[0].trial.settings.items() if n != "seed"}
            scores = np.array([one.val_top1 for one in group], dtype=np.float64)
            found.append(Configuration(settings, group, float(scores.mean())))
    losses = {id(c): float(np.mean([one.val_loss for one in c.results])) for c in found}
    return sorted(found, key=lambda c: (-c.top1, losses[id(c)]))


def effects(found: Sequence[Configuration]) -> dict[str, dict[str, Any]]:
    """What each field did: its values are compared over configurations that differ in nothing else,
    all pairs of its values at once, at a level raised for the number of fields (Bonferroni)."""
    answer: dict[str, dict[str, Any]] = {}
    noise = training_noise([one.hits for one in found])
    fields = {field: matched_values(found, field) for field in (found[0].settings if found else ())}
    fields = {field: matched for field, matched in fields.items() if matched}
    for field, matched in fields.items():
        pairs = itertools.permutations(matched, 2)
        best, worst = max(pairs, key=lambda pair: lead(matched[pair[0]], matched[pair[1]]))
        level = 1 - 0.05 / len(fields)
        behind = {
            value: compared(matched[best], points, noise, len(matched), level)
            for value, points in matched.items()
            if value != best and matched[best].keys() & points.keys()
        }
        answer[field] = {
            "values": {
                value: {
                    "mean": float(np.mean([one.top1 for one in points.values()])),
                    "scores": [one.top1 for one in points.values()],
                    "behind": [behind[value].mean, behind[value].low, behind[value].high]
                    if value in behind
                    else None,
                }
                for value, points in matched.items()
            },
            "best": json.loads(best),
            "worst": json.loads(worst),
            "difference": behind[worst].mean,
            "interval": [behind[worst].low, behind[worst].high],
            "verdict": verdict(field, matched, behind[worst], noise),
        }
    return answer


Points = dict[str, Configuration]  # the settings of all other fields: a configuration


def matched_values(found: Sequence[Configuration], field: str) -> dict[str, Points]:
    """Of each value of a field the configurations of which there is one with another value, all
    else equal."""
    by_value: dict[str, Points] = {}
    for one in found:
        others = json.dumps({n: v for n, v in one.settings.items() if n != field})
        by_value.setdefault(json.dumps(one.settings[field]), {})[others] = one
    count = Counter(others for points in by_value.values() for others in points)
    kept = {
        value: {others: one for others, one in points.items() if count[others] > 1}
        for value, points in by_value.items()
    }
    return {value: points for value, points in kept.items() if points}


def lead(one: Points, other: Points) -> float:
    """How much better one value is than another on average, where all else is equal."""
    shared = one.keys() & other.keys()
    return float(np.mean([one[o].top1 - other[o].top1 for o in shared])) if shared else -math.inf


def compared(
    good: Points, bad: Points, noise: TrainingNoise, values: int, level: float
) -> Difference:
    """The same with its interval."""
    shared = sorted(good.keys() & bad.keys())
    one, other = (np.concatenate([points[o].hits for o in shared]) for points in (good, bad))
    return difference(one, other, noise, values, level)


def verdict(
    field: str, by_value: dict[str, Points], behind: Difference, noise: TrainingNoise
) -> str:
    """What is to be said of a field whose worst value lies so far behind its best."""
    if all_alike(by_value):
        return "none at all"
    chance = field in BYSTANDERS and not noise.degrees  # one recipe, as far as is known
    return "not told from noise" if behind.is_noise or chance else "matters"


def all_alike(by_value: dict[str, Points]) -> bool:
    """Whether no value changed a single bit of a prediction."""
    return all(
        np.array_equal(a.predictions.logits, b.predictions.logits)
        for one, other in itertools.combinations(by_value.values(), 2)
        for others in one.keys() & other.keys()
        for a, b in zip(one[others].results, other[others].results, strict=True)
    )


def summarise(sweep: SweepDirectory, results: Sequence[Result]) -> dict[str, Any]:
    """Compares the configurations, evaluates the winner on the test split unless that was done
    before, and says all of it in words."""
    write_results(sweep, results)
    found = configurations(results)
    failed = [one for one in results if one.status == "failed"]
    for one in failed:
        warn(f"failed: {told(one.trial.settings)}: {one.reason}")
    if not found:
        raise RunError("no trial came to an end.", f"Their reasons are in {sweep.table}.")
    best, n = found[0], len(found[0].results[0].hits)
    hits = [one.hits for one in found]
    noise = training_noise(hits)
    summary: dict[str, Any] = {
        "trials": len(results),
        "failed": len(failed),
        "images": n,
        "judged_on": best.results[0].trial.judged_on,
        "seeds": len(best.results),
        "winner": best.settings,
        "winner_trials": [one.trial.name for one in best.results],
        "val_top1": best.top1,
        "seed_deviation": noise.deviation,
        "configurations": [
            {
                "settings": c.settings,
                "val_top1": c.top1,
                "interval": list(mean_interval(c.hits, noise)),
                "behind": behind.mean,
                "behind_interval": [behind.low, behind.high],
                "tied": behind.is_noise or (not noise.degrees and c.trains_as(best)),
            }
            for c, behind in zip(found, behind_best(hits), strict=True)
        ],
        "effects": effects(found),
    }
    summary["test"] = winners_test(best)
    sweep.write_best(best.results[0].trial.recipe)
    sweep.write_summary(summary)
    for line in in_words(summary):
        say(line)
    return summary


def winners_test(best: Configuration) -> list[dict[str, Any]]:
    """Figures of the winner's runs on the test split; looked at once and kept."""
    figures = []
    for one in best.results:
        found = one.run.test()
        if found is None:
            found = evaluate_run(one.run.path, split="test")
            one.run.write_test(found)
        figures.append(found)
    return [{key: one[key] for key in ("n", "top1", "top1_interval", "top5")} for one in figures]


def in_words(summary: dict[str, Any]) -> Iterator[str]:
    """The summary, for people."""
    rows = summary["configurations"]
    seeds, deviation = summary["seeds"], summary["seed_deviation"]
    low, high = rows[0]["interval"]
    spread = f", mean of {seeds} seeds, {low:.2%} to {high:.2%}" if seeds > 1 else ""
    here = "" if deviation is not None else " on these images"
    yield (
        f"best on {summary['judged_on']}: {told(summary['winner'])} "
        f"with {summary['val_top1']:.2%} of {summary['images']:,} images{spread}"
    )
    tied = [row for row in rows[1:] if row["tied"]]
    if len(rows) > 1:
        names = "; ".join(f"{told(row['settings'])} ({row['val_top1']:.2%})" for row in tied[:8])
        more = f"; and {len(tied) - 8} more" if len(tied) > 8 else ""
        yield (
            f"{len(tied)} of the other {len(rows) - 1} cannot be told apart from it{here}"
            + (f": {names}{more}" if tied else "")
        )
    if deviation is not None:
        yield (
            f"another seed moves the accuracy by {100 * deviation:.2f} points (standard deviation, "
            f"pooled over {len(rows)} settings)"
        )
    elif len(rows) > 1:
        yield "(one seed: on these images; another training may differ by more: --seeds 3 says)"
    for field, effect in summary["effects"].items():
        low, high = effect["interval"]
        if effect["verdict"] == "none at all":
            yield (
                f"{field}: NO EFFECT AT ALL: whatever its value, every prediction is the same in "
                "every bit. Is it used by this recipe?"
            )
        elif effect["verdict"] == "matters":
            yield (
                f"{field}: {effect['best']} instead of {effect['worst']} brings "
                f"{effect['difference']:+.2%} ({low:+.2%} to {high:+.2%}){here}"
            )
        else:
            yield (
                f"{field}: no effect that can be told from noise ({effect['difference']:+.2%}, "
                f"{low:+.2%} to {high:+.2%}){here}"
            )
    tops = [one["top1"] for one in summary["test"]]
    low, high = summary["test"][0]["top1_interval"]
    yield (
        f"the winner on the test split, looked at once: top-1 {np.mean(tops):.2%}"
        + (
            f" (95 % interval of this network {low:.2%} to {high:.2%})"
            if len(tops) == 1
            else f" (mean of {len(tops)} seeds, {min(tops):.2%} to {max(tops):.2%})"
        )
    )
