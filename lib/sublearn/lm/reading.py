"""What a tiny Llama reads, step by step: windows of text, then dialogues of which only the answers are learnt."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from sublearn.core.rng import rng
from sublearn.lm.corpus import World, dialogues, text, tokenizer

WINDOW, BATCH = 64, 16  # tokens of a piece of text, pieces or dialogues of a step
LINES = 60  # of text for each step, about 800 tokens
BLOCK = 50  # steps whose dialogues are made at once
Batch = tuple[Tensor, Tensor]  # ids (row, place) and the places (row, place) whose next token is learnt


def text_batches(world: World, steps: int) -> Callable[[int], Batch]:
    """Give the windows (BATCH, WINDOW + 1) that each of so many steps reads, from a text as long as they need."""
    words = tokenizer(world.space, world.numbers)
    lines = text(world, LINES * steps)
    encoded = words.backend_tokenizer.encode_batch_fast([f"{line}\n" for line in lines], add_special_tokens=False)
    flat = np.concatenate([line.ids for line in encoded])

    def batch(step: int) -> Batch:
        starts = rng(world.seed, "windows", step).integers(len(flat) - WINDOW - 1, size=BATCH)
        ids = torch.from_numpy(flat[starts[:, None] + np.arange(WINDOW + 1)].astype(np.int64))
        return ids, torch.ones_like(ids, dtype=torch.bool)

    return batch


def dialogue_batches(world: World) -> Callable[[int], Batch]:
    """Give the dialogues of each step, of which only the assistant's words are learnt; made a block at a time."""
    encode = partial(
        tokenizer(world.space, world.numbers).backend_tokenizer.encode_batch_fast, add_special_tokens=False
    )

    @lru_cache(1)
    def block(number: int) -> tuple[list[list[int]], list[list[int]]]:
        said = dialogues(world, BLOCK * BATCH, number)
        sides = [prompt for prompt, _ in said], [f"{answer}<|eot_id|>" for _, answer in said]
        return tuple([found.ids for found in encode(side)] for side in sides)

    def batch(step: int) -> Batch:
        place = step % BLOCK * BATCH
        return padded(*(side[place : place + BATCH] for side in block(step // BLOCK)))

    return batch


def padded(asked: Sequence[list[int]], answered: Sequence[list[int]]) -> Batch:
    """Join prompts and answers, padded on the right, where a causal model does not look; only answers are learnt."""
    ids = torch.zeros(len(asked), max(map(len, map(list.__add__, asked, answered))), dtype=torch.long)
    learnt = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(asked, answered)):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        learnt[row, len(prompt) : len(prompt) + len(answer)] = True
    return ids, learnt
