"""Short addresses that can be sent to others, and those of earlier versions: each opens the page of today."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.responses import RedirectResponse

from jobs.http import App, Receive, Scope, Send

LONGEST = 40  # characters of an item
# Page, name of the id and tab of addresses such as ``/runs/12``.
ITEMS = {
    "corpora": ("/corpora", "corpus", ""),
    "runs": ("/run", "run", ""),
    "inspect": ("/run", "run", "answers"),
    "chat": ("/run", "run", "chat"),
}
ITEM = re.compile(rf"/(corpora|runs|inspect|chat)/([0-9]{{1,{LONGEST}}})")


def todays_address(path: str, query: str) -> str | None:
    """Where an address leads today; None where it is one of today's, or none at all."""
    values = dict(QueryParams(query))
    item = ITEM.fullmatch(path)
    if item is not None:
        page, name, tab = ITEMS[item[1]]
        return _address(page, {name: item[2]}, tab, values)
    if path == "/inspect":
        return _address("/run", {}, "answers", values) if "run" in values else "/run"
    if path == "/chat" and values.get("run"):
        return _address("/run", {}, "chat", values)
    return None


def _address(page: str, ids: dict[str, str], tab: str, values: dict[str, str]) -> str:
    chosen = {**ids, **({"tab": tab} if tab else {}), **values, **ids}
    return f"{page}?{urlencode(chosen)}"


class OldAddresses:
    """Middleware that sends a browser on."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            address = todays_address(scope["path"].rstrip("/"), scope["query_string"].decode("latin-1"))
            if address is not None:
                await RedirectResponse(address, status_code=307)(scope, receive, send)
                return
        await self.app(scope, receive, send)
