"""What the list of runs shows: the filters, the table with the scores drawn, and the bar of what is ticked."""

from __future__ import annotations

from html import escape

from hydralora.bases.folder import shown_base
from hydralora.errors import UserError
from hydralora.methods import METHODS
from jobs.store.run_list import LONGEST_TAG, RunLine, RunPage, RunQuery
from jobs.store.status import ACTIVE, JobStatus
from studio import cards
from studio.cards import Markup
from studio.comparison.statistics import wilson
from studio.silence import silence

# Title, sort and whether numbers stand in it, of each column.
COLUMNS = (
    ("Run", "name", False),
    ("Corpus", "corpus", False),
    ("Base", "base", False),
    ("Method", "method", False),
    ("Seed", "seed", True),
    ("Experts", "experts", True),
    ("Rank", "rank", True),
    ("Exact match", "exact", True),
    ("Held-out loss", "loss", True),
    ("Minutes", "minutes", True),
)
LARGEST_FIRST = ("exact", "created")  # columns whose first click puts the largest at the top
ENDED_BADLY = {"memory": "out of memory", "user": "failed", "lost": "lost"}


def filters(page: RunPage) -> Markup:
    """What can be asked for; values stand in the address, and are filled in by the page itself."""
    if not page.whole and not page.archived:
        return Markup("")
    names = {"corpus": "Corpus", "base": "Base", "method": "Method", "tag": "Tag"}
    selects = [_select(name, words, page.choices[name]) for name, words in names.items() if page.choices[name]]
    search = (
        "<input type='search' data-param='q' aria-label='Find runs by name, tag, corpus, base or method' "
        "placeholder='Name, tag, method'>"
    )
    return Markup(f"<div class='hy-filters'>{search}{''.join(selects)}</div>")


def _select(name: str, words: str, choices: dict[str, str]) -> str:
    named = {key: _choice_words(name, value) for key, value in choices.items()}
    options = "".join(
        f"<option value='{escape(key, quote=True)}'>{escape(value)}</option>"
        for key, value in sorted(named.items(), key=lambda one: one[1].lower())
    )
    return f"<select data-param='{name}' aria-label='{words}'><option value=''>{words}: all</option>{options}</select>"


def _choice_words(name: str, value: str) -> str:
    if name == "method":
        return METHODS[value].title if value in METHODS else value
    return shown_base(value) if name == "base" else value


def counts(page: RunPage, query: RunQuery) -> Markup:
    """How many runs of all are shown, and the way to the archived ones."""
    if query.archived:
        back = "<button type='button' class='hy-tool' data-param='archived' data-value=''>Back to the list</button>"
        return Markup(f"<p class='hy-quiet'>{page.found:,} of {page.archived:,} archived runs {back}</p>")
    words = f"{page.found:,} of {page.whole:,} runs"
    if page.archived:
        there = (
            "<button type='button' class='hy-tool' data-param='archived' data-value='1'>"
            f"{page.archived:,} archived</button>"
        )
        return Markup(f"<p class='hy-quiet'>{words}, {there}</p>")
    return Markup(f"<p class='hy-quiet'>{words}</p>")


