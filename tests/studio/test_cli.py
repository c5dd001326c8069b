"""Every button as a command: real processes, JSON for machines, one sentence for mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.cli.given_roles import options_of
from tests.hydralora.conftest import make_llama, make_tokenizer
from tests.studio.commands import Commands

THINGS = ("door", "tree", "boat", "lamp")
COLOURS = ("red", "green", "blue", "white", "black", "brown")
EXPERTS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("given")


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Commands]:
    commands = Commands(folder / "home")
    with pytest.MonkeyPatch.context() as patch:  # as in the processes of `commands`
        patch.setenv("COLUMNS", "200")
        patch.setenv("NO_COLOR", "1")
        yield commands
    commands.end()


@pytest.fixture(scope="module")
def table(folder: Path) -> Path:
    """24 questions and answers as CSV, and one row without an answer (the 26th line)."""
    rows = [f"The {thing} is {colour}. Which colour?,{colour}" for thing in THINGS for colour in COLOURS]
    path = folder / "colours.csv"
    path.write_text("\n".join(["prompt,answer", *rows, "Which?,"]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    """A tiny Llama with random weights, as a folder of safetensors."""
    path, tokenizer = folder / "base", make_tokenizer()
    make_llama(len(tokenizer)).save_pretrained(path, safe_serialization=True)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def corpus(studio: Commands, table: Path) -> dict[str, Any]:
    return studio.json("corpora", "add", table)


@pytest.fixture(scope="module")
def run(studio: Commands, corpus: dict[str, Any], base: Path) -> dict[str, Any]:
    """A run of three steps, waited for."""
    return studio.json(
        "runs",
        "start",
        "--corpus",
        corpus["corpus_id"],
        "--base",
        base,
        "--max-steps",
        3,
        "--experts",
        EXPERTS,
        "--rank",
        2,
        "--batch-size",
        4,
        "--name",
        "three steps",
        "--set",
        "train.max_length=64",
        "--wait",
    )


# Corpora


def test_adding_a_corpus_counts_examples_and_rejected_rows(corpus: dict[str, Any]) -> None:
    assert (corpus["examples"], corpus["rejected"], corpus["status"]) == (24, 1, "succeeded")
    assert corpus["name"] == "colours" and corpus["corpus_id"] >= 1


def test_a_refused_row_is_named_with_its_reason(corpus: dict[str, Any]) -> None:
    assert [row["row"] for row in corpus["rejected_rows"]] == [26]
    assert "answer" in corpus["rejected_rows"][0]["reason"]


def test_list_and_show_tell_the_same(studio: Commands, corpus: dict[str, Any]) -> None:
    listed = next(c for c in studio.json("corpora", "list") if c["corpus_id"] == corpus["corpus_id"])
    shown = studio.json("corpora", "show", corpus["corpus_id"])
    assert listed == {name: shown[name] for name in ("corpus_id", "name", "examples", "rejected", "status")}


def test_clustering_gives_sizes_and_words_of_every_cluster(studio: Commands, corpus: dict[str, Any]) -> None:
    found = studio.json("corpora", "cluster", corpus["corpus_id"], "--k", 3)
    assert found["k"] == 3 and sum(found["sizes"]) == 24
    assert len(found["sizes"]) == len(found["words"]) == 3 and all(found["words"])
    assert found["suggested_k"] >= 1 and found["reason"]


def test_clustering_without_a_number_takes_the_suggested_one(studio: Commands, corpus: dict[str, Any]) -> None:
    found = studio.json("corpora", "cluster", corpus["corpus_id"])
    assert found["k"] == found["suggested_k"]
    assert studio.json("corpora", "show", corpus["corpus_id"])["suggested_k"] == found["k"]


def test_without_json_people_read_a_sentence(studio: Commands, corpus: dict[str, Any]) -> None:
    said = studio("corpora", "show", corpus["corpus_id"]).stdout
    assert "24 examples, 1 rejected rows" in said


def test_columns_that_say_nothing_are_named_afterwards(studio: Commands, folder: Path) -> None:
    (path := folder / "sizes.csv").write_text("width,height\n" + "".join(f"{i},{i * i}\n" for i in range(9)))
    failed = studio("corpora", "add", path)
    number = next(c["corpus_id"] for c in studio.json("corpora", "list") if c["name"] == "sizes")
    assert failed.returncode == 2 and "--prompt COLUMN --answer COLUMN, now or with `corpora roles`" in failed.stderr
    made = studio.json("corpora", "roles", number, "--roles", "prompt=width,answer=height")
    assert (made["examples"], made["roles"]["prompt"], made["unused"]) == (9, ["width"], [])


def test_a_preview_says_the_same_as_the_import(studio: Commands, table: Path, corpus: dict[str, Any]) -> None:
    found = studio.json("corpora", "preview", table, "--max-length", 16)
    assert found["roles"] == corpus["roles"] and found["counts"] == corpus["counts"]
    assert found["examples"][0]["pieces"][-1]["text"] == "red<|end|>"
    said = studio("corpora", "preview", table).stdout
    assert "prompt" in said and "[[red<|end|>]]" in said and "Row 26: `answer` is empty." in said


def test_an_option_of_reading_that_is_not_named_is_left_to_the_import() -> None:
    assert options_of(None, None, None, None) == {}
    assert options_of(None, None, False, ["header=no"]) == {"unwrap": False, "header": False}


def test_roles_of_several_columns_are_written_with_a_plus(studio: Commands, table: Path) -> None:
    found = studio.json("corpora", "preview", table, "--roles", "text=answer,unused=prompt")
    assert found["roles"]["text"] == "answer" and found["tables"][0]["unused"] == ["prompt"]
    wrong = studio("corpora", "preview", table, "--roles", "question=prompt")
    assert wrong.returncode == 2 and "The roles are prompt, choices" in wrong.stderr


def test_a_check_names_what_a_base_would_cut_and_what_can_be_left_out(
    studio: Commands, table: Path, base: Path
) -> None:
    lines = table.read_text("utf-8").splitlines()
    copies = table.with_name("copies.csv")
    copies.write_text("\n".join([*lines, lines[1], lines[1], lines[2]]) + "\n", "utf-8")
    corpus = studio.json("corpora", "add", copies)["corpus_id"]
    report = studio.json("corpora", "check", corpus, "--base", base, "--max-length", 8)
    counts = {finding["kind"]: (finding["count"], finding["removable"]) for finding in report["findings"]}
    assert counts["copies"] == (3, 3) and counts["unfit"][0] + counts.get("cut", (0, 0))[0] == report["examples"] == 27
    made = studio.json("corpora", "exclude", corpus, "--finding", "copies")
    assert (made["count"], made["reason"]) == (3, "copies")
    started = studio.json(
        "runs", "start", "--corpus", corpus, "--base", base, "--max-steps", 1, "--set", "train.max_length=64"
    )
    assert studio.json("runs", "show", started["run_id"])["config"]["train"]["selection"]
    written = table.with_name("left.jsonl")
    assert studio.json("corpora", "export", corpus, written)["examples"] == 24
    assert studio.json("corpora", "export", corpus, written, "--finding", "copies", "--all")["examples"] == 3
    assert studio("corpora", "export", corpus, written, "--finding", "copies").returncode == 2
    assert studio.json("corpora", "undo", made["id"])["undone_at"]
    assert [e["undone_at"] is None for e in studio.json("corpora", "exclusions", corpus)] == [False]


def test_how_a_file_is_read_can_be_said(studio: Commands, folder: Path) -> None:
    file = folder / "said.txt"
    file.write_bytes("Где ключ?|На полке.\nГде лампа?|В зале.\n".encode("cp1251"))
    words = ("corpora", "preview", file, "--read", "encoding=cp1251", "--read", "delimiter=|", "--read", "header=no")
    (table,) = studio.json(*words, "--base", "")["tables"]
    assert (table["details"]["encoding"], table["rows"]) == ("cp1251", 2)
    for wrong in ("encoding=", "sheets=x", "header=maybe", "delimiter=;;"):
        refused = studio("corpora", "preview", file, "--read", wrong, "--base", "")
        assert refused.returncode == (0 if wrong == "encoding=" else 2), refused.stderr


def test_rows_to_leave_out_are_written_as_positions_and_ranges(studio: Commands, corpus: dict[str, Any]) -> None:
    made = studio.json("corpora", "exclude", corpus["corpus_id"], "--rows", "0, 4-6", "--reason", "a try")
    assert (made["count"], made["reason"]) == (4, "a try")
    studio.json("corpora", "undo", made["id"])
    for rows in ("4-", "x", "6-4", "1,,2", "0-99999999999"):
        refused = studio("corpora", "exclude", corpus["corpus_id"], "--rows", rows)
        assert refused.returncode == 2 and "positions such as 3,10-19" in refused.stderr


def test_a_deleted_corpus_is_gone(studio: Commands, table: Path) -> None:
    made = studio.json("corpora", "add", table, "--name", "short-lived")["corpus_id"]
    assert studio("corpora", "delete", made, "--yes").returncode == 0
    assert studio("corpora", "show", made).returncode == 2


# Runs


def test_a_run_that_was_waited_for_has_succeeded(run: dict[str, Any]) -> None:
    assert run["status"] == "succeeded" and run["run_id"] >= 1
    assert run["summary"]["steps"] == 3 and run["summary"]["trainable"] > 0


def test_a_run_keeps_the_settings_it_was_given(studio: Commands, run: dict[str, Any]) -> None:
    config = studio.json("runs", "show", run["run_id"])["config"]
    assert (config["train"]["max_steps"], config["train"]["max_length"]) == (3, 64)
    assert (config["adapter"]["num_experts"], config["adapter"]["r"]) == (EXPERTS, 2)


def test_the_run_is_listed(studio: Commands, run: dict[str, Any]) -> None:
    assert {r["run_id"]: r["name"] for r in studio.json("runs", "list")}[run["run_id"]] == "three steps"


@pytest.mark.parametrize("command", ["stop", "resume"])
def test_a_finished_run_is_neither_stopped_nor_resumed(studio: Commands, run: dict[str, Any], command: str) -> None:
    refused(studio("runs", command, run["run_id"]), "finished")


def test_a_finished_run_does_not_go_on_in_smaller_parts(studio: Commands, run: dict[str, Any]) -> None:
    refused(studio("runs", "resume", run["run_id"], "--smaller"), "finished")


def test_a_run_that_fails_gives_status_one(studio: Commands, corpus: dict[str, Any], folder: Path, base: Path) -> None:
    broken = folder / "broken"
    shutil.copytree(base, broken)
    (broken / "tokenizer.json").write_bytes(b"not a tokenizer")
    failed = studio(
        "runs", "start", "--corpus", corpus["corpus_id"], "--base", broken, "--max-steps", 1, "--wait", "--json"
    )
    assert failed.returncode == 1 and json.loads(failed.stdout)["status"] == "failed"
    assert "Traceback" not in failed.stderr and "cannot be loaded" in failed.stderr


# Looking inside


def test_inspect_measures_answers_gates_and_heads(studio: Commands, run: dict[str, Any]) -> None:
    found = studio.json("inspect", run["run_id"])
    assert all(found[kind]["sentence"] for kind in ("answers", "routing", "weights", "experts", "map"))
    assert all(abs(sum(row) - 1) < 1e-3 and len(row) == EXPERTS for row in found["routing"]["mean"])
    assert len(found["weights"]["layers"]) == len(found["routing"]["layers"])
    assert [card["expert"] for card in found["experts"]["cards"]] == list(range(EXPERTS))
    assert found["weights"]["steps"][0] == 0 and found["weights"]["drift"][0]["a_moved"] == 0


def test_export_writes_a_plain_lora_and_tells_its_gap(studio: Commands, run: dict[str, Any], folder: Path) -> None:
    answer = studio.json("runs", "export", run["run_id"], "--how", "uniform", "--to", folder / "elsewhere")
    part = answer["parts"][0]
    assert part["kl"] >= 0 and part["examples"] > 0 and part["base_kl"] is not None
    config = json.loads((folder / "elsewhere" / part["folder"] / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 2
    refused = studio("runs", "export", run["run_id"], "--how", "merged")
    assert refused.returncode == 2 and "Choose one of: uniform, mean_gate, cluster" in refused.stderr


def test_an_adapter_folder_is_imported_as_a_run(studio: Commands, run: dict[str, Any], base: Path) -> None:
    folder = studio.home / "runs" / str(run["run_id"]) / "adapter"
    found = studio.json("runs", "import", folder, "--base", base, "--corpus", run["corpus_id"], "--wait")
    assert (found["status"], found["method"], found["name"]) == ("succeeded", "hydralora", "adapter")
    assert studio.json("runs", "show", found["run_id"])["config"]["adapter"]["num_experts"] == EXPERTS


def test_what_is_no_adapter_is_refused(studio: Commands, table: Path) -> None:
    for given, sentence in (
        (table, "There is no adapter_model.safetensors among the files"),
        ("nosuch", "nosuch does not exist"),
    ):
        done = studio("runs", "import", given, "--wait")
        assert done.returncode == 2 and sentence in done.stderr


def test_a_run_is_inspected_on_another_corpus(studio: Commands, run: dict[str, Any], table: Path) -> None:
    other = studio.json("corpora", "add", table, "--name", "other")
    answer = studio.json("inspect", run["run_id"], "--corpus", other["corpus_id"])
    assert "questions of this corpus" in answer["answers"]["sentence"] and answer["answers"]["is_own"] is False


def test_chat_gives_the_gates_of_every_token(studio: Commands, run: dict[str, Any]) -> None:
    found = studio.json("chat", run["run_id"], "The door is red. Which colour?", "--gates", "--max-tokens", 6)
    assert found["text"] == "".join(found["tokens"]) and len(found["gates"]) == len(found["tokens"]) > 0
    for layers in found["gates"]:
        assert layers and all(len(shares) == EXPERTS and abs(sum(shares) - 1) < 0.01 for shares in layers.values())


# Mistakes


def refused(done: Any, *words: str, status: int = 2) -> None:
    """One sentence on standard error, nothing on standard output, and the exit status."""
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_a_missing_file_is_named(studio: Commands, folder: Path) -> None:
    refused(studio("corpora", "add", folder / "nowhere.csv", "--json"), "nowhere.csv", "no such file")


@pytest.mark.parametrize(
    "name, content",
    [
        ("empty.csv", b""),
        ("picture.csv", bytes(range(256)) * 20),
        ("rows.parquet", b"PAR1 but not really"),
        ("one.csv", b"prompt,answer\na,b\n"),
        ("endless.json", b"[" * 5_000),
    ],
)
def test_a_file_that_is_no_corpus_is_refused_and_not_listed(
    studio: Commands, folder: Path, name: str, content: bytes
) -> None:
    path = folder / name
    path.write_bytes(content)
    refused(studio("corpora", "add", path, "--json"), name)
    assert name.split(".")[0] not in {c["name"] for c in studio.json("corpora", "list") if c["examples"] is not None}


@pytest.mark.parametrize("k", ["x", "2.5", "-1", "0", "25"])
def test_a_wrong_number_of_clusters_is_refused(studio: Commands, corpus: dict[str, Any], k: str) -> None:
    refused(studio("corpora", "cluster", corpus["corpus_id"], f"--k={k}", "--json"), "k`", k)


@pytest.mark.parametrize("words", [("corpora", "show"), ("corpora", "cluster"), ("corpora", "delete", "--yes")])
def test_an_unknown_corpus_is_refused(studio: Commands, corpus: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(studio(*words, 987), "Corpus 987 does not exist.")


@pytest.mark.parametrize(
    "words", [("runs", "show"), ("runs", "stop"), ("runs", "resume"), ("runs", "delete", "--yes"), ("inspect",)]
)
def test_an_unknown_run_is_refused(studio: Commands, corpus: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(studio(*words, 987), "Run 987 does not exist.")


def test_asking_an_unknown_run_is_refused(studio: Commands, corpus: dict[str, Any]) -> None:
    refused(studio("chat", 987, "Hello"), "Run 987 does not exist.")


WRONG_RUNS = {
    "unknown method": (["--method", "magic"], "'magic'"),
    "unknown base": (["--base", "nothing at all"], "'nothing at all'"),
    "unknown preset": (["--preset", "Endless"], "'Endless'"),
    "no sign": (["--set", "train.seed"], "train.seed"),
    "no part": (["--set", "seed=3"], "seed=3"),
    "unknown part": (["--set", "model.seed=3"], "model.seed=3"),
    "unknown setting": (["--set", "train.magic=3"], "magic"),
    "no number": (["--set", "train.seed=abc"], "'abc'"),
    "too many experts": (["--experts", "65"], "65"),
    "no steps": (["--max-steps", "0"], "max_steps"),
}


@pytest.mark.parametrize("given, word", WRONG_RUNS.values(), ids=WRONG_RUNS)
def test_a_wrong_setting_is_named_and_nothing_is_queued(
    studio: Commands, corpus: dict[str, Any], given: list[str], word: str
) -> None:
    before = studio.json("runs", "list")
    refused(studio("runs", "start", "--corpus", corpus["corpus_id"], *given, "--json"), word)
    assert studio.json("runs", "list") == before


def test_a_run_on_an_unknown_corpus_is_refused(studio: Commands, corpus: dict[str, Any]) -> None:
    refused(studio("runs", "start", "--corpus", 987), "Corpus 987 does not exist.")


def test_pickled_weights_are_not_a_base(studio: Commands, corpus: dict[str, Any], folder: Path) -> None:
    pickled = folder / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}", "utf-8")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(studio("runs", "start", "--corpus", corpus["corpus_id"], "--base", pickled), "holds no safetensors file")


def test_a_base_that_brings_its_own_code_is_refused(studio: Commands, corpus: dict[str, Any], folder: Path) -> None:
    own = folder / "own-code"
    own.mkdir()
    (own / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}', "utf-8")
    (own / "model.safetensors").write_bytes(b"")
    refused(studio("runs", "start", "--corpus", corpus["corpus_id"], "--base", own), "asks to run its own code")


def test_a_corpus_in_use_is_not_deleted(studio: Commands, run: dict[str, Any]) -> None:
    refused(studio("corpora", "delete", run["corpus_id"], "--yes"), "is used by")


def test_no_word_at_all_shows_the_commands(studio: Commands) -> None:
    said = studio.process()
    assert said.returncode == 2
    assert all(word in said.stdout + said.stderr for word in ("corpora", "runs", "inspect", "chat", "worker", "doctor"))


def test_a_process_answers_and_ends_as_the_same_words_do_here(studio: Commands, corpus: dict[str, Any]) -> None:
    for words in (("corpora", "show", corpus["corpus_id"], "--json"), ("runs", "show", 987)):
        apart, here = studio.process(*words), studio(*words)
        assert (apart.returncode, apart.stdout, apart.stderr) == (here.returncode, here.stdout, here.stderr)
