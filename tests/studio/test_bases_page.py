"""Bases on their page and by command: what each is, what it needs, whether that fits, and how one is added."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.datastructures import QueryParams

from hydralora.analysis.base_check import check_base
from hydralora.bases.folder import STARTER
from hydralora.config import TrainConfig, parse_config
from hydralora.errors import UserError
from jobs.home import Home
from jobs.machine import Gpu, Machine
from jobs.new_bases import KIND
from jobs.sizes import sizes_of
from jobs.store.base_checks import KIND as CHECK
from jobs.store.store import Store
from studio.bases import amount, chat_fit, new_run_fit, parameters, train_fit, way_out
from studio.pages.bases.page import BasesPage
from studio.pages.new_run.fit import SMALL_WORLD, BaseNote
from studio.pages.new_run.page import NewRunPage
from tests.studio.commands import Commands
from tests.studio.stored import Stored

EVIL = "<script>alert(1)</script>"
GIB = 2**30
LARGE = Machine(64 * GIB, 60 * GIB, 8)


class Asking:
    """A request whose address holds these texts."""

    def __init__(self, **query: str) -> None:
        self.query_params = QueryParams(query)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One of its own: lists of bases and jobs are counted here."""
    return Store(Home(tmp_path / "home"))


@pytest.fixture
def stored(store: Store) -> Stored:
    return Stored(store)


@pytest.fixture
def page(store: Store) -> BasesPage:
    with gr.Blocks() as blocks:
        return BasesPage(blocks, store)


@pytest.fixture
def mine(store: Store, tmp_path: Path) -> str:
    """A copy of the starter, on the list."""
    return store.bases.add(Path(shutil.copytree(STARTER, tmp_path / "mine"))).name


def checked(store: Store, stored: Stored, name: str) -> None:
    stored.end(store.base_checks.add(name), check_base(store.bases.look(name)).dump())


def test_every_base_of_the_list_stands_there_with_what_it_needs(page: BasesPage, mine: str) -> None:
    drawn = page.draw(Asking())
    for name in ("starter", mine):
        assert f"/bases?base={name}" in drawn[page.list] and f"/bases?base={name}" in drawn[page.table]
    assert "1.8 M" in drawn[page.table] and "GiB" in drawn[page.table] and not drawn[page.detail].visible


def test_one_base_is_shown_with_its_figures_and_its_check(
    page: BasesPage, store: Store, stored: Stored, mine: str
) -> None:
    before = page.draw(Asking(base=mine))
    assert "Not checked yet" in before[page.found] and f"/new-run?base={mine}" in before[page.head]
    page.start_check(Asking(base=mine))
    assert "Waiting for its turn" in page.draw(Asking(base=mine))[page.found]
    checked(store, stored, mine)
    found = page.draw(Asking(base=mine))[page.found]
    assert "<mark>The capital of France is Paris." in found and "no better than guessing" in found


def test_a_check_of_other_files_is_not_shown(store: Store, stored: Stored, mine: str, tmp_path: Path) -> None:
    checked(store, stored, mine)
    assert store.base_checks.latest(mine) is not None
    (tmp_path / "mine" / "generation_config.json").write_text('{"eos_token_id": 2, "max_length": 99}')
    assert store.base_checks.latest(mine) is None


def test_two_checks_of_one_base_are_one_job(store: Store, mine: str) -> None:
    assert store.base_checks.add(mine).id == store.base_checks.add(mine).id


@pytest.mark.parametrize("name", ["nobody", EVIL, "/etc/passwd", "../starter", "x" * 5_000, "\0"])
def test_an_address_that_names_no_base_says_so_and_is_escaped(page: BasesPage, name: str) -> None:
    drawn = page.draw(Asking(base=name))
    assert "There is no base" in drawn[page.nothing] and "<script" not in drawn[page.nothing]
    with pytest.raises(UserError):
        page.start_check(Asking(base=name))
    with pytest.raises(UserError):
        page.remove_base(Asking(base=name), True)


def test_a_base_whose_folder_is_gone_says_so_and_shows_no_path(
    page: BasesPage, mine: str, tmp_path: Path, store: Store
) -> None:
    shutil.rmtree(tmp_path / "mine")
    drawn = page.draw(Asking(base=mine))
    assert "is gone" in drawn[page.facts] and str(tmp_path) not in drawn[page.facts]
    assert "cannot be used" in drawn[page.list]


