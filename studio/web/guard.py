"""What stands in front of every address: no writes from other sites, and headers that let pages load nothing else."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders

from jobs.http import App, Message, Receive, Refused, Scope, Send, header

CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'self'; form-action 'self'; object-src 'none'; base-uri 'self'"
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # under "no-referrer" a browser sends our forms with `Origin: null`
}
LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"]


class Guard:
    """Refuses writes from other sites, and tells browsers to load nothing from elsewhere."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        origin = header(scope, "origin")
        if scope["method"] not in ("GET", "HEAD") and origin and origin.partition("://")[2] != header(scope, "host"):
            await Refused(403, "Requests from other sites are refused.").answer(with_headers)
            return
        await self.app(scope, receive, with_headers)
