"""Zip and tar archives, read in place: members by their paths, nothing extracted, no link followed
out of the archive."""

import bz2
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Generic, NamedTuple, TypeVar

from alexnet import marks
from alexnet.atomic import writing
from alexnet.data.names import DEEPEST, LONGEST, hidden, member_paths
from alexnet.errors import DataError

LARGEST_FILE = 2**29  # bytes of one image file
PIECE = 2**20  # bytes read at a time
# a compressed tar may expand to so many times its size, and to so many bytes more
MOST_EXPANSION, FREE_EXPANSION = 200, 2**28
LONGEST_HEADER = 2**20  # bytes of a long name or of attributes in a tar
MOST_DIGITS = 500  # in a row in there

FORMATS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz")

METHODS = {
    1: "Shrink", 6: "Implode", 9: "Deflate64", 20: "Zstandard", 93: "Zstandard", 94: "MP3",
    95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd", 99: "AES encryption",
}  # fmt: skip
READ_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
# an extra field: the name in UTF-8, and the checksum of the name that it stands for
UNICODE_PATH = 0x7075

Entry = TypeVar("Entry")


class _Archive(Generic[Entry]):
    """The members of an archive by their paths, hidden ones and our own output left out."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.entries: dict[str, Entry | None] = {}  # None: a link to nothing inside
        self.directories: set[str] = set()
        self.outputs: dict[str, str] = {}  # folder: what of ours it is
        self.left_out: list[str] = []
        self.notes: list[str] = []

    def _list(
        self,
        names: Sequence[str | bytes],
        members: Sequence[Entry | None],
        links: dict[int, str],
        fallback: str,
    ) -> None:
        """Takes in all members; None stands for a folder. `links`: place of a member to the path
        that it leads to."""
        paths, self.notes = member_paths(names, fallback)
        self.outputs = _outputs(paths)
        wanted: dict[str, bool] = {}  # folder: whether it is looked into
        deep = nameless = twice = 0
        pointing: dict[str, str] = {}
        for place, (path, member) in enumerate(zip(paths, members, strict=True)):
            above, _, name = path.rpartition("/")
            if above not in wanted:
                wanted[above] = self._is_wanted(above)
            if not name:
                nameless += member is not None
            elif path.count("/") >= DEEPEST or len(path) > LONGEST:
                deep += 1
            elif not wanted[above] or hidden(name) or path in self.outputs:
                pass
            elif member is None:
                self.directories.add(path)
            else:
                twice += path in self.entries or path in pointing
                if place in links:
                    pointing[path] = links[place]
                else:
                    pointing.pop(path, None)
                    self.entries[path] = member
        self._follow(pointing)
        for count, what in (
            (deep, f"members more than {DEEPEST} folders deep, or with names as long"),
            (nameless, "members without a name"),
            (twice, "members whose name comes again; the last of each is used"),
        ):
            if count:
                self.left_out.append(f"{count:,} {what}")

    def _is_wanted(self, folder: str) -> bool:
        parts = folder.split("/") if folder else []
        if any(map(hidden, parts)):
            return False
        return not self.outputs or all(
            "/".join(parts[:depth]) not in self.outputs for depth in range(1, len(parts) + 1)
        )

    def _follow(self, pointing: dict[str, str]) -> None:
        """Links become the members they lead to."""
        folders = 0
        parents = self.directories | {path.rpartition("/")[0] for path in self.entries}
        ends: dict[str, str] = {}  # where links lead in the end
        for path, target in pointing.items():
            seen = {path: None}
            while target in pointing and target not in seen:
                seen[target] = None
                target = ends.get(target, pointing[target])
            ends |= dict.fromkeys(seen, target)
            if target not in self.entries and target in parents:
                folders += 1
            else:
                self.entries[path] = self.entries.get(target)
        if folders:
            self.left_out.append(f"{folders:,} links to folders of the archive")

    def files(self) -> list[str]:
        return sorted(self.entries)

    def has(self, path: str) -> bool:
        return path in self.entries

    def folders(self) -> set[str]:
        return self.directories

    def _entry(self, path: str) -> Entry:
        entry = self.entries[path]
        if entry is None:
            raise OSError("a link that leads to no file of the archive")
        return entry


def _outputs(paths: Sequence[str]) -> dict[str, str]:
    """The folders of an archive that this package wrote; the top is what was given, and none."""
    telling: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        above, _, name = path.rpartition("/")
        if name in marks.FILES and above:
            telling[above].add(name)
    kinds = {folder: marks.output_kind(names) for folder, names in telling.items()}
    return {folder: kind for folder, kind in kinds.items() if kind}


class ZipTree(_Archive[zipfile.ZipInfo]):
    """A zip archive."""

    def __init__(self, where: Path) -> None:
        super().__init__(where)
        try:
            self.archive = zipfile.ZipFile(where)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where} cannot be read as a zip archive: its names are marked as UTF-8, and are "
                f"not ({error}).",
                "Unpack it and give the folder, or zip it with another program.",
            ) from error
        except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, struct.error) as error:
            # RuntimeError covers what zipfile raises for kinds of archive it does not know
            raise DataError(
                f"{where} cannot be read as a zip archive ({error}).",
                "It may be cut short: fetch or copy it again.",
            ) from error
        infos = self.archive.infolist()
        members = [None if _is_folder(info) else info for info in infos]
        self._refuse_unreadable([info for info in members if info])
        names = [_zip_name(info) for info in infos]
        links = {
            place: _beside(names[place], target)
            for place, info in enumerate(infos)
            if stat.S_ISLNK(info.external_attr >> 16) and (target := _target(self.archive, info))
        }
        self._list(names, members, links, "cp437")

    def _refuse_unreadable(self, files: list[zipfile.ZipInfo]) -> None:
        """DataError where what is wrong with the files is wrong with the archive."""
        for bad, what in (
            ([one for one in files if one.flag_bits & 1], "protected by a password"),
            ([one for one in files if one.compress_type not in READ_METHODS], "compressed with"),
        ):
            if bad and 2 * len(bad) >= len(files):
                if what == "compressed with":
                    method = bad[0].compress_type
                    what += f" {METHODS.get(method, f'method {method}')}, which is not read here"
                raise DataError(
                    f"{len(bad):,} of the {len(files):,} files in {self.where} are {what}.",
                    "Unpack it and give the folder, or zip it with another program, without a "
                    "password.",
                )

    def read(self, path: str) -> bytes:
        info = self._entry(path)
        if info.file_size > LARGEST_FILE:
            raise OSError(f"{info.file_size:,} bytes is no image file")
        try:
            with self.open(path) as file:
                return file.read()
        except Exception as error:  # of every kind: zlib.error, BadZipFile, RuntimeError, ...
            raise OSError(str(error)) from error

    def open(self, path: str) -> IO[bytes]:
        info = self._entry(path)
        try:
            return self.archive.open(info)
        except zipfile.BadZipFile:
            # the table of contents has the say, also where it writes a name in another way
            name = _local_name(self.archive, info)
            if name is None or name == info.orig_filename:
                raise
            info.orig_filename = name
            return self.archive.open(info)


def _is_folder(info: zipfile.ZipInfo) -> bool:
    name = info.orig_filename  # zipfile's own test fails where there is no name
    return name.endswith("/") or (name.endswith("\\") and not info.file_size)


def _zip_name(info: zipfile.ZipInfo) -> str | bytes:
    """The name of a member; bytes where the archive does not say in which encoding."""
    name = info.orig_filename.split("\0")[0]
    if info.flag_bits & 0x800 or name.isascii():
        return name
    raw = name.encode("cp437")
    place = 0
    while place + 4 <= len(info.extra):
        kind, size = struct.unpack_from("<HH", info.extra, place)
        field = info.extra[place + 4 : place + 4 + size]
        if kind == UNICODE_PATH and len(field) > 5:
            checksum = int.from_bytes(field[1:5], "little")
            if checksum == zlib.crc32(info.orig_filename.encode("cp437")):
                return field[5:].decode("utf-8", "replace")
        place += 4 + size
    return raw


def _local_name(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | None:
    """The name in the header of a member itself, as zipfile reads it; None if there is none."""
    if archive.fp is None:
        return None
    archive.fp.seek(info.header_offset)
    header = archive.fp.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        return None
    flags, length = struct.unpack_from("<H", header, 6)[0], struct.unpack_from("<H", header, 26)[0]
    name = archive.fp.read(length)
    try:
        return name.decode("utf-8" if flags & 0x800 else "cp437")
    except UnicodeDecodeError:
        return None


def _target(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """What a symbolic link leads to; nothing if that cannot be read, and then it is a bad image."""
    try:
        return archive.read(info).decode() if info.file_size <= LONGEST else ""
    except Exception:  # of every kind, as above
        return ""


def _beside(name: str | bytes, target: str) -> str:
    """The path that a symbolic link called `name` leads to inside the archive."""
    path = member_paths([name], "cp437")[0][0]
    return member_paths([f"{path.rpartition('/')[0]}/{target}"], "cp437")[0][0]


class _Span(NamedTuple):
    """Where the content of a member lies in a tar."""

    offset: int
    size: int
    sparse: bool


class _Headers:
    """A file as tarfile reads headers from it: one that claims megabytes is refused before it takes
    memory, and one that tarfile would be at for hours before it takes time."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        content = self.file.read(size)
        if size > tarfile.BLOCKSIZE:
            _refuse_costly(content)
        return content


