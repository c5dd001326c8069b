"""Roles and options of an import, as the commands take them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import typer

from hydralora.errors import UserError
from hydralora.results.corpus import MANY_COLUMNS, ONE_COLUMN

NAMES = (*MANY_COLUMNS, *ONE_COLUMN)
NEXT_ROLE = re.compile(rf",(?=\s*(?:{'|'.join(NAMES)})\s*=)")
ROLES_HELP = f"Columns by role, prompt=a+b,answer=c,unused=e (roles: {', '.join(NAMES)}); the rest is guessed"

GivenRoles = Annotated[list[str] | None, typer.Option("--roles", help=ROLES_HELP)]
Prompt = Annotated[list[str] | None, typer.Option(help="Column of the prompt (repeat to join several)")]
Answer = Annotated[str, typer.Option(help="Column of the answer")]
Text = Annotated[str, typer.Option(help="Column of plain text")]
Label = Annotated[str, typer.Option(help="Column of a label, never trained on")]
Answers = Annotated[
    Literal["first", "each"] | None,
    typer.Option(help="Of several right answers, the first (as when left out), or an example for each"),
]
FileNames = Annotated[bool | None, typer.Option(help="Whether a file's name may be the split or the label")]
Unwrap = Annotated[bool | None, typer.Option(help="Whether prompts are taken out of a chat template they lie in")]

READ = ("encoding", "delimiter", "header", "layout", "sheet")
Read = Annotated[
    list[str] | None,
    typer.Option(help=f"How files are read where the guess is wrong, NAME=VALUE (repeat): {', '.join(READ)}"),
]


def options_of(
    answers: str | None, file_names: bool | None, unwrap: bool | None, read: list[str] | None
) -> dict[str, Any]:
    """The options of an import that a command names.

    Raises:
        UserError: When one is not known.
    """
    named = {"answers": answers, "file_names": file_names, "unwrap": unwrap}
    options: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    for part in read or []:
        name, sign, value = part.partition("=")
        if not sign or name not in READ:
            raise UserError(f"`--read {part[:100]}`: write NAME=VALUE. The names are {', '.join(READ)}.")
        if name == "header" and value not in ("yes", "no"):
            raise UserError(f"`--read {part[:100]}`: header is yes or no.")
        value = {"tab": "\t", "\\t": "\t"}.get(value, value)
        options[name] = value == "yes" if name == "header" else value
    return options


def roles_of(
    given: list[str] | None, prompt: list[str] | None = None, answer: str = "", text: str = "", label: str = ""
) -> dict[str, Any] | None:
    """The roles that a command names; None where it names none.

    Raises:
        UserError: When a role does not exist, or has no column.
    """
    roles: dict[str, Any] = {}
    for part in (piece for words in given or [] for piece in NEXT_ROLE.split(words)):
        role, sign, columns = (item.strip() for item in part.partition("="))
        if not sign or role not in NAMES:
            raise UserError(f"`--roles {part[:100]}`: write ROLE=COLUMN. The roles are {', '.join(NAMES)}.")
        names = [name.strip() for name in columns.split("+") if name.strip()]
        if role in ONE_COLUMN and len(names) > 1 and columns:
            names = [columns]  # a plus in the name of a column: only prompt, choices and unused may have several
        roles[role] = names if role in MANY_COLUMNS else (names[0] if names else "")
    single = {"prompt": prompt, "answer": answer, "text": text, "label": label}
    roles |= {role: value for role, value in single.items() if value}
    return roles or None
