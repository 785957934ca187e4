"""Servers to be asked, with a socket and without, and a classifier that tells colours apart, so
that every client knows its own answer."""

import asyncio
import contextlib
import socket
import threading
import time
import zlib

import httpx
import numpy as np
from makers import COLOURS, encoded
from PIL import Image

from alexnet.data.images import load_image
from alexnet.serving.api import Server, make_app
from alexnet.serving.connections import http_server, listen
from alexnet.serving.guard import Front, Rules

HOSTILE = "<img src=x onerror=alert(1)>"
JPEG = {"content-type": "image/jpeg"}


class Colours:
    """Says which of the colours the middle of an image is nearest to, after `seconds`."""

    image_size = 8

    def __init__(self, seconds=0.0, names=tuple(COLOURS)):
        self.classes_ = np.array(names)
        self.seconds, self.sizes = seconds, []
        self.free = threading.Event()
        self.free.set()

    def square(self, content):
        return load_image(content, 8)

    def probabilities(self, squares):
        self.free.wait(20)
        time.sleep(self.seconds)
        self.sizes.append(len(squares))
        middle = np.stack(squares)[:, :, 4, 4].astype(float)
        far = np.abs(middle[:, None] - np.array(list(COLOURS.values()))[None]).sum(2)
        near = np.exp(-far / 10)
        return (near / near.sum(1, keepdims=True)).astype(np.float32)


def picture(name, kind="PNG", size=(20, 12), **how):
    return encoded(Image.new("RGB", size, COLOURS[name]), kind, **how)


def bomb():
    """A PNG of 20,000 x 20,000 px in a few hundred bytes."""

    def chunk(kind, data):
        whole = kind + data
        return len(data).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    side = (20_000).to_bytes(4, "big")
    header = chunk(b"IHDR", side + side + b"\x08\x02\x00\x00\x00")
    data = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def until(condition, seconds=30):
    """Waits for something that takes as long as the machine is busy; whether it came."""
    deadline = time.monotonic() + seconds
    while not (came := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return came


def everything(line):
    """What comes until the server closes the line or is silent: one answer may come in pieces."""
    answer = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while part := line.recv(65536):
            answer += part
    return answer


def one_answer(line):
    """The next answer of a line: (status, {header: value}, body); status 0 if there is none."""
    answer = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while b"\r\n\r\n" not in answer:
            if not (part := line.recv(65536)):
                break
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.1 "):
        return 0, {}, b""
    headers = dict(one.lower().split(": ", 1) for one in lines)
    status, length = int(first[9:12]), int(headers.get("content-length", 0))
    if status == 100:
        return status, headers, body
    with contextlib.suppress(TimeoutError, ConnectionError):
        while len(body) < length and (part := line.recv(65536)):
            body += part
    return status, headers, body


def is_cut(line):
    """Whether the server has closed this line."""
    line.settimeout(0.01)
    try:
        return line.recv(65536) == b""  # what was said before is read the first time
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def rules(token="", loopback=True, **front):
    return Rules(loopback, frozenset({"localhost", "box.lan"}), token, Front(**front))


class Asked:
    """An application that is asked without a socket."""

    def __init__(self, *models, log=None, **how):
        models = models or [Colours()]
        self.server = Server({f"model{n}": one for n, one in enumerate(models)})
        self.app = make_app(self.server, rules(**how), log)

    def ask(self, method, path, **how):
        async def one():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as it:
                return await it.request(method, path, **how)

        return asyncio.run(one())

    def get(self, path, **how):
        return self.ask("GET", path, **how)

    def post(self, content, path="/v1/predict", headers=JPEG, **how):
        return self.ask("POST", path, content=content, headers=headers, **how)

    def top(self, content, **how):
        return self.post(content, **how).json()["images"][0]["top"][0]["class"]

    def close(self):
        self.server.stop()


class Running:
    """A server on a free loopback port."""

    def __init__(self, models, log=None, **how):
        self.server = Server(models)
        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        self.http = http_server(make_app(self.server, rules(**how), log))
        self.thread = threading.Thread(target=self.http.run, args=([self.socket],), daemon=True)
        self.thread.start()
        while not self.http.started:
            time.sleep(0.01)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def post(self, content, path="/v1/predict", headers=JPEG, **how):
        return self.client.post(path, content=content, headers=headers, **how)

    def top(self, content, **how):
        return self.post(content, **how).json()["images"][0]["top"][0]["class"]

    def line(self, source="127.0.0.1", seconds=10):
        """A connection, from any of the loopback addresses."""
        found = socket.create_connection(("127.0.0.1", self.port), seconds, (source, 0))
        found.settimeout(seconds)
        return found

    def raw(self, data, seconds=10):
        """The first answer to these bytes: (status, headers, body)."""
        with self.line(seconds=seconds) as line:
            line.sendall(data)
            return one_answer(line)

    def close(self):
        self.client.close()
        self.http.should_exit = True
        self.thread.join(15)
        self.server.stop()
        self.socket.close()
        assert not self.thread.is_alive()
