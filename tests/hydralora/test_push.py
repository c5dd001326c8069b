"""An export on the hub: whole files, a card that says what it is, and nothing of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from hydralora.adapters.card import check_repository, model_card
from hydralora.adapters.hub import push_folder
from hydralora.analysis.export import export_run
from hydralora.errors import StoppedError, UserError
from hydralora.files import file_hash
from hydralora.progress import Progress
from hydralora.results import AdapterFacts, Answers, Score
from tests.hydralora.little_model_hub import TOKEN, model_hub
from tests.hydralora.test_export import runs as runs

ANSWERS = Answers(
    examples=4,
    rows=[],
    scores={
        "base": Score(exact_match=0.0, hits=[False], by_label={}),
        "tuned": Score(exact_match=0.75, hits=[True], by_label={}),
    },
    sentence="Right on 75 % of 4 held-out questions; was 0 %.",
)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests ask no hub elsewhere; the one here may be asked, in the way that needs no other server."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def exported(runs, easy_corpus, tmp_path_factory):
    """An export, what is known of its run, and what it says of itself."""
    folder = tmp_path_factory.mktemp("push") / "out"
    export = export_run(runs("hydralora"), easy_corpus, folder, "mean_gate")
    return folder, AdapterFacts.read(runs("hydralora") / "adapter"), export


def test_a_push_sends_the_files_with_their_card(exported):
    folder, facts, export = exported
    card = model_card(facts, export, ANSWERS, "somebody/colours")
    with model_hub() as hub:
        address = push_folder(folder, "somebody/colours", card)
    assert address.endswith("/somebody/colours") and hub.repositories == {"somebody/colours": True}
    assert hub.files["README.md"].decode() == card
    weights = folder / "adapter" / "adapter_model.safetensors"
    assert hub.files["adapter/adapter_model.safetensors"] == weights.read_bytes() and file_hash(weights)
    assert {"adapter/adapter_config.json", "export.json"} <= set(hub.files)


def test_no_folder_of_this_machine_is_sent(exported, base_folder):
    folder, facts, export = exported
    assert str(base_folder) in (folder / "adapter" / "adapter_config.json").read_text("utf-8")
    with model_hub() as hub:
        push_folder(folder, "somebody/colours", model_card(facts, export, None, "somebody/colours"))
    assert not any(str(base_folder.parent).encode() in data for data in hub.files.values())


def test_the_card_tells_results_data_gap_and_how_to_load(exported):
    _, facts, export = exported
    card = model_card(facts, export, ANSWERS, "somebody/colours")
    assert card.startswith("---\nlibrary_name: ") and facts.corpus_hash in card and export.sentence in card
    assert f"{facts.summary.held_out_loss:.4f}" in card and "75.0%" in card
    assert "PeftModel.from_pretrained(base, 'somebody/colours', subfolder='adapter')" in card


def test_without_a_token_that_may_write_the_hub_refuses_in_one_sentence(exported, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with model_hub() as hub, pytest.raises(UserError, match=r"does not let you write to somebody/colours. Put a token"):
        push_folder(exported[0], "somebody/colours", "# Card")
    assert hub.files == {}


def test_a_hub_that_cannot_be_reached_is_said_to_be(exported, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="The hub cannot be reached"):
        push_folder(exported[0], "somebody/colours", "# Card")


def test_a_stopped_push_sends_nothing(exported):
    with model_hub() as hub, pytest.raises(StoppedError):
        push_folder(exported[0], "somebody/x", "#", progress=Progress(should_stop=lambda: True))
    assert hub.repositories == {} and hub.files == {}


@pytest.mark.parametrize(
    "name", ["", "colours", "a/b/c", "../x/y", "a/..", "https://x/a", "a/b\n", "a/b.git", "/etc/passwd", "a b/c", "a/é"]
)
def test_what_is_no_name_of_a_model_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no name of a model on the hub. Write owner/name."):
        check_repository(name)


def test_a_stop_while_the_hub_is_asked_is_a_stop(exported):
    folder, facts, export = exported
    asked: list[float] = []
    progress = Progress(lambda share, _: asked.append(share), lambda: bool(asked))
    with model_hub() as hub, pytest.raises(StoppedError):
        push_folder(
            folder, "somebody/colours", model_card(facts, export, ANSWERS, "somebody/colours"), progress=progress
        )
    assert hub.files == {}
