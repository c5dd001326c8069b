"""Small pieces of HTML. Every value is escaped here; nothing else builds HTML."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape

from hydralora.results import cluster_name
from studio.figures.palette import cluster_class, expert_class, expert_name
from studio.terms import explained

STATUS_WORDS = {
    "queued": "waiting",
    "running": "running",
    "stopping": "stopping",
    "succeeded": "done",
    "failed": "failed",
    "stopped": "stopped",
    "lost": "lost",
}
# A state is never told by colour alone.
STATUS_SIGNS = {
    "queued": "…",
    "running": "▸",
    "stopping": "▪",
    "succeeded": "✓",
    "failed": "×",
    "stopped": "▪",
    "lost": "×",
}
HEADS = ((4, 6), (10, 3.6), (16, 3.6), (22, 6))  # centres of the four heads of the mark

# An arrow out of a door, for a header too narrow for the words.
LEAVE = (
    "<svg width='16' height='16' viewBox='0 0 16 16' aria-hidden='true'><path d='M9 2H3v12h6M6.5 8h8M11.5 5l3 3-3 3' "
    "fill='none' stroke='currentColor' stroke-width='1.6'/></svg>"
)


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


def what_is_this(*terms: str) -> Markup:
    """What some terms of ``studio.terms`` mean, folded."""
    pairs = "".join(f"<dt>{text(name)}</dt><dd>{text(meaning)}</dd>" for name, meaning in explained(terms))
    return Markup(f"<details class='hy-what'><summary>What is this?</summary><dl>{pairs}</dl></details>")


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


def status(name: str, word: str = "") -> Markup:
    """The status of a job, or what else is like it: a sign and a word, in its colour."""
    sign, word = STATUS_SIGNS.get(name, "·"), escape(word) or STATUS_WORDS.get(name, escape(name))
    return Markup(f"<span class='hy-status {escape(name)}'><i aria-hidden='true'>{sign}</i>{word}</span>")


def bar(share: float, name: str = "progress") -> Markup:
    """A bar from 0 to 1."""
    percent = round(100 * min(max(share, 0.0), 1.0))
    return Markup(
        f"<div class='hy-bar' role='progressbar' aria-valuenow='{percent}' aria-valuemin='0' "
        f"aria-valuemax='100' aria-label='{escape(name)}'><i style='--share:{percent}%'></i></div>"
    )


def progress(share: float, words: object) -> Markup:
    """A bar from 0 to 1 with words below, where there are some."""
    return Markup(f"{bar(share)}{f'<div>{text(words)}</div>' if words else ''}")


def link(address: str, words: object) -> Markup:
    """A link within the studio."""
    return Markup(f"<a href='{escape(address, quote=True)}'>{text(words)}</a>")


def words(items: Iterable[str]) -> Markup:
    """Words as small tags."""
    tags = "".join(f"<span>{text(item)}</span>" for item in items)
    return Markup(f"<span class='hy-words'>{tags}</span>")


def expert(index: int, more: object = "") -> Markup:
    """An expert's shape and name, with something after it, such as its share."""
    return _chip(expert_class(index), f"{expert_name(index)} {text(more)}".rstrip())


def cluster(index: int) -> Markup:
    """A cluster's shape and name."""
    return _chip(cluster_class(index), cluster_name(index))


def _chip(look: str, inside: str) -> Markup:
    return Markup(f"<span class='hy-chip {look}'>{inside}</span>")


def mark() -> Markup:
    """The mark of the studio: one stem, four heads in the colours of the first experts."""
    stems = "".join(f"M13 18C13 {12 if 4 < x < 22 else 11} {x} {y + 6} {x} {y + 1}" for x, y in HEADS)
    heads = "".join(f"<circle cx='{x}' cy='{y}' r='3' fill='var(--e{i})'/>" for i, (x, y) in enumerate(HEADS, 1))
    return Markup(
        "<svg width='26' height='26' viewBox='0 0 26 26' aria-hidden='true'>"
        f"<path d='M13 24.5V18{stems}' fill='none' stroke='var(--ink)' stroke-width='2.2' stroke-linecap='round'/>"
        f"<g stroke='var(--ground)'>{heads}</g></svg>"
    )


def header(
    pages: Sequence[tuple[str, str]], more: Sequence[tuple[str, str]], current: str, *, has_sign_out: bool
) -> Markup:
    """What stands at the top of every page: mark and name, the pages, the quiet ones, and the tray of jobs.

    Args:
        pages: Title and address of each page.
        more: The same of those in the menu.
        current: Address of the one that is open, or that this one belongs to.
        has_sign_out: Whether visitors sign in here, so that they can sign out.
    """
    out = (  # a form, which a browser sends before any script has loaded
        "<form method='post' action='/ui/sign-out' id='sign-out'>"
        f"<button class='hy-btn'>{LEAVE}<span>Sign out</span></button></form>"
    )
    return Markup(
        f"<div class='hy-header'><a class='brand' href='/' aria-label='Hydra Studio, first page'>{mark()}"
        f"<span>Hydra Studio</span></a><nav aria-label='Pages'>{_page_links(pages, current)}"
        f"<details class='hy-menu'><summary aria-label='More pages'>⋯</summary><div>{_page_links(more, current)}</div>"
        f"</details></nav><div class='hy-tray' id='tray'></div>{out if has_sign_out else ''}</div>"
    )


