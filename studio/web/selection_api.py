"""Addresses of one selection: all points of a map, the text of one row, and what is selected as a file.

``GET /ui/clusterings/{id}/points`` gives five bytes an example (``Places.packed``); it is sent again only when it
has changed (``ETag``).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Query as InQuery
from fastapi.responses import Response
from pydantic import ValidationError

from hydralora.bounds import sentences
from hydralora.corpus.folder import Corpus
from hydralora.corpus.query import Query
from hydralora.errors import UserError
from jobs.store.membership import membership_in
from jobs.store.store import Store
from studio.web.api import Id, View
from studio.web.downloads import examples_reply

LONGEST_QUERY = 20_000  # characters of a query as JSON
SHOWN_TEXT = 500  # characters of a prompt and of an answer under the pointer
Asked = Annotated[str, InQuery(max_length=LONGEST_QUERY)]


def selection_router(store: Store) -> APIRouter:
    """Routes under ``/ui``."""
    router = APIRouter(prefix="/ui")

    @router.get("/clusterings/{clustering_id}/points")
    def points(clustering_id: Id, request: Request) -> Response:
        found = store.clusterings.get(clustering_id)
        if found.result is None:
            raise UserError("This clustering is not finished yet. Wait for it.")
        data = membership_in(store.home, store.clusterings, found).places.packed()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"', "Cache-Control": "private, no-cache"}
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="application/octet-stream", headers=headers)

    @router.get("/corpora/{corpus_id}/rows/{position}")
    def row(corpus_id: Id, position: Id) -> dict[str, Any]:
        """One example as text, cut for showing."""
        corpus = Corpus(store.home.corpus(store.corpora.ready(corpus_id).id))
        (example,) = corpus.take([position])
        return {
            "position": position,
            "prompt": _cut(example.prompt),
            "answer": _cut(example.answer),
            "label": example.label,
        }

    @router.get("/corpora/{corpus_id}/selected.{name}")
    def selected(corpus_id: Id, name: View, select: Asked = "{}") -> Response:
        """What meets a query, given as JSON."""
        found = store.selections.find(corpus_id, parse_query(select))
        if not len(found.positions):
            raise UserError("No example is selected, so there is nothing to export. Widen the selection.")
        corpus = Corpus(store.home.corpus(corpus_id))
        return examples_reply(corpus, found.positions, name, f"corpus-{corpus_id}-selected")

    return router


def parse_query(text: str) -> Query:
    """A query from its JSON.

    Raises:
        UserError: When it is none; with the name, the rule and the value.
    """
    try:
        return Query.model_validate_json(text)
    except ValidationError as error:
        raise UserError(sentences(error.errors(), "select")) from error


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]} …"