def _refuse_costly(header: bytes) -> None:
    """tarfile looks for digits before one word, from each digit anew, and in each record of
    "LENGTH KEY=VALUE" for the equals sign, which need not be in it."""
    if re.search(rb"[0-9]{%d}" % MOST_DIGITS, header):
        raise tarfile.ReadError("a header of nothing but digits")
    place = looked_at = 0
    while record := re.compile(rb"([0-9]{1,9}) ").match(header, place):
        looked_at += max(0, header.find(b"=", place) - place)
        place += max(1, int(record[1]))
        if looked_at > 4 * len(header):
            raise tarfile.ReadError("a header whose records overlap")


class TarTree(_Archive[_Span]):
    """A tar archive. Members are found by their place; a compressed one has no places, so it is
    expanded, once, into a nameless temporary file in `space`, that vanishes with the program. In
    that way examples come in the same order as from a folder, and memory stays flat."""

    def __init__(self, where: Path, space: Path) -> None:
        super().__init__(where)
        try:
            self.file = _expanded(where, space)
            weakref.finalize(self, self.file.close)
            self._scan()
        # tarfile lets ValueErrors, RecursionErrors and more of damaged headers through
        except (
            tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError,
            RecursionError, KeyError, IndexError, OverflowError,
        ) as error:  # fmt: skip
            raise DataError(
                f"{where} cannot be read as a tar archive ({error}).",
                "It may be cut short: fetch or copy it again.",
            ) from error

    def _scan(self) -> None:
        end = self.file.seek(0, io.SEEK_END)
        self.file.seek(0)
        names: list[str | bytes] = []
        members: list[_Span | None] = []
        links: dict[int, str] = {}
        reader: IO[bytes] = _Headers(self.file)  # type: ignore[assignment]
        with tarfile.open(fileobj=reader, mode="r:") as archive:
            place = -1
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or all headers stay
                if member.size < 0 or archive.offset <= place:
                    raise tarfile.ReadError("it leads back to what was read")
                place = archive.offset
                raw = member.name.encode("utf-8", "surrogateescape")
                name = member.name if raw.isascii() or _is_text(member.name) else raw
                if member.isdir():
                    members.append(None)
                elif member.issym() or member.islnk():
                    links[len(names)] = _beside(name if member.issym() else "", member.linkname)
                    members.append(_Span(0, 0, False))
                elif member.isreg():
                    if member.offset_data + member.size > end:
                        raise tarfile.ReadError("unexpected end of data")
                    members.append(_Span(member.offset_data, member.size, member.issparse()))
                else:
                    continue  # a device or a pipe
                names.append(name)
            # tarfile takes a header that it cannot read for the end, too
            self.file.seek(archive.offset)
            if self.file.read(512).strip(b"\0") or archive.offset + 512 > end:
                raise tarfile.ReadError("it does not go on, and has no mark of its end")
        self._list(names, members, links, "latin-1")

    def read(self, path: str) -> bytes:
        span = self._entry(path)
        if span.size > LARGEST_FILE:
            raise OSError(f"{span.size:,} bytes is no image file")
        if span.sparse:
            raise OSError("a sparse file, which is not read from a tar")
        self.file.seek(span.offset)
        content = self.file.read(span.size)
        if len(content) < span.size:
            raise OSError("the archive is shorter than it was")
        return content

    def open(self, path: str) -> IO[bytes]:
        return io.BytesIO(self.read(path))


