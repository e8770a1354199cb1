"""Operations on language models: parts taken from another model, and single directions cut out of single rows.

Embedding and unembedding are always separated first. In a tied model a new "head" would be a new embedding too.
"""

from collections.abc import Sequence

import numpy as np
import torch

from sublearn.core.rng import rng
from sublearn.lm.entanglement import Entanglement, at, top
from sublearn.lm.model import Speaker, number_tokens, single, untied


def _part(speaker: Speaker, name: str) -> torch.Tensor:
    places = {"head": speaker.model.get_output_embeddings, "embedding": speaker.model.get_input_embeddings}
    return places[name]().weight if name in places else speaker.model.base_model.norm.weight


@torch.no_grad()
def swapped(into: Speaker, *, source: Speaker, parts: Sequence[str]) -> Speaker:
    """Give a copy of `into` with parts of `source`: "head" (the unembedding), "embedding", "norm" (the last)."""
    patient = untied(into)
    for name in parts:
        _part(patient, name).copy_(_part(source, name))
    return patient


@torch.no_grad()
def shaken(into: Speaker, *, source: Speaker, seed: int = 0) -> Speaker:
    """Give a copy of `into` whose unembedding is changed at random, each row as far as `source` is away."""
    patient = untied(into)
    head, goal = _part(patient, "head"), _part(source, "head")
    random = torch.from_numpy(rng(seed, "shaken").normal(size=tuple(head.shape)).astype(np.float32))
    head += random * ((goal - head).norm(dim=1) / random.norm(dim=1))[:, None]
    return patient


@torch.no_grad()
def cut(speaker: Speaker, found: Entanglement, parts: Sequence[str], *, at_random: bool = False) -> Speaker:
    """Give a copy in which each word's top number loses, in its row, the direction of the word's centered row.

    parts: "head" and "embedding", whose rows are cut. at_random: cut a random direction in place of the word's.
    """
    patient, word, number = untied(speaker), single(speaker, found.words), number_tokens(speaker)
    words, random = [*word.values()], rng(0, "cut")
    for name in parts:
        rows = _part(patient, name)
        directions = (rows[words] - rows[words].mean(0)).numpy().copy()
        directions = random.normal(size=directions.shape) if at_random else directions
        for direction, best in zip(directions, top(found.to_number)):
            unit = torch.from_numpy((direction / np.linalg.norm(direction)).astype(np.float32))
            row = rows[number[found.numbers[best]]]
            row -= (row @ unit) * unit
    return patient


def at_tops(found: Entanglement, before: Entanglement) -> dict[str, float]:
    """Give mean log-ratios in nats, both ways, at the numbers that were each word's top `before` an operation."""
    chosen = top(before.to_number)
    return {"A": float(at(found.to_number, chosen).mean()), "N": float(at(found.to_word, chosen).mean())}