def runs_table(page: RunPage, query: RunQuery) -> Markup:
    """The runs of one page with boxes to tick, and what can be done with those that are ticked."""
    if not page.whole and not page.archived:
        return _nothing(page, query)
    if not page.lines:
        return cards.join(counts(page, query), _nothing(page, query), _bar(query))
    head = "".join(_head(*column, query) for column in COLUMNS)
    whole = "<input type='checkbox' data-all aria-label='Select all runs of this page'>"
    rows = "".join(_row(line) for line in page.lines)
    table = (
        f"<div class='hy-scroll' tabindex='0' role='region' aria-label='Runs'><table class='hy-table hy-runs'>"
        f"<thead><tr><th scope='col' class='box'>{whole}</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return cards.join(counts(page, query), Markup(table), _pager(page), _bar(query))


def _nothing(page: RunPage, query: RunQuery) -> Markup:
    if query.archived and not page.archived:
        return cards.empty("Nothing is archived", "Archived runs leave the list; nothing of them is deleted.")
    if page.whole or query.archived:
        return cards.empty("No run is like that", "Take a filter away, or look for another word.")
    ways = cards.join(
        "Begin with a corpus under ",
        cards.link("/corpora", "Data"),
        ", or try the sample on the ",
        cards.link("/", "first page"),
        ".",
    )
    return cards.empty("No runs yet", ways)


def _head(title: str, sort: str, is_number: bool, query: RunQuery) -> str:
    """A title that sorts; the second click turns the order round."""
    is_current = query.sort == sort
    down = not query.descending if is_current else sort in LARGEST_FIRST
    value = f"-{sort}" if down else sort
    kind = " class='num'" if is_number else ""
    state = f" aria-sort='{'descending' if query.descending else 'ascending'}'" if is_current else ""
    sign = (" ▾" if query.descending else " ▴") if is_current else ""
    more = ", 95 % interval" if sort == "exact" else ""
    return (
        f"<th scope='col'{kind}{state}><button type='button' data-param='sort' data-value='{value}' data-key='{sort}'>"
        f"{title}{more}<span aria-hidden='true'>{sign}</span></button></th>"
    )


def _row(line: RunLine) -> str:
    seed, experts = line.setting("train", "seed"), line.setting("adapter", "num_experts")
    rank, summary = line.setting("adapter", "r", "rank"), line.summary
    method = METHODS[line.method].title if line.method in METHODS else line.method
    about = {"corpus": line.corpus, "base": shown_base(line.base), "method": line.method, "seed": seed}
    data = " ".join(f"data-{name}='{escape(str(value), quote=True)}'" for name, value in about.items())
    box = (
        f"<input type='checkbox' data-tick='{line.id}' {data} "
        f"aria-label='Select {escape(line.name, quote=True)}, run {line.id}'>"
    )
    minutes = summary.seconds / 60 if summary and summary.seconds else None
    cells = [
        (_name(line), ""),
        (cards.text(line.corpus or "–"), ""),
        (cards.text(shown_base(line.base)), ""),
        (cards.text(f"{method} (imported)" if line.is_imported else method), ""),
        (_whole(None if line.is_imported else seed), "num"),
        (_whole(1 if experts is None and rank is not None else experts), "num"),
        (_whole(rank), "num"),
        (score(line), "num"),
        (cards.text(cards.number(summary.held_out_loss if summary else None)), "num"),
        (cards.text(cards.number(minutes, 1)), "num"),
    ]
    labels = [title for title, _, _ in COLUMNS]
    body = "".join(
        f"<td class='{kind}' data-label='{label}'>{cell}</td>"
        for (cell, kind), label in zip(cells, labels, strict=True)
    )
    return f"<tr><td class='box'>{box}</td>{body}</tr>"


def _name(line: RunLine) -> Markup:
    tags = "".join(
        f"<button type='button' class='hy-tag' data-param='tag' data-value='{escape(tag, quote=True)}' "
        f"data-key='{line.id} {escape(tag, quote=True)}' aria-label='Show runs with the tag {escape(tag, quote=True)}'>"
        f"{escape(tag)}</button>"
        for tag in line.tags
    )
    when = f"run {line.id}, {cards.moment(line.created_at)}"
    return cards.join(
        cards.link(f"/run?run={line.id}", line.name), Markup(f" {tags}<span class='when'>{escape(when)}</span>")
    )


def _whole(value: object) -> Markup:
    return cards.text(value if type(value) is int else "–")


def score(line: RunLine) -> Markup:
    """The share of right answers drawn with its interval, or why there is none yet."""
    if line.score is not None:
        low, high = wilson(line.score.exact, line.score.questions)
        share = line.score.exact_match
        words = f"{100 * low:.0f} to {100 * high:.0f} % of {line.score.questions:,} questions"
        style = f"--low:{100 * low:.1f}%;--high:{100 * high:.1f}%;--at:{100 * share:.1f}%"
        return Markup(
            f"<span class='hy-interval' style='{style}' title='{words}'><i aria-hidden='true'></i>"
            f"<b>{100 * share:.0f} %</b><span class='visually-hidden'> ({words})</span></span>"
        )
    if line.silent_since is not None:
        return cards.status(line.status, silence(line.silent_since))
    if line.status in ACTIVE:
        percent = f"{100 * line.progress:.0f} %"
        return Markup(
            f"<span class='hy-interval on'><span class='hy-bar' role='progressbar' aria-label='progress' "
            f"aria-valuemin='0' aria-valuemax='100' aria-valuenow='{100 * line.progress:.0f}'>"
            f"<i style='--share:{percent.replace(' ', '')}'></i></span><b>{percent}</b></span>"
        )
    if line.status == JobStatus.SUCCEEDED:
        return Markup("<span class='hy-quiet'>not asked yet</span>")
    sign = cards.status(line.status)
    words = ENDED_BADLY.get(line.error_kind or "", "")
    return Markup(sign.replace(f"</i>{cards.STATUS_WORDS.get(line.status, '')}", f"</i>{words}")) if words else sign


def _pager(page: RunPage) -> Markup:
    if page.pages == 1:
        return Markup("")

    def button(words: str, to: int, can: bool) -> str:
        off = "" if can else " disabled"
        data = f"data-param='page' data-value='{to}' data-key='{words}'"
        return f"<button type='button' class='hy-btn' {data}{off}>{words}</button>"

    return Markup(
        f"<nav class='hy-pager' aria-label='Pages of runs'>{button('Previous', page.page - 1, page.page > 1)}"
        f"<span>Page {page.page:,} of {page.pages:,}</span>"
        f"{button('Next', page.page + 1, page.page < page.pages)}</nav>"
    )


def _bar(query: RunQuery) -> Markup:
    """What can be done with the ticked runs; shown and filled where there are any."""
    archive = "unarchive" if query.archived else "archive"
    words = "Put back" if query.archived else "Archive"
    return Markup(
        "<div class='hy-pickbar' data-bar hidden role='region' aria-label='Selected runs'>"
        "<b data-count></b><span class='hy-quiet' data-about></span><span class='grow'></span>"
        f"<span data-form><input type='text' maxlength='{LONGEST_TAG}' aria-label='Tag' placeholder='Tag'>"
        "<button type='button' class='hy-btn' data-act='tag'>Tag</button>"
        "<button type='button' class='hy-btn' data-act='untag'>Take off</button></span>"
        f"<button type='button' class='hy-btn' data-act='{archive}'>{words}</button>"
        "<button type='button' class='hy-tool' data-clear>Clear</button>"
        "<a class='hy-go' data-compare href='/compare'>Compare</a>"
        "<code data-command></code></div>"
    )


def read_sort(text: str) -> tuple[str, bool]:
    """A sort as the address has it, ``-exact`` for the largest first."""
    return text.removeprefix("-"), text.startswith("-")


def checked_act(act: str) -> str:
    """An act of the bar.

    Raises:
        UserError: When there is none of this name.
    """
    if act not in ("", "tag", "untag", "archive", "unarchive"):
        raise UserError(f"There is nothing called '{act[:40]}' to do with runs. Reload the page.")
    return act