def _page_links(pages: Sequence[tuple[str, str]], current: str) -> str:
    here = {current: " aria-current='page'"}
    return "".join(f"<a href='{escape(address)}'{here.get(address, '')}>{text(title)}</a>" for title, address in pages)


def side(title: str, address: str, words: str, level: int = 1) -> Markup:
    """The head of the list at the left of a page, with what makes a new one."""
    return Markup(
        f"<div class='hy-side'><h{level}>{text(title)}</h{level}>"
        f"<a class='hy-btn' href='{escape(address)}'>{text(words)}</a></div>"
    )


def side_list(label: str, items: Iterable[tuple[str, object, object]], current: str) -> Markup:
    """The list at the left of a page: address, name and one line of each; a select where there is little room."""
    rows, options = [], []
    for address, name, about in items:
        here = " aria-current='page'" if address == current else ""
        chosen = " selected" if address == current else ""
        rows.append(f"<a href='{escape(address)}'{here}><b>{text(name)}</b><span>{text(about)}</span></a>")
        options.append(f"<option value='{escape(address)}'{chosen}>{text(name)}</option>")
    none = "" if any(" selected" in option for option in options) else "<option value='' selected>Choose one</option>"
    return Markup(
        f"<nav class='hy-list' aria-label='{escape(label)}'>{''.join(rows)}</nav>"
        f"<select class='hy-jump' data-go aria-label='{escape(label)}'>{none}{''.join(options)}</select>"
    )


def section(title: object, about: object = "") -> Markup:
    """The heading of a part of a page."""
    return Markup(f"<h2 class='hy-section'>{text(title)} <span>{text(about)}</span></h2>")


def paragraph(*pieces: object, lead: str = "") -> Markup:
    """A paragraph, after a word in bold where one is given; nothing where there are no words."""
    inside = join(*pieces)
    return Markup(f"<p>{f'<b>{text(lead)}</b> ' if lead else ''}{inside}</p>") if inside else Markup("")


def links(items: Iterable[Markup]) -> Markup:
    """Links after one another."""
    return Markup(f"<div class='hy-links'>{''.join(items)}</div>")


def table(
    head_row: Sequence[object], rows: list[list[object]], *, caption: str = "", numbers: Iterable[int] = ()
) -> Markup:
    """A table; columns in ``numbers`` are right-aligned.

    With ``long_text`` in it, its rows are stacks on a phone, where each value is told with its column.
    """
    numeric = set(numbers)

    def cell(tag: str, index: int, value: object) -> str:
        kind = " class='num'" if index in numeric else ""
        more = " scope='col'" if tag == "th" else labels[index]
        return f"<{tag}{kind}{more}>{text(value)}</{tag}>"

    labels = [f" data-label='{text(name)}'" if name and not isinstance(name, Markup) else "" for name in head_row]
    top = "".join(cell("th", i, value) for i, value in enumerate(head_row))
    body = "".join(f"<tr>{''.join(cell('td', i, value) for i, value in enumerate(row))}</tr>" for row in rows)
    label = f"<caption>{text(caption)}</caption>" if caption else ""
    return Markup(
        f"<div class='hy-scroll' tabindex='0' role='region' aria-label='{escape(caption or 'table')}'>"
        f"<table class='hy-table'>{label}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def long_text(value: str, limit: int = 1_200) -> Markup:
    """Text in its own scrolling cell, cut at ``limit`` characters."""
    shown = value if len(value) <= limit or isinstance(value, Markup) else value[:limit] + " …"
    return Markup(f"<div class='hy-text'>{text(shown)}</div>")


def log(value: str) -> Markup:
    """The tail of a log file."""
    return Markup(
        f"<pre class='hy-log' tabindex='0' role='region' aria-label='log'>{text(value or 'Nothing written yet.')}</pre>"
    )


def join(*pieces: object) -> Markup:
    """Pieces after one another."""
    return Markup("".join(text(piece) for piece in pieces))


def listed(pieces: Iterable[object]) -> Markup:
    """Pieces with commas between them."""
    return Markup(", ".join(text(piece) for piece in pieces))


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


def about_span(seconds: float) -> str:
    """A time that is guessed, without more digits than that bears: ``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 55:
        return f"{max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    return f"{max(1, minutes)} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(seconds: float) -> str:
    """A time of day, with the date when it is not today."""
    then = time.localtime(seconds)
    same_day = time.strftime("%Y%m%d", then) == time.strftime("%Y%m%d")
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", then)


def number(value: float | None, digits: int = 3) -> str:
    """A number with few digits, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"
