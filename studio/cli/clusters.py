"""The commands `corpora cluster`, `clusters` and `why`: clusters made, as they stand, edited, and explained."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from hydralora.bounds import LARGEST_SEED, checked
from hydralora.bounds import Clusters as ClusterCount
from hydralora.corpus.clusters.options import KMEANS, METHODS
from hydralora.corpus.clusters.why import Why, explain_row, explain_rows
from hydralora.errors import UserError
from hydralora.results import Clusters, cluster_name
from jobs.runner.service import start_worker
from jobs.store.records import Clustering, Edit
from jobs.store.store import Store
from studio import cards
from studio.cli.terminal import AsJson, CorpusId, Studio, finished, out, print_table, show
from studio.cluster_tree import cluster_tree, flattened
from studio.clusterings import (
    edit_author,
    edit_sentence,
    edit_state,
    experts_reason,
    experts_title,
    find_cluster,
    why_sentence,
)

clusters_app = typer.Typer(no_args_is_help=True)
CLUSTER_ANSWER = (
    "k suggested_k low_k high_k is_clear reason elbow_k elbow_trials method options noise distinct sizes names words "
    "typical borderline nmi ari labels label_table"
).split()
CLUSTER = "as C2, 2, or the name that you gave it"


@clusters_app.command("cluster")
def cluster(
    corpus_id: CorpusId,
    k: Annotated[str, typer.Option(help="Number of clusters, or auto")] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED)] = 0,
    method: Annotated[str, typer.Option(help=f"Way to group: {', '.join(METHODS)}")] = KMEANS.name,
    option: Annotated[list[str] | None, typer.Option(help="Option of the method as NAME=VALUE (repeat)")] = None,
    as_json: AsJson = False,
) -> None:
    """Cluster a corpus and suggest a number of experts."""
    wanted = None if k == "auto" else checked(ClusterCount, k, "--k")
    store = Studio.store()
    options = dict(named_value(text) for text in option or [])
    clustering = store.clusterings.add(corpus_id, wanted, seed, method=method, options=options)
    start_worker(store.home)
    finished(store, clustering.job, "Clustering")
    done = store.clusterings.get(clustering.id)
    result = done.result.dump() if done.result else {}
    answer = {
        "corpus_id": corpus_id,
        "clustering_id": clustering.id,
        "experts": done.experts,
        **{name: result[name] for name in CLUSTER_ANSWER if name in result},
    }

    def lines() -> None:
        out.print(f"{experts_title(done).capitalize()}. {experts_reason(done)}")
        rows = [
            [cluster_name(i), size, ", ".join(words)]
            for i, (size, words) in enumerate(zip(answer["sizes"], answer["words"], strict=True))
        ]
        print_table(["cluster", "examples", "words"], rows)

    show(answer, as_json, lines)


def named_value(text: str) -> tuple[str, str]:
    """Name and value of an option."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"`--option` must be NAME=VALUE, got {text[:100]!r}.")
    return name, value


@clusters_app.command("why")
def why(
    corpus_id: CorpusId,
    row: Annotated[int, typer.Argument(min=0, help="Position of the example, from 0")],
    as_json: AsJson = False,
) -> None:
    """Say why an example lies in its cluster: its most telling words."""
    store = Studio.store()
    clustering = store.clusterings.clustered(corpus_id)
    found = explain_row(store.home.corpus(corpus_id), store.clusterings.folder(clustering), row)

    def lines() -> None:
        out.print(why_sentence(found))
        beside = "" if found.other is None else cluster_name(found.other)
        columns = ["word", cluster_name(found.cluster), beside]
        print_table(columns, [[term.term, f"{term.own:.3f}", f"{term.other:.3f}"] for term in found.terms])

    show({"corpus_id": corpus_id, "clustering_id": clustering.id, **asdict(found)}, as_json, lines)


