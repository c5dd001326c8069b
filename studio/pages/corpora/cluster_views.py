"""What the page shows of clusters: the list as a tree, labels beside them, rows with why they are there, the edits."""

from __future__ import annotations

from html import escape

from hydralora.corpus.clusters.why import Why
from hydralora.corpus.examples import Example
from hydralora.results import Clusters, cluster_name
from jobs.store.records import Clustering
from studio import cards
from studio.cards import Markup
from studio.cluster_tree import Node, cluster_tree
from studio.clusterings import edit_author, edit_sentence, edit_state, why_sentence
from studio.figures.palette import cluster_class

ACTS = {
    "rename": "Rename",
    "split": "Split",
    "exclude": "Leave out",
    "typical": "Typical rows",
    "borderline": "Borderline rows",
}
WORDS = 5  # of a cluster, in the list
SHOWN_LABELS, SHOWN_EDITS = 30, 50
WHY_WORDS = 6
BEGINS_ANEW = "Press “Undo” to take edits back, newest first. Clustering again begins without them."


def cluster_list(clustering: Clustering) -> Markup:
    """The clusters as they stand: mark, name, words and rows of each, with its menu and a box to tick for merging."""
    found = clustering.clusters
    items = "".join(_item(clustering, node) for node in cluster_tree(found))
    foot = (
        "<div class='foot'><button type='button' class='hy-btn' data-act='merge' disabled>Merge</button>"
        "<span data-words role='status'></span></div>"
    )
    head = "<div class='row top' aria-hidden='true'><span>Cluster</span><span>Rows</span></div>"
    return Markup(
        f"<div class='hy-clusters'>{head}<ul aria-label='Clusters'>{items}</ul>{foot if found.k > 1 else ''}</div>"
    )


def _item(clustering: Clustering, node: Node) -> str:
    if node.number is None:
        return _branch(clustering, node)
    found, number = clustering.clusters, node.number
    letter, name = cluster_name(number), cards.text(node.name)
    words = cards.text(", ".join(_words(found, number)))
    is_out = number in clustering.left_out
    state = "<em>left out</em> " if is_out else ""
    tick = (
        f"<input type='checkbox' data-tick='{number}' data-name='{letter}'>"
        f"<span class='hy-chip {cluster_class(number)}'>{letter}</span><b>{name}</b>"
    )
    return (
        f"<li class='row'><label>{tick}</label><span class='num'>{node.rows:,}</span>{_menu(found, number, is_out)}"
        f"<span class='words'>{state}{words}</span></li>"
    )


def _words(found: Clusters, number: int) -> list[str]:
    """The words that stand below a name: those that are not the name already."""
    words = found.words[found.place(number)]
    return words[:WORDS] if found.given_name(number) else words[3 : 3 + WORDS]


def _menu(found: Clusters, number: int, is_out: bool) -> str:
    """What can be done with one cluster."""
    title = escape(found.title(number), quote=True)
    buttons = "".join(
        f"<button type='button' data-act='{act}' data-of='{number}'>{words}</button>"
        for act, words in ACTS.items()
        if not (act == "exclude" and is_out)
    )
    return (
        f"<details class='menu'><summary data-menu='{number}' aria-label='What to do with {title}'>⋯</summary>"
        f"<div>{buttons}</div></details>"
    )


def _branch(clustering: Clustering, node: Node) -> str:
    """What was split, with its parts inside."""
    inside = "".join(_item(clustering, part) for part in node.parts)
    key = "-".join(str(leaf.number) for leaf in node.leaves())
    name, many = cards.text(node.name), f"split into {len(node.parts)}"
    return (
        f"<li class='branch'><details data-branch='{key}' open><summary class='row split'><b>{name}</b>"
        f"<span class='words'>{many}</span><span class='num'>{node.rows:,}</span></summary>"
        f"<ul aria-label='Parts of {escape(node.name, quote=True)}'>{inside}</ul></details></li>"
    )


def label_table(found: Clusters) -> Markup:
    """Labels beside clusters, and how well they agree; empty where the corpus has no labels that repeat."""
    if not found.labels or found.nmi is None:
        return Markup("")
    head: list[object] = ["Label", *(cards.cluster(number) for number in found.all_numbers)]
    rows: list[list[object]] = [
        [_short(label), *(_count(value, row) for value in row)]
        for label, row in zip(found.labels[:SHOWN_LABELS], found.label_table, strict=False)
    ]
    more = len(found.labels) - len(rows)
    caption = f"Rows by label and cluster{f'; {more} labels more' if more > 0 else ''}"
    ari = "" if found.ari is None else f", adjusted Rand index (ARI) {found.ari:.2f}"
    agreement = f"Normalised mutual information (NMI) {found.nmi:.2f}{ari}: 1 says the same, 0 is chance."
    return cards.join(
        Markup(f"<p class='hy-quiet'>{agreement}</p>"),
        cards.table(head, rows, caption=caption, numbers=range(1, len(head))),
    )


def _count(value: int, row: list[int]) -> Markup:
    """A count; the largest of its row is bold."""
    if not value:
        return Markup("<span class='hy-quiet'>0</span>")
    return Markup(f"<b>{value:,}</b>" if value == max(row) else f"{value:,}")


def _short(label: str) -> str:
    return label if len(label) <= 60 else label[:60] + "…"


def rows_with_reasons(found: Clusters, number: int, kind: str, examples: list[Example], why: list[Why]) -> Markup:
    """Typical or borderline rows of a cluster, each with where it lies and the words that put it there."""
    rows: list[list[object]] = []
    for example, reason in zip(examples, why, strict=True):
        sentence = why_sentence(reason).removesuffix(" Its words, and what they say:")
        told = cards.join(
            Markup("<p>"), sentence, Markup("</p>"), cards.words(term.term for term in reason.terms[:WHY_WORDS])
        )
        rows.append([reason.example, cards.long_text(example.text(), 600), told])
    caption = f"{kind.capitalize()} rows of {found.title(number)}: {MEANT[kind]}"
    return cards.table(["#", "Row", "Why it is here"], rows, caption=caption, numbers=[0])


MEANT = {"typical": "those nearest to its centre", "borderline": "those nearest to another cluster"}


def edits_table(clustering: Clustering) -> Markup:
    """Every edit, newest first."""
    if not clustering.edits:
        return Markup("<p class='hy-quiet'>Nothing was edited yet.</p>")
    rows: list[list[object]] = [
        [edit_sentence(edit), edit_state(edit), edit_author(edit), cards.moment(edit.created_at)]
        for edit in clustering.edits[:SHOWN_EDITS]
    ]
    more = len(clustering.edits) - len(rows)
    caption = BEGINS_ANEW + (f" {more} earlier ones are not shown." if more > 0 else "")
    return cards.table(["Edit", "State", "By", "When"], rows, caption=caption)
