"""Files, whole or not at all: written aside, flushed, renamed; a reader sees the old file or the
new one, whatever happens in between, and notices when it is not what was written.

JSON carries its checksum before it, as 32 blanks, a tab for each 1: no parser sees them, so equal
content stays equal, and whoever writes the file anew with another program takes them away.
"""

import contextlib
import csv
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from alexnet.errors import AlexNetError, DiskError, InputError

if sys.platform != "win32":
    import fcntl
if TYPE_CHECKING:
    from numpy.typing import NDArray

# a name of `replacing`: a dot, the file's own name, eight letters, its ending once more
LEFTOVER = re.compile(r"\.(.+)\.[a-z0-9_]{8}(\.\w+|)")
SEAL = re.compile(rb"[ \t]{32}")
# of file systems that have nothing to flush, or do not say how
NOT_FLUSHED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# of file systems where a file has one name
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
FIRST = "0" * 8  # the letters that every writer tries first
# how files end that somebody may expect where a folder is written: pictures, tables, pages, models
FILES = {
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".mp4", ".pdf", ".html", ".htm", ".txt"),
    *(".csv", ".tsv", ".xlsx", ".json", ".npz", ".npy", ".zip", ".tar", ".gz", ".pkl", ".joblib"),
    *(".onnx", ".pt", ".pt2", ".pth", ".ckpt", ".safetensors", ".h5", ".keras", ".tflite"),
}


def disk_error(error: OSError, path: Path, needed: int = 0) -> AlexNetError:
    """The OSError of writing to `path`, in words the user can act on; `needed` bytes, if known."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        free = "unknown"
        with contextlib.suppress(OSError):
            free = f"{shutil.disk_usage(path.parent).free / 2**20:.0f}"
        return DiskError(
            f"no space left on the disk of {path.parent}: {free} MiB free"
            + (f", {needed / 2**20:.0f} MiB needed." if needed else "."),
            "Free some space, or set ALEXNET_CACHE (prepared data) or --out (runs) to another "
            "disk.",
        )
    return DiskError(
        f"cannot write {path}: {error.strerror or error}.", "Check the path and its permissions."
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """The OSErrors of a block that writes to `path` become DiskError."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def sync(path: Path) -> None:
    """Flushes a file to the disk, or the entries of a folder where the system can do that.

    Raises:
        OSError: the disk did not take the file; of a full one that may be said only now.
    """
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # as Windows wants it
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not folder and error.errno not in NOT_FLUSHED:
            raise


def output_file(path: str | Path, *endings: str) -> Path:
    """The path of a file that somebody wants written, looked at before the work: it is no folder,
    and ends as files of its kind do, so that programs open it for what it is, and a file of another
    kind is never replaced.

    Raises:
        InputError: it is not.
    """
    found = Path(path).expanduser()
    if not found.name or found.is_dir():  # "." and "/" have no name
        raise InputError(
            f"{path} is a folder, expected the name of a file.",
            f"For example: {found / ('alexnet' + endings[0])}",
        )
    if found.suffix.lower() not in endings:
        raise InputError(
            f"{path} ends in {found.suffix or 'nothing'}, expected {' or '.join(endings)}.",
            f"For example: {found.with_suffix(endings[0])}",
        )
    return found


def output_folder(path: str | Path) -> Path:
    """The path of a folder that somebody wants written, looked at before the work: it is no file,
    and where it is new, it is not called like one, which is then looked for in vain.

    Raises:
        InputError: it is.
    """
    found = Path(path).expanduser()
    if found.exists() and not found.is_dir():
        raise InputError(f"{path} is a file, expected a folder.", "Choose another name.")
    if not found.exists() and found.suffix.lower() in FILES:
        raise InputError(
            f"{path} ends in {found.suffix} as a file, expected the name of a folder.",
            f"For example: {found.with_suffix('')}",
        )
    return found


