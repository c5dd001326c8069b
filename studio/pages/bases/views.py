"""What the page Bases shows: the list, one base with what it needs, and what its check has found."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from hydralora.errors import UserError
from hydralora.plain import without_paths
from hydralora.results.bases import BaseCheck, BaseFacts
from jobs.machine import Machine
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio import cards
from studio.bases import SIGNS, Fit, amount, chat_fit, machine_words, new_run_fit, parameters
from studio.cards import Markup
from studio.pages.common import job_state

LOOKS = {"fits": "good", "tight": "warn", "does not fit": "bad"}
HEAD = ["Base", "Parameters", "Context", "Template", "Licence", "Stored as", "To chat", "To train", "Here"]
NOT_CHECKED = "Press “Check”: it is loaded once, reads a plain English text, and its template renders an exchange."


@dataclass(frozen=True)
class Known:
    """A base of the list with its facts, or why they cannot be read."""

    name: str
    facts: BaseFacts | None
    problem: str = ""


def known_base(store: Store, name: str) -> Known:
    """What the files of a base tell, or what is wrong with them."""
    try:
        return Known(name, store.base_checks.facts(name))
    except UserError as error:
        return Known(name, None, without_paths(str(error)))


def bases_list(known: list[Known], machine: Machine, chosen: str) -> Markup:
    """All bases, each with its size and whether it fits."""
    links = [(f"/bases?base={one.name}", one.name, _list_words(one, machine)) for one in known]
    return cards.side_list("Base models", links, f"/bases?base={chosen}")


def _list_words(one: Known, machine: Machine) -> str:
    if one.facts is None:
        return "cannot be used"
    return f"{parameters(one.facts.parameters)} parameters, {new_run_fit(one.facts, machine).verdict}"


def bases_table(known: list[Known], machine: Machine) -> Markup:
    """All bases beside each other."""
    rows: list[list[object]] = []
    for one in known:
        name = cards.link(f"/bases?base={one.name}", one.name)
        if one.facts is None:
            rows.append([cards.join(name, Markup("<br>"), one.problem), *[""] * 7, ""])
            continue
        facts, chat, train = one.facts, chat_fit(one.facts, machine), new_run_fit(one.facts, machine)
        rows.append(
            [
                name,
                parameters(facts.parameters),
                f"{facts.context:,}",
                "yes" if facts.has_template else "no",
                facts.licence or "not said",
                facts.stored,
                amount(chat.needed),
                amount(train.needed),
                _verdict(train),
            ]
        )
    caption = f"{machine_words(machine)} To train: as a new run begins, at most"
    return cards.table(HEAD, rows, caption=caption, numbers=[1, 2, 6, 7])


def _verdict(one: Fit) -> Markup:
    return Markup(f"<span class='hy-fit {LOOKS[one.verdict]}'>{SIGNS[one.verdict]} {one.verdict}</span>")


def base_cards(facts: BaseFacts, machine: Machine) -> Markup:
    """One base in figures, and what to change where it does not fit."""
    chat, train = chat_fit(facts, machine), new_run_fit(facts, machine)
    figures = cards.cards(
        [
            cards.card("Parameters", parameters(facts.parameters), f"{facts.layers} layers of width {facts.width:,}"),
            cards.card("Context", f"{facts.context:,}", "tokens at once"),
            cards.card("To chat", amount(chat.needed), _verdict(chat)),
            cards.card("To train", amount(train.needed), _verdict(train)),
            cards.card("Licence", facts.licence or "not said", f"stored as {facts.stored}, {amount(facts.bytes)}"),
        ]
    )
    ways = [one.way_out for one in (train, chat) if one.way_out]
    warning = cards.note("warn", f"A new run {train.verdict} as it begins.", ways[0]) if ways else ""
    return cards.join(figures, Markup(f"<p class='hy-quiet'>{cards.text(machine_words(machine))}</p>"), warning)


def tokens_command(name: str) -> Markup:
    """How tokens are added without the page."""
    words = shlex.join(["python", "-m", "studio", "bases", "add-tokens", name, "<tool>"])
    return Markup(f"<p class='hy-quiet'>The same by command: <code>{cards.text(words)}</code></p>")


def check_view(check: BaseCheck | None, job: Job | None) -> Markup:
    """What the newest check has found, how far it is, or what one would do."""
    pieces: list[object] = [job_state(job) if job and job.status != JobStatus.SUCCEEDED else ""]
    if check is None:
        if job is None or job.is_finished:
            pieces.append(cards.empty("Not checked yet", NOT_CHECKED))
        return cards.join(*pieces)
    is_wrong = any(one.weight == "wrong" for one in check.problems)
    said = f"An answer ends with {check.end}."
    if check.loss is not None:
        said = f"It reads plain English at {check.loss:.2f} nats per token; guessing is {check.chance:.2f}. {said}"
    pieces.append(cards.note("bad" if is_wrong else "warn" if check.problems else "good", check.sentence, said))
    pieces += [cards.note("bad" if one.weight == "wrong" else "info", one.title, one.advice) for one in check.problems]
    return cards.join(*pieces, example_view(check))


def example_view(check: BaseCheck) -> Markup:
    """An exchange as it is trained on: what is learnt stands out."""
    parts = "".join(
        f"<mark>{cards.text(text)}</mark>" if is_learnt else str(cards.text(text)) for text, is_learnt in check.example
    )
    said = f"An exchange as it is trained on, {check.tokens} tokens; what is learnt is marked"
    return Markup(
        f"<figure class='hy-exchange'><figcaption>{said}</figcaption><pre tabindex='0'>{parts}</pre></figure>"
    )