def _is_text(name: str) -> bool:
    """Whether a name was decoded without leftovers."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _expanded(where: Path, space: Path) -> IO[bytes]:
    """The plain tar, opened."""
    with open(where, "rb") as file:
        start = file.read(8)
    packed = next((reader for magic, reader in FORMATS.items() if start.startswith(magic)), None)
    if packed is None:
        return open(where, "rb")
    most = where.stat().st_size * MOST_EXPANSION + FREE_EXPANSION
    with writing(space):
        space.mkdir(parents=True, exist_ok=True)
        plain: IO[bytes] = tempfile.TemporaryFile(dir=space)
    try:
        with packed(where) as file:
            for piece in iter(lambda: file.read(PIECE), b""):
                if plain.tell() + len(piece) > most:
                    raise DataError(
                        f"{where} expands to more than {most:,} bytes, which no archive of images "
                        "does.",
                        "Unpack it with a program that you trust, and give the folder.",
                    )
                with writing(space / "a temporary file"):
                    plain.write(piece)
                    plain.flush()  # a full disk speaks up here, not when others read
    except BaseException:
        plain.close()
        raise
    return plain


def is_tar(where: Path) -> bool:
    """Whether the content of a file is a tar archive, compressed or not."""
    try:
        with open(where, "rb") as file:
            start = file.read(512)
        for magic, reader in FORMATS.items():
            if start.startswith(magic):
                with reader(where) as packed:
                    start = packed.read(512)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False
    return start[257:262] == b"ustar"
