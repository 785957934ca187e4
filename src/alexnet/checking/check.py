"""What is wrong with a data set, before anyone trains on it. Nothing is changed."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alexnet.atomic import output_folder
from alexnet.checking.description import image_of, sizes_of, telling_pairs
from alexnet.checking.label_errors import label_errors, mixed_classes, probabilities_of
from alexnet.console import say
from alexnet.data import shortcuts
from alexnet.data.datasets import LONG, open_data
from alexnet.data.duplicates import find_duplicates, leaks
from alexnet.data.groups import proposed
from alexnet.data.handed import Given, given
from alexnet.data.sources import Data
from alexnet.data.splits import require_apart
from alexnet.data.store import Store
from alexnet.errors import DataError, InputError
from alexnet.presets import default_recipe
from alexnet.reporting.sheets import Labelled, Sheets
from alexnet.runs.choice import settled
from alexnet.runs.own_data import splits_of
from alexnet.runs.resolution import resolve
from alexnet.runtime import as_found
from alexnet.values import Count, checked_arguments

FEW = 10  # images of a class to train on
IMBALANCE = 10.0  # the largest class by the smallest
EXAMPLES = 5  # of each finding, for people


@dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    kind: str  # for scripts
    level: Literal["problem", "warning", "note"]
    count: int
    text: str
    advice: str = ""
    examples: list[str] = field(default_factory=list)  # all of them


@checked_arguments
def check(
    data: Given,
    *,
    image_size: Count | None = None,
    weights: str = "",
    run: str | Path = "",
    sheets: str | Path = "",
) -> list[Finding]:
    """Everything that is wrong with a data set, the worst first.

    Args:
        data: as for `train`; unreadable images are a finding.
        image_size: side in px of the stored squares; None for that of the recipe that suits the
            data, so that nothing is packed twice.
        weights, run: a name of pretrained weights, or a run directory, to look for wrong labels.
        sheets: also draw the duplicates into this folder.

    Raises:
        InputError: what was given cannot be used.
    """
    return checked(data, image_size=image_size, weights=weights, run=run, sheets=sheets)[1]


@as_found()
def checked(
    data: Given,
    *,
    image_size: int | None = None,
    weights: str = "",
    run: str | Path = "",
    sheets: str | Path = "",
) -> tuple[Store, list[Finding]]:
    """The Store of a data set, and what `check` finds."""
    data, folder = given(data), output_folder(sheets) if sheets else None
    if weights and run:
        raise InputError("weights and run are two ways to the same check.", "Give one of them.")
    recipe, _ = settled(data, default_recipe(str(data)).replace(bad_images="skip"))
    size = image_size or resolve(recipe).preprocessing.image_size
    store = open_data(data, image_size=size, bad_images="skip")
    findings = findings_of(store)
    if weights or run:
        doubtful = doubtful_labels(data, store, weights=weights, run=str(run))
        findings = by_level([*findings, *doubtful])
    if folder:
        say(f"{plural(draw_pairs(store, folder), 'pair')} of duplicates drawn in {sheets}")
    return store, findings


def findings_of(store: Store) -> list[Finding]:
    """Everything that can be said of a Store without a network, the worst first."""
    found = [
        *_bad_files(store),
        *_duplicates(store),
        *_grouping(store),
        *_blank(store),
        *_names(store),
        *_balance(store),
        *_shortcuts(store),
        *_sizes(store),
    ]
    return by_level(found)


def by_level(findings: Iterable[Finding]) -> list[Finding]:
    """Problems, then warnings, then notes; in the order they came."""
    order = ("problem", "warning", "note")
    return sorted(findings, key=lambda one: order.index(one.level))


def _bad_files(store: Store) -> list[Finding]:
    found = []
    if bad := store.info["bad"]:
        found.append(
            Finding(
                "bad_files", "problem", len(bad),
                f"{plural(len(bad), 'file')} that cannot be used",
                "Repair or remove them, or train with --bad-images skip.",
                [f"{one['id']}: {one['reason']}" for one in bad],
            )
        )  # fmt: skip
    left_out = store.info.get("left_out", [])
    return found + [Finding("left_out", "note", 1, f"left out: {text}") for text in left_out]


def _split_of(store: Store) -> dict[int, str]:
    return {
        place: split
        for split, (start, stop) in store.info["splits"].items()
        for place in range(start, stop)
    }


def _duplicates(store: Store) -> list[Finding]:
    ids, y, names = store.ids, store.y, store.names
    split_of, duplicates = _split_of(store), find_duplicates(store)

    def told(group: Sequence[int]) -> str:
        return " = ".join(ids[one] for one in group[:4]) + (" = ..." if len(group) > 4 else "")

    found = []
    for split in ("test", "val"):
        leaky = leaks(store, store.split(split), store.split("train"))
        if len(leaky):
            share = len(leaky) / len(store.split(split))
            leaking = set(leaky.tolist())
            examples = [
                f"{ids[pair.b]} ~ {ids[pair.a]} (distance {pair.distance:.2f})"
                for pair in telling_pairs(store, split_of)
                if pair.b in leaking and split_of[pair.a] == "train"
            ]
            found.append(
                Finding(
                    "leaks", "problem", len(leaky),
                    f"{plural(len(leaky), f'{split} image')} ({share:.1%}) with a duplicate or "
                    "near-duplicate in train; accuracy on them is memory",
                    f"Remove them from train or from {split}, or look at the accuracy without "
                    "them.",
                    examples,
                )
            )  # fmt: skip
    mixed = [group for group in duplicates.groups if len({int(y[one]) for one in group}) > 1]
    if mixed:
        found.append(
            Finding(
                "contradictions", "problem", len(mixed),
                f"{plural(len(mixed), 'group')} of duplicates or near-duplicates with different "
                "labels",
                "Look at them, and keep the right label.",
                [", ".join(f"{ids[one]} ({names[y[one]]})" for one in group[:4])
                 for group in mixed],
            )
        )  # fmt: skip
    for kind, groups, word in (
        ("exact_duplicates", duplicates.exact, "equal in every pixel"),
        ("near_duplicates", duplicates.near, "nearly the same"),
    ):
        if groups:
            images = sum(map(len, groups))
            drawn = any(split_of[one] == "all" for group in groups for one in group)
            found.append(
                Finding(
                    kind, "warning", len(groups),
                    f"{plural(len(groups), 'group')} of images ({images:,} in all) that are {word}",
                    "Keep one of each."
                    + (" Splits drawn at random would put some on both sides." if drawn else ""),
                    [told(group) for group in groups],
                )
            )  # fmt: skip
    return found


def _grouping(store: Store) -> list[Finding]:
    """Whether splits part what belongs together, or would if they were drawn."""
    if store.groups is not None:
        try:
            require_apart(store)
        except DataError as error:
            return [Finding("parted_groups", "problem", 1, error.message, error.hint)]
    if store.groups is not None or "all" not in store.info["splits"]:
        return []
    recipe = default_recipe("")
    try:
        splits = splits_of(store, recipe)
    except DataError:  # too few images to draw from, which others say
        return []
    held = np.concatenate([splits.test, splits.val])
    leaky = leaks(store, held, splits.train)
    if not len(leaky):
        return []
    pairs = [(one.a, one.b) for one in telling_pairs(store, _split_of(store))]
    pattern = proposed(store.ids, store.y.tolist(), pairs)
    return [
        Finding(
            "grouping", "warning", len(leaky),
            f"{len(leaky):,} of the {len(held):,} images that a draw puts into test and validation "
            "have a near-copy in train; accuracy on them is memory",
            "Say what belongs together, and it stays on one side: "
            + (f"--group '{pattern}'" if pattern else
               "--group copies, or a column or pattern that holds more together (docs/labels.md)."),
            [store.ids[one] for one in leaky],
        )
    ]  # fmt: skip


def _blank(store: Store) -> list[Finding]:
    blank = find_duplicates(store).blank
    if not blank:
        return []
    return [
        Finding(
            "blank", "problem", len(blank),
            f"{plural(len(blank), 'image')} of one colour and nothing else",
            "Remove them, or get them again.",
            [store.ids[one] for one in blank],
        )
    ]  # fmt: skip


def _names(store: Store) -> list[Finding]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in store.classes:
        alike["".join(letter for letter in name.casefold() if letter.isalnum())].append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if not groups:
        return []
    return [
        Finding(
            "names", "problem", len(groups),
            f"{plural(len(groups), 'group')} of classes whose names are equal but for case, "
            "spaces or punctuation",
            "If they are one class, put their images into one folder.",
            [" / ".join(map(repr, group)) for group in groups],
        )
    ]  # fmt: skip


def _balance(store: Store) -> list[Finding]:
    found = []
    classes = len(store.classes)
    counts = {
        split: np.bincount(store.y[store.split(split)], minlength=classes)
        for split in store.info["splits"]
    }
    for split, count in counts.items():
        missing = [store.names[label] for label in np.flatnonzero(count == 0)]
        if missing:
            found.append(
                Finding(
                    "missing", "problem", len(missing),
                    f"{split} has no images of {plural(len(missing), 'class', 'classes')}",
                    "Figures say nothing of these classes: add images, or remove the classes.",
                    missing,
                )
            )  # fmt: skip
    split = next((name for name in ("train", "all") if name in counts), "")
    if not split:
        return found
    count = counts[split]
    few = np.flatnonzero((count > 0) & (count < FEW))
    if len(few):
        found.append(
            Finding(
                "few", "warning", len(few),
                f"{plural(len(few), 'class', 'classes')} with fewer than {FEW} images in {split}",
                "Add images, or start from pretrained weights.",
                [f"{store.names[label]}: {count[label]}" for label in few],
            )
        )  # fmt: skip
    present = np.flatnonzero(count)
    low, high = present[count[present].argmin()], present[count[present].argmax()]
    if count[high] >= IMBALANCE * count[low]:
        found.append(
            Finding(
                "imbalance", "warning", 1,
                f"the largest class has {count[high] / count[low]:.0f} times as many images in "
                f"{split} as the smallest; accuracy will say little of the small ones",
                "Look at the accuracy per class; --class-weights and --sampling balanced let small "
                "ones count more.",
                [f"{store.names[label]}: {count[label]:,}" for label in (high, low)],
            )
        )  # fmt: skip
    return found


def _shortcuts(store: Store) -> list[Finding]:
    found = shortcuts.in_words(store.info, len(store))
    hint = "Collect all classes from the same sources; try the classifier on pictures from others."
    return [Finding("by_file", "warning", len(store), found, hint)] if found else []


def _sizes(store: Store) -> list[Finding]:
    found = []
    grey = store.info.get("greyscale", {}).get("found", 0)
    if grey:
        found.append(
            Finding(
                "greyscale", "note", grey,
                f"{plural(grey, 'image')} ({grey / (len(store) + len(store.info['bad'])):.1%}) "
                "stored as greyscale",
            )
        )  # fmt: skip
    counts: dict[str, int] = store.info.get("modes", {})
    if not counts:  # no image files, or packed by release 0.1.0
        return found
    width, height = sizes_of(store).values()
    modes = ", ".join(f"{mode} {count:,}" for mode, count in counts.items())
    found.append(
        Finding(
            "sizes", "note", sum(counts.values()),
            f"image files are {width[0]} to {width[2]} px wide (median {width[1]}) and {height[0]} "
            f"to {height[2]} px high (median {height[1]}); modes: {modes}",
        )
    )  # fmt: skip
    if long := store.info.get("long"):
        found.append(
            Finding(
                "long", "warning", len(long),
                f"{plural(len(long), 'image')} more than {LONG:.0f} times as long as wide "
                "(or as wide as high); only the centre square is seen",
                "Crop them to what they should show.",
                long,
            )
        )  # fmt: skip
    return found


def doubtful_labels(data: Data, store: Store, *, weights: str, run: str) -> list[Finding]:
    """Single labels and whole classes that a network doubts; see `label_errors`."""
    probabilities = probabilities_of(data, store, weights=weights, run=run)
    errors = label_errors(probabilities, store.y)
    splits = {split: store.split(split) for split in store.info["splits"]}
    mixed = mixed_classes(probabilities, errors, store.y, splits)
    accuracy = float((probabilities.argmax(1) == store.y).mean())
    names, found = store.names, []
    if mixed:
        found.append(
            Finding(
                "mixed_classes", "problem", len(mixed),
                f"{plural(len(mixed), 'class', 'classes')} that in large part look like another: "
                "mislabelled, swapped, mixed, or not to be told apart",
                "Look at these folders.",
                [
                    f"{one.split}: {one.count} of {one.of} images of {names[one.given]} are taken "
                    f"for {names[one.suggested]}"
                    for one in mixed
                ],
            )
        )  # fmt: skip
    if errors:
        found.append(
            Finding(
                "label_errors", "warning", len(errors),
                f"{plural(len(errors), 'label')} ({len(errors) / len(store):.1%}) doubted by a "
                f"classifier that agrees with {accuracy:.1%} of all labels",
                "Look at the first ones; the list is of suspects, the likeliest errors first.",
                [
                    f"{store.ids[one.place]}: {names[one.given]} ({one.p_given:.0%}) or rather "
                    f"{names[one.suggested]} ({one.p_suggested:.0%})"
                    for one in errors
                ],
            )
        )  # fmt: skip
    return found


def plural(count: int, one: str, many: str = "") -> str:
    """A number and its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def counts_by_class(store: Store) -> dict[str, dict[str, int]]:
    """Images of each class in each split, by readable name."""
    counts = {
        split: Counter(store.y[store.split(split)].tolist()) for split in store.info["splits"]
    }
    return {
        name: {split: count[label] for split, count in counts.items()}
        for label, name in enumerate(store.names)
    }


