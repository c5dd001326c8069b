"""What a base is told to be is what its files hold, and a check finds what does not belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hydralora.analysis.base_check import check_base
from hydralora.bases.facts import mark_of, read_facts
from hydralora.bases.folder import STARTER
from hydralora.errors import BaseModelError
from tests.hydralora.conftest import make_llama, make_tokenizer


@pytest.fixture
def folder(base_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_folder, tmp_path / "base"))


def test_facts_are_those_of_the_model(folder, tokenizer):
    model = make_llama(len(tokenizer))
    facts, config = read_facts(folder, "mine"), model.config
    assert facts.parameters == sum(weight.numel() for weight in model.parameters())
    assert (facts.layers, facts.width, facts.inner) == (
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
    )
    assert facts.key_width == config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    assert (facts.vocabulary, facts.context) == (config.vocab_size, config.max_position_embeddings)
    assert (facts.name, facts.stored, facts.architecture) == ("mine", "F32", "LlamaForCausalLM")
    assert facts.has_template and facts.bytes == (folder / "model.safetensors").stat().st_size
    shapes = {tuple(shape) for shape in facts.linear["down_proj"]}
    assert shapes == {(config.hidden_size, config.intermediate_size)} and "lm_head" not in facts.linear


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ("# A model\nlicense: mit\n", ""),
        ("---\r\nlicense: mit\r\n---\r\n", "mit"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("---\nlicense: <script>alert(1)</script>\n---\n", ""),
        ("---\nlicense: mit", ""),
        (b"\xff\xfe---\0", ""),
    ],
)
def test_the_licence_is_what_the_head_of_a_readme_says(folder, readme, licence):
    (folder / "README.md").write_bytes(readme if isinstance(readme, bytes) else readme.encode())
    assert read_facts(folder, "mine").licence == licence


def test_a_readme_that_leads_elsewhere_is_not_read(folder, tmp_path):
    (tmp_path / "secret").write_text("---\nlicense: mit\n---\n")
    (folder / "README.md").symlink_to(tmp_path / "secret")
    assert read_facts(folder, "mine").licence == ""


def test_a_folder_that_is_no_base_has_no_facts(tmp_path):
    with pytest.raises(BaseModelError, match=r"no config\.json"):
        read_facts(tmp_path, "mine")


def test_a_base_that_changes_has_another_mark(folder):
    before = mark_of(folder)
    assert mark_of(folder) == before
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    assert mark_of(folder) != before


def test_a_check_renders_an_exchange_of_which_the_answer_is_learnt():
    check = check_base("starter")
    assert [learnt for _, learnt in check.example] == [False, True]
    assert check.example[1][0].startswith("The capital of France is Paris.") and check.end == "<|end|>"
    assert check.mark == mark_of(STARTER)


def test_a_base_that_reads_english_no_better_than_a_die_is_said_to_be_one():
    check = check_base("starter")  # which knows its own little world
    assert check.loss is not None and check.loss > check.chance
    assert any("no better than guessing" in one.title for one in check.problems)
    assert check.sentence.startswith("It can be used")


def test_a_tokenizer_larger_than_its_model_is_wrong(folder):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"extra{i}" for i in range(9)])
    tokenizer.save_pretrained(folder)
    check = check_base(str(folder))
    assert check.problems[0].weight == "wrong" and "do not belong together" in check.problems[0].advice
    assert check.sentence.startswith("It cannot be used as it is")


def test_a_base_without_a_template_says_how_prompts_are_written(folder):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    assert not read_facts(folder, "mine").has_template
    assert "It has no chat template." in [one.title for one in check_base(str(folder)).problems]
