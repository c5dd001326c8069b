"""Figures of the matrices equal their definitions, and random heads are called random."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hydralora import add_adapter
from hydralora.adapters.matrices import Module, count_modules, read_modules
from hydralora.analysis.weights import compare_adapter, compare_heads, group_heads, summarise_heads
from hydralora.errors import AdapterError, StoppedError
from hydralora.progress import Progress
from tests.hydralora.conftest import make_llama, randomise
from tests.hydralora.planted import EXPERTS, OUT, RANK, WIDE, random_heads, write_adapter


def make_module(seed: int = 0, shared_a: bool = True) -> Module:
    generator = torch.Generator().manual_seed(seed)
    rows = RANK if shared_a else RANK * EXPERTS
    heads = torch.randn(EXPERTS, OUT, RANK, generator=generator)
    return Module("model.layers.3.mlp.up_proj", torch.randn(rows, WIDE, generator=generator), heads, shared_a)


def updates(module: Module) -> torch.Tensor:
    """``B_i A_i`` of every expert, ``(N, out, in)``."""
    a = module.a if module.shared_a else module.a.view(EXPERTS, RANK, WIDE)
    return module.heads @ a


def cosines(matrices: torch.Tensor) -> torch.Tensor:
    flat = torch.nn.functional.normalize(matrices.flatten(1), dim=1)
    return flat @ flat.T


def close(found: Any, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(torch.tensor(found).float(), expected.float(), rtol=0, atol=atol)


@pytest.mark.parametrize("method", ["hydralora", "lora_moe", "lora_split", "r_lora", "lora"])
def test_matrices_read_from_a_file_are_those_of_the_layers(method, tiny, tmp_path):
    options = {"r": 4} if method == "lora" else {"r": 4, "num_experts": 3}
    model = randomise(add_adapter(tiny, method, options))
    model.save_pretrained(tmp_path)
    heads, shared = (1, True) if method == "lora" else (3, method in ("hydralora", "r_lora"))
    found = list(read_modules(tmp_path))
    assert len(found) == 14
    for module in found:
        layer = model.get_base_model().get_submodule(module.name)
        a, b = (getattr(layer, f"{'lora' if method == 'lora' else 'hydralora'}_{x}").default.weight for x in "AB")
        assert torch.equal(module.a, a.cpu()) and module.shared_a is shared
        assert torch.equal(module.heads, b.cpu().view(-1, heads, 4).permute(1, 0, 2))


def test_layers_come_in_model_order_with_number_and_kind(tmp_path):
    names = [f"model.layers.{i}.mlp.up_proj" for i in (10, 9, 0)]
    write_adapter(tmp_path, {name: torch.randn(2, 5, 2) for name in names})
    found = list(read_modules(tmp_path))
    assert [module.layer for module in found] == [0, 9, 10]
    assert {module.kind for module in found} == {"up_proj"}


@pytest.mark.parametrize("shared_a", [True, False])
def test_cosines_equal_those_of_the_matrices_themselves(shared_a):
    module = make_module(shared_a=shared_a)
    figures = compare_heads(module)
    close(figures.head_cosine, cosines(module.heads))
    close(figures.update_cosine, cosines(updates(module)))
    close(figures.update_norm, updates(module).flatten(1).norm(dim=1), atol=1e-3)


@pytest.mark.parametrize("shared_a", [True, False])
def test_effective_rank_equals_the_entropy_of_the_singular_values(shared_a):
    module = make_module(shared_a=shared_a)
    values = torch.linalg.svdvals(updates(module))
    share = values / values.sum(1, keepdim=True)
    entropy = -(share * share.clamp(min=1e-12).log()).sum(1)
    close(compare_heads(module).effective_rank, entropy.exp(), atol=1e-3)


def test_overlap_equals_the_mean_squared_cosine_of_the_principal_angles():
    module = make_module()
    q = torch.linalg.qr(module.heads).Q
    expected = torch.stack([torch.stack([torch.linalg.svdvals(a.T @ b).square().mean() for b in q]) for a in q])
    close(compare_heads(module).overlap, expected)


def test_overlap_is_one_with_itself_symmetric_and_at_most_one():
    overlap = torch.tensor(compare_heads(make_module()).overlap)
    close(overlap.diagonal().tolist(), torch.ones(EXPERTS))
    close(overlap.tolist(), overlap.T)
    assert 0 <= overlap.min() and overlap.max() <= 1 + 1e-6


def test_heads_in_orthogonal_spaces_do_not_overlap():
    q = torch.linalg.qr(torch.randn(OUT, 2 * RANK)).Q
    figures = compare_heads(Module("m", torch.randn(RANK, WIDE), torch.stack([q[:, :RANK], q[:, RANK:]])))
    close([figures.overlap[0][1], figures.update_cosine[0][1]], torch.zeros(2))


def test_identical_heads_have_cosine_and_overlap_one():
    module = make_module()
    module.heads = module.heads[:1].expand(EXPERTS, -1, -1).contiguous()
    figures = compare_heads(module)
    for matrix in (figures.head_cosine, figures.update_cosine, figures.overlap):
        close(matrix, torch.ones(EXPERTS, EXPERTS))


def test_opposite_heads_have_cosine_minus_one_and_overlap_one():
    module = make_module()
    module.heads = torch.stack([module.heads[0], -2 * module.heads[0]])
    figures = compare_heads(module)
    assert figures.update_cosine[0][1] == pytest.approx(-1, abs=1e-6)
    assert figures.overlap[0][1] == pytest.approx(1, abs=1e-5)


def test_writing_the_same_adapter_in_another_basis_changes_no_comparison():
    module, q = make_module(), torch.randn(RANK, RANK) + 2 * torch.eye(RANK)
    other = Module(module.name, torch.linalg.solve(q, module.a), module.heads @ q)
    first, second = compare_heads(module), compare_heads(other)
    for name in ("update_cosine", "overlap", "update_norm", "effective_rank"):
        close(getattr(second, name), torch.tensor(getattr(first, name)), atol=1e-3)


def test_a_head_of_low_rank_is_measured_without_nan():
    module = make_module()
    module.heads[0, :, 1:] = 0.0
    figures = compare_heads(module)
    assert figures.effective_rank[0] == pytest.approx(1.0, abs=1e-4)
    assert torch.isfinite(torch.tensor(figures.overlap)).all()


def test_untrained_heads_are_called_untrained(load_tiny, tmp_path):
    add_adapter(load_tiny(), "hydralora", {"r": 4}).save_pretrained(tmp_path)
    figures = figures_of(tmp_path)
    assert not any(f.trained for f in figures)
    assert summarise_heads(figures).startswith("Some heads are still zero")
    assert all(value == 0 for f in figures for row in f.update_cosine for value in row)


def figures_of(folder: Any) -> list[Any]:
    return [compare_heads(module) for module in read_modules(folder)]


def pairs_above(figures: list[Any], what: str, share: float = 1.0) -> float:
    """Share of pairs of heads above ``share`` of the 99 % chance level."""
    pairs = [pair for f in figures for pair in f.pairs(what)]
    return sum(value > share * chance for value, chance in pairs) / len(pairs)


@pytest.mark.parametrize("directions", [RANK, 1], ids=["even A", "A of one direction"])
def test_random_heads_stay_at_chance_level(directions, tmp_path):
    figures = []
    for seed in range(10):  # 360 pairs
        heads = random_heads(seed)
        a = torch.randn(RANK, WIDE, generator=torch.Generator().manual_seed(seed))
        a[directions:] *= 0.05
        figures += figures_of(write_adapter(tmp_path / str(seed), heads, dict.fromkeys(heads, a)))
    for what in ("update_cosine", "head_cosine", "overlap", "cka"):
        assert pairs_above(figures, what) < 0.03, what
        assert pairs_above(figures, what, share=0.65) > 0.02, what  # and not far below
    assert summarise_heads(figures).startswith("No structure beyond chance")


def test_random_heads_with_an_a_each_stay_at_chance_level():
    figures = [compare_heads(make_module(seed, shared_a=False)) for seed in range(60)]
    assert pairs_above(figures, "update_cosine") < 0.03
    assert pairs_above(figures, "update_cosine", share=0.65) > 0.02  # and not far below
    assert summarise_heads(figures).startswith("No structure beyond chance")


def test_a_hundred_random_adapters_give_no_false_finding(tmp_path):
    found = [summarise_heads(figures_of(write_adapter(tmp_path / str(s), random_heads(s)))) for s in range(100)]
    assert [sentence for sentence in found if not sentence.startswith("No structure beyond chance")] == []


def test_two_planted_groups_of_heads_are_named(tmp_path):
    heads = random_heads(0)
    for stack in heads.values():
        stack[1] += 2 * stack[0]
        stack[3] += 2 * stack[2]
    figures = figures_of(write_adapter(tmp_path, heads))
    assert group_heads(figures) == [[0, 1], [2, 3]]
    assert "fall into 2 groups, alike within and not beyond: E1, E2 | E3, E4" in summarise_heads(figures)


def test_identical_heads_up_to_mixing_are_said_to_mix_differently(tmp_path):
    heads = random_heads(0)
    for number, stack in enumerate(heads.values()):
        generator = torch.Generator().manual_seed(number)
        for head in range(1, EXPERTS):
            stack[head] = stack[0] @ torch.randn(RANK, RANK, generator=generator)
    sentence = summarise_heads(figures_of(write_adapter(tmp_path, heads)))
    assert sentence.startswith("The heads write into the same directions but mix them differently (overlap of column")


@pytest.mark.parametrize("shared_a", [True, False])
def test_cka_equals_its_definition_on_the_updates(shared_a):
    module = make_module(shared_a=shared_a)
    u = updates(module)  # (N, out, in)
    cross = torch.stack([torch.stack([(a.T @ b).square().sum() for b in u]) for a in u])
    own = cross.diagonal().sqrt()
    close(compare_heads(module).cka, cross / torch.outer(own, own))


def test_related_heads_are_called_related_and_copies_copies(tmp_path):
    write_adapter(tmp_path / "related", random_heads(0, by_layer=1.0))
    write_adapter(tmp_path / "copies", random_heads(0, by_layer=10.0))
    related, copies = (figures_of(tmp_path / name) for name in ("related", "copies"))
    assert summarise_heads(related).startswith("The updates of the heads are related but not the same")
    assert summarise_heads(copies).startswith("The heads have become copies of each other")


def test_one_head_has_nothing_to_be_compared_with(tiny, tmp_path):
    randomise(add_adapter(tiny, "lora", {"r": 4})).save_pretrained(tmp_path)
    figures = figures_of(tmp_path)
    assert summarise_heads(figures).startswith("One head in each layer")


def test_the_chance_level_holds_for_wide_layers():
    generator = torch.Generator().manual_seed(0)
    figures = [
        compare_heads(
            Module("m", torch.randn(RANK, 2048, generator=generator), torch.randn(2, 2048, RANK, generator=generator))
        )
        for _ in range(40)
    ]
    for what in ("update_cosine", "overlap", "cka"):
        assert pairs_above(figures, what) * 40 <= 3, what  # of 40, where 1 % are expected


def test_the_same_matrices_give_the_same_figures():
    assert compare_heads(make_module()) == compare_heads(make_module())


def test_a_stop_ends_the_comparison_between_layers(tmp_path):
    seen: list[str] = []
    with pytest.raises(StoppedError):
        progress = Progress(lambda share, text: seen.append(text), lambda: len(seen) == 2)
        compare_adapter(write_adapter(tmp_path, random_heads(0)), progress)
    assert seen == ["1 of 6 layers compared", "2 of 6 layers compared"]


def test_heads_named_as_the_authors_name_them_are_read(tmp_path):
    heads = torch.randn(3, 5, 2)
    stem = "base_model.model.model.layers.0.mlp.up_proj."
    weights = {f"{stem}lora_B{i}.weight": heads[i].clone() for i in range(3)} | {
        f"{stem}lora_A.weight": torch.ones(2, 4)
    }
    save_file({**weights, f"{stem}lora_route.weight": torch.ones(3, 4)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"lora_nums": 3}')
    (module,) = read_modules(tmp_path)
    assert torch.equal(module.heads, heads) and module.shared_a and count_modules(tmp_path) == 1


def test_the_update_of_an_adalora_adapter_holds_its_singular_values(tiny, tmp_path):
    model = randomise(add_adapter(tiny, "adalora", {"target_r": 2, "init_r": 3, "target_modules": ["q_proj"]}))
    model.save_pretrained(tmp_path)
    for module in read_modules(tmp_path):
        layer = model.get_base_model().get_submodule(module.name)
        expected = layer.lora_B["default"] @ (layer.lora_A["default"] * layer.lora_E["default"])
        torch.testing.assert_close(module.heads[0] @ module.a, expected.detach().cpu())


def test_a_method_without_matrices_is_refused_plainly(tokenizer, tmp_path):
    add_adapter(make_llama(len(tokenizer)), "prompt_tuning", {"num_virtual_tokens": 3}).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="This adapter has no A and B matrices"):
        list(read_modules(tmp_path))


@pytest.mark.parametrize("part", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_missing_or_damaged_file_is_refused_plainly(part, tmp_path):
    write_adapter(tmp_path, random_heads(0))
    (tmp_path / part).write_bytes((tmp_path / part).read_bytes()[:10])
    with pytest.raises(AdapterError, match=r"damaged|no readable"):
        list(read_modules(tmp_path))
    (tmp_path / part).unlink()
    with pytest.raises(AdapterError, match=rf"holds no {part}|no readable {part}"):
        list(read_modules(tmp_path))


def test_pickled_weights_are_not_read(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"is pickled, and pickled weights are never read"):
        list(read_modules(tmp_path))


def test_names_without_a_block_number_have_layer_minus_one(tmp_path):
    save_file(
        {"head.hydralora_A.weight": torch.ones(2, 4), "head.hydralora_B.weight": torch.ones(3, 2)},
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text("{}")
    (module,) = read_modules(tmp_path)
    assert (module.name, module.layer, module.kind, module.heads.shape) == (
        "head",
        -1,
        "head",
        (1, 3, 2),
    )
