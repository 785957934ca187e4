"""64 clients at once against a server on loopback, each checking its own answers, beside the same
files decoded and classified in batches in one process.

uv run python benchmarks/serving.py RUN PHOTOS [--seconds 60] [--clients 64]

The clients live in a process of their own, on the same machine. Both are measured in the same run:
batches for a quarter of the time before and after, the server between; the faster of the two
counts. With --beside, clients that send a byte a second and ones that send 100 MB are there too.
With --hostile, the same is measured once more while one client sends the costliest pictures that
are allowed and 3,000 connections say nothing; /healthz is asked ten times a second meanwhile.
"""

import argparse
import asyncio
import contextlib
import io
import json
import multiprocessing
import os
import random
import threading
import time
from pathlib import Path

import numpy as np

HEAD = "POST /v1/predict?top=1000 HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"


async def client(port, number, files, expected, until, found):
    """Asks again and again on one line; notes the time of each answer and whatever is wrong."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    place = number
    while time.monotonic() < until:
        content = files[place % len(files)]
        begun = time.perf_counter()
        try:
            writer.write(HEAD.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = json.loads(await reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError):
            found["errors"].append("cut off")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            continue
        found["seconds"].append(time.perf_counter() - begun)
        if not head.startswith(b"HTTP/1.1 200"):
            found["errors"].append(head[9:12].decode())
        else:
            p = {one["class"]: one["p"] for one in body["images"][0]["top"]}
            far = max(abs(p[name] - value) for name, value in expected[place % len(files)].items())
            found["far"] = max(found["far"], far)
            if far > 0.02:  # bf16 rounds differently in batches of other sizes
                found["errors"].append("another's answer")
        place += 1
    writer.close()


async def slow(port, until):
    """A byte a second; comes again when it is sent away."""
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD.encode() + b"Content-Length: 1000\r\n\r\n")
        while time.monotonic() < until and not reader.at_eof():
            writer.write(b"a")
            try:
                if await asyncio.wait_for(reader.read(1000), 1):
                    break
            except (TimeoutError, ConnectionError):
                pass
        writer.close()


async def large(port, until):
    """100 MB, as fast as they are taken."""
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD.encode() + b"Content-Length: 100000000\r\n\r\n" + bytes(10**6))
        await reader.read(1000)
        writer.close()
        await asyncio.sleep(0.5)


async def silent(port, until):
    """Says nothing; comes within five seconds, and again ten seconds after it is sent away."""
    await asyncio.sleep(min(random.uniform(0, 5), max(0, until - time.monotonic())))
    while (rest := until - time.monotonic()) > 0:
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.wait_for(reader.read(1), rest)
            finally:
                writer.close()
        await asyncio.sleep(min(10, max(0, until - time.monotonic())))


async def costly(port, content, until, found):
    """The costliest picture, again and again."""
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        with contextlib.suppress(OSError, TimeoutError):
            left = until - time.monotonic()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), left)
            found["costly"].append(head[9:12].decode())
        writer.close()


async def health(port, until, found):
    """Asks /healthz on a new connection ten times a second."""
    while time.monotonic() < until:
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            found["errors"].append("healthz cut off")
            continue
        found["health"].append(time.perf_counter() - begun)
        if not head.startswith(b"HTTP/1.1 200"):
            found["errors"].append(f"healthz {head[9:12].decode()}")
        writer.close()
        await asyncio.sleep(0.1)


async def all_of_them(port, count, beside, files, expected, seconds, picture=b"", idle=3000):
    """Every client, for so long; what they found. `picture` is the costliest one, if any."""
    until = time.monotonic() + seconds
    found = {"seconds": [], "errors": [], "far": 0.0, "health": [], "costly": []}
    others = [one(port, until) for one in (slow, large) for _ in range(beside)]
    if picture:
        others += [silent(port, until) for _ in range(idle)]
        others += [costly(port, picture, until, found), health(port, until, found)]
    asked = [client(port, n * 7, files, expected, until, found) for n in range(count)]
    await asyncio.gather(*asked, *others)
    return found


def clients(pipe, *how):
    """All clients, in a process of their own."""
    from alexnet.serving.connections import allowed_connections

    allowed_connections()  # as many files as the server
    pipe.send(asyncio.run(all_of_them(*how)))


def measured(context, *how):
    """What the clients found."""
    ours, theirs = context.Pipe()
    process = context.Process(target=clients, args=(theirs, *how))
    process.start()
    found = ours.recv()
    process.join()
    return found


def costliest():
    """89 megapixels with transparency: most memory, and most of Python's lock."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGBA", (16383, 5461), (30, 200, 40, 99)).save(file, "PNG", compress_level=1)
    return file.getvalue()


