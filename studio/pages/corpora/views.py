"""What the page Corpora shows: the list, the facts of a corpus, its rows, its clusters."""

from __future__ import annotations

from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus as Rows
from jobs.store.records import Clustering, Corpus
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.clusterings import experts_reason, experts_title
from studio.pages.common import job_state
from studio.silence import silence

PAGE_ROWS = 10


def corpora_list(store: Store, chosen: int | None) -> Markup:
    """All corpora, newest first, each with how far it is."""
    found = store.corpora.all()
    if not found:
        return cards.paragraph("No corpus yet.")
    links = [(f"/corpora?corpus={corpus.id}", corpus.name, _state(corpus)) for corpus in found]
    return cards.side_list("Corpora", links, f"/corpora?corpus={chosen}")


def _state(corpus: Corpus) -> object:
    """How many examples, or why there are none yet."""
    if corpus.is_draft:
        return "not imported yet"
    if corpus.examples is None:
        return cards.status(corpus.job.status, silence(corpus.job.silent_since)) if corpus.job else "–"
    rejected = f", {corpus.rejected:,} rejected" if corpus.rejected else ""
    return f"{corpus.examples:,} examples{rejected}" + (", sample" if corpus.is_sample else "")


def about(corpus: Corpus) -> str:
    """The line below a corpus' name."""
    return f"Corpus {corpus.id}, added {cards.moment(corpus.created_at)}" + (", not imported yet" * corpus.is_draft)


def facts(store: Store, corpus: Corpus) -> Markup:
    """What was found in a corpus."""
    if corpus.examples is None:
        return job_state(None if corpus.is_draft else corpus.job)
    latest = job_state(corpus.job)  # it may have been read again since
    manifest = Rows(store.home.corpus(corpus.id)).manifest
    roles = {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in manifest.roles if v}
    described = "; ".join(f"{k}: {v}" for k, v in roles.items())
    held_out = manifest.splits.get("held_out")
    more = [f"{len(manifest.labels)} labels"] if manifest.labels else []
    more += [f"{held_out:,} held out by the file"] if held_out else []
    known = cards.cards(
        [
            cards.card("Examples", f"{corpus.examples:,}", f"{manifest.duplicates:,} duplicates"),
            cards.card(
                "Rejected rows", f"{corpus.rejected:,}", "listed below" if corpus.rejected else "every row was used"
            ),
            cards.card("Kind", manifest.shape, f"{manifest.format}; {described}"),
            cards.card(
                "Length",
                f"{manifest.characters / corpus.examples:,.0f}",
                "characters per example, " + (", ".join(more) or "no labels"),
            ),
        ]
    )
    return cards.join(latest, known)


def rows_table(examples: list[Example], ids: list[int], caption: str) -> Markup:
    """Examples as a table."""
    has_label, has_worse = (any(getattr(e, name) for e in examples) for name in ("label", "rejected"))
    rows: list[list[object]] = []
    for position, example in zip(ids, examples, strict=True):
        prompt = "\n".join([*(f"[{role}] {text}" for role, text in example.history), example.prompt])
        cells: list[object] = [position, cards.long_text(prompt), cards.long_text(example.answer)]
        cells += [cards.long_text(example.rejected)] if has_worse else []
        rows.append([*cells, example.label] if has_label else cells)
    head = ["#", "Prompt", "Answer or text", *(["Worse answer"] * has_worse), *(["Label"] * has_label)]
    return cards.table(head, rows, caption=caption, numbers=[0])


def rejected_table(store: Store, corpus: Corpus) -> Markup:
    """The rejected rows with their reasons."""
    if corpus.examples is None or not corpus.rejected:
        return Markup("No row was rejected.")
    found = Rows(store.home.corpus(corpus.id)).rejected()[:200]
    rows: list[list[object]] = [[r.row, r.source, r.reason] for r in found]
    return cards.table(
        ["Row", "File", "Reason"],
        rows,
        caption=f"{corpus.rejected:,} rejected rows, the first {len(found)}",
        numbers=[0],
    )


def cluster_report(store: Store, clustering: Clustering | None) -> Markup:
    """What the clusters say about experts, or how far the clustering is."""
    if clustering is None:
        return cards.empty(
            "Not clustered yet",
            "Press “Cluster”: it shows what kinds of text there are and how many experts they suggest.",
        )
    if clustering.result is None:
        return job_state(clustering.job)
    nmi = clustering.result.nmi
    label = "" if nmi is None else f" They agree with the corpus' own labels to {nmi:.2f} of 1 (NMI)."
    return cards.note(
        "good",
        experts_title(clustering).capitalize(),
        f"{experts_reason(clustering)}{label} Clusters only suggest the number; they never reach the router.",
    )
