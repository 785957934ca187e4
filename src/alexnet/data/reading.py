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
    labels: str = ""  # a table of changes (data/changes.py)

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


def with_whole_paths(reading: Reading) -> Reading:
    """The same in whatever folder a program is started."""
    paths = {name: getattr(reading, name) for name in ("images", "labels")}
    whole = {name: str(Path(one).expanduser().resolve()) for name, one in paths.items() if one}
    return dataclasses.replace(reading, **whole)


def title_of(address: str | Path) -> str:
    """What data is called: the last part of its path."""
    path = parted(address)[0].replace("\\", "/")
    return next((one for one in reversed(path.split("/")) if one.strip("*")), path)


def addressed(data: str, reading: Reading) -> str:
    """The address of data that is read in some way; what its own address says stays where `reading`
    says nothing."""
    plain, known = parted(data)
    more = {name: value for name, value in dataclasses.asdict(reading).items() if value}
    return plain + dataclasses.replace(known, **more).query
