"""A corpus is imported whole or not at all, knows what its columns mean, and splits by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hydralora.corpus.conversion import Converter
from hydralora.corpus.examples import BATCH_ROWS, Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.roles import guess_roles
from hydralora.corpus.rows import Rejected, Row
from hydralora.errors import CorpusError, StoppedError
from hydralora.limits import MAX_CHARACTERS
from hydralora.progress import Progress
from hydralora.results import Roles
from tests.hydralora.conftest import write_lines

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real files of ../shared/data are absent")
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "See you"},
]


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"Question {i}?", "answer": f"Answer {i}."} for i in range(start, start + count)]


def keep(folder: Path, rows: list[dict[str, Any]], name: str = "corpus") -> Corpus:
    import_corpus([write_lines(folder / f"{name}.jsonl", rows)], folder / name)
    return Corpus(folder / name)


def detect(rows: list[dict[str, Any]], **settings: Any) -> Roles:
    return Roles(**guess_roles(list(rows[0]), rows, **settings).roles)


SHAPES: list[tuple[dict[str, Any], Roles]] = [
    ({"prompt": "a", "answer": "b"}, Roles(prompt=("prompt",), answer="answer")),
    ({"Question": "a", "Answer": "b"}, Roles(prompt=("Question",), answer="Answer")),
    (
        {"prompt": "a", "completion": "b", "template": "t"},
        Roles(prompt=("prompt",), answer="completion", label="template"),
    ),
    ({"instruction": "a", "input": "b", "output": "c"}, Roles(prompt=("instruction", "input"), answer="output")),
    (
        {"instruction": "a", "context": "b", "response": "c", "category": "d"},
        Roles(prompt=("instruction", "context"), answer="response", label="category"),
    ),
    ({"input": "a", "target": "b"}, Roles(prompt=("input",), answer="target")),
    (
        {"system": "s", "instruction": "a", "output": "c", "history": []},
        Roles(prompt=("instruction",), answer="output", system="system", history="history"),
    ),
    ({"id": 1, "text": "a"}, Roles(text="text", id="id")),
    ({"text": "a", "label": "b"}, Roles(text="text", label="label")),
    ({"v1": "ham", "v2": "see you"}, Roles(text="v2", label="v1")),
    ({"question": "a", "answer": "b", "split": "test"}, Roles(prompt=("question",), answer="answer", split="split")),
    ({"messages": CHAT}, Roles(messages="messages")),
    (
        {"conversations": [{"from": "human", "value": "a"}], "system": "s"},
        Roles(messages="conversations", system="system"),
    ),
    ({"frage": "a", "antwort": "b"}, Roles(prompt=("frage",), answer="antwort")),
    ({"nummer": 1, "erzählung": "a"}, Roles(text="erzählung")),
]


@pytest.mark.parametrize(("row", "roles"), SHAPES, ids=[", ".join(row) for row, _ in SHAPES])
def test_roles_are_found_from_names_and_values(row, roles):
    assert detect([row, row]) == roles


def test_roles_without_a_header_follow_from_position():
    rows = [{"column 1": f"Question {i}", "column 2": "yes"} for i in range(20)]
    assert detect(rows, has_header=False) == Roles(prompt=("column 1",), answer="column 2")
    rows = [{"column 1": "ham", "column 2": f"Message {i}"} for i in range(20)]
    assert detect(rows, has_header=False) == Roles(text="column 2", label="column 1")


def test_columns_that_fit_no_role_are_named():
    with pytest.raises(CorpusError, match=r"found: width, height. Say which column is the prompt"):
        detect([{"width": 1, "height": 2}])


def convert(row: Row, roles: Roles, source: str = "") -> Example | Rejected:
    (found,) = Converter(roles, source).convert(row)
    return found


def one(values: dict[str, Any]) -> Example | Rejected:
    return convert(Row(7, values), detect([values]))


def test_a_conversation_ends_in_its_last_answer():
    assert one({"messages": CHAT}) == Example(
        "Bye", "See you", "Be brief.", (("user", "Hi"), ("assistant", "Hello")), row=7
    )


def test_human_and_gpt_are_user_and_assistant():
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert one({"conversations": turns}) == Example("a", "b", row=7)


def test_a_trailing_question_without_answer_is_left_out():
    extra = [*CHAT, {"role": "user", "content": "And?"}]
    assert one({"messages": extra}) == one({"messages": CHAT})


def test_columns_are_joined_and_empty_ones_left_out():
    row = {"instruction": "Add", "input": "1 2", "output": "3"}
    assert one(row).prompt == "Add\n1 2"
    assert convert(Row(1, {**row, "input": ""}), detect([row])).prompt == "Add"


REFUSED = [
    ({"prompt": "a", "answer": ""}, "Row 7: `answer` is empty."),
    ({"prompt": "  ", "answer": "b"}, "Row 7: `prompt` is empty."),
    ({"prompt": "a", "answer": None}, "Row 7: `answer` is empty."),
    ({"prompt": "a"}, "Row 7: `answer` is missing."),
    ({"prompt": "a", "answer": "b" * MAX_CHARACTERS}, "Row 7: 200,001 characters are too long; the limit is 200,000."),
    ({"prompt": "a", "answer": "\ud83d"}, "Row 7: it holds a broken character (half of a pair)."),
    ({"prompt": "a", "answer": b"\x00"}, "Row 7: holds bytes, not text."),
]


@pytest.mark.parametrize(("values", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_a_row_is_refused_with_its_number_and_the_reason(values, reason):
    found = convert(Row(7, values), Roles(prompt=("prompt",), answer="answer"), "q.jsonl")
    assert found == Rejected(7, reason, "q.jsonl")


BAD_CHATS = [
    ([], "is not a list of messages"),
    ("hello", "is not a list of messages"),
    (["hello"], "holds something that is not a message"),
    ([{"role": "wizard", "content": "a"}], "unknown role 'wizard'"),
    (CHAT[:2], "no user message followed by an answer"),
    ([CHAT[1], {"role": "assistant", "content": ""}], "ends with an empty message"),
]


@pytest.mark.parametrize(("messages", "reason"), BAD_CHATS, ids=[reason for _, reason in BAD_CHATS])
def test_a_conversation_that_cannot_be_used_is_refused_with_the_reason(messages, reason):
    found = convert(Row(3, {"messages": messages}), Roles(messages="messages"))
    assert isinstance(found, Rejected) and found.reason.startswith("Row 3: `messages`")
    assert reason in found.reason


def test_rejected_rows_are_listed_and_counted(tmp_path):
    rows = [*pairs(3), {"prompt": "", "answer": "x"}, *pairs(2, 3), {"prompt": "y"}]
    corpus = keep(tmp_path, rows)
    assert len(corpus) == 5 and corpus.manifest.rejected == 2
    assert [(r.row, r.source) for r in corpus.rejected()] == [
        (4, "corpus.jsonl"),
        (7, "corpus.jsonl"),
    ]
    assert [example.row for example in corpus] == [1, 2, 3, 5, 6]


def test_the_manifest_says_what_was_found(tmp_path):
    rows = [{**row, "task": "odd" if i % 2 else "even"} for i, row in enumerate(pairs(5))]
    manifest = keep(tmp_path, [*rows, rows[0]]).manifest
    assert (manifest.examples, manifest.duplicates) == (6, 1)
    assert manifest.shape == "question and answer" and manifest.labels == {
        "even": 4,
        "odd": 2,
    }
    assert manifest.files[0].name == "corpus.jsonl" and manifest.format == "jsonl"
    assert manifest.characters == sum(len(r["prompt"]) + len(r["answer"]) for r in [*rows, rows[0]])


def test_several_files_of_several_formats_become_one_corpus(tmp_path):
    (tmp_path / "b.csv").write_text("question,answer\nWho?,Ada\nWhen?,1843\n")
    files = [write_lines(tmp_path / "a.jsonl", pairs(2)), tmp_path / "b.csv"]
    report = import_corpus(files, tmp_path / "corpus")
    assert report.examples == 4 and report.format == "csv + jsonl"
    assert [e.source for e in Corpus(tmp_path / "corpus")] == ["a.jsonl"] * 2 + ["b.csv"] * 2


BAD_FILES = {
    "empty.csv": b"",
    "blank.jsonl": b"\n\n",
    "binary.csv": bytes(range(256)) * 20,
    "header.csv": b"prompt,answer\n",
    "one.csv": b"prompt,answer\na,b\n",
    "one.jsonl": b'{"prompt": "a", "answer": "b"}\n',
    "long.txt": b"x" * 1024**2,
    "long.csv": b"x" * 1024**2,
    "long.jsonl": b'{"text": "' + b"x" * 1024**2 + b'"}\n{"text": "short"}\n',
    "ragged.csv": b"prompt,answer\na,b,c\nd\ne,f,g,h\n",
    "broken.json": b'[{"text": "a"},\n{"text"]',
    "broken.jsonl": b"{\n{\n{\n",
    "columns.csv": b"width,height,depth\n1,2,3\n4,5,6\n",
    "image.png": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gives_one_plain_sentence_and_leaves_nothing(name, tmp_path):
    (tmp_path / name).write_bytes(BAD_FILES[name])
    with pytest.raises(CorpusError) as error:
        import_corpus([tmp_path / name], tmp_path / "corpora" / "new")
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and len(message) < 400
    assert list((tmp_path / "corpora").iterdir()) == []


def test_a_bad_second_file_undoes_the_first(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"b.csv is empty"):
        import_corpus([write_lines(tmp_path / "a.jsonl", pairs(9)), tmp_path / "b.csv"], tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.csv"]


def test_a_failed_import_leaves_the_earlier_corpus(tmp_path):
    keep(tmp_path, pairs(4))
    (tmp_path / "bad.json").write_text("[1, 2]")
    with pytest.raises(CorpusError, match="Item 1 holds a single value"):
        import_corpus([tmp_path / "bad.json"], tmp_path / "corpus")
    assert len(Corpus(tmp_path / "corpus")) == 4


def test_a_stopped_import_leaves_nothing(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", pairs(BATCH_ROWS + 1))
    with pytest.raises(StoppedError):
        import_corpus([source], tmp_path / "corpus", progress=Progress(should_stop=lambda: True))
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_given_roles_are_used_and_wrong_ones_refused(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", [{"left": f"l{i}", "right": f"r{i}"} for i in range(3)])
    import_corpus([source], tmp_path / "corpus", roles=Roles(prompt=("right",), answer="left"))
    assert Corpus(tmp_path / "corpus").page(0, 1) == [Example("r0", "l0", row=1, source="a.jsonl")]
    with pytest.raises(CorpusError, match=r"a.jsonl has no column `middle`; it has: left, right"):
        import_corpus([source], tmp_path / "other", roles=Roles(prompt=("middle",), answer="left"))


def test_rows_are_read_at_random_over_batches(tmp_path):
    corpus = keep(tmp_path, pairs(2 * BATCH_ROWS + 5))
    wanted = [2 * BATCH_ROWS + 4, 0, BATCH_ROWS, BATCH_ROWS - 1, 0]
    assert [e.prompt for e in corpus.take(wanted)] == [f"Question {i}?" for i in wanted]
    assert [e.row for e in corpus.page(BATCH_ROWS - 1, 3)] == [
        BATCH_ROWS,
        BATCH_ROWS + 1,
        BATCH_ROWS + 2,
    ]
    assert len(corpus) == len(list(corpus)) == 2 * BATCH_ROWS + 5


def test_a_page_beyond_the_end_is_short_and_a_position_beyond_it_refused(tmp_path):
    corpus = keep(tmp_path, pairs(5))
    assert (len(corpus.page(3, 10)), corpus.page(9, 10)) == (2, [])
    with pytest.raises(CorpusError, match="Example 5 is outside this corpus of 5"):
        corpus.take([5])


def test_what_is_stored_comes_back_unchanged(tmp_path):
    text = "Zoë „é“ 漢字 🙂 \u200f‏\n\ttabs <script>alert(1)</script>"
    corpus = keep(tmp_path, [{"messages": CHAT}, {"messages": [{**m, "content": text} for m in CHAT[1:3]]}])
    first, second = corpus.take([0, 1])
    assert first.history == (("user", "Hi"), ("assistant", "Hello")) and first.system == "Be brief."
    assert second.prompt == second.answer == text


def test_a_folder_without_corpus_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=f"No corpus is kept at {tmp_path.name}"):
        Corpus(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"prompt": "x"}, {"answer": "x"}, {"system": "x"}, {"history": (("user", "x"),)}],
    ids=str,
)
def test_the_content_hash_sees_everything_that_is_trained_on(change):
    values = {"prompt": "a", "answer": "b"}
    assert Example(**values).content_hash() != Example(**{**values, **change}).content_hash()
    assert Example(**values).content_hash() == Example(**values, label="l", row=9).content_hash()


@needs_shared
def test_one_corpus_in_three_physical_shapes_gives_the_same_texts(tmp_path):
    found = []
    for number, path in enumerate(sorted(p for p in (SHARED / "sms_spam").rglob("*") if p.suffix in (".csv", ".tsv"))):
        import_corpus([path], tmp_path / str(number))
        found.append({(e.label, e.text()) for e in list(Corpus(tmp_path / str(number)))[:50]})
    assert len(found) >= 2 and all(len(texts & found[0]) > 40 for texts in found)


@needs_shared
def test_every_chat_schema_in_the_wild_gives_examples(tmp_path):
    paths = [
        path for path in sorted((SHARED / "llamafactory_demo").glob("*.json*")) if path.name != "dataset_info.json"
    ]
    for path in paths:
        report = import_corpus([path], tmp_path / path.stem)
        assert report.examples >= 3 and report.rejected == 0, path.name
