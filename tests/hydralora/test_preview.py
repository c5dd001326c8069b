"""What a preview says is what an import then does, and what the model then sees."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from hydralora.bases.load import load_tokenizer
from hydralora.corpus.encode import IGNORED, encode_example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.preview import preview_files
from hydralora.results import Preview, Roles
from tests.hydralora.conftest import write_lines
from tests.hydralora.test_conversations import ALWAYS_THINKS, tokenizer_with

PROJECT = Path(__file__).resolve().parents[2]
QUESTIONS = [{"id": i, "question": f"Where is hall {i}?", "answer": f"Behind gate {i}."} for i in range(5)]


def rows_file(folder: Path, rows: list[dict[str, object]]) -> Path:
    return write_lines(folder / "rows.jsonl", rows)


def test_it_tells_the_roles_and_counts_of_the_import(tmp_path: Path) -> None:
    rows = [*QUESTIONS, {"id": 5, "question": "And?", "answer": ""}, {"id": 6, "question": "Who?\r\n", "answer": "I."}]
    path = rows_file(tmp_path, rows)
    found, made = preview_files([path]), import_corpus([path], tmp_path / "corpus")
    (table,) = found.tables
    assert (found.roles, found.counts, table.unused) == (made.roles, made.counts, made.unused)
    assert {c.name: c.reason for c in table.columns} == made.reasons
    assert (table.rows, table.examples, table.rejected) == (7, made.examples, ["Row 6: `answer` is empty."])


def test_a_column_has_its_part_and_its_first_samples(tmp_path: Path) -> None:
    (table,) = preview_files([rows_file(tmp_path, QUESTIONS)]).tables
    assert [(c.name, c.role) for c in table.columns] == [("id", "id"), ("question", "prompt"), ("answer", "answer")]
    assert table.columns[1].samples == ["Where is hall 0?", "Where is hall 1?", "Where is hall 2?"]


def test_an_example_is_shown_as_it_is_encoded_and_where_it_would_be_cut(tmp_path: Path) -> None:
    path = rows_file(tmp_path, QUESTIONS)
    found = preview_files([path], base="starter", max_length=16)
    tokenizer = load_tokenizer("starter")
    import_corpus([path], tmp_path / "corpus")
    for shown, example in zip(found.examples, Corpus(tmp_path / "corpus"), strict=False):
        row = encode_example(tokenizer, example, 500)
        assert row is not None and shown.tokens == len(row["input_ids"]) == sum(p.tokens or 0 for p in shown.pieces)
        learnt = "".join(piece.text for piece in shown.pieces if piece.learned)
        assert learnt == tokenizer.decode([label for label in row["labels"] if label != IGNORED])
        kept = sum(piece.tokens or 0 for piece in shown.pieces if not piece.cut)
        assert kept == 16 < shown.tokens
    assert (found.measured, found.cut, found.left_out) == (5, 5, 0)


def test_a_prompt_that_fills_the_length_is_told_as_left_out(tmp_path: Path) -> None:
    long = [{"question": "Where? " * 40, "answer": "Here."}] * 2
    found = preview_files([rows_file(tmp_path, long)], base="starter", max_length=20)
    assert (found.measured, found.left_out, found.cut) == (2, 2, 0) and found.examples[0].left_out


def test_conversations_of_which_not_all_answers_can_be_learnt_are_counted(base_folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    tokenizer_with(ALWAYS_THINKS).save_pretrained(base)
    talk = [{"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")]
    path = rows_file(tmp_path, [{"messages": messages} for messages in (talk, talk[:2], talk)])
    found = preview_files([path], base=str(base))
    assert (found.measured, found.partly, found.left_out) == (3, 2, 0)


def test_without_a_base_the_messages_are_shown_without_tokens(tmp_path: Path) -> None:
    found = preview_files([rows_file(tmp_path, QUESTIONS)])
    assert [(p.text, p.learned) for p in found.examples[0].pieces] == [
        ("Where is hall 0?", False),
        ("Behind gate 0.", True),
    ]
    assert found.examples[0].tokens is None and found.measured == 0


def test_a_base_that_cannot_be_loaded_is_told_beside_the_rest(tmp_path: Path) -> None:
    found = preview_files([rows_file(tmp_path, QUESTIONS)], base=str(tmp_path / "nothing"))
    assert found.base_problem and found.tables[0].examples == 5


def test_a_base_that_no_hub_gives_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    found = preview_files([rows_file(tmp_path, QUESTIONS)], base="nobody/nothing")
    assert found.base_problem.startswith("Base model 'nobody/nothing' cannot be loaded: ") and found.examples
    assert found.base_problem.endswith("Check the name, or download it first and give its folder.")


def test_a_table_that_says_nothing_still_shows_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text("width,height\n" + "1,2\n" * 5)
    (table,) = preview_files([path]).tables
    assert "--prompt COLUMN" in table.problem and [c.name for c in table.columns] == ["width", "height"]
    (table,) = preview_files([path], roles=Roles(prompt=("width",), answer="height")).tables
    assert not table.problem and table.examples == 5


def test_a_preview_reads_only_the_first_rows(tmp_path: Path) -> None:
    path = rows_file(tmp_path, [QUESTIONS[0]] * 5_000)
    assert preview_files([path]).counts.rows == 200


def test_a_preview_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    found = preview_files([rows_file(tmp_path, QUESTIONS)], base="starter")
    assert Preview.load(json.loads(json.dumps(found.row())), "a test") == found


def test_a_look_at_columns_loads_no_torch(tmp_path: Path) -> None:
    path = rows_file(tmp_path, QUESTIONS)
    code = (
        "import sys; from pathlib import Path; from hydralora.corpus.preview import preview_files; "
        "found = preview_files([Path(sys.argv[1])]); print(found.tables[0].examples, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["5", "False"], done.stderr
