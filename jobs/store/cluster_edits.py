"""Edits of clusters: renamed, merged, split, left out; each can be undone, the newest first, and nothing is lost.

What the clusters are after an edit is a grouping beside the corpus (``hydralora.corpus.clusters.grouping``), so undoing
only goes back to the one before. A cluster that is left out is an exclusion like any other (``jobs.store.exclusions``).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora.bounds import checked
from hydralora.corpus.clusters.edits import check_numbers, merge_clusters, rename_cluster
from hydralora.corpus.clusters.grouping import Grouped
from hydralora.errors import UserError
from hydralora.results import Clusters, cluster_name
from jobs.home import Home
from jobs.store.clusterings import Clusterings, edits_of
from jobs.store.exclusions import Exclusions
from jobs.store.queue import Queue
from jobs.store.records import Clustering, Edit
from jobs.store.rows import Rows, job_of, row_of
from jobs.store.tables import ClusterEditRow, ClusteringRow, JobRow

MOST_EDITS = 500  # of one clustering, those that were taken back among them
MOST_PARTS = 24  # of a cluster that is split
LEAST_ROWS = 4  # of a cluster that can be split
CHANGED = "The clusters have changed meanwhile. Look at them again, then repeat what you wanted."


class ClusterEdits:
    """All writes of edits; ``Clusterings`` reads what they come to."""

    def __init__(self, rows: Rows, queue: Queue, clusterings: Clusterings, exclusions: Exclusions) -> None:
        self.queue, self.clusterings, self.exclusions, self._rows = queue, clusterings, exclusions, rows
        self.home = clusterings.home

    def rename(self, corpus_id: int, number: int, name: str) -> Edit:
        """Give a cluster another name; an empty one takes the proposed one again.

        Raises:
            UserError: When there is no such cluster, or the name is too long, another cluster's, or like a letter.
        """
        clustering, result = self._open(corpus_id)
        after = rename_cluster(self._grouped(clustering, result), number, name)
        details = {"number": number, "before": result.title(number), "name": after.result.given_name(number)}
        if details["name"] == result.given_name(number):
            raise UserError(f"Cluster {cluster_name(number)} is called so already. Give it another name.")
        return self._add(clustering, "rename", details, after)

    def merge(self, corpus_id: int, numbers: Sequence[int]) -> Edit:
        """Make one cluster of several; it keeps the number and the name of the largest.

        Raises:
            UserError: When these are not two different clusters at least.
        """
        clustering, result = self._open(corpus_id)
        after = merge_clusters(self._grouped(clustering, result), numbers, self.home.corpus(corpus_id))
        chosen = list(dict.fromkeys(numbers))
        kept = next(number for number in chosen if number in after.result.all_numbers)
        titles = [result.title(number) for number in chosen]
        return self._add(clustering, "merge", {"numbers": chosen, "titles": titles, "kept": kept}, after)

    def split(self, corpus_id: int, number: int, k: int | None = None) -> Edit:
        """Queue a split of a cluster by k-means; ``k`` None takes what its own texts suggest, two at least.

        Raises:
            UserError: When there is no such cluster, or it has too few examples.
        """
        clustering, result = self._open(corpus_id)
        check_numbers(result, [number])
        k = None if k is None else checked(int, k, "k")
        if k is not None and not 2 <= k <= MOST_PARTS:
            raise UserError(f"`k` must be between 2 and {MOST_PARTS}, the parts of a split, got {k}.")
        size = result.sizes[result.place(number)]
        if size < max(LEAST_ROWS, 2 * (k or 2)):
            raise UserError(
                f"Cluster {result.title(number)} has {size} rows; a split into {k or 2} takes "
                f"{max(LEAST_ROWS, 2 * (k or 2))} at least. Leave it whole, or merge it with another."
            )
        details = {"number": number, "title": result.title(number), "k": k}
        payload = {"corpus_id": corpus_id, "clustering_id": clustering.id, "grouping": clustering.grouping}
        payload |= {"number": number, "k": k, "asked_k": clustering.chosen_k, "clusters": result.dump()}
        return self._add(clustering, "split", details, payload=payload)

    def exclude(self, corpus_id: int, number: int) -> Edit:
        """Leave all examples of a cluster out of every later run.

        Raises:
            UserError: When there is no such cluster, or nothing of it or of the corpus would be left to leave out.
        """
        clustering, result = self._open(corpus_id)
        check_numbers(result, [number])
        positions = np.flatnonzero(self.clusterings.numbers(clustering) == number)
        made = self.exclusions.add(corpus_id, positions.tolist(), exclusion_reason(result, number))
        details = {"number": number, "title": result.title(number), "exclusion": made.id, "rows": made.count}
        try:
            return self._add(clustering, "exclude", details)
        except UserError:
            self.exclusions.undo(made.id)
            raise

    def undo(self, corpus_id: int) -> Edit:
        """Take the newest edit back that stands; a split that is under way is given up.

        Raises:
            UserError: When there is none.
        """
        edit = self.clusterings.clustered(corpus_id).to_undo
        if edit is None:
            raise UserError("There is no edit of clusters to take back.")
        if edit.action == "exclude":
            self.exclusions.undo(edit.details["exclusion"])
        if edit.is_pending and edit.job is not None:
            with suppress(UserError):  # it may end by itself just now
                self.queue.stop(edit.job.id)
        return self._set_undone(edit, time.time())

    def redo(self, corpus_id: int) -> Edit:
        """Make the edit again that was taken back last.

        Raises:
            UserError: When there is none, or something was edited since.
        """
        clustering, _ = self._open(corpus_id)
        edit = clustering.to_redo
        if edit is None:
            raise UserError("There is no edit to make again: none was taken back, or something was edited since.")
        if edit.job is not None and edit.grouping is None:
            raise UserError("That split was given up before it was made. Split the cluster again.")
        if edit.action == "exclude":
            self.exclusions.redo(edit.details["exclusion"])
        return self._set_undone(edit, None)

    def _open(self, corpus_id: int) -> tuple[Clustering, Clusters]:
        """The clusters of a corpus that may be edited now."""
        self.clusterings.corpora.ready(corpus_id)
        clustering = self.clusterings.clustered(corpus_id)
        pending = next((edit for edit in clustering.edits if edit.is_pending), None)
        if pending is not None:
            raise UserError(f"Cluster {pending.details['title']} is being split. Wait for it, or undo it.")
        return clustering, clustering.clusters

    def _grouped(self, clustering: Clustering, result: Clusters) -> Grouped:
        return Grouped.read(self.clusterings.folder(clustering), result)

    def _add(
        self,
        clustering: Clustering,
        action: str,
        details: dict[str, Any],
        after: Grouped | None = None,
        payload: dict[str, Any] | None = None,
    ) -> Edit:
        """Keep an edit, and the grouping it makes or the job that makes it."""
        if len(clustering.edits) >= MOST_EDITS:
            raise UserError(
                f"These clusters were edited {MOST_EDITS} times, the most there can be. Cluster the corpus anew."
            )
        corpus = self.home.corpus(clustering.corpus_id)
        name = after.write(corpus, f"edit-{uuid.uuid4().hex}") if after else None
        if after:
            self.home.artefacts.pend(corpus)
        with self._rows.writing() as session:
            self._refuse_changed(session, clustering)
            row = ClusterEditRow(
                clustering_id=clustering.id,
                corpus_id=clustering.corpus_id,
                action=action,
                details=details,
                grouping=name,
                result=after.result.dump() if after else None,
                visitor=self._rows.user,
            )
            session.add(row)
            session.flush()
            if payload is not None:
                job = self.queue.add(session, "split", {**payload, "edit_id": row.id}, corpus_id=clustering.corpus_id)
                row.job_id = job.id
                session.flush()
            return Edit.of(row, job=job_of(session, row.job_id))

    @staticmethod
    def _refuse_changed(session: Session, clustering: Clustering) -> None:
        """Refuse an edit of clusters that were edited since they were read; exclusions may come and go."""
        session.scalar(select(ClusteringRow.id).where(ClusteringRow.id == clustering.id).with_for_update())
        present = next((edit.id for edit in edits_of(session, clustering.id) if edit.is_active), None)
        if present != (clustering.to_undo and clustering.to_undo.id):
            raise UserError(CHANGED)

    def _set_undone(self, edit: Edit, undone_at: float | None) -> Edit:
        with self._rows.writing() as session:
            row = row_of(session, ClusterEditRow, edit.id, "Edit")
            row.undone_at = undone_at
            session.flush()
            return Edit.of(row, job=job_of(session, row.job_id))


def exclusion_reason(result: Clusters, number: int) -> str:
    """Why the examples of a cluster are left out."""
    return f'cluster "{result.shown_name(number)}"'


def write_split(session: Session, job: JobRow, home: Home) -> None:
    """Write what a split has made into its edit."""
    row = session.get(ClusterEditRow, job.payload["edit_id"])
    if row is not None and job.result is not None:
        row.result, row.grouping = job.result["clusters"], job.result["grouping"]
        row.details = {**row.details, "parts": job.result["parts"]}
