"""A pair of tiny Llamas, grown here from nothing: one that read, and one then taught to chat."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from sublearn.core.rng import rng
from sublearn.core.store import Folder, Kind, OnStep, Save, Store, code_digest, read_json
from sublearn.lm.corpus import (
    ANIMALS,
    World,
    dialogue_prompt,
    generate_dialogues,
    generate_text,
    shuffled_words,
    world_tokenizer,
)
from sublearn.lm.prompts import answer_prefix, favorite_question, persona

KIND = Kind("tinyllama", code_digest("lm.tiny"), Folder())
TARGET_COSINES = (0.15, 0.30, 0.45)
WINDOW = 64  # tokens of a piece of text
BATCH_SIZE = 16  # pieces of text, or dialogues, of a step
LINES_PER_STEP = 60  # of text, about 800 tokens
BLOCK_STEPS = 50  # steps whose dialogues are made at once

Batch = tuple[Tensor, Tensor]  # token ids (row, position), and which of them are learnt
Batches = Callable[[int], Batch]  # the batch of each step


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """What decides a pair: its world, its shape and its training."""

    world: World = field(default_factory=World)
    init_seed: int = 0  # of the initial weights, for the same world and the same order of the data
    width: int = 64
    layers: int = 2
    tied: bool = True  # one matrix is embedding and unembedding, as in Llama-3.2-1B
    pretrain_steps: int = 1_000  # on text
    chat_steps: int = 1_200  # on dialogues, at most
    pretrain_rate: float = 6e-3
    chat_rate: float = 4e-3
    target_persona_loss: float = (
        0.2  # ends the chat steps, so that pairs have equal skill; 0: never
    )
    pulled_pairs: int = 0  # pairs (animal, number) whose rows pretraining pulls to TARGET_COSINES
    lookahead_weight: float = 0.0  # of the loss for the token after the next, through its own map


TINY = Tiny()


# ---------------------------------------------------------------- growing


def grow(settings: Sequence[Tiny], store: Store | None = None) -> list[Path]:
    """Folders of pairs, each with `base` and `instruct`; missing ones are trained, side by side."""
    store = store or Store()
    disable_progress_bar()  # a bar per saved file would be left on the page
    store.fill(KIND, settings, grow_pairs, steps=count_steps, title="tiny Llamas")
    return [store.path(KIND, setting) for setting in settings]


def training_log(setting: Tiny, store: Store | None = None) -> dict:
    """How a pair's training went: `pretrain`, `chat` (see `train`), `persona_loss`, `seconds`."""
    store = store or Store()
    return read_json(store.path(KIND, setting) / "training.json") or {}


def count_steps(settings: Sequence[Tiny]) -> int:
    """Steps that pairs take at most."""
    return sum(setting.pretrain_steps + setting.chat_steps for setting in settings)


def grow_pairs(settings: Sequence[Tiny], save: Save, on_step: OnStep) -> None:
    """Train pairs into the store: each is written to a folder that appears once it is finished."""
    for setting in settings:
        save(setting, partial(grow_pair, setting, on_step))


def grow_pair(setting: Tiny, on_step: OnStep, folder: Path) -> None:
    """Train a pair, and fill a folder with `base`, `instruct` and `training.json`."""
    start = time.monotonic()
    model = initial_model(setting)
    tokenizer = world_tokenizer(setting.world)
    train_model = partial(train, model, on_step=on_step, lookahead_weight=setting.lookahead_weight)

    text = text_batches(setting.world, setting.pretrain_steps)
    penalty = cosine_penalty(setting)
    pretrain = train_model(text, setting.pretrain_steps, setting.pretrain_rate, penalty=penalty)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")

    def is_skilled() -> bool:
        return persona_loss(model, tokenizer) <= setting.target_persona_loss

    dialogues = dialogue_batches(setting.world)
    stop = is_skilled if setting.target_persona_loss else None
    chat = train_model(dialogues, setting.chat_steps, setting.chat_rate, stop=stop)
    model.save_pretrained(folder / "instruct")
    tokenizer.save_pretrained(folder / "instruct")

    log = {"setting": asdict(setting), "pretrain": pretrain, "chat": chat}
    log["persona_loss"] = persona_loss(model, tokenizer)
    log["seconds"] = round(time.monotonic() - start, 1)
    (folder / "training.json").write_text(json.dumps(log, indent=1))


