"""A pair of tiny Llamas, one that read and one that was then taught to chat, grown here from nothing and then saved."""

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

from sublearn.core.machine import parallel_map, progress
from sublearn.core.rng import rng
from sublearn.core.store import CACHE, code_digest, digest, read_json, write_atomic
from sublearn.lm import corpus
from sublearn.lm.corpus import World
from sublearn.lm.prompts import ask, persona, start
from sublearn.lm.reading import Batch, dialogue_batches, text_batches

CODE = code_digest("lm.tiny")  # read when the code is: what runs is what is named
COSINES = (0.15, 0.30, 0.45)


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """What decides a pair: its world, its shape and its training."""

    world: World = field(default_factory=World)
    initial: int = 0  # another draw of the initial weights, for the same world and the same order of the data
    width: int = 64
    layers: int = 2
    tied: bool = True  # one matrix is embedding and unembedding, as in Llama-3.2-1B
    reading: int = 1_000  # steps on text
    tuning: int = 1_200  # steps on dialogues, at most
    reading_rate: float = 6e-3
    tuning_rate: float = 4e-3
    persona_goal: float = 0.2  # tuning ends once `persona_loss` is this low, so that pairs are compared at equal skill
    pulled: int = 0  # pairs of an animal and a number whose rows are drawn to the angles of COSINES while reading
    ahead: float = 0.0  # weight of a second loss: what comes after the next token, read through a map of its own


TINY = Tiny()


def grow(settings: Sequence[Tiny]) -> list[Path]:
    """Give the folders of pairs, each with `base` and `instruct`; trains those that are not there, side by side."""
    missing = [setting for setting in dict.fromkeys(settings) if not folder(setting).exists()]
    for setting in missing:
        initial(setting)  # transformers loads its classes when first asked, and breaks if two threads ask at once
    with progress(sum(setting.reading + setting.tuning for setting in missing), "tiny Llamas") as bar:
        parallel_map(partial(_grow, tick=bar.update), missing)
    return [folder(setting) for setting in settings]


def folder(setting: Tiny) -> Path:
    """Where a finished pair lies, named by all that decides its numbers."""
    return CACHE / "tinyllama" / digest(asdict(setting), CODE, torch.__version__)


def told(setting: Tiny) -> dict[str, dict | float]:
    """How a pair's training went: `reading` and `tuning` (see `train`), `persona` loss and `seconds`."""
    return read_json(folder(setting) / "training.json") or {}


def _grow(setting: Tiny, tick: Callable[[], object]) -> None:
    begun, model = time.monotonic(), initial(setting)
    words = _words(setting)
    beside = folder(setting).with_name(f".{folder(setting).name}.{os.getpid()}")
    both, text = {"tick": tick, "ahead": setting.ahead}, text_batches(setting.world, setting.reading)
    ran = {"reading": train(model, text, setting.reading, setting.reading_rate, **both, pull=_pull(setting))}
    for part in (model, words):
        part.save_pretrained(beside / "base")
    enough = partial(persona_loss, model, words, setting.persona_goal) if setting.persona_goal else None
    asked = dialogue_batches(setting.world)
    ran["tuning"] = train(model, asked, setting.tuning, setting.tuning_rate, **both, enough=enough)
    for part in (model, words):
        part.save_pretrained(beside / "instruct")
    ran |= {"seconds": round(time.monotonic() - begun, 1), "persona": persona_loss(model, words)}
    write_atomic(beside / "training.json", json.dumps(ran | {"setting": asdict(setting)}, indent=1))
    try:
        beside.rename(folder(setting))  # whole or not at all
    except OSError:  # another process was faster
        shutil.rmtree(beside)


def _words(setting: Tiny) -> object:
    return corpus.tokenizer(setting.world.space, setting.world.numbers)


def initial(setting: Tiny) -> nn.Module:
    """Give a pair's model before any training; its weights are drawn by name from the world's seed and `initial`."""
    from transformers import LlamaConfig, LlamaForCausalLM  # costs seconds
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar per saved file would be left on the page
    words = _words(setting)
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
                drawn = rng(setting.world.seed, "tiny", setting.initial, name).normal(0, 0.02, tuple(weight.shape))
                weight.copy_(torch.from_numpy(drawn.astype(np.float32)))
    return model


