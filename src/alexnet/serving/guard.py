"""What stands between the network and the server: who may ask, from which page, by which name,
behind which proxy."""

import asyncio
import hmac
import ipaddress
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

import prometheus_client as prometheus
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)
MOST_ACTIVE = 256  # requests at the same time
MOST_OF_ONE = 128  # of these, and of the connections, those of one address: others are heard, too
METHODS = {  # of each path; OPTIONS tells them
    "/": "GET, HEAD, OPTIONS",
    "/healthz": "GET, HEAD, OPTIONS",
    "/metrics": "GET, HEAD, OPTIONS",
    "/openapi.json": "GET, HEAD, OPTIONS",
    "/v1/models": "GET, HEAD, OPTIONS",
    "/v1/predict": "POST, OPTIONS",
    "/v1/explain": "POST, OPTIONS",
}
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
<form><input name="token" type="password" aria-label="token" autofocus>
<button>Open</button></form>"""
AUTHORITY = re.compile(  # a name, an IPv4 address or an IPv6 one in brackets, and perhaps a port
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?"
)
PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")


class Refused(Exception):
    """A request that is not answered: an HTTP status, what is wrong, and what to do about it."""

    def __init__(
        self,
        status: int,
        message: str,
        hint: str,
        headers: Mapping[str, str] | None = None,
        *,
        retry: int = 0,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint
        self.headers = dict(headers or {})
        if retry:
            self.headers["Retry-After"] = str(retry)
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def response(self) -> Response:
        """As JSON: `error` is what is wrong, `hint` what to do."""
        return JSONResponse(
            {"error": self.message, "hint": self.hint}, self.status, headers=self.headers
        )


class Figures:
    """What the server counts, for Prometheus."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "alexnet_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.seconds = prometheus.Histogram(
            "alexnet_request_seconds", "From request to answer.", ["path"], registry=self.registry,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
        )  # fmt: skip
        self.active = prometheus.Gauge(
            "alexnet_requests_active", "Requests being answered.", registry=self.registry
        )

    def note(self, path: str, status: int, seconds: float) -> None:
        """One more request."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)


@dataclass(frozen=True)
class Authority:
    """A host as the Host header and addresses name it: in lower case, without the last dot, without
    brackets. The port is None where none is given."""

    host: str
    port: int | None = None

    @classmethod
    def read(cls, text: str) -> "Authority":
        """The one rule for what a host may look like.

        Raises:
            ValueError: it is none.
        """
        found = AUTHORITY.fullmatch(text)
        if not found:
            raise ValueError("not a host")
        six, name, port = found.groups()
        if port and int(port) > 65535:
            raise ValueError("not a port")
        host = str(ipaddress.IPv6Address(six)) if six else name.lower().removesuffix(".")
        return cls(host, int(port) if port else None)

    def at(self, scheme: str) -> tuple[str, int]:
        """With the port that http or https means where none is given."""
        return self.host, self.port or {"http": 80, "https": 443}[scheme]


@dataclass(frozen=True)
class Front:
    """What stands before the server. No header is believed unless `forwarded` says that a proxy
    sets it."""

    prefix: str = ""  # of the paths as clients see them, such as /alexnet
    https: bool = False  # clients speak https to the proxy
    forwarded: bool = False  # X-Forwarded-Prefix and X-Forwarded-Proto say so for each request

    def seen(self, headers: Headers) -> tuple[str, bool]:
        """The prefix of a request, and whether it came by https.

        Raises:
            Refused: a header of the proxy is not what it should be.
        """
        if not self.forwarded:
            return self.prefix, self.https
        prefixes = headers.getlist("x-forwarded-prefix") or [self.prefix]
        schemes = headers.getlist("x-forwarded-proto") or ["https" if self.https else "http"]
        prefix, scheme = prefixes[0].rstrip("/"), schemes[0].lower()
        if (
            max(len(prefixes), len(schemes)) > 1
            or not PREFIX.fullmatch(prefix)
            or scheme not in ("http", "https")
        ):
            raise Refused(
                400,
                "X-Forwarded-Prefix or X-Forwarded-Proto cannot be read.",
                "The proxy has to set each once: a path such as /alexnet, and http or https.",
            )
        return prefix, scheme == "https"


@dataclass(frozen=True)
class Rules:
    """Who may ask."""

    loopback: bool  # only programs of this machine can reach the server
    names: frozenset[str]  # host names it is known by, lower case
    token: str = ""
    front: Front = Front()

    def check_host(self, headers: Headers) -> Authority:
        """A page of another name that was pointed at this address is refused (DNS rebinding): a
        name must be known, and addresses, which cannot be pointed elsewhere, are."""
        given = headers.getlist("host")
        try:
            [text] = given
            authority = Authority.read(text)
        except ValueError:
            raise Refused(
                400,
                f"the Host header is {', '.join(given)[:80]!r}, which is no host.",
                "Send one name or address, with a port if need be.",
            ) from None
        try:
            address = ipaddress.ip_address(authority.host)
        except ValueError:
            known = authority.host in self.names
        else:
            known = address.is_loopback or not self.loopback
        if not known:
            raise Refused(
                421,
                f"this server is not known by the name {authority.host[:80]!r}.",
                "Use localhost or its address, or start it with --name NAME.",
            )
        return authority

    def check_origin(self, headers: Headers, own: Authority, https: bool, navigates: bool) -> None:
        """Pages of other origins are refused."""
        site = headers.get("sec-fetch-site", "none")
        foreign = site in ("cross-site", "same-site") and not navigates
        for origin in headers.getlist("origin"):
            scheme, _, place = origin.partition("://")
            try:
                # a proxy may speak https without our knowing
                ours = scheme == "https" or (scheme == "http" and not https)
                foreign |= not ours or Authority.read(place).at(scheme) != own.at(scheme)
            except ValueError:
                foreign = True
        if foreign:
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


def neighbour(address: str) -> str:
    """What is counted as one client: an IPv4 address, or a network /64 of IPv6, of which everybody
    has 2^64 addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