class Memory(threading.Thread):
    """The most memory, in bytes, that this process and those it decodes in had at any time (Linux):
    `most` of both together, `own` of this one alone."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.own, self.ended = 0, 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            sizes = {}
            for place in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (place / "cmdline").read_bytes().split(b"\0")
                    if place.name == str(os.getpid()) or b"alexnet.serving.decoding" in words:
                        pages = int((place / "statm").read_text().split()[1])
                        sizes[place.name] = pages * os.sysconf("SC_PAGE_SIZE")
            self.most = max(self.most, sum(sizes.values()))
            self.own = max(self.own, sizes.get(str(os.getpid()), 0))


def said(found, seconds):
    """What the clients found, in words; the 99th percentile in ms."""
    times = np.array(found["seconds"]) * 1000
    percentiles = ", ".join(f"{q} % {np.percentile(times, q):.0f}" for q in (50, 90, 95, 99))
    print(f"{len(times):,} answers in {seconds:.0f} s")
    print(f"errors: {len(found['errors'])} {sorted(set(found['errors']))}")
    print(f"largest difference of a probability: {found['far']:.1e}")
    print(f"latency, ms: {percentiles}, most {times.max():.0f}")
    return np.percentile(times, 99)


def hostile(context, port, given, files, expected, before):
    """The same once more, beside the costliest pictures and silent connections."""
    how = (port, given.clients, given.beside, files, expected, given.seconds, costliest())
    memory = Memory()
    memory.start()
    found = measured(context, *how)
    memory.ended.set()
    print("beside one client with the costliest pictures and 3,000 silent connections:")
    p99 = said(found, given.seconds)
    statuses = {one: found["costly"].count(one) for one in set(found["costly"])}
    print(f"99 % within {p99 / before:.1f} times what it was; costliest pictures: {statuses}")
    health = np.array(found["health"])
    print(f"/healthz: {len(health)} times, most {health.max():.2f} s")
    print(
        f"memory, GB: {memory.most / 1e9:.2f} at most, {memory.own / 1e9:.2f} of the server alone"
    )


def in_batches(classifier, files, seconds):
    """Images a second, decoded and classified 64 at a time."""
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        classifier.predict_proba([files[(done + n) % len(files)] for n in range(64)])
        done += 64
    return done / (time.perf_counter() - begun)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run")
    arguments.add_argument("photos")
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--clients", type=int, default=64)
    arguments.add_argument("--beside", type=int, default=0, help="slow and oversize clients")
    arguments.add_argument("--hostile", action="store_true", help="costly pictures, silent lines")
    given = arguments.parse_args()
    context = multiprocessing.get_context("spawn")

    from alexnet.classification.predict import load
    from alexnet.data.images import EXTENSIONS
    from alexnet.serving.api import Server, make_app
    from alexnet.serving.connections import http_server, listen
    from alexnet.serving.guard import Rules
    from alexnet.serving.serve import warm_up

    paths = sorted(p for p in Path(given.photos).rglob("*") if p.suffix.lower() in EXTENSIONS)
    files = [path.read_bytes() for path in paths]
    classifier = load(given.run)
    p = classifier.predict_proba(files)
    names = classifier.classes_.tolist()
    expected = [dict(zip(names, row.tolist(), strict=True)) for row in p]
    server = Server({"model": classifier})
    for model in server.models.values():
        warm_up(model)
    listener = listen("127.0.0.1", 0)
    http = http_server(make_app(server, Rules(True, frozenset({"localhost"}))))
    thread = threading.Thread(target=http.run, args=([listener],), daemon=True)
    thread.start()
    port = listener.getsockname()[1]

    before = in_batches(classifier, files, given.seconds / 4)
    how = (port, given.clients, given.beside, files, expected, given.seconds)
    found = measured(context, *how)
    after = in_batches(classifier, files, given.seconds / 4)
    rate, batches = len(found["seconds"]) / given.seconds, max(before, after)
    [model] = server.models.values()
    print(f"{len(files)} files, {sum(map(len, files)) / len(files) / 1e3:.0f} kB on average")
    print(f"{given.clients} clients:")
    p99 = said(found, given.seconds)
    print(f"images in a batch: {model.classified / max(1, model.batches):.1f}")
    print(f"server {rate:.0f} images/s; batches in one process {before:.0f} and {after:.0f}")
    print(f"server as a share of the faster of these: {rate / batches:.0%}")
    if given.hostile:
        hostile(context, port, given, files, expected, p99)
    http.should_exit = True
    thread.join()
    server.stop()


if __name__ == "__main__":
    main()
