"""What is wrong with the data: the quality report, its examples, and what is left out because of it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.quality.findings import read_finding
from hydralora.corpus.writing import FORMATS as WRITTEN_AS
from hydralora.errors import UserError
from hydralora.results import Finding, Quality
from jobs.store.exclusions import Exclusion
from jobs.store.records import Corpus, Job
from jobs.store.shortenings import Shortening
from jobs.store.status import JobStatus
from studio import cards
from studio.cards import Markup
from studio.pages.common import TICK, address_id, chosen_text, job_state, known_bases
from studio.pages.corpora.views import rows_table
from studio.pages.page import Changes, Part
from studio.widgets import Choice

GRAVE = {  # findings that cost answers or make a score untrue, and which of it
    "cut": "costs answers",
    "unfit": "costs answers",
    "pieces": "to know",
    "held out": "costs answers",
    "blank": "teaches nothing",
    "leaks": "score too high",
}
SHOWN = 20
NO_REPORT = "Not checked yet"
CHECK_SAYS = (
    "Press “Check”: it finds answers that would lose their end, copies, contradictions, leaks into what is held out, "
    "empty answers, marks of templates and more. It only looks."
)
NO_BASE = "no base: count no tokens"


class Problems(Part):
    """The report of the newest check, and what was left out or shortened because of it; each step can be taken back."""

    def layout(self) -> None:
        with gr.Accordion("Problems: what is wrong with the data?", open=True, elem_id="part-problems"):
            with gr.Row():
                self.base = Choice(
                    self._bases(), value="starter", label="For base", min_width=200, elem_id="check-base"
                )
                self.length = gr.Number(
                    256, label="Longest example (tokens)", precision=0, minimum=8, maximum=131_072, min_width=160
                )
                self.check = gr.Button("Check", variant="primary", scale=0, min_width=120, elem_id="check")
            self.report = gr.HTML()
            with gr.Row(visible=False) as self.acting:
                self.finding = Choice([], label="Problem", min_width=260, elem_id="finding")
                self.show = gr.Button("Show examples", scale=0, min_width=140)
                self.exclude = gr.Button("Leave out", scale=0, min_width=170, elem_id="exclude")
                self.shorten = gr.Button("Shorten", scale=0, min_width=150, visible=False, elem_id="shorten")
            self.examples = gr.HTML()
            with gr.Row(visible=False) as self.undoing:
                self.step = Choice([], label="What was done", min_width=260, elem_id="exclusion")
                self.undo = gr.Button("Take back or do again", scale=0, min_width=220, elem_id="undo")

    def connect_to(self, stamp: gr.Textbox) -> None:
        """Connect its events; each empties ``stamp``, whereupon the page looks anew."""
        self.stamp = stamp
        self.on_click(self.check, self.start, [self.base, self.length], stamp)
        self.on_click(self.show, self.show_examples, self.finding, self.examples)
        self.finding.input(self.pick, self.finding, [self.exclude, self.shorten, self.examples], **TICK)
        self.on_click(self.exclude, self.leave_out, self.finding, stamp)
        self.on_click(self.shorten, self.make_shorter, self.finding, stamp)
        self.on_click(self.undo, self.toggle, self.step, stamp)

    @property
    def drawn(self) -> list[Any]:
        """What ``draw`` fills."""
        buttons = [self.exclude, self.shorten]
        return [self.base, self.report, self.acting, self.finding, *buttons, self.undoing, self.step]

    def draw(self, corpus: Corpus | None) -> Changes:
        """The report of a corpus that has been read, or how far the check is; nothing where there is no corpus."""
        if corpus is None or corpus.examples is None:
            return {self.report: "", self.acting: gr.Row(visible=False), self.undoing: gr.Row(visible=False)}
        report, job = self.store.checks.latest(corpus.id), self.store.checks.job(corpus.id)
        shortening = self.store.shortenings.job(corpus.id)
        pieces: list[object] = [
            job_state(one) for one in (job, shortening) if one and one.status != JobStatus.SUCCEEDED
        ]
        pieces.append(_nothing_shorter(shortening))
        known, shorter = self.store.exclusions.all(corpus.id), self.store.shortenings.all(corpus.id)
        done: list[tuple[str, int | str]] = [
            *((_title(one), one.id) for one in known),
            *((_shorter(one), _key(one)) for one in shorter),
        ]
        if report is not None:
            base = self.store.bases.name_of(report.base) if report.base else ""
            now = self.store.exclusions.name(corpus.id), self.store.edits.name(corpus.id)
            pieces.append(report_view(report, base, is_old=(report.selection, report.edits) != now))
        elif job is None or job.is_finished:
            pieces.append(cards.empty(NO_REPORT, CHECK_SAYS))
        found = report.findings if report else []
        choices = [(finding.title, finding.kind) for finding in found]
        chosen = found[0] if found else None
        return {
            self.base: gr.Dropdown(choices=self._bases()),
            self.report: cards.join(*pieces, exclusions_table(known), shortenings_table(shorter), downloads(corpus.id)),
            self.acting: gr.Row(visible=bool(found)),
            self.finding: gr.Dropdown(choices=choices, value=chosen.kind if chosen else None),
            self.exclude: _exclude_button(chosen),
            self.shorten: _shorten_button(chosen),
            self.undoing: gr.Row(visible=bool(done)),
            self.step: gr.Dropdown(choices=done, value=done[0][1] if done else None),
        }

    def state_of(self, corpus_id: int) -> object:
        """What tells one look from another."""
        job = self.store.checks.job(corpus_id)
        jobs = [job, self.store.shortenings.job(corpus_id)]
        exclusions = [(one.id, one.undone_at) for one in self.store.exclusions.all(corpus_id)]
        return [one and (one.id, one.status, round(one.progress, 2)) for one in jobs], exclusions

    # Handlers

    def start(self, request: gr.Request, base: Any, length: Any) -> Changes:
        """Queue a check."""
        name = chosen_text(base)
        asked = {} if length is None else {"max_length": length}
        self.store.checks.add(self._corpus(request), base="" if name == NO_BASE else name, **asked)
        return self._look_anew()

    def pick(self, request: gr.Request, kind: Any) -> Changes:
        """Say on the button what leaving out would do."""
        finding = self._find(request, kind)
        return {self.exclude: _exclude_button(finding), self.shorten: _shorten_button(finding), self.examples: ""}

    def show_examples(self, request: gr.Request, kind: Any) -> Changes:
        """The first examples of a problem."""
        finding, corpus_id = self._find(request, kind), self._corpus(request)
        rows = Rows(self.store.home.corpus(corpus_id))
        positions = [position for position in finding.examples if position < len(rows)][:SHOWN]
        caption = f"{finding.title} The first {len(positions)}"
        return {self.examples: rows_table(rows.take(positions), positions, caption)}

    def leave_out(self, request: gr.Request, kind: Any) -> Changes:
        """Leave out what is the remedy of a problem."""
        finding, corpus_id = self._find(request, kind), self._corpus(request)
        positions = read_finding(self.store.home.corpus(corpus_id), finding.kind, removable=True)
        self.store.exclusions.add(corpus_id, positions, finding.kind)
        return self._look_anew()

    def make_shorter(self, request: gr.Request, kind: Any) -> Changes:
        """Queue the shortening of the examples of a problem."""
        self.store.shortenings.add(self._corpus(request), self._find(request, kind).kind)
        return self._look_anew()

    def toggle(self, request: gr.Request, step: Any) -> Changes:
        """Take an exclusion or a shortening back, or do it again."""
        corpus_id = self._corpus(request)
        for one in self.store.exclusions.all(corpus_id):
            if one.id == step:
                (self.store.exclusions.redo if one.undone_at else self.store.exclusions.undo)(one.id)
                return self._look_anew()
        for shorter in self.store.shortenings.all(corpus_id):
            if _key(shorter) == step:
                (self.store.shortenings.redo if shorter.undone_at else self.store.shortenings.undo)(shorter.id)
                return self._look_anew()
        raise UserError("Choose what to take back.")

    def _bases(self) -> list[str]:
        return [NO_BASE, *known_bases(self.store)]

    def _look_anew(self) -> Changes:
        return {self.stamp: ""}

    def _find(self, request: gr.Request, kind: Any) -> Finding:
        """The finding of this kind of the newest report.

        Raises:
            UserError: When there is none.
        """
        report = self.store.checks.latest(self._corpus(request))
        for finding in report.findings if report else []:
            if finding.kind == kind:
                return finding
        raise UserError("The last check found no such problem. Choose one of the list.")

    def _corpus(self, request: gr.Request) -> int:
        return self.store.corpora.ready(address_id(request, "corpus") or 0).id


def _exclude_button(finding: Finding | None) -> gr.Button:
    """The button that leaves out, with what it does and to how many."""
    if finding is None or not finding.removable:
        return gr.Button("Leave out", interactive=False)
    return gr.Button(f"{finding.action} ({finding.removable:,})", interactive=True)


def _shorten_button(finding: Finding | None) -> gr.Button:
    """The button that shortens, where that is a remedy, and how many examples."""
    count = finding.shortens if finding else 0
    return gr.Button(f"Shorten ({count:,})", visible=bool(count))


def _nothing_shorter(job: Job | None) -> Markup:
    """That the newest shortening could shorten nothing; empty where it could, or there was none."""
    if job is None or job.status != JobStatus.SUCCEEDED or not job.result or job.result["positions"]:
        return Markup("")
    left = job.result["left"]
    return cards.note(
        "info",
        "Nothing was shortened.",
        f"Of {left:,} examples no single text is the reason. Leave them out, or edit them.",
    )


def _key(shortening: Shortening) -> str:
    return f"shortening {shortening.id}"


def _shorter(shortening: Shortening) -> str:
    state = "taken back" if shortening.undone_at else "shortened"
    return f"{shortening.count:,} examples, to {shortening.max_length:,} tokens: {state}"


def _title(exclusion: Exclusion) -> str:
    state = "taken back" if exclusion.undone_at else "left out"
    return f"{exclusion.count:,} examples, {exclusion.reason}: {state}"


def report_view(report: Quality, base: str, *, is_old: bool) -> Markup:
    """The report: what would be trained on, then one row for each problem, the gravest first."""
    lengths = report.lengths
    measured = (
        f"For base {base} and {report.max_length:,} tokens; half of the examples have {lengths.median:,} tokens "
        f"or fewer, the longest {lengths.longest:,}."
        if lengths
        else "No tokens were counted."
    )
    lead = cards.note(
        "warn" if report.findings else "good",
        report.sentence,
        f"A new run would train on {report.train:,} and hold out {report.held_out:,}. {measured}",
    )
    old = cards.note("info", "Something was left out, taken back or edited since.", "Check again to see the rest.")
    rows: list[list[object]] = [
        [f"{finding.count:,}", _told(finding), GRAVE.get(finding.kind, "to look at")] for finding in report.findings
    ]
    table = cards.table(["Examples", "Problem", "Weight"], rows, caption="Problems", numbers=[0]) if rows else ""
    return cards.join(lead, old if is_old else "", table)


def _told(finding: Finding) -> Markup:
    return Markup(f"<b>{cards.text(finding.title)}</b><br>{cards.text(finding.advice)}")


def exclusions_table(known: list[Exclusion]) -> Markup:
    """Everything that was left out, newest first."""
    if not known:
        return Markup("")
    rows: list[list[object]] = [
        [f"{one.count:,}", one.reason, "taken back" if one.undone_at else "left out", cards.moment(one.created_at)]
        for one in known
    ]
    left = sum(one.count for one in known if not one.undone_at)
    caption = f"{left:,} examples are left out of every new run; nothing is deleted"
    return cards.table(["Examples", "Reason", "State", "When"], rows, caption=caption, numbers=[0])


def shortenings_table(known: list[Shortening]) -> Markup:
    """Everything that was shortened, newest first."""
    if not known:
        return Markup("")
    rows: list[list[object]] = [
        [
            f"{one.count:,}",
            f"{one.max_length:,}",
            f"{one.left:,}",
            "taken back" if one.undone_at else "shortened",
            cards.moment(one.created_at),
        ]
        for one in known
    ]
    caption = "Examples were shortened; the import stays as it was"
    head = ["Examples", "To tokens", "Not possible", "State", "When"]
    return cards.table(head, rows, caption=caption, numbers=[0, 1, 2])


def downloads(corpus_id: int) -> Markup:
    """Links to what is not left out, as files."""
    links = cards.listed(cards.link(f"/ui/corpora/{corpus_id}/examples.{name}", name.upper()) for name in WRITTEN_AS)
    return cards.join(Markup("<p class='hy-quiet'>Download what is not left out: "), links, Markup("</p>"))
