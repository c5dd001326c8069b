"""Every read and write of the database; the only place with sessions, together with the parts it is made of.

Promises:

- What is given out are frozen copies (``records.py``), never live rows.
- A corpus, clustering, run or analysis and the job that fills it appear together or not at all.
- Only the worker writes results, after the files are in place.
- A corpus that a run uses, and a run that something works on, are not deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

from sqlalchemy import Engine, text

from jobs.artefacts.address import KEY as ARTEFACTS
from jobs.database_file import known_revisions
from jobs.home import Home
from jobs.store.analyses import Analyses
from jobs.store.attempts import Attempts
from jobs.store.base_checks import BaseChecks
from jobs.store.bases import Bases
from jobs.store.changes import Changes
from jobs.store.chats import Chats
from jobs.store.checks import Checks
from jobs.store.cluster_edits import ClusterEdits
from jobs.store.clusterings import Clusterings
from jobs.store.corpora import Corpora
from jobs.store.curves import Curves
from jobs.store.database import migrate, open_engine
from jobs.store.edits import Edits
from jobs.store.exclusions import Exclusions
from jobs.store.keys import Keys
from jobs.store.layouts import Layouts
from jobs.store.order import Order
from jobs.store.postgresql import leading
from jobs.store.queue import Queue
from jobs.store.rows import Rows
from jobs.store.run_list import RunList
from jobs.store.runs import Runs
from jobs.store.selections import Selections
from jobs.store.settings import Settings
from jobs.store.shortenings import Shortenings
from jobs.store.speeds import Speeds
from jobs.store.totals import Totals, read_totals
from jobs.store.workers import Workers


class Store:
    """A home's database and the folder beside it, one part for each noun; opening it brings it to this version.

    Args:
        home: The folder.
        engine: An open database at this version, in place of the home's own.

    Raises:
        UserError: When the database cannot be used.
    """

    def __init__(self, home: Home, engine: Engine | None = None) -> None:
        if engine is None:
            migrate(home.database_url)
        self.home, self.engine = home, engine or open_engine(home.database_url)
        self._compose(Rows(self.engine))
        self.home.use_artefacts((self.settings.get(ARTEFACTS) or {}).get("url", ""))
        self.bases.begin(self.runs.folders_of_bases)

    def _compose(self, rows: Rows) -> None:
        self._rows, self.settings = rows, Settings(rows)
        self.queue = Queue(self.home, rows)
        self.attempts, self.workers = Attempts(self.home, rows, self.queue), Workers(rows)
        self.order = Order(rows)
        self.speeds = Speeds(self.settings, self.queue)
        self.bases = Bases(self.home)
        self.base_checks = BaseChecks(self.bases, self.settings, self.queue)
        self.corpora = Corpora(self.home, rows, self.queue)
        self.exclusions = Exclusions(self.home, rows, self.corpora)
        self.edits = Edits(self.home, rows, self.corpora)
        self.clusterings = Clusterings(self.home, rows, self.queue, self.corpora)
        self.cluster_edits = ClusterEdits(rows, self.queue, self.clusterings, self.exclusions)
        self.layouts = Layouts(rows, self.queue, self.clusterings)
        self.selections = Selections(self.home, rows, self.clusterings, self.exclusions)
        self.checks = Checks(self.home, rows, self.queue, self.exclusions, self.edits, self.bases)
        self.shortenings = Shortenings(rows, self.queue, self.checks, self.edits)
        self.runs = Runs(
            self.home, rows, self.queue, self.clusterings, self.exclusions, self.edits, self.speeds, self.bases
        )
        self.run_list = RunList(self.home, rows)
        self.curves = Curves(rows)
        self.analyses = Analyses(rows, self.runs)
        self.chats = Chats(rows)
        self.keys = Keys(rows, self.settings)
        self.changes = Changes(rows)

    @property
    def is_newer(self) -> bool:
        """Whether a newer version of the studio has brought the database to its own schema meanwhile."""
        with self.engine.connect() as connection:
            found = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
        return not set(found) <= known_revisions()

    @contextmanager
    def leading(self) -> Iterator[bool]:
        """Whether this worker does what one does for all, until the block ends; a home in one file has one worker."""
        if self.engine.dialect.name != "postgresql":
            yield True
            return
        with leading(self.engine) as leads:
            yield leads

    def totals(self) -> Totals:
        """How much there is of everything."""
        return read_totals(self._rows)

    def for_user(self, user: str) -> Store:
        """The same store on behalf of ``user``: jobs that it queues take that user's fair turns and bounds.

        A store that nobody was named for acts for whoever the running code works for (``jobs.visitor``). There are no
        accounts: every user sees everything. Parts ask their ``Rows`` for the user, so what a user may see and change
        would be decided there.
        """
        theirs = copy(self)
        theirs._compose(Rows(self.engine, user))
        return theirs
