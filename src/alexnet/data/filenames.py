"""Labels in the names of files, as a pattern finds them: cat.0.jpg, great_pyrenees_12.jpg."""

import re
from collections.abc import Sequence
from functools import partial

from alexnet.data.groups import compiled, part_of
from alexnet.data.levels import split_word
from alexnet.data.listing import Example, Examples, Paths
from alexnet.data.names import shortly
from alexnet.data.sources import Source
from alexnet.data.tables import contents_of
from alexnet.data.trees import Tree
from alexnet.errors import DataError


def named_source(tree: Tree, paths: Sequence[str], pattern: str) -> Source:
    """The images of a tree, with the labels that a pattern finds: in the name of a file, or where
    it fits none, in the whole path. Its groups `split` and `group` say these, too.

    Args:
        paths: of the images in the tree.
        pattern: a regular expression with a group `label`, or only one.

    Raises:
        DataError: it fits no path, or finds a split that is none. InputError: it is no such
            pattern.
    """
    fitting = compiled(pattern, "--label-pattern", "label")
    found, labels = Examples(), dict[str, int]()
    others = Paths()
    for path in paths:
        name = path.rpartition("/")[2]
        text = name if fitting.search(name) else path
        label = part_of(fitting, text, "label")
        if label:
            split = _split(fitting, text, path)
            group = part_of(fitting, text, "group") if "group" in fitting.groupindex else ""
            found.append(Example(split, labels.setdefault(label, len(labels)), path, group))
        else:
            others.append(path)
    if not found:
        raise DataError(
            f"--label-pattern {pattern!r} fits none of the {len(paths):,} images of {tree.where}, "
            f"such as {shortly(paths, 3)}.",
            r"Example, for great_pyrenees_12.jpg: --label-pattern '(?P<label>[A-Za-z_]+)_\d+'",
        )
    classes = sorted(labels)
    place = {name: label for label, name in enumerate(classes)}
    examples = found.sorted([place[name] for name in labels])
    left_out = [*tree.left_out]
    if others:
        left_out.append(
            f"{len(others):,} images whose names the pattern does not fit, such as {others[0]}"
        )
    return Source(
        "file-names",
        classes,
        classes,
        examples,
        partial(contents_of, tree, examples),
        left_out,
        list(tree.notes),
    )


def _split(pattern: re.Pattern[str], text: str, path: str) -> str:
    if "split" not in pattern.groupindex:
        return "all"
    words = part_of(pattern, text, "split")
    split, rest = split_word(words)
    if not split or rest:
        raise DataError(
            f"{path}: the pattern finds the split {words!r}, expected train, val or test.",
            "Let its group `split` fit these words alone, such as (?P<split>train|test).",
        )
    return split
