"""What runs answered right of the questions of their corpora: kept as rows when the answers are measured."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from hydralora.results import Answers
from jobs.home import Home
from jobs.store.analyses import question_of
from jobs.store.positions import packed, unpacked
from jobs.store.records import Record
from jobs.store.rows import Rows
from jobs.store.status import JobStatus
from jobs.store.tables import AnalysisRow, JobRow, ScoreRow


@dataclass(frozen=True)
class Score(Record):
    """How many questions of its corpus a run answered exactly right, and its base; ``by_label`` gives
    ``[right, asked]``."""

    run_id: int
    analysis_id: int
    questions: int
    exact: int
    base_exact: int
    positions: bytes
    hits: bytes
    by_label: dict[str, Any]

    @property
    def exact_match(self) -> float:
        """Share that was right, 0 to 1."""
        return self.exact / max(1, self.questions)

    @cached_property
    def asked(self) -> np.ndarray:
        """Positions of the questions in the corpus, ascending, ``(questions,)``."""
        return unpacked(self.positions)

    @cached_property
    def right(self) -> np.ndarray:
        """Whether each was answered right, ``(questions,)``."""
        return np.unpackbits(np.frombuffer(self.hits, np.uint8), count=self.questions).astype(bool)


def write_answers(session: Session, job: JobRow, home: Home) -> None:
    """Keep the score of answers to a run's own corpus, in the transaction that ends their job."""
    row = session.get(AnalysisRow, job.payload.get("analysis_id"))
    if row is not None and not row.params and (home.analysis(row.id) / Answers.FILE).exists():
        session.merge(_row_of(row, Answers.read(home.analysis(row.id))))


def fill_scores(home: Home, rows: Rows) -> int:
    """Keep the scores of answers that an earlier version measured; how many these were.

    Answers whose file is gone, damaged or not sent by its machine yet are passed over: whoever looks at them is told.
    """
    own = (AnalysisRow.kind == "answers", AnalysisRow.question == question_of("answers"))
    query = select(AnalysisRow).join(JobRow, JobRow.id == AnalysisRow.job_id).where(*own)
    query = query.where(JobRow.status == JobStatus.SUCCEEDED, AnalysisRow.run_id.not_in(select(ScoreRow.run_id)))
    with rows.reading() as session:
        missing = list(session.scalars(query))
    found = []
    for row in missing:
        try:
            found.append(_row_of(row, Answers.read(home.analysis(row.id))))
        except UserError:
            continue
    if found:
        with rows.writing() as session:
            for score in found:
                if session.get(AnalysisRow, score.analysis_id) is not None:  # its run may have been deleted meanwhile
                    session.merge(score)
    return len(found)


def _row_of(analysis: AnalysisRow, answers: Answers) -> ScoreRow:
    """The row that says what a stored result says."""
    positions = np.array([row.id for row in answers.rows], dtype=np.int64)
    order = np.argsort(positions, kind="stable")
    hits, labels = np.array(answers.scores["tuned"].hits, dtype=bool), defaultdict[str, list[int]](lambda: [0, 0])
    for row, hit in zip(answers.rows, answers.scores["tuned"].hits, strict=True):
        labels[row.label][0] += hit
        labels[row.label][1] += 1
    return ScoreRow(
        run_id=analysis.run_id,
        analysis_id=analysis.id,
        questions=len(positions),
        exact=int(hits.sum()),
        base_exact=sum(answers.scores["base"].hits),
        positions=packed(positions[order]),
        hits=np.packbits(hits[order]).tobytes(),
        by_label={name: counts for name, counts in labels.items() if name},
    )