@contextlib.contextmanager
def replacing(path: Path, rename: Callable[[Path, Path], object] | None = None) -> Iterator[Path]:
    """Yields a name beside `path` to write a file to; afterwards it is flushed and takes the name
    `path`, or whatever name `rename` gives it.

    If the block fails, nothing is left and `path` is as it was. What a killed writer of the same
    file left is taken over. OSErrors become DiskError.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held, aside = _opened_beside(path)
        with contextlib.closing(held):
            try:
                yield aside
                sync(aside)
                aside.chmod(0o666 & ~_umask())  # until then it is private
                (rename or os.replace)(aside, path)
            except BaseException:
                # the name may be another writer's once it is renamed
                with contextlib.suppress(OSError):  # what went wrong before is what is told
                    aside.unlink(missing_ok=True)
                raise
        sync(path.parent)


def to_free_name(file: Path, path: Path) -> Path:
    """Renames a file to `path`, or where something has that name, with a number added to it; in one
    step, so that nothing is overwritten and no name is taken for what does not come. Returns the
    name that it has now.

    Raises:
        OSError: it cannot be renamed.
    """
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    for free in itertools.chain([path], names):
        try:
            if sys.platform == "win32":  # where it does not overwrite
                os.rename(file, free)
                return free
            os.link(file, free)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if os.path.lexists(free):
                continue
            os.replace(file, free)  # a moment after that look
            return free
        file.unlink()
        return free
    raise AssertionError("numbers do not end")


def _opened_beside(path: Path) -> tuple[IO[bytes], Path]:
    """An empty file beside `path` that no other writer has until it is closed, and its name, which
    has the same ending: some writers choose a format by it."""
    first = path.with_name(f".{path.name}.{FIRST}{path.suffix}")
    with contextlib.suppress(OSError):  # it is a link, or somebody else's
        if sys.platform != "win32":  # where what is open cannot be renamed
            descriptor = os.open(first, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            file = os.fdopen(descriptor, "r+b")
            locked = _locked(file)
            if locked is not False and _is_at(file, first):
                about = os.fstat(descriptor)
                # with a second name it is a whole file, see `to_free_name`
                if locked and about.st_uid == os.geteuid() and about.st_nlink == 1:
                    file.truncate()
                    return file, first
                first.unlink()  # for no writer can have it
            file.close()
    descriptor, name = tempfile.mkstemp(path.suffix, f".{path.name}.", path.parent)
    file = os.fdopen(descriptor, "r+b")
    if not _locked(file):
        file.close()
    return file, Path(name)


def _locked(file: IO[bytes]) -> bool | None:
    """Locks an open file until it is closed, at the latest with the process. False: somebody else
    has it. None: there are no locks here."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # Lustre, for one, may have none
        return None
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file still has a name; it may have been renamed since it was opened."""
    return os.path.samestat(os.fstat(file.fileno()), path.lstat())


def is_leftover(name: str) -> bool:
    """Whether a file is called as `replacing` calls what is not finished."""
    match = LEFTOVER.fullmatch(name)
    return match is not None and Path(match[1]).suffix == match[2]


def is_taken(path: Path) -> bool:
    """Whether a folder holds anything but what killed writers left; or is a file."""
    if not path.is_dir():
        return path.exists()
    return not all(is_leftover(one.name) for one in path.iterdir())


def remove_leftovers(folder: Path) -> None:
    """Deletes what writers that were killed left in a folder; without locks, where nobody else may
    write there, what any writer has not finished."""
    with contextlib.suppress(OSError):
        for path in filter(lambda one: is_leftover(one.name), folder.iterdir()):
            with contextlib.suppress(OSError):
                with open(path, "r+b") as file:
                    locked = _locked(file)
                    if locked and _is_at(file, path):
                        path.unlink()
                if locked is None:
                    path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, whole or not at all. Numbers that are not finite are refused."""
    words = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as aside:
        # an undecodable file name as JSON's own escape
        aside.write_bytes(sealed(words.encode("utf-8", "backslashreplace")))


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table, whole or not at all."""
    with (
        replacing(path) as aside,
        open(aside, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows(rows)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        OSError: there is no such file, or it cannot be read. ValueError: it holds something else,
            or not what was written.
    """
    found = from_json(unsealed(path.read_bytes()).decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def read_arrays(path: Path, names: Iterable[str]) -> "dict[str, NDArray[Any]]":
    """Of an .npz file the arrays of these names, as far as they are there. No pickle is read.

    Raises:
        OSError: there is no such file. ValueError: it is damaged, or no .npz.
    """
    import numpy as np  # which the command line does without

    with open(path, "rb") as file:
        if not is_zip(file):
            raise ValueError("it is no .npz archive")  # NumPy would speak of pickles
        try:
            with np.load(file, allow_pickle=False) as archive:
                found = {name: archive[name] for name in names if name in archive.files}
        except Exception as error:  # of every kind, from zipfile, zlib and headers of arrays
            raise ValueError(str(error) or type(error).__name__) from error
    if not all(isinstance(one, np.ndarray) for one in found.values()):
        raise ValueError("it holds something else than arrays")
    return found


def is_zip(file: Path | IO[bytes]) -> bool:
    """Whether a file is a zip archive, or what is left of one."""
    import zipfile

    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:  # whoever opens it hears the reason
        return True


def from_json(text: str | bytes) -> Any:
    """The value that a JSON text holds.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a number to compute with; NaN and 1e400 are none."""
    return isinstance(value, int | float) and abs(value) < 2**63


def sealed(words: bytes) -> bytes:
    """JSON with its checksum before it."""
    bits = f"{zlib.crc32(words):032b}".encode()
    return bits.translate(bytes.maketrans(b"01", b" \t")) + words


def unsealed(data: bytes) -> bytes:
    """JSON without its checksum; as it is, where it has none.

    Raises:
        ValueError: the checksum is another one.
    """
    if not SEAL.match(data):
        return data
    words = data[32:]
    if data != sealed(words):
        raise ValueError(
            "its checksum is not that of its content; if you changed it yourself, delete the "
            "blanks that it begins with"
        )
    return words


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file, however large, in hexadecimal. OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def checksum(data: bytes, place: int) -> bytes:
    """The CRC-32 of the content of a file, in hexadecimal: of all but the 8 digits at the `place`
    where it stands itself.

    Damage is what it is there for, not malice; it reads 4 GB/s, SHA-256 less than half of that.
    """
    view = memoryview(data)
    return b"%08x" % zlib.crc32(view[place + 8 :], zlib.crc32(view[:place]))