def test_a_base_is_removed_only_where_the_box_is_ticked(page: BasesPage, store: Store, mine: str) -> None:
    with pytest.raises(UserError, match="Tick"):
        page.remove_base(Asking(base=mine), False)
    page.remove_base(Asking(base=mine), True)
    assert store.base_checks.names() == ["starter"]
    with pytest.raises(UserError, match="no base"):
        page.remove_base(Asking(base="starter"), True)


def test_an_uploaded_file_waits_in_the_studios_own_folder(page: BasesPage, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "little.gguf"
    file.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2 + bytes(64))
    page.add_file(str(file), "tiny")
    (job,) = store.queue.jobs(kind=KIND)
    assert (store.home.uploads / job.payload["upload"]).is_file() and not file.exists()
    assert job.payload["name"] == "tiny" and not Path(job.payload["upload"]).is_absolute()
    assert "Waiting" in page.draw(Asking())[page.work]


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [(b"PK\3\4 a zip", "", "is no GGUF file"), (b"GGUF\1", "", "ends after"), (None, "", "No file is chosen")],
)
def test_a_file_that_is_no_base_is_refused_before_anything_is_kept(
    page: BasesPage, store: Store, tmp_path: Path, content: bytes | None, name: str, words: str
) -> None:
    file: Any = None
    if content is not None:
        (tmp_path / "bad.gguf").write_bytes(content)
        file = str(tmp_path / "bad.gguf")
    with pytest.raises(UserError, match=words):
        page.add_file(file, name)
    assert store.queue.jobs(kind=KIND) == [] and list(store.home.uploads.iterdir()) == []


def test_a_model_of_a_hub_is_fetched_by_its_check(page: BasesPage, store: Store) -> None:
    assert page.fetch_hub(" owner/model ")[page.opened] == "owner/model"
    (job,) = store.queue.jobs(kind=CHECK)
    assert job.payload == {"name": "owner/model", "base": "owner/model", "dtype": "auto"}
    assert "lies on a hub" in page.draw(Asking(base="owner/model"))[page.facts]
    for wrong in ("nobody", "/etc/passwd", EVIL, None, 7):
        with pytest.raises(UserError, match="named owner/name"):
            page.fetch_hub(wrong)


