"""Data from elsewhere: what fsspec reads is fetched once, gone on with, and verified."""

import functools
import json
import math
import os
import shutil
import sys
import uuid

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from makers import write_pictures

from alexnet.cache import cache_folder
from alexnet.cli import main
from alexnet.data import store as store_module
from alexnet.data.datasets import open_data
from alexnet.data.locations import Location, fetch_location
from alexnet.data.store import Store
from alexnet.errors import DownloadError


class Unsteady(LocalFileSystem):  # type: ignore[misc]
    """unsteady://PATH: breaks off after so many bytes, as often as it was told to."""

    protocol = "unsteady"
    breaks: list[int] = []
    read = total = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("unsteady://"))

    def _open(self, path, mode="rb", block_size=None, **kwargs):
        file = open(path, "rb", buffering=0)
        whole = file.read

        def read(size=-1):
            piece = whole(min(size, 5_000))
            Unsteady.read += len(piece)
            Unsteady.total += len(piece)
            if Unsteady.breaks and Unsteady.read > Unsteady.breaks[0]:
                Unsteady.breaks.pop(0)
                Unsteady.read = 0
                raise ConnectionResetError("gone")
            return piece

        return _Reader(file, read)


class _Reader:
    def __init__(self, file, read):
        self.file, self.read, self.seek = file, read, file.seek

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def cache():
    return cache_folder() / "downloads"


fsspec.register_implementation("unsteady", Unsteady, clobber=True)


@pytest.fixture
def store(tmp_path):
    """A Store outside the cache."""
    packed = open_data(write_pictures(tmp_path / "colours", per_class=60), image_size=32)
    place = tmp_path / "there" / "colours"
    shutil.copytree(packed.path, place)
    Unsteady.breaks, Unsteady.read, Unsteady.total = [], 0, 0
    return place


def memory(folder):
    """The same files in memory, and their address."""
    files, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}/{folder.name}"
    for file in folder.iterdir():
        files.pipe(f"{root}/{file.name}", file.read_bytes())
    return f"memory:/{root}"


