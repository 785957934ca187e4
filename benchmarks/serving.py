"""64 clients at once against a server on loopback, each checking its own answers, beside the same
files decoded and classified in batches in one process.

uv run python benchmarks/serving.py RUN PHOTOS [--seconds 60] [--clients 64]

The clients live in a process of their own, on the same machine. Both are measured in the same run:
batches for a quarter of the time before and after, the server between; the faster of the two
counts. With --beside, clients that send a byte a second and ones that send 100 MB are there too.
"""

import argparse
import asyncio
import json
import multiprocessing
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
        writer.write(HEAD.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = json.loads(await reader.readexactly(length))
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


def clients(port, count, beside, files, expected, seconds, pipe):
    """All clients, in a process of their own."""

    async def all_of_them():
        until = time.monotonic() + seconds
        found = {"seconds": [], "errors": [], "far": 0.0}
        asked = [client(port, n * 7, files, expected, until, found) for n in range(count)]
        others = [one(port, until) for one in (slow, large) for _ in range(beside)]
        await asyncio.gather(*asked, *others)
        return found

    pipe.send(asyncio.run(all_of_them()))


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
    given = arguments.parse_args()
    context = multiprocessing.get_context("spawn")

    from alexnet.classification.predict import load
    from alexnet.data.images import EXTENSIONS
    from alexnet.serving.api import Server, make_app
    from alexnet.serving.guard import Rules, listen
    from alexnet.serving.serve import http_server, warm_up

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
    ours, theirs = context.Pipe()
    process = context.Process(
        target=clients,
        args=(port, given.clients, given.beside, files, expected, given.seconds, theirs),
    )
    process.start()
    found = ours.recv()
    process.join()
    after = in_batches(classifier, files, given.seconds / 4)
    http.should_exit = True
    thread.join()
    server.stop()

    times = np.array(found["seconds"]) * 1000
    rate, batches = len(times) / given.seconds, max(before, after)
    [model] = server.models.values()
    percentiles = ", ".join(f"{q} % {np.percentile(times, q):.0f}" for q in (50, 90, 95, 99))
    print(f"{len(files)} files, {sum(map(len, files)) / len(files) / 1e3:.0f} kB on average")
    print(f"{given.clients} clients, {given.seconds:.0f} s: {len(times):,} answers")
    print(f"errors: {len(found['errors'])} {sorted(set(found['errors']))}")
    print(f"largest difference of a probability: {found['far']:.1e}")
    print(f"latency, ms: {percentiles}, most {times.max():.0f}")
    print(f"images in a batch: {model.classified / max(1, model.batches):.1f}")
    print(f"server {rate:.0f} images/s; batches in one process {before:.0f} and {after:.0f}")
    print(f"server as a share of the faster of these: {rate / batches:.0%}")


if __name__ == "__main__":
    main()