def summary(data: str, store: Store, findings: Sequence[Finding]) -> dict[str, Any]:
    """A check as JSON."""
    return {
        "data": data,
        "images": len(store),
        "image_size": int(store.x.shape[-1]),
        "classes": counts_by_class(store),
        "problems": sum(one.level == "problem" for one in findings),
        "warnings": sum(one.level == "warning" for one in findings),
        "findings": [asdict(one) for one in findings],
    }


def tell(data: str, store: Store, findings: Sequence[Finding]) -> str:
    """A check in words, the worst first."""
    splits = ", ".join(
        f"{stop - start:,} {split}" for split, (start, stop) in store.info["splits"].items()
    )
    side = store.x.shape[-1]
    lines = [
        f"{data}: {plural(len(store), 'image')} ({splits}), "
        f"{len(store.classes)} classes, {side}x{side} px"
    ]
    for one in findings:
        lines.append(f"{one.level:<8} {one.text}")
        lines += [f"           {example}" for example in one.examples[:EXAMPLES]]
        if len(one.examples) > EXAMPLES:
            lines.append(f"           ... and {len(one.examples) - EXAMPLES:,} more (--json)")
        if one.advice:
            lines.append(f"         {one.advice}")
    if all(one.level == "note" for one in findings):
        lines.append("no problems found")
    return "\n".join(lines)


def draw_pairs(store: Store, folder: Path) -> int:
    """Contact sheets of a pair of each group of duplicates, side by side; returns how many pairs
    were drawn."""
    pairs = telling_pairs(store, _split_of(store))
    with Sheets(folder) as sheets:
        for pair in pairs:
            mirrored = ", mirrored" if pair.mirrored else ""
            sheets.add(Labelled(image_of(store, pair.a), store.ids[pair.a]))
            told = f"{store.ids[pair.b]} {pair.distance:.2f}{mirrored}"
            sheets.add(Labelled(image_of(store, pair.b), told))
    return len(pairs)