@pytest.mark.parametrize("address", ["file://{}", "unsteady://{}", "memory"])
def test_a_store_is_fetched_once_and_is_data(store, address, capsys):
    address = memory(store) if address == "memory" else address.format(store)
    assert main(["data", "fetch", address]) == 0
    path = capsys.readouterr().out.strip()
    found, there = Store.open(path := type(store)(path)), Store.open(store)
    found.verify()
    assert found.fingerprint == there.fingerprint
    assert (found.x[:] == there.x[:]).all()
    assert open_data(path, image_size=32).fingerprint == there.fingerprint
    assert main(["data", "fetch", address]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(path)
    assert "is here already" in said.err
    assert [one.name for one in path.parent.iterdir()] == ["colours"]


def test_what_broke_off_goes_on(store):
    Unsteady.breaks = [15_000, 25_000, 30_000]
    for _ in range(3):
        with pytest.raises(DownloadError, match="ConnectionResetError: gone") as caught:
            fetch_location(f"unsteady://{store}")
        assert "to go on where it stopped" in caught.value.hint
    path = fetch_location(f"unsteady://{store}")
    Store.open(path).verify()
    whole = sum(file.stat().st_size for file in store.iterdir())
    assert Unsteady.total < whole + 4 * (store / "store.json").stat().st_size + 3 * 5_000


@pytest.mark.parametrize("file", ["x.bin", "y.npy", "ids.txt"])
def test_damage_is_found_and_nothing_kept(store, file):
    content = bytearray((store / file).read_bytes())
    content[len(content) // 2] ^= 1
    (store / file).write_bytes(content)
    with pytest.raises(DownloadError, match=f"is damaged.*{file}"):
        fetch_location(f"file://{store}")
    assert not list(cache().glob("*/*"))


def test_what_came_damaged_is_fetched_again_and_nothing_else(tmp_path, monkeypatch, capsys):
    """The first block and the last, each by a bit that changed on the way."""
    monkeypatch.setattr(store_module, "block_of", lambda row: 20)
    there = tmp_path / "there" / "colours"
    shutil.copytree(
        open_data(write_pictures(tmp_path / "colours", per_class=60), image_size=32).path, there
    )
    size = (there / "x.bin").stat().st_size
    once, came = Location.pieces, []

    def pieces(self, file, start, stop=math.inf):
        content = bytearray(b"".join(once(self, file, start, stop)))
        if file == "x.bin" and not came:
            content[5] ^= 4
            content[-5] ^= 4
        came.extend([len(content)] if file == "x.bin" else [])
        yield bytes(content)

    monkeypatch.setattr(Location, "pieces", pieces)
    path = fetch_location(f"file://{there}")
    Store.open(path).verify()
    block = 20 * size // len(Store.open(path))
    assert came == [size, block, block] and size > 5 * block
    assert capsys.readouterr().err.count(f"fetching {block:,} bytes of") == 2


@pytest.mark.parametrize("files", [["y.npy"], ["crc32.npy", "ids.txt"]])
def test_small_files_that_came_damaged_are_fetched_again(files, store, monkeypatch):
    once, came = Location.pieces, []

    def pieces(self, file, *places):
        content = bytearray(b"".join(once(self, file, *places)))
        if file in files and file not in came:
            content[-3] ^= 4
        came.append(file)
        yield bytes(content)

    monkeypatch.setattr(Location, "pieces", pieces)
    path = fetch_location(f"file://{store}")
    Store.open(path).verify()
    assert sorted(came) == sorted([*(one.name for one in store.iterdir()), *files])


def changed(store, **fields):
    info = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps(info | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256": {"../../evil": "0"}},
        {"sha256": {"x.bin": "0", "more.npy": "0"}},
        {"sha256": []},
        {"sha256": {}},
        {"dtype": "object"},
        {"shape": [1, 3, 32, 32]},
        {"shape": ["many"]},
    ],
)
def test_what_is_no_store_is_refused(store, fields):
    changed(store, **fields)
    with pytest.raises(DownloadError, match="is not a Store that can be used"):
        fetch_location(f"file://{store}")
    assert not list(cache().glob("*/*"))


@pytest.mark.parametrize(
    ("root", "name"),
    [("/a/photos.zip", "photos.zip"), ("/a/b/", "b"), ("/a/..", "data"), ("", "data")],
)
def test_names_stay_in_their_folder(root, name):
    assert Location("", None, root).name == name


def test_a_store_without_a_file(store):
    (store / "y.npy").unlink()
    with pytest.raises(DownloadError, match="a file is missing"):
        fetch_location(f"file://{store}")


def test_another_version_is_another_download(tmp_path):
    archive = tmp_path / "photos.zip"
    write_pictures(tmp_path / "colours")
    shutil.make_archive(str(archive.with_suffix("")), "zip", tmp_path / "colours")
    first = fetch_location(f"file://{archive}")
    assert first.name == "photos.zip"
    assert first.read_bytes() == archive.read_bytes()
    assert fetch_location(f"file://{archive}") == first
    write_pictures(tmp_path / "more", per_class=9)
    shutil.make_archive(str(archive.with_suffix("")), "zip", tmp_path / "more")
    os.utime(archive, (1, 1))
    second = fetch_location(f"file://{archive}")
    assert second != first
    assert second.read_bytes() == archive.read_bytes()
    assert first.exists()
    assert len(open_data(second, image_size=16)) == 27


def test_a_file_that_shrinks_while_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "photos.zip").write_bytes(b"x" * 100_000)
    short = functools.partialmethod(lambda *_: iter([b"x" * 70_000]))
    monkeypatch.setattr(Location, "pieces", short)
    with pytest.raises(DownloadError, match="70,000 bytes of 100,000 came"):
        fetch_location(f"file://{tmp_path}/photos.zip")
    assert not list(cache().glob("*/*"))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nowhere://x/y", "cannot be read|no location"),
        ("memory://not/there.zip", "there is no file and no Store"),
        ("file:///", "there is no file and no Store"),
    ],
)
def test_what_cannot_be_read(address, words, capsys):
    assert main(["data", "fetch", address]) == 1
    said = capsys.readouterr().err
    assert any(word in said for word in words.split("|"))


def test_a_file_system_that_is_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert main(["data", "fetch", "gs://bucket/photos.zip"]) == 1
    assert "gcsfs" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_s3(store, monkeypatch):
    moto, _ = pytest.importorskip("moto.server"), pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        bucket = fsspec.filesystem("s3", skip_instance_cache=True)
        bucket.mkdir("photos")
        bucket.put(str(store), "photos/colours", recursive=True)
        path = fetch_location("s3://photos/colours")
        assert Store.open(path).fingerprint == Store.open(store).fingerprint
        with pytest.raises(DownloadError, match="there is no file and no Store"):
            fetch_location("s3://photos/nothing.zip")
        with pytest.raises(DownloadError):
            fetch_location("s3://elsewhere/photos.zip")
    finally:
        server.stop()
