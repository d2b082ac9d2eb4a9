"""What stands before every answer: who may ask, how much and how often, and what a browser may do with the page."""

import hmac
import ipaddress
import json
import socket
import threading
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "seqvae_explore"

LARGEST_BYTES = 64 * 1024
"""Of the body of a request."""

REQUESTS_PER_S, BURST = 60.0, 240
"""How often the page may ask, and how many times at once before that counts."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
"""Only the files of the package run or style anything; no text can become markup or script."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Refusal(Exception):
    """A request that is not answered: the status and, for a person, why."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status, self.why = status, why


class Guard:
    """ASGI middleware. On loopback the Host must name loopback, which a page of another site cannot make it do
    (DNS rebinding); elsewhere every request must bear the token, as a cookie that ``/?token=...`` gives.
    """

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", token: str | None = None):
        self.app, self.host, self.token = app, host, token
        self._lock, self._allowance, self._seen = threading.Lock(), float(BURST), time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the start and the end of the server; there are no web sockets
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
        try:
            self._judge(scope["method"], scope["path"], headers)
            given = parse_qs(scope["query_string"].decode("latin1")).get("token", [""])[0]
            if self.token is not None and scope["path"] == "/" and self._is_token(given):
                await self._welcome(scope, sending)
                return
            if self.token is not None and not self._is_token(_cookie(headers)):
                raise Refusal(401, "open the address that `seqvae explore` printed: it holds the token")
        except Refusal as refusal:
            await _refuse(refusal, sending)
            return
        await self.app(scope, receive, sending)

    def _judge(self, method: str, path: str, headers: dict[str, str]) -> None:
        self._spend()
        host = headers.get("host", "").lower()
        if not self._knows(host):
            raise Refusal(403, "this address is not that of the explorer")
        if _netloc(headers.get("origin", f"http://{host}")) != host:
            raise Refusal(403, "a page of another site asks")
        followed = (method, path) == ("GET", "/") and _is_followed_link(headers)
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not followed:
            raise Refusal(403, "a page of another site asks")
        if method not in ("GET", "HEAD", "POST"):
            raise Refusal(405, "GET and POST are answered")
        if method == "POST":
            length = headers.get("content-length", "")
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                raise Refusal(415, "a request is JSON")
            if not length.isdecimal():
                raise Refusal(411, "a request says how long it is")
            if int(length) > LARGEST_BYTES:
                raise Refusal(413, f"a request has at most {LARGEST_BYTES:,} bytes")

    def _spend(self) -> None:
        """A bucket that fills with `REQUESTS_PER_S` up to `BURST`."""
        with self._lock:
            now = time.monotonic()
            self._allowance = min(BURST, self._allowance + (now - self._seen) * REQUESTS_PER_S) - 1
            self._seen = now
            if self._allowance < 0:
                self._allowance = 0.0
                raise Refusal(429, "too many requests at once")

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # brackets without an address in them
            return False
        if is_loopback(name):
            return True
        if self.token is None:
            return False
        with_address = not any(char.isalpha() for char in name) or ":" in name
        return with_address or name in (self.host.lower(), socket.gethostname().lower(), socket.getfqdn().lower())

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode())

    async def _welcome(self, scope: Scope, send: Send) -> None:
        """Takes the token out of the address bar and into a cookie that scripts cannot read."""
        rest = {k: v for k, v in parse_qs(scope["query_string"].decode("latin1")).items() if k != "token"}
        place = "/" + (f"?{urlencode(rest, doseq=True)}" if rest else "")
        cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Lax; Path=/"  # Strict: not after a click elsewhere
        headers = [(b"location", place.encode()), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets without an address in them
        return None


def _is_followed_link(headers: dict[str, str]) -> bool:
    """Whether the browser goes to the page as a whole, as by a click on the address where it was printed: no other page
    can read what comes, or show it in a frame."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _cookie(headers: dict[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"error": {"code": None, "what": refusal.why, "hint": None}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"retry-after", b"1")] if refusal.status == 429 else []
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
