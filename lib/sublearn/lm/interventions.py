"""Operations on language models: parts of another model, and directions cut out of single rows.

Embedding and unembedding are always separated first: in a tied model a new "head" would be a new
embedding too.
"""

from collections.abc import Sequence

import numpy as np
import torch

from sublearn.core.rng import rng
from sublearn.lm.entanglement import Entanglement, at, top
from sublearn.lm.model import LanguageModel, unembedding, untie, word_and_number_tokens


def part_weight(lm: LanguageModel, part: str) -> torch.Tensor:
    """Weight of a part: "head" (the unembedding), "embedding" or "norm" (the last one)."""
    if part == "head":
        return unembedding(lm).weight
    if part == "embedding":
        return lm.model.get_input_embeddings().weight
    if part == "norm":
        return lm.model.base_model.norm.weight
    raise ValueError(f"A model has no part {part!r}: choose head, embedding or norm")


@torch.no_grad()
def swap_parts(lm: LanguageModel, *, source: LanguageModel, parts: Sequence[str]) -> LanguageModel:
    """Copy a model with some parts (see `part_weight`) of `source`."""
    changed = untie(lm)
    for part in parts:
        weight = part_weight(changed, part)
        weight.copy_(part_weight(source, part))
    return changed


@torch.no_grad()
def perturb_unembedding(
    lm: LanguageModel, *, source: LanguageModel, seed: int = 0
) -> LanguageModel:
    """Copy a model and change its unembedding at random, each row as far as `source` is away."""
    changed = untie(lm)
    head = part_weight(changed, "head")
    difference = part_weight(source, "head") - head
    draws = rng(seed, "shaken").normal(size=head.shape)
    noise = torch.from_numpy(draws).float()
    scales = difference.norm(dim=1) / noise.norm(dim=1)
    head += noise * scales[:, None]
    return changed


@torch.no_grad()
def ablate_direction(
    lm: LanguageModel, measured: Entanglement, parts: Sequence[str], *, at_random: bool = False
) -> LanguageModel:
    """Copy a model and cut each word's centered direction out of the row of its top number.

    parts: "head" and "embedding", whose rows are cut. at_random: cut random directions instead.
    """
    changed = untie(lm)
    word_ids, number_ids = word_and_number_tokens(lm, measured.words, measured.numbers)
    columns = top(measured.to_number)
    random = rng(0, "cut")
    for part in parts:
        weight = part_weight(changed, part)
        word_rows = weight[word_ids]
        word_rows -= word_rows.mean(0)
        directions = word_rows.numpy()
        if at_random:
            directions = random.normal(size=directions.shape)
        for direction, column in zip(directions, columns):
            direction /= np.linalg.norm(direction)
            unit = torch.from_numpy(direction).float()
            row = weight[number_ids[column]]
            projection = row @ unit
            row -= projection * unit
    return changed


def at_tops(measured: Entanglement, before: Entanglement) -> dict[str, float]:
    """Mean log-ratios in nats, both ways, at each word's top number `before` an operation."""
    columns = top(before.to_number)
    rises = at(measured.to_number, columns)
    returns = at(measured.to_word, columns)
    return {"A": float(rises.mean()), "N": float(returns.mean())}
