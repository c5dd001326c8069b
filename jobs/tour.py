"""The first tour: a sample corpus, its clusters, a run, and what it learnt, one job after the other.

The worker calls ``advance`` while it works, so the tour goes on whether anybody looks or not. All
it remembers is one setting with the ids of what it has made; every step can be looked at, stopped
and taken up again on its own page.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydralora.bases.packages import PACKAGED, SMOLLM2
from hydralora.config import parse_config
from hydralora.errors import UserError
from hydralora.plain import shown
from hydralora.samples import CORPORA
from hydralora.training.presets import PRESETS, preset_settings, settings_for
from jobs.machine import look_at_machine
from jobs.new_bases import find_packaged, get_base
from jobs.sizes import sizes_of
from jobs.store.records import Clustering, Job
from jobs.store.status import JobStatus

if TYPE_CHECKING:
    from jobs.store.store import Store
from jobs.store.totals import Totals

SAMPLE = "four-trades"
SETTING = "tour"
NAME = "Tour: HydraLoRA on four-trades"
BASE, METHOD = "starter", "hydralora"
# Bases of the tour, with minutes of training: reading, fetching and measuring come on top.
MINUTES: dict[str, float] = {BASE: PRESETS["Quick"].minutes, SMOLLM2.name: 5.0}
MADE = ("clustering_id", "run_id")
LOOKS = ("answers", "routing")  # measured at the end, so that the pages have something to show


@dataclass(frozen=True)
class Stage:
    """One step of the tour as it stands: ``job`` is None until it has been queued."""

    name: str
    job: Job | None

    @property
    def is_done(self) -> bool:
        """Ended well."""
        return self.job is not None and self.job.status == JobStatus.SUCCEEDED


def add_sample(store: Store, name: str = SAMPLE) -> int:
    """Import a sample corpus, unless it is there already; gives its id."""
    for corpus in store.corpora.all():
        if corpus.is_sample and corpus.name == name and not (corpus.job and corpus.job.status == JobStatus.FAILED):
            return corpus.id
    return store.corpora.add(name, [CORPORA / name / f"{name}.jsonl"], is_sample=True).id


class Tour:
    """Begin, go on, dismiss, take away again."""

    def __init__(self, store: Store, seen: tuple[dict[str, Any], Totals] | None = None) -> None:
        self.store, self._seen = store, seen

    @property
    def notes(self) -> dict[str, Any]:
        """What is remembered: ``on``, ``dismissed``, ``base``, ``minutes`` and the ids of what was made."""
        return self.store.settings.get(SETTING) or {} if self._seen is None else self._seen[0]

    @property
    def totals(self) -> Totals:
        """How much there is of everything."""
        return self.store.totals() if self._seen is None else self._seen[1]

    def look(self) -> Tour:
        """The tour as it stands now, read once: for one look at it, and not to go on with."""
        return Tour(self.store, (self.notes, self.totals))

    def _note(self, **values: Any) -> None:
        self.store.settings.set(SETTING, {**self.notes, **values})

    def begin(self, minutes: float | None = None, base: str | None = None) -> None:
        """Start the tour, or go on with one that was begun; it trains for ``minutes``, else as long as its base asks.

        Raises:
            UserError: When the tour is not offered with this base.
        """
        known, base = self.notes, base or self.base
        if base not in MINUTES:
            raise UserError(f"The tour is walked with {' or '.join(MINUTES)}, got {shown(base)}.")
        is_same = base == self.base
        if self.is_on and self.problem is None and (is_same or not self.is_done):
            return
        minutes = minutes or (known.get("minutes") if is_same else None) or MINUTES[base]
        corpus = add_sample(self.store)
        made = MADE if is_same and not self.problem else MADE[:1] if not self.problem else ()
        keep = {name: known[name] for name in made if name in known and known.get("corpus_id") == corpus}
        fetches = base in PACKAGED and find_packaged(self.store, PACKAGED[base]) is None
        begun = {"on": True, "minutes": minutes, "corpus_id": corpus, "base": base, "fetches": fetches}
        self.store.settings.set(SETTING, {**keep, **begun})

    def dismiss(self) -> None:
        """Offer it no more; what is under way goes on by itself."""
        self._note(on=False, dismissed=True)

    @property
    def is_on(self) -> bool:
        """Begun, and neither dismissed nor being taken away."""
        return bool(self.notes.get("on"))

    @property
    def is_offered(self) -> bool:
        """Nothing is there yet, and nobody has said no."""
        return not self.notes.get("dismissed") and not self.is_on and not self.totals.corpora

    @property
    def base(self) -> str:
        """The base that is trained, by its name."""
        found: str = self.notes.get("base", BASE)
        return found

    @property
    def minutes(self) -> float:
        """How long it trains."""
        found: float = self.notes.get("minutes") or MINUTES[self.base]
        return found

    @property
    def run_id(self) -> int | None:
        """The run of the tour, once it was started."""
        return self.notes.get("run_id")

    @property
    def is_done(self) -> bool:
        """Everything has been trained and measured."""
        return self.is_on and all(stage.is_done for stage in self.stages())

    @property
    def problem(self) -> str | None:
        """Why the tour cannot go on by itself, or None."""
        found: str | None = self.notes.get("problem")
        return found

    def stages(self) -> list[Stage]:
        """Corpus, fetching of a base that is not here yet, clusters, training and measuring, as they stand."""
        notes, store = self.notes, self.store
        names = ("corpus", *(("base",) if notes.get("fetches") else ()), "clusters", "run", "looks")
        with suppress(UserError):  # deleted meanwhile; `advance` notices and says so
            corpus = store.corpora.get(notes["corpus_id"]).job if "corpus_id" in notes else None
            fetch = store.queue.get(notes["fetch_id"]) if "fetch_id" in notes else None
            clusters = store.clusterings.get(notes["clustering_id"]).job if "clustering_id" in notes else None
            run = store.runs.get(notes["run_id"]).job if "run_id" in notes else None
            looks = [store.analyses.find(notes["run_id"], kind) for kind in LOOKS] if run else []
            jobs = [look.job for look in looks if look is not None and look.job is not None]
            open_ = [job for job in jobs if job.status != JobStatus.SUCCEEDED]
            last = (open_ or jobs)[-1] if len(jobs) == len(LOOKS) else None
            found = {"corpus": corpus, "base": fetch, "clusters": clusters, "run": run, "looks": last}
            return [Stage(name, found[name]) for name in names]
        return [Stage(name, None) for name in names]

    def advance(self) -> None:
        """Queue the next step where the one before has succeeded; nothing else, and never twice."""
        if self.notes.get("removing"):
            self._remove_what_rests()
        if not self.is_on or self.problem is not None:
            return
        try:
            self._next()
        except UserError as error:
            self._note(problem=str(error))

    def _fail_with(self, job: Job | None) -> None:
        if job is not None and job.is_finished and job.status != JobStatus.SUCCEEDED:
            self._note(problem=job.error or job.progress_text)

    def _next(self) -> None:
        notes, store = self.notes, self.store
        if store.corpora.get(notes["corpus_id"]).examples is None:
            return self._fail_with(store.corpora.get(notes["corpus_id"]).job)
        if notes.get("fetches") and not self._is_fetched(notes):
            return
        if "clustering_id" not in notes:
            known = store.clusterings.latest(notes["corpus_id"])
            self._note(clustering_id=(known or store.clusterings.add(notes["corpus_id"], None)).id)
            return
        clustering = store.clusterings.get(notes["clustering_id"])
        if clustering.result is None:
            return self._fail_with(clustering.job)
        if "run_id" not in notes:
            self._start_run(notes, clustering)
        elif store.runs.get(notes["run_id"]).summary is not None:
            for kind in LOOKS:
                store.analyses.ask(notes["run_id"], kind)

    def _is_fetched(self, notes: dict[str, Any]) -> bool:
        """Whether the base is here; its fetch is queued where it was not."""
        if "fetch_id" not in notes:
            if find_packaged(self.store, PACKAGED[self.base]) is not None:  # by somebody else meanwhile
                self._note(fetches=False)
                return True
            self._note(fetch_id=get_base(self.store, self.base).id)
            return False
        job = self.store.queue.get(notes["fetch_id"])
        self._fail_with(job)
        return job.status == JobStatus.SUCCEEDED

    def _start_run(self, notes: dict[str, Any], clustering: Clustering) -> None:
        """Start the run, once this machine's speed is known."""
        sizes = {} if self.base == BASE else sizes_of(self.store.base_checks.facts(self.base), look_at_machine())
        train = self._settings(notes, clustering, sizes)
        if train is not None:
            adapter = {"num_experts": clustering.experts}
            config = {"base": self.base, "method": METHOD, "adapter": adapter, "train": {**sizes, **train}}
            name = NAME if self.base == BASE else f"{NAME}, {PACKAGED[self.base].title}"
            self._note(run_id=self.store.runs.start(notes["corpus_id"], config, name=name, is_sample=True).id)

    def _settings(self, notes: dict[str, Any], clustering: Clustering, sizes: dict[str, Any]) -> dict[str, Any] | None:
        """Steps that fill the minutes on this machine; None while its speed is being measured."""
        speeds, base = self.store.speeds, self.store.bases.resolve(self.base)
        config = parse_config({"base": base, "method": METHOD, "train": sizes})
        speed = speeds.get(notes["corpus_id"], config)
        job = None if speed else speeds.ask(notes["corpus_id"], config, clustering)
        if job is not None and not job.is_finished:
            return None
        examples, at_once = self.store.corpora.get(notes["corpus_id"]).examples, sizes.get("batch_size")
        if speed:
            return settings_for(60 * self.minutes, speed, examples, at_once=at_once)
        facts = self.store.base_checks.facts(self.base)
        return preset_settings("Quick", parameters=facts.parameters)

    def remove(self) -> None:
        """Stop and delete every sample run and sample corpus, as soon as nothing works on them any more."""
        self.store.settings.set(SETTING, {"removing": True, "dismissed": True})
        self._remove_what_rests()

    def _remove_what_rests(self) -> None:
        store, waits = self.store, False
        for run in store.runs.all():
            if run.is_sample:
                waits = not self._is_gone(lambda run=run: store.runs.delete(run.id), run.job) or waits
        for corpus in store.corpora.all():
            used = any(run.corpus_id == corpus.id for run in store.runs.all())
            if corpus.is_sample and not used:
                waits = not self._is_gone(lambda corpus=corpus: store.corpora.delete(corpus.id), corpus.job) or waits
        if not waits:
            self.store.settings.set(SETTING, {"dismissed": True})

    def _is_gone(self, delete: Any, job: Job | None) -> bool:
        if job is not None and not job.is_finished:
            with suppress(UserError):  # it ends by itself just now
                self.store.queue.stop(job.id)
        try:
            delete()
        except UserError:
            return False  # something still works on it; the worker tries again
        return True
