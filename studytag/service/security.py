"""Who may call, from where, and what a browser may do with the answers."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studytag.service.errors import ApiError, ErrorType
from studytag.service.settings import Settings

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
UPLOADS = "/v1/files"
"""Where bodies may be larger than elsewhere."""

_OPEN_PREFIXES = ("/health", "/v2/health/")
_GUARDED_PREFIXES = ("/v1/", "/v2", "/predict", "/info", "/metrics", "/openapi.json")


class SecurityHeaders:
    """Adds the headers that keep a browser from misusing an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith(_GUARDED_PREFIXES):
                    headers.setdefault("Cache-Control", "no-store")
                else:  # the page's files: asked for again after an upgrade, all of them
                    headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, receive, with_headers)


class Guard:
    """Refuses callers without the token, other hosts' names, and other sites' pages.

    A page of another site can make a browser send requests here, also under a name of its own that
    it points at this address; without a token nothing else tells such requests from the user's.

    Args:
        app: What is guarded.
        settings: Token, host names, and how long a body may say it is.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._token = settings.token
        self._hosts = frozenset(host.lower() for host in settings.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await refusal.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        # Health checks come by address: a cluster's ask the pod itself. They tell nothing.
        open_to_all = scope["path"].startswith(_OPEN_PREFIXES)
        if self._hosts and not open_to_all and _host_name(host) not in self._hosts:
            return ApiError(
                403, ErrorType.FORBIDDEN, "this Host is not served; start it with --allow-host NAME"
            )
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host:
            return ApiError(403, ErrorType.FORBIDDEN, "requests of other sites' pages are refused")
        if self._token is not None and self._guarded(scope) and not self._has_token(headers):
            return ApiError(
                401, ErrorType.UNAUTHORIZED, "send the header Authorization: Bearer with the token"
            )
        return self._too_large(scope, headers)

    def _has_token(self, headers: Headers) -> bool:
        assert self._token is not None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._token.encode())
        return right and scheme.lower() == "bearer"

    def _too_large(self, scope: Scope, headers: Headers) -> ApiError | None:
        """FastAPI counts what comes; a body that says its length is refused in our words."""
        length = headers.get("content-length", "")
        upload = scope["path"] == UPLOADS
        limit = self._settings.max_upload if upload else self._settings.max_body
        if not length.isdecimal() or int(length) <= limit:
            return None
        message = f"the body has {length} bytes; send at most {limit}"
        return ApiError(413, ErrorType.TOO_LARGE, message)

    @staticmethod
    def _guarded(scope: Scope) -> bool:
        """Whether a request needs the token: not health checks, and not the page itself."""
        path = scope["path"]
        if path.startswith(_OPEN_PREFIXES):
            return False
        return scope["method"] not in ("GET", "HEAD") or path.startswith(_GUARDED_PREFIXES)


def _place(origin: str) -> str | None:
    """Host and port in an Origin header; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
