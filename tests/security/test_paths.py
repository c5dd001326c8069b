"""What a message on a page says of the machine it runs on: nothing."""

from __future__ import annotations

import pytest

from hydralora.plain import without_paths


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("No such file: '/home/ann/hydra/studio.db'", "No such file: '…/studio.db'"),
        ("/etc/passwd and /proc/self/environ", "…/passwd and …/environ"),
        (
            "see http://127.0.0.1:7860/ui/runs/1 or /runs, and/or 3/4/5",
            "see http://127.0.0.1:7860/ui/runs/1 or /runs, and/or 3/4/5",
        ),
        ("owner/name is a hub id", "owner/name is a hub id"),
    ],
)
def test_a_message_on_a_page_names_no_path_of_the_machine(text: str, shown: str) -> None:
    assert without_paths(text) == shown
