"""Interventions: each changes the part that it names, by as much as it says, and nothing else."""

import pytest
import torch

from sublearn.lm import entanglement, interventions, model
from sublearn.lm.interventions import part_weight

FEW = ["owl", "wolf", "fox", "crow"]


@pytest.mark.parametrize("part", ["head", "embedding", "norm"])
def test_a_swap_changes_one_part_only(lm, tmp_path, part, random_llama):
    source = model.load(random_llama(tmp_path / "other", seed=1))
    source.model.model.norm.weight.data += 0.5
    swapped = interventions.swap_parts(lm, source=source, parts=[part])
    for name in ["head", "embedding", "norm"]:
        expected = source if name == part else lm
        assert torch.equal(part_weight(swapped, name), part_weight(expected, name))
    assert torch.equal(part_weight(lm, "head"), part_weight(lm, "embedding"))


def test_an_unknown_part_is_refused(lm):
    with pytest.raises(ValueError, match="no part 'body': choose head, embedding or norm"):
        interventions.swap_parts(lm, source=lm, parts=["body"])


def test_a_random_change_has_the_size_of_the_swap(lm, tmp_path, random_llama):
    source = model.load(random_llama(tmp_path / "other", seed=2))
    head = part_weight(lm, "head")
    perturbed = interventions.perturb_unembedding(lm, source=source)
    distances = (part_weight(perturbed, "head") - head).norm(dim=1)
    assert torch.allclose(distances, (part_weight(source, "head") - head).norm(dim=1), rtol=1e-3)
    assert torch.equal(part_weight(perturbed, "embedding"), part_weight(lm, "embedding"))


def test_a_cut_takes_one_direction_out_of_one_row(lm):
    measured = entanglement.measure(lm, FEW, ["087", "123", "456", "999"])
    ablated = interventions.ablate_direction(lm, measured, ["head"])
    head = part_weight(lm, "head")
    changed = (part_weight(ablated, "head") != head).any(1)
    assert 1 <= int(changed.sum()) <= len(FEW)
    assert torch.equal(part_weight(ablated, "embedding"), part_weight(lm, "embedding"))
    word_rows = head[[*model.single_tokens(lm, FEW).values()]]
    direction = (word_rows - word_rows.mean(0))[-1]
    top_number = measured.numbers[entanglement.top(measured.to_number)[-1]]
    row = part_weight(ablated, "head")[model.number_tokens(lm)[top_number]]
    assert abs(float(row @ direction)) < 1e-3