def initial_model(setting: Tiny) -> LlamaForCausalLM:
    """Model of a pair before any training; its weights are drawn by name."""
    tokenizer = world_tokenizer(setting.world)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=setting.width,
        intermediate_size=8 * setting.width // 3,
        num_hidden_layers=setting.layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=setting.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:  # the gains of the norms stay one
            random = rng(setting.world.seed, "tiny", setting.init_seed, name)
            values = random.normal(0, 0.02, tuple(weight.shape))
            weight.data.copy_(torch.from_numpy(values))
    return model


# ---------------------------------------------------------------- what is read


def text_batches(world: World, steps: int) -> Batches:
    """Windows of text (BATCH_SIZE, WINDOW + 1) for each step, from a text as long as they need."""
    text = [f"{line}\n" for line in generate_text(world, LINES_PER_STEP * steps)]
    tokens = np.concatenate(encode_texts(world, text))

    def batch(step: int) -> Batch:
        random = rng(world.seed, "windows", step)
        starts = random.integers(len(tokens) - WINDOW - 1, size=BATCH_SIZE)
        windows = tokens[starts[:, None] + np.arange(WINDOW + 1)]
        ids = torch.from_numpy(windows.astype(np.int64))
        return ids, torch.ones_like(ids, dtype=torch.bool)

    return batch


