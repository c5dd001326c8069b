"""What Compare shows around its figures: the list of runs, the verdict, what can be done, and the tabs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hydralora.methods import METHODS
from jobs.repeats import MOST_STARTED
from jobs.store.run_list import RunLine
from jobs.store.status import JobStatus
from studio import cards
from studio.cards import Markup
from studio.comparison.address import MOST, written
from studio.comparison.groups import Compared, Group
from studio.comparison.verdict import Verdict, percent
from studio.figures.palette import group_class
from studio.pages.compare.asked import TABS, Asked
from studio.pages.controls import select

LISTED = 40  # chosen runs in the list at the left, and as many others
SEEDS = (1, 2, 3, 4)


def chip(group: Group) -> Markup:
    """A group's shape and name."""
    return Markup(f"<span class='hy-chip hy-group {group_class(group.index)}'>{escape(group.name)}</span>")


def run_list(compared: Compared | None, others: Sequence[RunLine], asked: Asked, whole: int) -> Markup:
    """The compared runs with their boxes ticked, then others that can be taken in."""
    lines = compared.lines if compared else []
    if not whole:
        return Markup("<div class='hy-side'><h1>Compare</h1></div><p class='hy-quiet'>No runs yet.</p>")
    head = (
        f"<div class='hy-side'><h1>Compare</h1><span class='hy-quiet'>{len(lines):,} of {whole:,}</span></div>"
        "<input type='search' class='hy-find' data-param='find' aria-label='Find other runs' "
        "placeholder='Name, tag, method'>"
    )
    ids = [line.id for line in lines]
    rows = "".join(_listed(line, ids, is_on=True) for line in lines[:LISTED])
    if len(lines) > LISTED:
        rows += f"<li class='hy-quiet'>and {len(lines) - LISTED:,} more, all of them compared</li>"
    rows += "".join(_listed(line, ids, is_on=False) for line in others)
    none = "" if rows else "<p class='hy-quiet'>No run is like that.</p>"
    more = f"<p class='hy-quiet'>{cards.link('/runs', 'All runs')}</p>"
    return Markup(f"{head}<ul class='hy-checks' tabindex='-1'>{rows}</ul>{none}{more}")


def _listed(line: RunLine, ids: list[int], *, is_on: bool) -> str:
    """A run with a box; its value is the list of runs as it would be then."""
    then = [one for one in ids if one != line.id] if is_on else [*ids, line.id]
    score = percent(line.score.exact_match) if line.score else cards.STATUS_WORDS.get(line.status, line.status)
    what = ", ".join(filter(None, (line.corpus, score)))
    return (
        f"<li><label><input type='checkbox' data-param='runs' data-value='{written(then)}' data-key='run {line.id}'"
        f"{' checked' * is_on}><span><b>{escape(line.name)}</b><span>{escape(what)}</span></span></label></li>"
    )


def nothing(asked: Asked, has_runs: bool) -> Markup:
    """What the page says where nothing is compared."""
    if asked.problem:
        return cards.empty("These runs cannot be compared", asked.problem)
    if asked.ids:
        return cards.empty("None of these runs exists", "They may have been deleted. Tick others at the left.")
    ways = (
        "Tick two or more at the left, or in the list of runs."
        if has_runs
        else cards.join("There are none yet. Begin on the ", cards.link("/", "first page"), ".")
    )
    return cards.empty("Choose runs to compare", ways)


def top(compared: Compared, verdict: Verdict, asked: Asked) -> Markup:
    """The answer first: what is compared, the verdict, what stands against it, and what can be done."""
    return cards.join(
        _eyebrow(compared, asked),
        _headline(compared, verdict),
        *(cards.note("warn", words) for words in [*_gone(compared), *verdict.warnings]),
        _actions(compared),
        _tabs(asked),
    )


