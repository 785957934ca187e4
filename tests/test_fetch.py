"""Downloads from a server on this machine: resumed, checked, and never half there."""

import dataclasses
import errno
import hashlib
import http.server
import re
import threading

import numpy as np
import pytest

from alexnet.cache import cache_folder
from alexnet.data import fetch as module
from alexnet.data.fetch import DOWNLOADS, Download, downloaded, fetch, fetch_file
from alexnet.errors import DataError, DiskError, DownloadError, InputError

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
HALF = len(CONTENT) // 2


class Server(http.server.ThreadingHTTPServer):
    content: bytes
    ranges: list[str | None]
    url: str


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`, as the path says; notes each request's Range."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        self.close_connection = True
        getattr(self, self.path.strip("/"))(self.server.content)

    def file(self, content):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        self.answer(206 if wanted else 200, content[start:])

    def no_ranges(self, content):
        self.answer(200, content)

    def missing(self, content):
        self.answer(404, b"not here")

    def cut(self, content):
        self.answer(200, content[:HALF], len(content))

    def cut_in_a_chunk(self, content):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content[:HALF])

    def nonsense(self, content):
        self.wfile.write(b"what?\r\n\r\n")

    def answer(self, status, content, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content, server.ranges = CONTENT, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wanted(url="", algorithm="sha256"):
    checksum = hashlib.new(algorithm, CONTENT).hexdigest()
    return Download("data.bin", url, len(CONTENT), algorithm, checksum)


def failed(folder, url, pattern, expected=DownloadError):
    with pytest.raises(expected, match=pattern) as caught:
        fetch_file(wanted(), folder, url)
    assert caught.value.hint
    assert not (folder / "data.bin").exists()
    return caught.value


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
@pytest.mark.parametrize("way", ["file", "no_ranges"])
def test_a_file_is_fetched_once(way, algorithm, server, tmp_path):
    what = wanted(f"{server.url}/{way}", algorithm)
    for _ in range(2):
        path = fetch_file(what, tmp_path / "new")
        assert path.read_bytes() == CONTENT
    assert server.ranges == [None]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["data.bin"]


@pytest.mark.parametrize("piece", [1000, 2**18])
@pytest.mark.parametrize("way", ["file", "no_ranges"])
@pytest.mark.parametrize("held", [1, HALF, len(CONTENT) - 1])
def test_a_partial_file_is_continued(held, way, piece, server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE", piece)
    (tmp_path / "data.bin.partial").write_bytes(CONTENT[:held])
    path = fetch_file(wanted(), tmp_path, f"{server.url}/{way}")
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={held}-"]
    assert list(tmp_path.glob("*.partial")) == []


def test_a_complete_partial_file_is_taken_without_the_network(tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(CONTENT)
    assert fetch_file(wanted(), tmp_path, "http://127.0.0.1:1/").read_bytes() == CONTENT


def test_a_partial_file_that_is_too_large_is_started_over(server, tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(CONTENT + b"x")
    assert fetch_file(wanted(), tmp_path, f"{server.url}/file").read_bytes() == CONTENT
    assert server.ranges == [None]


@pytest.mark.parametrize("way, kept", [("cut", HALF), ("cut_in_a_chunk", 0)])
def test_a_cut_connection_is_continued_by_the_next_fetch(way, kept, server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 1000 if way == "cut" else 2**18)
    error = failed(tmp_path, f"{server.url}/{way}", "cannot be fetched")
    assert "again to go on where it stopped" in error.hint
    assert (tmp_path / "data.bin.partial").read_bytes() == CONTENT[:kept]
    assert fetch_file(wanted(), tmp_path, f"{server.url}/file").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={kept}-" if kept else None]


@pytest.mark.parametrize("held", [0, HALF])
def test_a_wrong_checksum_is_reported_and_the_file_deleted(held, server, tmp_path):
    if held:
        (tmp_path / "data.bin.partial").write_bytes(bytes(held))
    else:
        server.content = bytes(len(CONTENT))
    error = failed(tmp_path, f"{server.url}/file", "is not the official data.bin")
    assert wanted().checksum in error.message
    assert "--url" in error.hint
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert fetch_file(wanted(), tmp_path, f"{server.url}/file").read_bytes() == CONTENT


def test_a_file_that_is_too_large_is_refused_and_nothing_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 1000)
    server.content = bytes(len(CONTENT)) + b"x"
    error = failed(tmp_path, f"{server.url}/file", "sends more than the 100,000 bytes")
    assert "--url" in error.hint
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_small_is_not_taken(server, tmp_path):
    server.content = CONTENT[:HALF]
    failed(tmp_path, f"{server.url}/file", "ended after 50,000 of 100,000 bytes")


@pytest.mark.parametrize(
    "way, pattern",
    [("missing", "cannot be fetched .*Not Found"), ("nonsense", "cannot be fetched .*what")],
)
def test_an_answer_without_the_file_keeps_what_is_here(way, pattern, server, tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(CONTENT[:HALF])
    failed(tmp_path, f"{server.url}/{way}", pattern)
    assert (tmp_path / "data.bin.partial").read_bytes() == CONTENT[:HALF]


def test_no_server_is_a_download_error(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    error = failed(tmp_path, "http://127.0.0.1:1/x", "http://127.0.0.1:1/x cannot be fetched")
    assert "give its path as DATA" in error.hint


@pytest.mark.parametrize(
    "url",
    ["no address", "ftpx://a/b", "http://127.0.0.1:1/a b", "http://", "https:///a", "http://[a"],
)
def test_what_is_no_address_is_refused(url, tmp_path):
    error = failed(tmp_path, url, "is not an address", InputError)
    assert error.hint.startswith("For example: ") and not list(tmp_path.iterdir())


def test_a_full_disk_is_a_disk_error(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("alexnet.data.fetch.open", full, raising=False)
    failed(tmp_path, f"{server.url}/file", "no space left", DiskError)


def test_an_archive_is_fetched_by_name_into_the_cache(server, monkeypatch):
    official = dataclasses.replace(wanted(), file="c.tar.gz", url=f"{server.url}/missing")
    monkeypatch.setitem(DOWNLOADS, "cifar10", official)
    assert downloaded("cifar10") is None
    path = fetch("cifar10", f"{server.url}/file")  # from another address than the official
    assert path == downloaded("cifar10") == cache_folder() / "downloads" / "c.tar.gz"
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name, hint",
    [("cifar-10", "Did you mean 'cifar10'?"), ("xyzzy", "Known: cifar10, tiny-imagenet.")],
)
def test_an_unknown_name_says_which_there_are(name, hint):
    with pytest.raises(DataError, match=f"no download named '{name}'") as caught:
        fetch(name)
    assert caught.value.hint == hint