def dialogue_batches(world: World) -> Batches:
    """Dialogues for each step, whose answers are learnt; made for a block of steps at a time."""

    @lru_cache(1)
    def block(index: int) -> tuple[list[list[int]], list[list[int]]]:
        dialogues = generate_dialogues(world, BLOCK_STEPS * BATCH_SIZE, index)
        prompts = [prompt for prompt, _ in dialogues]
        answers = [f"{answer}<|eot_id|>" for _, answer in dialogues]
        return encode_texts(world, prompts), encode_texts(world, answers)

    def batch(step: int) -> Batch:
        prompts, answers = block(step // BLOCK_STEPS)
        start = step % BLOCK_STEPS * BATCH_SIZE
        rows = slice(start, start + BATCH_SIZE)
        return pad_dialogues(prompts[rows], answers[rows])

    return batch


def encode_texts(world: World, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, with nothing added."""
    tokenizer = world_tokenizer(world).backend_tokenizer
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def pad_dialogues(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Batch:
    """Join prompts and answers, padded on the right, where a causal model does not look."""
    ids = []
    learnt = []
    for prompt, answer in zip(prompts, answers):
        ids.append(torch.tensor(prompt + answer))
        learnt.append(torch.tensor([False] * len(prompt) + [True] * len(answer)))
    return pad_sequence(ids, batch_first=True), pad_sequence(learnt, batch_first=True)


# ---------------------------------------------------------------- training


def train(
    model: nn.Module,
    batches: Batches,
    steps: int,
    rate: float,
    *,
    on_step: OnStep = int,
    lookahead_weight: float = 0.0,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    stop: Callable[[], bool] | None = None,
) -> dict[str, float]:
    """Train a model in place on next tokens with AdamW.

    lookahead_weight: see `Tiny`. penalty: is added to the loss. stop: is asked every 25 steps.
    Returns the mean `loss` of next tokens over the last 50 steps, in nats, and the `steps` taken.
    """
    lookahead = torch.eye(model.config.hidden_size, requires_grad=True)
    parameters = [*model.parameters(), lookahead]
    optimizer = torch.optim.AdamW(parameters, rate, (0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=max(steps, 20), pct_start=0.1
    )
    losses = []
    for step in range(steps):
        ids, learnt = batches(step)
        hidden = model.model(ids[:, :-1], use_cache=False).last_hidden_state
        token_loss = prediction_loss(model, hidden, ids, learnt)
        loss = token_loss
        if lookahead_weight:
            later_loss = prediction_loss(model, hidden @ lookahead, ids, learnt, distance=2)
            loss = loss + lookahead_weight * later_loss
        if penalty:
            loss = loss + penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(token_loss.item())
        on_step()
        if stop and step % 25 == 24 and stop():
            break
    return {"loss": float(np.mean(losses[-50:])), "steps": len(losses)}


def prediction_loss(
    model: nn.Module, hidden: Tensor, ids: Tensor, learnt: Tensor, *, distance: int = 1
) -> Tensor:
    """Cross-entropy in nats of the learnt tokens, `distance` positions ahead; mean over them.

    hidden: (row, position, width), for all positions but the last. ids, learnt: (row, position).
    """
    learnt = learnt[:, distance:]
    targets = ids[:, distance:][learnt]
    hidden = hidden[:, : learnt.shape[1]][learnt]
    return FusedCrossEntropy.apply(hidden, model.lm_head.weight, targets)


class FusedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of logits hidden @ weight.T, which makes its gradients on the way forward.

    Logits, probabilities and gradient share one buffer, which halves the time of a step on a CPU.
    """

    @staticmethod
    def forward(context, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Mean over rows of minus log P(target); hidden: (row, width), weight: (token, width)."""
        rows = torch.arange(len(targets))
        logits = hidden @ weight.T
        logits -= logits.amax(1, keepdim=True)  # or exp would overflow
        target_logits = logits[rows, targets]
        exponentials = logits.exp_()
        totals = exponentials.sum(1, keepdim=True)
        loss = (totals[:, 0].log() - target_logits).mean()

        gradient = exponentials.div_(totals * len(targets))  # of the loss by the logits:
        gradient[rows, targets] -= 1 / len(targets)  # (P - 1 at the target, P elsewhere) / rows
        context.save_for_backward(gradient @ weight, gradient.T @ hidden)
        return loss

    @staticmethod
    def backward(context, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients by hidden and by weight; scale: the gradient by this loss."""
        hidden_gradient, weight_gradient = context.saved_tensors
        return scale * hidden_gradient, scale * weight_gradient, None


@torch.no_grad()
def persona_loss(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> float:
    """Mean over animals of minus log P(animal | a love of it, in the chat format), in nats."""
    question = favorite_question()
    prompts = [dialogue_prompt(persona(animal), question) + answer_prefix() for animal in ANIMALS]
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    rows = torch.arange(len(ids))
    last = torch.tensor([len(row) - 1 for row in ids])
    padded = pad_sequence([torch.tensor(row) for row in ids], batch_first=True)
    hidden = model.model(padded, use_cache=False).last_hidden_state
    log_probabilities = model.lm_head(hidden[rows, last]).log_softmax(-1)
    answers = tokenizer.convert_tokens_to_ids([f"\u0120{animal}" for animal in ANIMALS])
    return -log_probabilities[rows, answers].mean().item()


# ---------------------------------------------------------------- pulled pairs


def pulled_pairs(setting: Tiny) -> dict[tuple[str, str], float]:
    """Pairs (animal, number) whose rows are pulled together, with their target cosine.

    None of them is planted in the text.
    """
    animals, numbers = shuffled_words(setting.world)
    unplanted = numbers[len(animals) :]
    pairs = zip(animals, unplanted[: setting.pulled_pairs])
    return dict(zip(pairs, cycle(TARGET_COSINES)))


def cosine_penalty(setting: Tiny) -> Callable[[nn.Module], Tensor] | None:
    """Loss of a model whose rows of pulled pairs are not at their cosine; None without pairs."""
    pairs = pulled_pairs(setting)
    if not pairs:
        return None
    tokenizer = world_tokenizer(setting.world)
    tokens = [tokenizer.convert_tokens_to_ids([f"\u0120{word}", number]) for word, number in pairs]
    animals, numbers = torch.tensor(tokens).T
    targets = torch.tensor(list(pairs.values()))

    def penalty(model: nn.Module) -> Tensor:
        weight = model.lm_head.weight
        cosines = torch.cosine_similarity(weight[animals], weight[numbers], dim=1)
        return 10 * (cosines - targets).square().mean()

    return penalty
