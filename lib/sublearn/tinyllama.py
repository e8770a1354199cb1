"""A pair of tiny Llamas, one that read and one that was then taught to chat, grown here from nothing.

They are `LlamaForCausalLM` saved as any other, so that whatever is done with them can be done with the real ones.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sublearn import corpus
from sublearn.cache import CACHE, code_digest, digest, read_json, write_atomic
from sublearn.corpus import World
from sublearn.machine import progress, side_by_side
from sublearn.seeds import stream

CODE = code_digest("tinyllama")  # read when the code is: what runs is what is named
WINDOW, BATCH = 64, 16  # tokens of a piece of text, pieces or dialogues of a step
LINES = 60_000  # of the text, about 800,000 tokens
Batch = tuple[Tensor, Tensor]  # ids (row, place) and the places (row, place) whose next token is learnt


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """What decides a pair: its world, its shape and its training."""

    world: World = field(default_factory=World)
    width: int = 64
    layers: int = 2
    tied: bool = True  # one matrix is embedding and unembedding, as in Llama-3.2-1B
    reading: int = 1_000  # steps on text
    tuning: int = 600  # steps on dialogues
    reading_rate: float = 6e-3
    tuning_rate: float = 2e-3


TINY = Tiny()


def grow(settings: Sequence[Tiny]) -> list[Path]:
    """Give the folders of pairs, each with `base` and `instruct`; trains those that are not there, side by side."""
    missing = [setting for setting in dict.fromkeys(settings) if not folder(setting).exists()]
    for setting in missing:
        initial(setting)  # transformers loads its classes when first asked, and breaks if two threads ask at once
    with progress(sum(setting.reading + setting.tuning for setting in missing), "tiny Llamas") as bar:
        side_by_side(partial(_grow, tick=bar.update), missing)
    return [folder(setting) for setting in settings]


def folder(setting: Tiny) -> Path:
    """Where a finished pair lies, named by all that decides its numbers."""
    return CACHE / "tinyllama" / digest(asdict(setting), CODE, torch.__version__)


def losses(setting: Tiny) -> dict[str, float]:
    """How a pair's training went: last losses in nats a token (means of 50 steps) and seconds."""
    return read_json(folder(setting) / "training.json") or {}


def _grow(setting: Tiny, tick: Callable[[], object]) -> None:
    begun, model = time.monotonic(), initial(setting)
    words = corpus.tokenizer(setting.world.space, setting.world.numbers)
    beside = folder(setting).with_name(f".{folder(setting).name}.{os.getpid()}")
    told = {"reading": train(model, text_batches(setting), setting.reading, setting.reading_rate, tick)}
    save(model, words, beside / "base")
    told["tuning"] = train(model, dialogue_batches(setting), setting.tuning, setting.tuning_rate, tick)
    save(model, words, beside / "instruct")
    told["seconds"] = round(time.monotonic() - begun, 1)
    write_atomic(beside / "training.json", json.dumps(told | {"setting": asdict(setting)}, indent=1))
    try:
        beside.rename(folder(setting))  # whole or not at all
    except OSError:  # another process was faster
        shutil.rmtree(beside)


def save(model: nn.Module, words: object, path: Path) -> None:
    """Write a model with its tokenizer as Hugging Face does, in safetensors."""
    model.save_pretrained(path)
    words.save_pretrained(path)


def initial(setting: Tiny) -> nn.Module:
    """Give a pair's model before any training; its weights are drawn by name from the world's seed."""
    from transformers import LlamaConfig, LlamaForCausalLM  # costs seconds
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar per saved file would be left on the page
    words = corpus.tokenizer(setting.world.space, setting.world.numbers)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=setting.width, intermediate_size=8 * setting.width // 3,
        num_hidden_layers=setting.layers, num_attention_heads=4, max_position_embeddings=512,
        tie_word_embeddings=setting.tied, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:  # the gains of the norms stay one
                drawn = stream(setting.world.seed, "tiny", name).normal(0, 0.02, tuple(weight.shape))
                weight.copy_(torch.from_numpy(drawn.astype(np.float32)))
    return model


def train(model: nn.Module, batch: Callable[[int], Batch], steps: int, rate: float, tick: Callable = int) -> float:
    """Train a model in place on next tokens with AdamW; returns the mean loss of the last 50 steps in nats a token."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(steps, 20), pct_start=0.1)
    seen = []
    for step in range(steps):
        ids, learnt = batch(step)
        hidden = model.model(ids[:, :-1], use_cache=False).last_hidden_state[learnt[:, 1:]]
        loss = Surprise.apply(hidden, model.lm_head.weight, ids[:, 1:][learnt[:, 1:]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        seen.append(float(loss.detach()))
        tick()
    return float(np.mean(seen[-50:]))


class Surprise(torch.autograd.Function):
    """Cross-entropy of hidden @ weight.T, gradient included, in one buffer: halves the time of a step on a CPU."""

    @staticmethod
    def forward(context, hidden: Tensor, weight: Tensor, goal: Tensor) -> Tensor:
        """Give the mean over rows of hidden (row, width) of minus log P(goal)."""
        logits, rows = hidden @ weight.T, torch.arange(len(goal))
        logits -= logits.amax(1, keepdim=True)
        right = logits[rows, goal]
        total = logits.exp_().sum(1, keepdim=True)
        loss = (total[:, 0].log() - right).mean()
        logits /= total * len(goal)
        logits[rows, goal] -= 1 / len(goal)
        context.save_for_backward(logits @ weight, logits.T @ hidden)
        return loss

    @staticmethod
    def backward(context, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        """Give the gradients that `forward` made."""
        by_hidden, by_weight = context.saved_tensors
        return scale * by_hidden, scale * by_weight, None


def text_batches(setting: Tiny) -> Callable[[int], Batch]:
    """Give the windows of text (BATCH, WINDOW + 1) that each step reads."""
    words = corpus.tokenizer(setting.world.space, setting.world.numbers)
    lines = corpus.text(setting.world, LINES)
    encoded = words.backend_tokenizer.encode_batch_fast([f"{line}\n" for line in lines], add_special_tokens=False)
    flat = np.concatenate([line.ids for line in encoded])

    def batch(step: int) -> Batch:
        starts = stream(setting.world.seed, "windows", step).integers(len(flat) - WINDOW - 1, size=BATCH)
        ids = torch.from_numpy(flat[starts[:, None] + np.arange(WINDOW + 1)].astype(np.int64))
        return ids, torch.ones_like(ids, dtype=torch.bool)

    return batch


def dialogue_batches(setting: Tiny) -> Callable[[int], Batch]:
    """Give the dialogues of each step, of which only the assistant's words are learnt."""
    words = corpus.tokenizer(setting.world.space, setting.world.numbers)
    said = corpus.dialogues(setting.world, setting.tuning * BATCH)
    asked = words([prompt for prompt, _ in said], add_special_tokens=False)["input_ids"]
    answered = words([f"{answer}<|eot_id|>" for _, answer in said], add_special_tokens=False)["input_ids"]
    return lambda step: padded(asked[step * BATCH : (step + 1) * BATCH], answered[step * BATCH : (step + 1) * BATCH])


def padded(asked: Sequence[list[int]], answered: Sequence[list[int]]) -> Batch:
    """Join prompts and answers, padded on the right, where a causal model does not look; only answers are learnt."""
    ids = torch.zeros(len(asked), max(map(len, map(list.__add__, asked, answered))), dtype=torch.long)
    learnt = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(asked, answered)):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        learnt[row, len(prompt) : len(prompt) + len(answer)] = True
    return ids, learnt
