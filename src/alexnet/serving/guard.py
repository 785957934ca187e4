"""What stands between the network and the server: who may ask, from which page, how much and how
slowly."""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

import h11
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)
MOST_ACTIVE = 256  # requests at the same time
MOST_CONNECTIONS = 2048
HEAD_SECONDS = 30.0  # until a request, with its body, must have come; then the line is cut
PATHS = ("/", "/healthz", "/metrics", "/openapi.json", "/v1/models", "/v1/predict", "/v1/explain")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ASKING_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>alexnet</title>
<h1>alexnet</h1><p>This server asks for its token. It was printed when the server was started.</p>
<form action="/"><input name="token" type="password" aria-label="token" autofocus>
<button>Open</button></form>"""


class Refused(Exception):
    """A request that is not answered: an HTTP status, what is wrong, and what to do about it."""

    def __init__(self, status: int, message: str, hint: str, retry: int = 0) -> None:
        super().__init__(message)
        self.status, self.message, self.hint, self.retry = status, message, hint, retry

    def response(self) -> Response:
        """As JSON: `error` is what is wrong, `hint` what to do."""
        headers = {"Retry-After": str(self.retry)} if self.retry else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": self.message, "hint": self.hint}, self.status, headers)


class Figures:
    """What the server counts, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "alexnet_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "alexnet_request_seconds", "From request to answer.", ["path"], registry=self.registry,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
        )  # fmt: skip
        self.active = Gauge(
            "alexnet_requests_active", "Requests being answered.", registry=self.registry
        )

    def note(self, path: str, status: int, seconds: float) -> None:
        """One more request; unknown paths are counted together."""
        path = path if path in PATHS else "other"
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)


@dataclass(frozen=True)
class Rules:
    """Who may ask."""

    loopback: bool  # only programs of this machine can reach the server
    names: frozenset[str]  # host names it is known by, lower case
    token: str = ""

    def check_host(self, headers: Headers) -> None:
        """A page of another name that was pointed at this address is refused (DNS rebinding): a
        name must be known, and addresses, which cannot be pointed elsewhere, are."""
        given = headers.getlist("host")
        host = place_of(f"//{given[0]}")[1] if len(given) == 1 else ""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            known = host in self.names
        else:
            known = address.is_loopback or not self.loopback
        if not known:
            raise Refused(
                421,
                f"this server is not known by the name {host[:80]!r}.",
                "Use localhost or its address, or start it with --name NAME.",
            )

    def check_origin(self, headers: Headers, navigates: bool) -> None:
        """Pages of other origins are refused."""
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        foreign = origin is not None and place_of(origin)[0] != headers["host"].lower()
        if foreign or (site in ("cross-site", "same-site") and not navigates):
            raise Refused(
                403, "pages of other origins may not use this server.", "Open its own page."
            )

    def admits(self, headers: Headers, cookie: str) -> bool:
        """Whether the token is there and right."""
        if not self.token:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(cookie)
        except CookieError:
            return False
        return found is not None and self.is_token(found.value)

    def is_token(self, given: str) -> bool:
        """Whether it is the token, in a time that tells nothing."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


def place_of(address: str) -> tuple[str, str]:
    """The host with its port, and without, in lower case; empty where that cannot be read."""
    try:
        found = urlsplit(address)
        return found.netloc.lower(), found.hostname or ""
    except ValueError:
        return "", ""


class Guard:
    """ASGI middleware: lets through what the rules allow, counts, and puts the headers of a careful
    server on every answer. `log` is told of each request, without its query."""

    def __init__(
        self, app: ASGIApp, rules: Rules, figures: Figures, log: Callable[[str], None] | None = None
    ) -> None:
        self.app, self.rules, self.figures, self.log = app, rules, figures, log
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        self.active += 1
        self.figures.active.set(self.active)
        try:
            early = self.answer_at_once(scope)
            await (early or self.app)(scope, receive, sending)
        except Refused as refused:
            await refused.response()(scope, receive, sending)
        except Exception:  # answered as status 500 further inside
            logger.exception("a request failed inside")
        finally:
            self.active -= 1
            self.figures.active.set(self.active)
            seconds = time.perf_counter() - begun
            self.figures.note(scope["path"], status, seconds)
            if self.log:
                client = (scope.get("client") or ["-"])[0]
                path = ascii(scope["path"])[1:-1][:80]
                self.log(f"{client} {scope['method']} {path} {status} {seconds * 1e3:.0f} ms")

    def answer_at_once(self, scope: Scope) -> Response | None:
        """The answer to a request that needs nothing else; None if it may go on.

        Raises:
            Refused: it may not.
        """
        headers, path = Headers(scope=scope), scope["path"]
        if self.active > MOST_ACTIVE and path != "/healthz":
            raise Refused(503, "too many requests at once.", "Try again in a second.", retry=1)
        self.rules.check_host(headers)
        navigates = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        self.rules.check_origin(headers, navigates)
        cookie = f"alexnet-{(scope.get('server') or ['', 0])[1]}"  # cookies do not tell ports apart
        if path == "/" and self.rules.token:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self.rules.is_token(given):
                answer = RedirectResponse("/", 303)
                answer.set_cookie(cookie, given, httponly=True, samesite="lax")
                return answer
        if path == "/healthz" or self.rules.admits(headers, cookie):
            return None
        if path == "/":
            policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'"
            return HTMLResponse(ASKING_PAGE, 401, {"Content-Security-Policy": policy})
        raise Refused(
            401, "the token is missing or wrong.", "Send it as `Authorization: Bearer TOKEN`."
        )


class Protocol(H11Protocol):
    """HTTP that does not wait for ever: a request that has not come whole in HEAD_SECONDS is cut
    off, and so are connections beyond MOST_CONNECTIONS. (uvicorn limits only the pause between two
    requests.)"""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop()
        elif self._clock is None and not self.transport.is_closing():
            self._clock = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._clock:
            self._clock.cancel()
            self._clock = None


def allow_connections() -> None:
    """Lets the process hold MOST_CONNECTIONS sockets, where the system permits it: the usual limit
    is 1,024 files."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * MOST_CONNECTIONS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


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
