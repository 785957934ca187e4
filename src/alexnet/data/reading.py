"""How labels are found where folders do not say them: part of the address of a data set, so that a
run, its evaluation and its report find the same data without a setting of their own. Standard
library only.

DATA?label-column=breed&images=photos is DATA, read with these two settings.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What there is to say about how labels are found; empty fields are guessed, or not used."""

    images: str = ""  # the folder or archive in which a table's paths begin
    path_column: str = ""
    label_column: str = ""
    split_column: str = ""
    label_pattern: str = ""  # finds labels in paths
    group: str = ""  # a column, a pattern that finds groups in paths, or "burst"

    def __bool__(self) -> bool:
        return any(dataclasses.astuple(self))

    @property
    def query(self) -> str:
        """What stands behind the path in an address, its question mark included; or nothing."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value}
        if not given:
            return ""
        words = {name.replace("_", "-"): value for name, value in given.items()}
        return f"?{urlencode(words, errors='surrogateescape')}"


FIELDS = {field.name: field for field in dataclasses.fields(Reading)}


def parted(address: str | Path) -> tuple[str, Reading]:
    """The path of an address, and how it is to be read. A file whose own name has a question mark
    is that file."""
    text = str(address)
    path, mark, query = text.rpartition("?")
    if not mark or os.path.lexists(text):
        return text, Reading()
    found = {
        name.replace("-", "_"): value for name, value in parse_qsl(query, errors="surrogateescape")
    }
    if not found or not found.keys() <= FIELDS.keys():
        return text, Reading()
    return path, Reading(**found)


def title_of(address: str | Path) -> str:
    """What data is called: the last part of its path."""
    path = parted(address)[0].replace("\\", "/")
    return next((one for one in reversed(path.split("/")) if one.strip("*")), path)


def labelled(
    data: str | Path,
    *,
    images: str | Path = "",
    path_column: str = "",
    label_column: str = "",
    split_column: str = "",
    label_pattern: str = "",
    group: str = "",
) -> str:
    """Data whose labels its folders do not say: what every function that takes `data` takes
    instead. `alexnet train labels.csv --label-column breed` is
    `alexnet.train(alexnet.labelled("labels.csv", label_column="breed"))`.

    Args:
        data: a table (.csv, .tsv, .jsonl, .parquet), or a folder or archive of images.
        images: the folder or archive in which the paths in a table begin; by default that of the
            table.
        path_column, label_column: which columns hold the path and the label of an image; guessed
            where they are not given, and said.
        split_column: which column says train, val or test.
        label_pattern: a regular expression that finds the label in the path of an image, in its
            group `label`, or its only one.
        group: a column, or a regular expression as above: images of one group (an animal, a
            patient, a film) stand on one side of every split. "burst": pictures that one camera
            took within seconds.
    """
    plain, known = parted(data)
    given = Reading(
        images=str(images), path_column=path_column, label_column=label_column,
        split_column=split_column, label_pattern=label_pattern, group=group,
    )  # fmt: skip
    more = {name: value for name, value in dataclasses.asdict(given).items() if value}
    return plain + dataclasses.replace(known, **more).query
