"""Downloads official files (data sets, weights): capped, checked, resumed. With
locations.py the only module that touches the network."""

import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alexnet.atomic import digest, disk_error, sync
from alexnet.cache import cache_folder
from alexnet.console import progress, say
from alexnet.errors import DataError, DownloadError, InputError, did_you_mean
from alexnet.values import checked_arguments

PIECE = 2**18  # bytes per read
TIMEOUT = 30  # seconds without an answer
SCHEMES = ("https", "http", "ftp", "file")


@dataclass(frozen=True)
class Download:
    """An official file."""

    file: str
    url: str
    size: int  # bytes
    algorithm: str
    checksum: str
    # what to do where there is no network
    instead: str = "download the file elsewhere and give its path as DATA"


DOWNLOADS = {
    "cifar10": Download(
        file="cifar-10-binary.tar.gz",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        size=170_052_171,
        algorithm="sha256",
        checksum="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "tiny-imagenet": Download(
        file="tiny-imagenet-200.zip",
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        size=248_100_043,
        algorithm="md5",
        checksum="90528d7ca1a48142e341f4ef8d21d0de",
    ),
}


def downloaded(name: str) -> Path | None:
    """The archive of a data set, if it was fetched."""
    path = cache_folder() / "downloads" / DOWNLOADS[name].file
    return path if path.exists() else None


@checked_arguments
def fetch(name: str, url: str = "") -> Path:
    """Fetches the archive of a data set into the cache, from its official address or from `url`.

    What an interrupted fetch left is continued. The file gets its name only after its size and
    checksum were found right.

    Raises:
        DataError: an unknown name. InputError: `url` is no address.
        DownloadError: no connection, or not the official file.
    """
    if name not in DOWNLOADS:
        raise DataError(f"there is no download named {name!r}.", did_you_mean(name, DOWNLOADS))
    return fetch_file(DOWNLOADS[name], cache_folder() / "downloads", url)


def fetch_file(wanted: Download, folder: Path, url: str = "") -> Path:
    """Fetches one official file into `folder`; returns its path. See `fetch`."""
    url = url or wanted.url
    path, partial = folder / wanted.file, folder / f"{wanted.file}.partial"
    if path.exists():
        return path
    try:
        _require_address(url)
        folder.mkdir(parents=True, exist_ok=True)
        done = partial.stat().st_size if partial.exists() else 0
        if done > wanted.size:
            partial.unlink()
            done = 0
        if done < wanted.size:
            say(
                f"fetching {url} ({wanted.size / 1e6:.0f} "
                f"MB{f', {done / 1e6:.0f} MB are here' if done else ''})"
            )
            with progress(wanted.file, wanted.size, done=done) as advance:
                _receive(url, partial, done, wanted, advance)
        found = digest(partial, wanted.algorithm)
        if partial.stat().st_size != wanted.size or found != wanted.checksum:
            size = partial.stat().st_size
            raise DownloadError(
                f"{url} is not the official {wanted.file}: {size:,} bytes with {wanted.algorithm} "
                f"{found}, expected "
                f"{wanted.size:,} with {wanted.checksum}.",
                "What came was deleted. Try again, or give another address with --url.",
            )
        sync(partial)
        os.replace(partial, path)
        sync(folder)
    except DownloadError:
        partial.unlink(missing_ok=True)  # of another file: nothing to go on from
        raise
    except (ValueError, http.client.InvalidURL) as error:
        raise InputError(
            f"{url!r} is not an address ({error}).", f"For example: {wanted.url}"
        ) from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
    ) as error:
        reason = str(getattr(error, "reason", error))
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection open
            reason = f"{error.code} {reason}"
            if error.code == 416:  # we ask for what lies behind the end of its file
                partial.unlink(missing_ok=True)
        raise DownloadError(
            f"{url} cannot be fetched ({reason}).",
            f"Run the same command again to go on where it stopped, or {wanted.instead}.",
        ) from error
    except OSError as error:
        raise disk_error(error, path) from error
    return path


def _require_address(url: str) -> None:
    """ValueError unless a file can be asked for at an address."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"it begins with none of {', '.join(f'{one}:' for one in SCHEMES)}")
    if parts.scheme != "file" and not parts.hostname:
        raise ValueError("it names no server")


def _receive(
    url: str, partial: Path, done: int, wanted: Download, advance: Callable[[int], None]
) -> None:
    """Appends what is missing to `partial`; one byte more than the official size is refused."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        if done and answer.status != 206:  # the server starts over
            advance(-done)
            done = 0
        with open(partial, "ab" if done else "wb") as file:
            while piece := answer.read(PIECE):
                done += len(piece)
                if done > wanted.size:
                    raise DownloadError(
                        f"{url} sends more than the {wanted.size:,} bytes of the official "
                        f"{wanted.file}.",
                        "It is not that file. Give another address with --url.",
                    )
                file.write(piece)
                advance(len(piece))
    if done < wanted.size:
        raise ConnectionError(f"the connection ended after {done:,} of {wanted.size:,} bytes")
