"""Small pieces of HTML. Every value is escaped here; nothing else builds HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STATUS_WORDS = {
    "queued": "waiting", "running": "running", "stopping": "stopping", "succeeded": "done",
    "failed": "failed", "stopped": "stopped", "lost": "lost",
}  # fmt: skip


class Markup(str):
    """HTML that is safe already; plain ``str`` is escaped where it is put."""


def text(value: object) -> Markup:
    """Escaped text of anything; markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def head(title: str, lead: object = "") -> Markup:
    """The heading of a page with one sentence."""
    return Markup(f"<div class='hy-head'><h1>{text(title)}</h1><p>{text(lead)}</p></div>")


def card(name: str, value: object, note: object = "") -> Markup:
    """One figure with its name."""
    return Markup(
        f"<div class='hy-card'><div class='k'>{text(name)}</div><div class='v'>{text(value)}</div>"
        f"<div class='s'>{text(note)}</div></div>"
    )


def cards(items: Iterable[Markup]) -> Markup:
    """Cards side by side."""
    return Markup(f"<div class='hy-cards'>{''.join(items)}</div>")


def empty(title: str, way_out: object) -> Markup:
    """What an empty place says: what is missing, and what will fill it."""
    return Markup(f"<div class='hy-empty'><b>{text(title)}</b>{text(way_out)}</div>")


def note(kind: str, title: object, body: object = "") -> Markup:
    """A remark: ``good``, ``bad``, ``warn`` or ``info``."""
    role = "alert" if kind == "bad" else "note"
    return Markup(f"<div class='hy-note {kind}' role='{role}'><b>{text(title)}</b>{text(body)}</div>")


def status(name: str) -> Markup:
    """The status of a job as a coloured word."""
    return Markup(f"<span class='hy-status {escape(name)}'>{STATUS_WORDS.get(name, escape(name))}</span>")


def progress(share: float, words: object, *, busy: bool = True) -> Markup:
    """A bar from 0 to 1 with words below."""
    percent = round(100 * min(max(share, 0.0), 1.0))
    kind = "hy-bar busy" if busy else "hy-bar"
    return Markup(
        f"<div class='{kind}' role='progressbar' aria-valuenow='{percent}' aria-valuemin='0' "
        f"aria-valuemax='100' aria-label='progress'><i style='width:{percent}%'></i></div>"
        f"<div>{text(words)}</div>"
    )


def link(address: str, words: object) -> Markup:
    """A link within the studio."""
    return Markup(f"<a href='{escape(address, quote=True)}'>{text(words)}</a>")


def words(items: Iterable[str]) -> Markup:
    """Words as small tags."""
    tags = "".join(f"<span>{text(item)}</span>" for item in items)
    return Markup(f"<span class='hy-words'>{tags}</span>")


def dot(colour: str, name: str) -> Markup:
    """A coloured square with a name beside it."""
    return Markup(f"<span class='hy-dot' style='background:{escape(colour)}'></span>{text(name)}")


def table(head_row: list[str], rows: list[list[object]], *, caption: str = "", numbers: Iterable[int] = ()) -> Markup:
    """A table; columns in ``numbers`` are right-aligned."""
    numeric = set(numbers)

    def cell(tag: str, index: int, value: object) -> str:
        kind = " class='num'" if index in numeric else ""
        scope = " scope='col'" if tag == "th" else ""
        return f"<{tag}{kind}{scope}>{text(value)}</{tag}>"

    top = "".join(cell("th", i, value) for i, value in enumerate(head_row))
    body = "".join(f"<tr>{''.join(cell('td', i, value) for i, value in enumerate(row))}</tr>" for row in rows)
    label = f"<caption>{text(caption)}</caption>" if caption else ""
    return Markup(
        f"<div class='hy-scroll' tabindex='0' role='region' aria-label='{escape(caption or 'table')}'>"
        f"<table class='hy-table'>{label}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def long_text(value: str, limit: int = 1_200) -> Markup:
    """Text in its own scrolling cell, cut at ``limit`` characters."""
    shown = value if len(value) <= limit else value[:limit] + " …"
    return Markup(f"<div class='hy-text'>{text(shown)}</div>")


def log(value: str) -> Markup:
    """The tail of a log file."""
    return Markup(f"<pre class='hy-log' tabindex='0' aria-label='log'>{text(value or 'Nothing written yet.')}</pre>")


def join(*pieces: object) -> Markup:
    """Pieces after one another."""
    return Markup("".join(text(piece) for piece in pieces))


def duration(seconds: float | None) -> str:
    """``42 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def number(value: float | None, digits: int = 3) -> str:
    """A number with few digits, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"
