"""The page that asks a stranger for the secret, and where it leads on to."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from jobs.http import Scope, Send
from studio.figures.palette import stylesheet

PAGE = (Path(__file__).parents[1] / "static" / "sign-in.html").read_text("utf-8")
COLOURS = stylesheet("@media (prefers-color-scheme: dark)")  # no page has chosen light or dark before this one


def query_of(scope: Scope) -> dict[str, str]:
    """What stands behind the question mark of an address."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def clean_target(scope: Scope) -> str:
    """The address that was asked for, without a token."""
    kept = [(k, v) for k, v in parse_qsl(scope["query_string"].decode("latin-1")) if k != "token"]
    return safe_target(quote(scope["path"]) + (f"?{urlencode(kept)}" if kept else ""))


def safe_target(target: str) -> str:
    """An address of this studio; anything that could lead elsewhere becomes the first page."""
    inside = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isascii()
    return target if inside and target.isprintable() and len(target) < 2_000 and "\\" not in target else "/"


async def redirect(send: Send, target: str, headers: list[tuple[str, str]] | None = None) -> None:
    """Lead on to an address of this studio."""
    raw = [("location", target), ("content-length", "0"), ("cache-control", "no-store"), *(headers or [])]
    await send(
        {"type": "http.response.start", "status": 303, "headers": [(n.encode(), v.encode("latin-1")) for n, v in raw]}
    )
    await send({"type": "http.response.body", "body": b""})


async def answer_page(send: Send, status: int, page: str) -> None:
    """Answer with a page that nobody keeps."""
    body = page.encode()
    raw = {
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(body)),
        "cache-control": "no-store",
    }
    await send(
        {"type": "http.response.start", "status": status, "headers": [(n.encode(), v.encode()) for n, v in raw.items()]}
    )
    await send({"type": "http.response.body", "body": body})


def sign_in_page(target: str, is_password: bool, problem: str = "") -> str:
    """The page that asks for the secret."""
    word = "password" if is_password else "token"
    hint = (
        "The password was chosen when the studio was started."
        if is_password
        else "It is in the address that the studio printed when it started; "
        "<code>python -m studio address</code> prints it again."
    )
    trouble = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    values = {"WORD": word, "TITLE": word.capitalize(), "HINT": hint, "TARGET": escape(target), "PROBLEM": trouble}
    page = PAGE.replace("/*COLOURS*/", COLOURS)
    for name, value in values.items():
        page = page.replace(f"<!--{name}-->", value)
    return page
