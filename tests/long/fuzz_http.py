"""Mutated HTTP heads, sent to a server on loopback: only statuses that docs/serve.md documents, no
traceback, nothing over two seconds, and a server that answers afterwards.

uv run python tests/long/fuzz_http.py [--count 100000] [--seed 0]
"""

import argparse
import contextlib
import logging
import random
import re
import socket
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from makers import Colours  # noqa: E402
from servers import Running, everything, one_answer, picture  # noqa: E402

MOST_SECONDS = 2.0
SEEDS = [
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAccept: text/html\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    b"GET /v1/models?x=%20&y HTTP/1.0\r\nHost: localhost\r\nCookie: a=b; c\r\n\r\n",
    b"GET /openapi.json HTTP/1.1\r\nHost: box.lan\r\nOrigin: http://box.lan\r\n\r\n",
    b"POST /v1/predict?top=3 HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    b"Content-Length: 5\r\n\r\nhello",
    b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Expect: 100-continue\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /v1/explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
    b'boundary=x\r\nContent-Length: 66\r\n\r\n--x\r\nContent-Disposition: form-data; name="i"; '
    b'filename="i"\r\n\r\nx\r\n--x--',
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]
PIECES = [
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"//", b"..", b"%2e%2e/", b"%00", b"%ff",
    b"?", b"#", b"@", b"[", b"]", b"\xff", b"\xc3\xa9", b"\x7f", b"Host: evil\r\n",
    b"Host: localhost\r\n",
    b"Content-Length: 7\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Content-Encoding: gzip\r\n", b"Expect: x\r\n", b"X-Forwarded-Prefix: /x\r\n", b"HTTP/1.1",
    b"HTTP/9.9", b"CONNECT", b"TRACE", b"http://evil/", b"*", b"a" * 9_000, b"X: y\r\n" * 200,
    b"0\r\n\r\n", b"ffffffffffffffff\r\n", b" folded\r\n",
]  # fmt: skip


def mutated(source):
    """A request of SEEDS with up to four places cut, doubled, filled in or turned around."""
    data = bytearray(source.choice(SEEDS))
    for _ in range(source.randint(1, 4)):
        start = source.randrange(len(data) + 1)
        end = min(len(data), start + source.choice([0, 1, 1, 2, 5, 20]))
        data[start:end] = source.choice(
            [
                b"",
                source.choice(PIECES),
                bytes([source.randrange(256)]),
                bytes(data[start:end]) * 2,
                bytes(data[start:end]).swapcase(),
            ]
        )
    return bytes(data)


def documented():
    """The statuses of docs/serve.md."""
    text = (ROOT.parent / "docs" / "serve.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE)
    told = {int(one) for row in rows for one in row.split(",")}
    return told | {int(one) for one in re.findall(r"\| `(\d{3})` \|", text)} | {100, 303}


class Errors(logging.Handler):
    """Whatever anybody logs as an error."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        self.found.append(self.format(record))


def fuzz(count, seed):
    """How often each status was answered; 0 where the server waited for more, and nothing came.

    Raises:
        AssertionError: one was wrong; says which request.
    """
    source, known, statuses, errors = random.Random(seed), documented(), {}, Errors()
    logging.getLogger().addHandler(errors)
    running = Running({"model0": Colours()})
    try:
        for number in range(count):
            data = mutated(source)
            begun = time.monotonic()
            with running.line(seconds=0.1) as line, contextlib.suppress(ConnectionError, OSError):
                status = 0
                line.sendall(data + b"\r\n\r\n")
                status = one_answer(line)[0]
                line.settimeout(2 * MOST_SECONDS)
                line.shutdown(socket.SHUT_WR)
                everything(line)  # until it closes
            took = time.monotonic() - begun
            assert status in known | {0}, f"{number}: {status} for {data!r}"
            assert took < MOST_SECONDS, f"{number}: {took:.1f} s for {data!r}"
            assert not errors.found, f"{number}: {errors.found[0]} after {data!r}"
            statuses[status] = statuses.get(status, 0) + 1
        assert running.top(picture("red")) == "red"
    finally:
        running.close()
        logging.getLogger().removeHandler(errors)
    assert not errors.found, errors.found[0]
    return dict(sorted(statuses.items()))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    begun = time.monotonic()
    statuses = fuzz(given.count, given.seed)
    print(f"{given.count} requests in {time.monotonic() - begun:.0f} s: {statuses}")


if __name__ == "__main__":
    main()
