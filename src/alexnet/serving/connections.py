"""The connections of the server: how many, from whom, how slow; the heads of requests; and an end
that finishes what is under way."""

import asyncio
import contextlib
import functools
import json
import math
import os
import socket
import time
from http import HTTPStatus

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from alexnet.serving.guard import HEADERS, MOST_OF_ONE, Guard, neighbour

MOST_CONNECTIONS = 4096
FIRST_SECONDS = 1.0  # for a client with MOST_OF_ONE connections to ask something on one more
MOST_HEAD = 16 * 1024  # bytes of a request's head
MOST_TARGET = 8 * 1024  # bytes of its path and query
MOST_HEADERS = 100
HEAD_SECONDS = 30.0  # until a request, with its body, must have come; then the line is cut
LINGER_SECONDS = 2.0  # for a client to read why it is refused
GRACE_SECONDS = 9.0  # for what is under way when the server ends; `docker stop` waits 10
REASONS = {
    400: "the request cannot be read",
    414: f"the address is longer than {MOST_TARGET // 1024} KiB",
    431: f"the head is larger than {MOST_HEAD // 1024} KiB, or has over {MOST_HEADERS} headers",
    501: "the transfer encoding is unknown",
    505: "the version of HTTP is unknown",
}


class Heads(h11.Connection):
    """h11, and the limits on a request's head that it does not have: it looks at the size only of
    heads that have not come whole. `status` is that of what is refused."""

    status = 400

    def next_event(self) -> type[h11.NEED_DATA] | type[h11.PAUSED] | h11.Event:
        """As h11's.

        Raises:
            h11.RemoteProtocolError: no request, or one that is refused.
        """
        waiting = self.their_state is h11.IDLE
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            if status == 431 and not waiting:  # what is too long is part of a body
                status = 400
            elif status == 431 and b"\n" not in self.trailing_data[0]:
                status = 414
            self.status = status if status in REASONS else 400
            raise
        if isinstance(event, h11.Request) and (found := wrong_with(event)):
            self.status = found
            raise h11.RemoteProtocolError(REASONS[found])
        return event