def test_a_hub_id_is_refused_where_hubs_are(page: BasesPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_HUB", "0")
    with pytest.raises(UserError, match="is unknown"):
        page.fetch_hub("owner/model")
    assert "There is no base" in page.draw(Asking(base="owner/model"))[page.nothing]


# Whether it fits


def facts(store: Store, **changes: Any) -> Any:
    return store.base_checks.facts("starter").model_copy(update=changes)


def test_what_takes_more_than_is_free_does_not_fit_and_four_fifths_are_tight(store: Store) -> None:
    needed = new_run_fit(facts(store), LARGE).needed
    for room, verdict in ((needed / 0.79, "fits"), (needed / 0.81, "tight"), (needed * 0.99, "does not fit")):
        assert new_run_fit(facts(store), Machine(64 * GIB, int(room), 2)).verdict == verdict
    assert chat_fit(facts(store), LARGE).verdict == "fits"


def test_a_gpu_is_where_it_must_fit(store: Store) -> None:
    small = Machine(64 * GIB, 60 * GIB, 8, (Gpu("small", GIB // 4, GIB // 4),))
    assert new_run_fit(facts(store), small).verdict == "does not fit"


def test_a_gpu_is_used_in_bfloat16_whatever_type_the_base_is_stored_in(store: Store) -> None:
    stored = facts(store)
    card = Machine(64 * GIB, 60 * GIB, 8, (Gpu("large", 80 * GIB, 70 * GIB),))
    assert stored.stored == "F32" and sizes_of(stored, LARGE)["dtype"] == "float32"
    assert sizes_of(stored, card)["dtype"] == "bfloat16"


def test_the_way_out_makes_it_fit_and_keeps_the_step(store: Store) -> None:
    large = facts(store, parameters=135_000_000, layers=30, width=576, inner=1536, vocabulary=49_152, key_width=192)
    config = parse_config({"train": {"batch_size": 64, "max_length": 512}})
    machine = Machine(8 * GIB, 6 * GIB, 2)
    assert train_fit(large, config, machine).verdict == "does not fit"
    words = way_out(large, config, machine)
    assert "`dtype` to bfloat16" in words and "`accumulation` to" in words
    batch, steps = (
        int(words.split(f"`{name}` to ")[1].split(" ")[0].rstrip(":")) for name in ("batch_size", "accumulation")
    )
    assert batch * steps == 64
    changed = {"dtype": "bfloat16", "batch_size": batch, "accumulation": steps, "max_length": 512}
    changed |= {"gradient_checkpointing": "gradient_checkpointing" in words}
    assert train_fit(large, parse_config({"train": changed}), machine).verdict == "fits"


def test_where_nothing_helps_a_smaller_base_is_named(store: Store) -> None:
    huge = facts(store, parameters=10**12)
    assert "smaller base" in new_run_fit(huge, LARGE).way_out


@pytest.mark.parametrize(("count", "words"), [(1_834_720, "1.8 M"), (134_515_008, "135 M"), (3_200_000_000, "3.2 B")])
def test_parameters_are_told_in_few_digits(count: int, words: str) -> None:
    assert parameters(count) == words and amount(GIB * 1.26) == "1.3 GiB"


# New run


def test_new_run_tells_before_start_what_fits_and_that_the_starter_is_for_its_samples(
    store: Store, stored: Stored
) -> None:
    corpus = stored.corpus()
    with gr.Blocks() as blocks:
        part = BaseNote(blocks, store)
    settings = (16, 1, 256, "float32", False, TrainConfig().objective)
    note = part.draw(corpus.id, "starter", "hydralora", *settings)[part.note]
    assert "are free: fits" in note and (SMALL_WORLD in note) is not corpus.is_sample
    half = part.draw(corpus.id, "nobo", "hydralora", *settings)[part.note]
    assert "All bases" in half and "free" not in half
    assert "All bases" in part.draw(None, "starter", "rubbish", "x", None, 1, [], "y", "z")[part.note]


def test_a_link_to_new_run_chooses_the_base_it_names(store: Store, stored: Stored, mine: str) -> None:
    stored.corpus()
    with gr.Blocks() as blocks:
        page = NewRunPage(blocks, store)
    assert f'"run-base": "{mine}"' in page.load(Asking(base=mine))[page.filled]
    assert '"run-base": "starter"' in page.load(Asking(base=EVIL))[page.filled]


# By command


def test_commands_show_and_check_and_list(store: Store, mine: str) -> None:
    studio = Commands(store.home.root)
    found = studio.json("bases", "list")
    assert [base["name"] for base in found["bases"]] == ["starter", mine]
    assert found["bases"][0]["facts"]["parameters"] == 1_834_720 and found["bases"][0]["train"]["verdict"]
    shown = studio.json("bases", "show", mine)
    assert shown["check"] is None and shown["facts"]["context"] == 512
    assert "Not checked yet" in studio("bases", "show", mine).stdout
    assert studio("bases", "show", "nobody").returncode == 2


def test_tokens_are_added_to_a_base_of_its_own(page: BasesPage, store: Store, mine: str) -> None:
    page.add_tokens(Asking(base=mine), " <tool>\n\n<end of tool> ", "with-tools")
    (job,) = store.queue.jobs(kind=KIND)
    assert job.payload["tokens"] == ["<tool>", "<end of tool>"] and job.payload["name"] == "with-tools"
    assert f"bases add-tokens {mine}" in page.draw(Asking(base=mine))[page.command]


@pytest.mark.parametrize(
    ("asked", "given", "words"),
    [("mine", "", "0 tokens are given"), ("mine", "a\na", "given twice"), ("nobody", "<tool>", "is unknown")],
)
def test_tokens_that_cannot_be_added_are_refused_before_a_job_is_made(
    page: BasesPage, store: Store, mine: str, asked: str, given: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        page.add_tokens(Asking(base=asked), given, "")
    assert store.queue.jobs(kind=KIND) == []
