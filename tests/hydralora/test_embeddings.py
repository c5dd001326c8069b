"""Clusters of sentence embeddings, by an encoder that is made here."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.clusters.embeddings import load_encoder
from hydralora.corpus.clusters.why import explain_row
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.errors import CorpusError
from tests.hydralora.conftest import write_lines

KINDS = (("river", "boat", "shore", "wave"), ("flour", "oven", "dough", "salt"), ("wheel", "gear", "brake", "chain"))
WORDS = ["[PAD]", "[UNK]", *(word for kind in KINDS for word in kind)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights: the mean of a text's vectors tells its words."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    inner, folder = tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("encoder")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(inner)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(WORDS), **size)).save_pretrained(inner)
    transformer = Transformer(str(inner))
    SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu").save(str(folder))
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Sixty texts of two words of one kind, with that kind as label."""
    rows = [
        {"prompt": f"{KINDS[i % 3][i % 4]} {KINDS[i % 3][i // 4 % 4]}", "answer": f"number {i}", "label": str(i % 3)}
        for i in range(60)
    ]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    return tmp_path / "corpus"


def test_texts_are_grouped_by_what_the_encoder_makes_of_them(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    vectors = load_encoder(encoder).encode([example.text() for example in Corpus(corpus)])
    options = {"model": str(encoder)}
    result = cluster_corpus(corpus, tmp_path / "out", k=12, method="embeddings", options=options)
    cluster = pq.read_table(tmp_path / "out" / "assignments.parquet")["cluster"].to_numpy()
    inside = sum(((vectors[cluster == c] - vectors[cluster == c].mean(0)) ** 2).sum() for c in range(12))
    assert inside < 0.4 * ((vectors - vectors.mean(0)) ** 2).sum()  # by lot it would be 0.8
    assert result.k == 12 and result.options["model"] == encoder.name and any(result.words)


def test_such_a_clustering_says_that_it_has_no_words_to_explain_a_row(
    corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    cluster_corpus(corpus, tmp_path / "out", k=3, method="embeddings", options={"model": str(encoder)})
    with pytest.raises(CorpusError, match="made of sentence embeddings"):
        explain_row(corpus, tmp_path / "out", 0)


def test_a_folder_that_is_no_encoder_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="must be the folder of a sentence encoder") as refused:
        load_encoder(tmp_path)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "1_Dense/weights.pt"])
def test_an_encoder_with_a_pickle_in_it_is_refused(encoder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "modules.json").write_text((encoder / "modules.json").read_text())
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CorpusError, match="may run code"):
        load_encoder(tmp_path)


def test_an_encoder_that_asks_for_code_of_its_own_is_refused(encoder: Path, tmp_path: Path) -> None:
    for file in encoder.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(encoder)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.relative_to(encoder)).write_bytes(file.read_bytes())
    modules = (tmp_path / "modules.json").read_text()
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    (tmp_path / "modules.json").write_text(modules.replace("sentence_transformers.", "evil.", 1))
    with pytest.raises(CorpusError, match="cannot be loaded") as refused:
        load_encoder(tmp_path)
    assert str(tmp_path) not in str(refused.value)