def wrong_with(request: h11.Request) -> int:
    """The status with which a head that has come whole is refused, or 0."""
    target, names = request.target, [name for name, _ in request.headers]
    size = len(target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
    wrong = {
        505: request.http_version not in (b"1.0", b"1.1"),
        414: len(target) > MOST_TARGET,
        431: size > MOST_HEAD or len(names) > MOST_HEADERS,
        400: not (target.startswith(b"/") or (target, request.method) == (b"*", b"OPTIONS"))
        # two lengths are how a request is smuggled past a proxy
        or {b"content-length", b"transfer-encoding"} <= set(names),
    }
    return next((status for status, is_so in wrong.items() if is_so), 0)


def refusal(status: int, reason: str, hint: str) -> bytes:
    """An answer as the guard's, where no application has been asked."""
    body = json.dumps({"error": f"{reason}.", "hint": hint}).encode()
    about = {"Content-Type": "application/json", "Content-Length": len(body), "Connection": "close"}
    lines = [f"{name}: {value}\r\n" for name, value in {**HEADERS, **about}.items()]
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{''.join(lines)}\r\n"
    return head.encode() + body


class Connections:
    """The connections of a server, by client. Where there are too many, those that have been idle
    longest are closed, first those that never asked anything."""

    def __init__(self, most: int = MOST_CONNECTIONS) -> None:
        self.most, self.count = most, 0
        self.of: dict[str, set[Protocol]] = {}
        self._crowded: set[str] = set()  # clients with too many, which are being looked after

    def add(self, new: "Protocol") -> bool:
        """Whether there is room for one more."""
        own = self.of.setdefault(new.neighbour, set())
        own.add(new)
        self.count += 1
        if len(own) > MOST_OF_ONE and new.neighbour not in self._crowded:
            self._crowded.add(new.neighbour)
            self._thin_out(new.loop, new.neighbour)
        if self.count > self.most:
            largest = max(self.of.values(), key=len)
            self._close(largest, max(1, len(largest) // 16), 0.0)
            if self.count > self.most:  # all are busy
                self.drop(new)
        return new in own

    def drop(self, one: "Protocol") -> None:
        """It has gone, or is about to."""
        own = self.of.get(one.neighbour, set())
        if one in own:
            own.remove(one)
            self.count -= 1
            if not own:
                del self.of[one.neighbour]

    def _thin_out(self, loop: asyncio.AbstractEventLoop, client: str) -> None:
        """Again and again, until the client has no more than it may."""
        own = self.of.get(client, set())
        self._close(own, len(own) - MOST_OF_ONE, FIRST_SECONDS)
        if len(own) > MOST_OF_ONE:
            loop.call_later(FIRST_SECONDS / 4, self._thin_out, loop, client)
        else:
            self._crowded.discard(client)

    def _close(self, own: "set[Protocol]", count: int, seconds: float) -> None:
        """Closes so many idle ones, but those that have not been idle for so long."""
        idle = sorted((one for one in own if one.idle), key=lambda one: (one.has_asked, one.since))
        for one in idle[: max(0, count)]:
            if one.since <= time.monotonic() - seconds:
                self.drop(one)
                one.transport.close()


class Protocol(H11Protocol):
    """HTTP that does not wait for ever: a request that has not come whole in HEAD_SECONDS is cut
    off, and so is an answer that nobody takes. (uvicorn limits only the pause between two
    requests.)"""

    conn: Heads
    neighbour = ""  # the client's address, or its network
    has_asked = False
    _clock: asyncio.TimerHandle | None = None
    _ended = False  # what still comes is thrown away

    def __init__(self, table: Connections, **how: object) -> None:
        super().__init__(**how)  # type: ignore[arg-type]
        self.table, self.since = table, math.inf  # idle since; inf: not yet listened to
        self.conn = Heads(h11.SERVER, MOST_HEAD)

    @property
    def idle(self) -> bool:
        """Whether no request of it is being answered; its head may have come in part."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.neighbour = neighbour(self.client[0] if self.client else "")
        if not self.table.add(self):
            hint = "Close some, or try again later."
            transport.write(refusal(503, "there are too many connections", hint))
            transport.close()
        # two rounds of the loop later what it has sent already was read, however busy the loop is
        self.loop.call_soon(self.loop.call_soon, self._listened)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.table.drop(self)
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._ended:
            super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        self.has_asked, self.since = True, time.monotonic()
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def _listened(self) -> None:
        self.since = time.monotonic()

    def shutdown(self) -> None:
        if self._ended:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Whatever `Heads` refuses comes here."""
        begun = self.cycle is not None and self.cycle.response_started
        if begun and not self.cycle.response_complete:
            self.transport.abort()  # there is no place left for another answer
        else:
            self._end(self.conn.status)

    def _end(self, status: int) -> None:
        """Says why, and closes. Closing with something unread would take the answer away again, so
        the client has a moment to read it."""
        self._ended = True
        if self.cycle is not None:
            self.cycle.disconnected, self.cycle.waiting_for_100_continue = True, False
            self.cycle.message_event.set()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        hint = "Send HTTP/1.1 with a path and a short head."
        self.transport.write(refusal(status, REASONS[status], hint))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._stop()
        self._clock = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _watch(self) -> None:
        waits = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if self._ended or self.transport.is_closing():
            waits = self._clock is not None or self.transport.get_write_buffer_size() > 0
        elif self.transport.get_write_buffer_size() > 0:
            waits = True
        if not waits:
            self._stop()
        elif self._clock is None:
            self._clock = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._clock:
            self._clock.cancel()
            self._clock = None


class HttpServer(uvicorn.Server):
    """uvicorn, but at its end it goes on listening until what is under way is done, at most
    GRACE_SECONDS; whoever asks meanwhile hears 503."""

    def __init__(self, config: uvicorn.Config, guard: Guard) -> None:
        super().__init__(config)
        self.guard = guard

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        self.guard.leave()
        until = time.monotonic() + GRACE_SECONDS
        while self.guard.under_way and not self.force_exit and time.monotonic() < until:
            await asyncio.sleep(0.02)
        self.guard.give_up()
        await super().shutdown(sockets)


def http_server(app: Guard) -> HttpServer:
    """What speaks HTTP for an application. It trusts no header about who asks, and writes nothing
    about requests but what fails inside."""
    config = uvicorn.Config(
        app,
        http=functools.partial(Protocol, Connections(allowed_connections())),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    return HttpServer(config, app)


def allowed_connections() -> int:
    """How many connections the process may hold: MOST_CONNECTIONS, or what the system permits, but
    for some files of its own. The usual limit is 1,024 files, and is raised where that is
    allowed."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * MOST_CONNECTIONS
        if files != resource.RLIM_INFINITY and files < wanted:
            files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        if files != resource.RLIM_INFINITY:
            return max(16, min(MOST_CONNECTIONS, files - 256))
    return MOST_CONNECTIONS


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: the address is in use, not of this machine, or not allowed.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would take over a port in use
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(1024)
    except OSError:
        found.close()
        raise
    return found