def _eyebrow(compared: Compared, asked: Asked) -> Markup:
    corpora = {line.corpus for line in compared.lines}
    where = f" on {next(iter(corpora))}" if len(corpora) == 1 and "" not in corpora else ""
    count = f"{len(compared.lines):,} {'run' if len(compared.lines) == 1 else 'runs'}{where}"
    choices = {value: words for words, value in compared.choices}
    exports = [
        cards.link(asked.csv(name), f"{words} as CSV") for name, words in (("scores", "Scores"), ("runs", "Runs"))
    ]
    by = select("by", "Grouped by", choices, asked.by)
    return Markup(
        f"<div class='hy-eyebrow'><span>{escape(count)}</span>{by}"
        f"<span class='grow'></span><button type='button' class='hy-btn' data-copy>Copy the link</button>"
        f"{''.join(exports)}</div>"
    )


def _headline(compared: Compared, verdict: Verdict) -> Markup:
    pieces = "".join(
        f"<span class='{group_class(index)}'>{escape(words)}</span>" if index is not None else escape(words)
        for words, index in verdict.title
    )
    body = " ".join(verdict.body)
    return Markup(f"<h2 class='hy-compared'>{pieces}</h2><p class='hy-compared-more'>{escape(body)}</p>")


def _gone(compared: Compared) -> list[str]:
    if not compared.missing:
        return []
    if len(compared.missing) == 1:
        return [f"Run {compared.missing[0]} does not exist. It may have been deleted; the others are compared."]
    named = written(compared.missing[:20]) + (" …" if len(compared.missing) > 20 else "")
    return [
        f"{len(compared.missing):,} runs do not exist ({named}). They may have been deleted; the others are compared."
    ]


def _actions(compared: Compared) -> Markup:
    """What can be started from here, each with its command."""
    ids = [line.id for line in compared.lines if not line.is_imported]
    pieces = []
    unasked = [line.id for line in compared.lines if can_answer(line)]
    if unasked:
        words = f"Ask {len(unasked):,} {'run' if len(unasked) == 1 else 'runs'} the unseen questions"
        pieces.append(_action("ask", written(unasked[:MOST]), words, f"runs compare {written(unasked)} --ask"))
    groups = len(compared.groups)
    if ids and groups * len(SEEDS) <= MOST_STARTED:
        command = f"runs again {written(ids)} --seeds {written(SEEDS)}"
        pieces.append(_action("seeds", written(ids), f"Again with seeds {SEEDS[0]} to {SEEDS[-1]}", command))
    with_experts = next((line for line in compared.lines if has_experts(line)), None)
    if with_experts is not None:
        command = f"runs again {with_experts.id} --equal-lora"
        pieces.append(_action("equal", str(with_experts.id), "The same with LoRA of equal size", command))
    return Markup(f"<div class='hy-actions'>{''.join(pieces)}</div>") if pieces else Markup("")


def _action(act: str, of: str, words: str, command: str) -> str:
    shown = command if len(command) < 90 else f"{command[:60]} …"
    return (
        f"<span><button type='button' class='hy-btn' data-act='{act}' data-of='{of}'>{escape(words)}</button>"
        f"<code>python -m studio {escape(shown)}</code></span>"
    )


def can_answer(line: RunLine) -> bool:
    """Whether a run could be asked the questions of its corpus, and was not."""
    summary = line.summary
    is_done = line.status == JobStatus.SUCCEEDED and summary is not None and line.score is None
    return bool(is_done and line.corpus_id and summary and (line.is_imported or summary.held_out_examples))


def has_experts(line: RunLine) -> bool:
    """Whether a run was trained here with several heads."""
    return (
        not line.is_imported and line.method in METHODS and "num_experts" in METHODS[line.method].options.model_fields
    )


def _tabs(asked: Asked) -> Markup:
    buttons = "".join(
        f"<button type='button' data-param='tab' data-value='{name}' {'aria-current=page' * (name == asked.tab)}>"
        f"{words}</button>"
        for name, words in TABS.items()
    )
    return Markup(f"<nav class='hy-parts' aria-label='Parts of the comparison'>{buttons}</nav>")