@clusters_app.command("clusters")
def clusters(
    corpus_id: CorpusId,
    rename: Annotated[tuple[str, str] | None, typer.Option(help=f"Cluster ({CLUSTER}) and its new name")] = None,
    merge: Annotated[str, typer.Option(help="Make one of several, such as C1,C3")] = "",
    split: Annotated[str, typer.Option(help="Divide this cluster by k-means")] = "",
    k: Annotated[int, typer.Option("--k", help="Parts of the split; 0 takes what its texts suggest")] = 0,
    exclude: Annotated[str, typer.Option(help="Leave all rows of this cluster out of every later run")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the newest edit back")] = False,
    redo: Annotated[bool, typer.Option("--redo", help="Make the edit again that was taken back last")] = False,
    rows: Annotated[str, typer.Option(help="Typical and borderline rows of this cluster, and why they are there")] = "",
    labels: Annotated[bool, typer.Option("--labels", help="The table of labels and clusters")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Every edit, newest first")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the clusters of a corpus as they stand, or edit them; nothing is lost, and each edit can be taken back."""
    store = Studio.store()
    asked = [rename, merge, split, exclude, undo, redo, rows]
    if sum(map(bool, asked)) > 1:
        raise UserError("Say one thing: --rename, --merge, --split, --exclude, --undo, --redo or --rows.")
    if k and not split:
        raise UserError("`--k` is the number of parts of `--split`. Name the cluster to split, or leave `--k` out.")
    if rows:
        _show_rows(store, corpus_id, rows, as_json)
        return
    edit = _edit(store, corpus_id, rename, merge, split, k, exclude, undo, redo)
    clustering = store.clusterings.clustered(corpus_id)
    answer = {**view_of(clustering), "edit": edit and edit_view(edit)}
    show(answer, as_json, lambda: _print(clustering, edit, labels, list_))


def _edit(
    store: Store,
    corpus_id: int,
    rename: tuple[str, str] | None,
    merge: str,
    split: str,
    k: int,
    exclude: str,
    undo: bool,
    redo: bool,
) -> Edit | None:
    """Make the edit that was asked for, if one was."""
    edits, found = store.cluster_edits, store.clusterings.clustered(corpus_id).clusters
    if rename:
        return edits.rename(corpus_id, find_cluster(found, rename[0]), rename[1])
    if merge:
        return edits.merge(corpus_id, [find_cluster(found, text) for text in merge.split(",")])
    if split:
        return _split(store, corpus_id, find_cluster(found, split), checked(int, k, "--k") or None)
    if exclude:
        return edits.exclude(corpus_id, find_cluster(found, exclude))
    if undo:
        return edits.undo(corpus_id)
    return edits.redo(corpus_id) if redo else None


def _split(store: Store, corpus_id: int, number: int, k: int | None) -> Edit:
    edit = store.cluster_edits.split(corpus_id, number, k)
    start_worker(store.home)
    finished(store, edit.job, "Splitting")
    return next(one for one in store.clusterings.clustered(corpus_id).edits if one.id == edit.id)


def view_of(clustering: Clustering) -> dict[str, Any]:
    """The clusters as JSON."""
    found = clustering.clusters
    rows = [_cluster_view(clustering, found, number) for number in found.all_numbers]
    return {
        "corpus_id": clustering.corpus_id,
        "clustering_id": clustering.id,
        "grouping": clustering.grouping,
        "experts": clustering.experts,
        "nmi": found.nmi,
        "ari": found.ari,
        "clusters": rows,
        "labels": found.labels,
        "label_table": found.label_table,
        "edits": [edit_view(edit) for edit in clustering.edits],
    }


def _cluster_view(clustering: Clustering, found: Clusters, number: int) -> dict[str, Any]:
    place = found.place(number)
    return {
        "cluster": cluster_name(number),
        "number": number,
        "name": found.shown_name(number),
        "given_name": found.given_name(number),
        "rows": found.sizes[place],
        "left_out": number in clustering.left_out,
        "words": found.words[place],
        "part_of": [found.branches[branch] for branch in found.paths[place]] if found.paths else [],
    }


def edit_view(edit: Edit) -> dict[str, Any]:
    """An edit as JSON."""
    return {
        "edit_id": edit.id,
        "action": edit.action,
        "sentence": edit_sentence(edit),
        "details": edit.details,
        "state": edit_state(edit),
        "by": edit_author(edit),
        "created_at": edit.created_at,
        "undone_at": edit.undone_at,
    }


def _print(clustering: Clustering, edit: Edit | None, labels: bool, list_: bool) -> None:
    found = clustering.clusters
    if edit is not None:
        out.print(f"{edit_sentence(edit)}: {edit_state(edit)}.")
    if list_:
        rows: list[list[object]] = [
            [one.id, edit_sentence(one), edit_state(one), edit_author(one), cards.moment(one.created_at)]
            for one in clustering.edits
        ]
        print_table(["id", "edit", "state", "by", "when"], rows)
    elif labels:
        _print_labels(found)
    else:
        _print_clusters(clustering, found)


def _print_clusters(clustering: Clustering, found: Clusters) -> None:
    out.print(f"{experts_title(clustering).capitalize()}.")
    rows: list[list[object]] = []
    for depth, node in flattened(cluster_tree(found)):
        indent = "  " * depth
        if node.number is None:
            rows.append([indent + "split", node.name, f"{node.rows:,}", ""])
            continue
        out_of_it = ", left out" if node.number in clustering.left_out else ""
        words = ", ".join(found.words[found.place(node.number)])
        rows.append([indent + cluster_name(node.number), node.name + out_of_it, f"{node.rows:,}", words])
    print_table(["cluster", "name", "rows", "words"], rows)
    if clustering.to_undo is not None:
        out.print(f"--undo takes this back: {edit_sentence(clustering.to_undo)}.")


def _print_labels(found: Clusters) -> None:
    if not found.labels:
        out.print("The corpus has no labels that repeat.")
        return
    head = ["label", *map(cluster_name, found.all_numbers)]
    print_table(head, [[label, *row] for label, row in zip(found.labels, found.label_table, strict=True)])
    out.print(f"NMI {found.nmi:.2f} of 1, ARI {found.ari:.2f} of 1.")


def _show_rows(store: Store, corpus_id: int, text: str, as_json: bool) -> None:
    clustering = store.clusterings.clustered(corpus_id)
    found = clustering.clusters
    number = find_cluster(found, text)
    place, folders = found.place(number), (store.home.corpus(corpus_id), store.clusterings.folder(clustering))
    kinds = {"typical": found.typical[place], "borderline": found.borderline[place] if found.borderline else []}
    told = {kind: explain_rows(*folders, positions) for kind, positions in kinds.items()}

    def lines() -> None:
        for kind, rows in told.items():
            out.print(f"{kind.capitalize()} rows of {found.title(number)}: {len(rows)}")
            for why in rows:
                out.print(f"  {why_sentence(why)} {_terms(why)}")

    answer = {"cluster": cluster_name(number), **{kind: [asdict(why) for why in rows] for kind, rows in told.items()}}
    show(answer, as_json, lines)


def _terms(why: Why) -> str:
    return ", ".join(term.term for term in why.terms[:6])