class Guard:
    """ASGI middleware: lets through what the rules allow, counts, and puts the headers of a careful
    server on every answer. `log` is told of each request, without its query."""

    def __init__(
        self,
        app: ASGIApp,
        rules: Rules,
        figures: Figures,
        log: Callable[[str], None] | None = None,
        methods: Mapping[str, str] = METHODS,
    ) -> None:
        self.app, self.rules, self.figures, self.log = app, rules, figures, log
        self.methods = methods
        self.under_way: set[asyncio.Task[object]] = set()  # requests, but those that come too late
        self.clients: Counter[str] = Counter()  # of these, by address
        self.leaving = False  # the server ends: no more requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, late = time.perf_counter(), 500, self.leaving
        head, started = scope["method"] == "HEAD", False  # as GET, without the body
        inner = dict(scope, root_path="", method="GET" if head else scope["method"])

        async def sending(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.leaving:
                    headers["Connection"] = "close"
            elif head:
                message = dict(message, body=b"")
            await send(message)

        task, client = asyncio.current_task(), neighbour((scope.get("client") or ["-"])[0])
        if task and not late:
            self.under_way.add(task)
        self.clients[client] += 1
        self.figures.active.set(len(self.under_way))
        try:
            if self.clients[client] > MOST_OF_ONE and scope["path"] != "/healthz":
                raise Refused(503, "too many requests of one address.", "Wait a second.", retry=1)
            early = self.answer_at_once(inner, late)
            await (early or self.app)(inner, receive, sending)
        except Refused as refused:
            await refused.response()(inner, receive, sending)
        except asyncio.CancelledError:
            if started or not self.leaving:
                raise
            await stopping().response()(inner, receive, sending)
        except Exception:  # answered as status 500 further inside
            logger.exception("a request failed inside")
        finally:
            self.under_way.discard(task)
            self.clients[client] -= 1
            if not self.clients[client]:
                del self.clients[client]
            self.figures.active.set(len(self.under_way))
            seconds = time.perf_counter() - begun
            path = inner["path"].removeprefix(inner["root_path"])
            path = path if path in self.methods else "other"  # unknown ones are counted together
            self.figures.note(path, status, seconds)
            if self.log:
                client = (scope.get("client") or ["-"])[0]
                path = ascii(scope["path"])[1:-1][:80]
                self.log(f"{client} {scope['method']} {path} {status} {seconds * 1e3:.0f} ms")

    def leave(self) -> None:
        """No more requests: those that come hear that the server is stopping."""
        self.leaving = True

    def give_up(self) -> None:
        """Those under way hear it, too."""
        for task in self.under_way:
            task.cancel()

    def answer_at_once(self, scope: Scope, late: bool) -> Response | None:
        """The answer to a request that needs nothing else; None if it may go on. The scope gets the
        prefix, the path below it and the scheme.

        Raises:
            Refused: it may not.
        """
        headers, path = Headers(scope=scope), scope["path"]
        if late:
            raise stopping()
        if len(self.under_way) > MOST_ACTIVE and path != "/healthz":
            raise Refused(503, "too many requests at once.", "Try again in a second.", retry=1)
        prefix, https = self.rules.front.seen(headers)
        if prefix and f"{path}/".startswith(f"{prefix}/"):  # unless the proxy has taken it away
            path = path[len(prefix) :]
        scope["root_path"], scope["path"] = prefix, prefix + path
        scope["scheme"] = "https" if https else "http"
        own = self.rules.check_host(headers)
        navigates = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        self.rules.check_origin(headers, own, https, navigates)
        if not path:  # addresses on the page are below its own
            query = scope["query_string"].decode("latin-1")
            return RedirectResponse(f"{prefix}/?{query}" if query else f"{prefix}/", 308)
        if headers.get("expect", "100-continue").lower() != "100-continue":
            raise Refused(417, "the Expect header asks for something unknown.", "Leave it out.")
        return self.identified(scope, headers, path) or self.by_method(scope["method"], path)

    def identified(self, scope: Scope, headers: Headers, path: str) -> Response | None:
        """Looks at the token: None if it is there, the cookie for one in the page's address.

        Raises:
            Refused: it is missing or wrong.
        """
        prefix = scope["root_path"]
        cookie = f"alexnet-{(scope.get('server') or ['', 0])[1]}"  # cookies do not tell ports apart
        if path == "/" and self.rules.token:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if self.rules.is_token(given):
                answer = RedirectResponse(f"{prefix}/", 303)
                secure = scope["scheme"] == "https"
                answer.set_cookie(
                    cookie, given, path=f"{prefix}/", secure=secure, httponly=True, samesite="lax"
                )
                return answer
        if path == "/healthz" or self.rules.admits(headers, cookie):
            return None
        if path == "/":
            policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'"
            return HTMLResponse(ASKING_PAGE, 401, {"Content-Security-Policy": policy})
        raise Refused(
            401, "the token is missing or wrong.", "Send it as `Authorization: Bearer TOKEN`."
        )

    def by_method(self, method: str, path: str) -> Response | None:
        """What OPTIONS is told; None for methods that the path has, and for unknown paths.

        Raises:
            Refused: the path does not have the method.
        """
        allowed = "GET, HEAD, POST, OPTIONS" if path == "*" else self.methods.get(path)
        if allowed and method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        if allowed and method not in allowed.split(", "):
            raise Refused(
                405, f"{path} has no {method[:20]}.", f"Use {allowed}.", {"Allow": allowed}
            )
        return None


def stopping() -> Refused:
    """What is said to requests that come while the server ends, or last too long for it."""
    return Refused(503, "the server is stopping.", "Try again when it is back.", retry=5)