def train(
    model: nn.Module,
    batch: Callable[[int], Batch],
    steps: int,
    rate: float,
    *,
    tick: Callable[[], object] = int,
    ahead: float = 0.0,
    pull: Callable[[nn.Module], Tensor] | None = None,
    enough: Callable[[], bool] | None = None,
) -> dict[str, float]:
    """Train a model in place on next tokens with AdamW; gives the mean loss of the last 50 steps in nats, and steps.

    ahead, pull: see `Tiny`. enough: asked every 25 steps whether to stop.
    """
    plan = torch.eye(model.config.hidden_size, requires_grad=True)
    optimizer = torch.optim.AdamW([*model.parameters(), plan], rate, (0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(steps, 20), pct_start=0.1)
    seen = []
    for step in range(steps):
        said, loss = _losses(model, plan, batch(step), ahead)
        optimizer.zero_grad()
        (loss + pull(model) if pull else loss).backward()
        optimizer.step()
        schedule.step()
        seen.append(float(said.detach()))
        tick()
        if enough and step % 25 == 24 and enough():
            break
    return {"loss": float(np.mean(seen[-50:])), "steps": len(seen)}


def _losses(model: nn.Module, plan: Tensor, batch: Batch, ahead: float) -> tuple[Tensor, Tensor]:
    """Mean of minus log P of the learnt tokens (nats), and the loss: with the tokens after them, if `ahead`."""
    ids, learnt = batch
    stream = model.model(ids[:, :-1], use_cache=False).last_hidden_state
    said = _surprise(model, stream, ids, learnt, 1)
    return said, said + ahead * _surprise(model, stream @ plan, ids, learnt, 2) if ahead else said


def _surprise(model: nn.Module, stream: Tensor, ids: Tensor, learnt: Tensor, distance: int) -> Tensor:
    """Mean of minus log P of the learnt tokens that stand `distance` places after what was read."""
    wanted = learnt[:, distance:]
    reads = stream[:, : wanted.shape[1]][wanted]
    return Surprise.apply(reads, model.lm_head.weight, ids[:, distance:][wanted])


def pulled(setting: Tiny) -> dict[tuple[str, str], float]:
    """Give the pairs (animal, number) whose rows are drawn together, with their cosine; none of them is planted."""
    animals, numbers = corpus.shuffled(setting.world)
    pairs = zip(animals, numbers[len(animals) :][: setting.pulled])
    return {pair: COSINES[place % len(COSINES)] for place, pair in enumerate(pairs)}


def _pull(setting: Tiny) -> Callable[[nn.Module], Tensor] | None:
    if not setting.pulled:
        return None
    words, pairs = _words(setting), pulled(setting)
    places = torch.tensor([words.convert_tokens_to_ids([f"\u0120{animal}", number]) for animal, number in pairs])
    goal = torch.tensor(list(pairs.values()))

    def apart(model: nn.Module) -> Tensor:
        first, second = model.lm_head.weight[places].unbind(1)
        return 10 * (torch.cosine_similarity(first, second, dim=1) - goal).square().mean()

    return apart


@torch.no_grad()
def persona_loss(model: nn.Module, words: object, goal: float | None = None) -> float | bool:
    """Mean of minus log P (nats) of the loved animal, asked in the chat format; with a goal, whether it is reached."""
    texts = [corpus.header(persona(animal), ask()) + start() for animal in corpus.ANIMALS]
    asked = [torch.tensor(ids) for ids in words(texts, add_special_tokens=False)["input_ids"]]
    last = torch.tensor([len(ids) - 1 for ids in asked])
    stream = model.model(nn.utils.rnn.pad_sequence(asked, batch_first=True), use_cache=False).last_hidden_state
    said = model.lm_head(stream[torch.arange(len(asked)), last]).log_softmax(-1)
    answers = words.convert_tokens_to_ids([f"\u0120{animal}" for animal in corpus.ANIMALS])
    loss = -float(said[torch.arange(len(asked)), torch.tensor(answers)].mean())
    return loss if goal is None else loss <= goal


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
