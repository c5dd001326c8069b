"""The top of an opened corpus: how much of it would be trained on, and how far each part of the page is."""

from __future__ import annotations

from hydralora.corpus.folder import Corpus as Rows
from hydralora.results import Quality
from jobs.store.records import Clustering, Corpus
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.corpora.problems import GRAVE
from studio.pages.corpora.views import about


def opening(store: Store, corpus: Corpus) -> Markup:
    """Name and age of a corpus; where it has been read, what a run would take, the way there, and the four parts."""
    title = cards.head(corpus.name, about(corpus))
    if corpus.examples is None:
        return title
    report = _current_report(store, corpus.id)
    ready = f"/new-run?corpus={corpus.id}"
    train = Markup(f"<a class='hy-go' href='{ready}'>Train on this</a>")
    top = Markup(f"<div class='hy-opened'>{title}<p>{_counts(store, corpus, report)}</p>{train}</div>")
    return cards.join(top, _steps(store, corpus, report))


def _current_report(store: Store, corpus_id: int) -> Quality | None:
    """The newest quality report, where nothing was left out, edited or taken back since."""
    report, now = store.checks.latest(corpus_id), (store.exclusions.name(corpus_id), store.edits.name(corpus_id))
    return report if report and (report.selection, report.edits) == now else None


def _counts(store: Store, corpus: Corpus, report: Quality | None) -> Markup:
    """How many would be trained on and held out; without a report, how many there are."""
    left_out = len(store.exclusions.excluded(corpus.id))
    more = f"{left_out:,} left out"
    if report is None:
        return Markup(f"<b>{(corpus.examples or 0) - left_out:,} examples</b><span>{more if left_out else ''}</span>")
    rest = ", ".join([f"{report.held_out:,} held out", *([more] if left_out else [])])
    return Markup(f"<b>{report.train:,} to train on</b><span>{rest}</span>")


def _steps(store: Store, corpus: Corpus, report: Quality | None) -> Markup:
    """The parts of the page in their order, each with how it stands, as links to them."""
    clustering = store.clusterings.latest(corpus.id, finished=True)
    parts = (
        ("reading", "Columns", *_columns(store, corpus)),
        ("problems", "Problems", *_problems(report, store.checks.latest(corpus.id))),
        ("clusters", "Clusters", *_clusters(clustering)),
        ("rows", "Rows", f"{corpus.examples:,}", ""),
    )
    links = "".join(
        f"<a href='#part-{name}'><b>{number} {title}</b> <span class='{look}'>{cards.text(words)}</span></a>"
        for number, (name, title, words, look) in enumerate(parts, 1)
    )
    return Markup(f"<nav class='hy-steps' aria-label='Parts of this corpus'>{links}</nav>")


def _columns(store: Store, corpus: Corpus) -> tuple[str, str]:
    unused = len(Rows(store.home.corpus(corpus.id)).manifest.unused)
    return ("✓ understood", "good") if not unused else (f"✓ understood, {unused:,} not used", "good")


def _problems(report: Quality | None, latest: Quality | None) -> tuple[str, str]:
    if report is None:
        return ("check again", "warn") if latest else ("not checked", "")
    grave = sum(finding.kind in GRAVE for finding in report.findings)
    other = len(report.findings) - grave
    if not report.findings:
        return "✓ none found", "good"
    words = [f"{grave} grave"] if grave else []
    return ", ".join([*words, *([f"{other} to look at"] if other else [])]), "bad" if grave else "warn"


def _clusters(clustering: Clustering | None) -> tuple[str, str]:
    """How many experts the newest clusters speak for, and whether that is chosen, sure or unclear."""
    if clustering is None or clustering.result is None:
        return "not clustered", ""
    found = clustering.result
    if clustering.chosen_k or clustering.is_edited:
        return f"{clustering.experts}, chosen", "good"
    if found.is_clear:
        return f"{clustering.experts}, sure", "good"
    return f"unclear: {found.low_k} to {found.high_k}", "warn"
