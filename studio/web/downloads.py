"""Examples as a file to download: a stream of text, or a Parquet file that is gone once it was sent."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path

import numpy as np
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from hydralora.corpus.folder import Corpus
from hydralora.corpus.writing import check_format, pieces, write_examples

MEDIA = {"jsonl": "application/x-ndjson", "csv": "text/csv"}


def examples_reply(corpus: Corpus, positions: np.ndarray, name: str, title: str) -> Response:
    """The examples at these positions as a file called ``title`` in the format ``name``.

    Raises:
        CorpusError: When the format is none, or a conversation shall become a row of CSV.
    """
    headers = {"Content-Disposition": f'attachment; filename="{title}.{check_format(name)}"'}
    if name == "parquet":
        folder = tempfile.TemporaryDirectory(prefix="hydra-examples-")  # it goes also where writing fails
        file = Path(folder.name) / "examples.parquet"
        write_examples(corpus, positions.tolist(), file, name)
        return FileResponse(file, headers=headers, background=BackgroundTask(folder.cleanup))
    text = pieces(corpus, positions.tolist(), name)
    first = next(text, "")  # a refusal comes before the answer begins
    return StreamingResponse(chain([first], text), media_type=MEDIA[name], headers=headers)
