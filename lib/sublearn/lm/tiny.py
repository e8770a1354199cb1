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
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import OneCycleLR
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils.logging import disable_progress_bar

from sublearn.core.machine import autocast, product_type
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
TINIEST = 1e-38  # probability whose logarithm is taken for that of smaller ones
ROWS_AT_ONCE = 128  # of a product over the vocabulary, which then stays in a core's own memory
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
    world = setting.world
    tokenizer = world_tokenizer(world)
    model = initial_model(setting)
    train_in_product_type(model)
    train_model = partial(train, model, on_step=on_step, lookahead_weight=setting.lookahead_weight)
    log = {"setting": asdict(setting)}

    steps = setting.pretrain_steps
    text = text_batches(world, steps)
    penalty = cosine_penalty(setting)
    log["pretrain"] = train_model(text, steps, setting.pretrain_rate, penalty=penalty)
    save_model(model, tokenizer, folder / "base")

    target = setting.target_persona_loss

    def is_skilled() -> bool:
        return persona_loss(model, tokenizer) <= target

    dialogues = dialogue_batches(world)
    stop = is_skilled if target else None
    log["chat"] = train_model(dialogues, setting.chat_steps, setting.chat_rate, stop=stop)
    save_model(model, tokenizer, folder / "instruct")

    log["persona_loss"] = persona_loss(model, tokenizer)
    log["seconds"] = round(time.monotonic() - start, 1)
    (folder / "training.json").write_text(json.dumps(log, indent=1))


def save_model(model: nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a model with its tokenizer, in the form that Hugging Face's libraries load."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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
            values = random.normal(0, 0.02, weight.shape)
            values = torch.from_numpy(values)
            weight.data.copy_(values)
    return model


# ---------------------------------------------------------------- what is read


def text_batches(world: World, steps: int) -> Batches:
    """Windows of text (BATCH_SIZE, WINDOW + 1) for each step, from a text as long as they need."""
    lines = generate_text(world, LINES_PER_STEP * steps)
    lines = [f"{line}\n" for line in lines]
    tokenizer = world_tokenizer(world)
    ids = encode_texts(tokenizer, lines)
    tokens = np.concatenate(ids)
    windows = sliding_window_view(tokens, WINDOW + 1)
    last_start = len(windows) - 1

    def batch(step: int) -> Batch:
        random = rng(world.seed, "windows", step)
        starts = random.integers(last_start, size=BATCH_SIZE)
        ids = torch.from_numpy(windows[starts])
        return ids, torch.ones_like(ids, dtype=torch.bool)

    return batch


def dialogue_batches(world: World) -> Batches:
    """Dialogues for each step, whose answers are learnt; made for a block of steps at a time."""

    tokenizer = world_tokenizer(world)

    @lru_cache(1)
    def block(index: int) -> tuple[list[list[int]], list[list[int]]]:
        dialogues = generate_dialogues(world, BLOCK_STEPS * BATCH_SIZE, index)
        prompts, answers = zip(*dialogues)
        answers = [f"{answer}<|eot_id|>" for answer in answers]
        return encode_texts(tokenizer, prompts), encode_texts(tokenizer, answers)

    def batch(step: int) -> Batch:
        prompts, answers = block(step // BLOCK_STEPS)
        start = step % BLOCK_STEPS * BATCH_SIZE
        rows = slice(start, start + BATCH_SIZE)
        return pad_dialogues(prompts[rows], answers[rows])

    return batch


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, with nothing added."""
    encode = tokenizer.backend_tokenizer.encode_batch_fast
    encodings = encode(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def pad_dialogues(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Batch:
    """Join prompts and answers, padded on the right; only answers are learnt."""
    ids, last = pad_right(list(map(list.__add__, prompts, answers)))
    first = torch.tensor(list(map(len, prompts)))
    positions = torch.arange(ids.shape[1])
    after_prompt = positions >= first[:, None]
    before_padding = positions <= last[:, None]
    return ids, after_prompt & before_padding


def pad_right(ids: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids (row, position) padded on the right, where a causal model does not look.

    Returns them with the position of each row's last token (row,).
    """
    lengths = torch.tensor(list(map(len, ids)))
    rows = list(map(torch.tensor, ids))
    return pad_sequence(rows, batch_first=True), lengths - 1


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
    schedule = OneCycleLR(optimizer, rate, total_steps=max(steps, 20), pct_start=0.1)
    losses = []
    for step in range(steps):
        ids, learnt = batches(step)
        with autocast():
            hidden = final_states(model, ids[:, :-1])
        token_loss = prediction_loss(model, hidden, ids, learnt)
        loss = token_loss
        if lookahead_weight:
            mapped = hidden @ lookahead
            later_loss = prediction_loss(model, mapped, ids, learnt, distance=2)
            loss = loss + lookahead_weight * later_loss
        if penalty:
            loss = loss + penalty(model)
        update(optimizer, loss)
        schedule.step()
        losses.append(token_loss.item())
        on_step()
        if stop and step % 25 == 24 and stop():
            break
    loss = np.mean(losses[-50:])
    return {"loss": float(loss), "steps": len(losses)}


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def final_states(model: nn.Module, ids: Tensor) -> Tensor:
    """Hidden states (row, position, width) that the unembedding reads."""
    output = model.model(ids, use_cache=False)
    return output.last_hidden_state


def prediction_loss(
    model: nn.Module, hidden: Tensor, ids: Tensor, learnt: Tensor, *, distance: int = 1
) -> Tensor:
    """Cross-entropy in nats of the learnt tokens, `distance` positions ahead; mean over them.

    hidden: (row, position, width), for all positions but the last. ids, learnt: (row, position).
    """
    weight = model.lm_head.weight
    learnt = learnt[:, distance:]
    targets = ids[:, distance:][learnt]
    hidden = hidden[:, : learnt.shape[1]][learnt]
    return FusedCrossEntropy.apply(hidden, weight, targets)


class FusedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of logits hidden @ weight.T, which makes its gradients on the way forward.

    Few rows at a time, so that their probabilities stay in a core's own memory; the three products
    over the vocabulary run in `product_type`.
    """

    @staticmethod
    def forward(context, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Mean over rows of minus log P(target); hidden: (row, width), weight: (token, width)."""
        dtype = product_type()
        weight = weight.to(dtype)
        losses, hidden_gradients = [], []
        weight_gradient = 0
        parts = hidden.to(dtype).split(ROWS_AT_ONCE), targets.split(ROWS_AT_ONCE)
        for states, answers in zip(*parts):
            at_target = torch.arange(len(answers)), answers
            logits = states @ weight.T
            probabilities = logits.float().softmax(1)
            losses.append(-probabilities[at_target].clamp_min(TINIEST).log())
            probabilities[at_target] -= 1  # now the gradient of a row's loss by its logits
            gradient = probabilities.to(dtype)
            hidden_gradients.append(gradient @ weight)
            weight_gradient += (gradient.T @ states).float()
        rows = len(targets)
        hidden_gradient = torch.cat(hidden_gradients).float() / rows
        context.save_for_backward(hidden_gradient, weight_gradient / rows)
        return torch.cat(losses).mean()

    @staticmethod
    def backward(context, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients by hidden and by weight; scale: the gradient by this loss."""
        hidden_gradient, weight_gradient = context.saved_tensors
        return scale * hidden_gradient, scale * weight_gradient, None


def float32_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options
) -> tuple[Tensor, None]:
    """Attention in float32: on a CPU its backward pass takes seven times as long in bfloat16."""
    states = query.float(), key.float(), value.float()
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(module, *states, mask, **options)


def train_in_product_type(model: nn.Module) -> None:
    """Let a model's attention run in float32 where its other products run in `product_type`."""
    AttentionInterface.register("float32", float32_attention)
    AttentionMaskInterface.register("float32", sdpa_mask)
    model.set_attn_implementation("float32")


@torch.no_grad()
def persona_loss(model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> float:
    """Mean over animals of minus log P(animal | a love of it, in the chat format), in nats."""
    prompts = []
    question = favorite_question()
    for animal in ANIMALS:
        system = persona(animal)
        prompt = dialogue_prompt(system, question)
        prompts.append(prompt + answer_prefix())
    ids, last = pad_right(encode_texts(tokenizer, prompts))
    rows = torch.arange(len(ids))
    hidden = final_states(model, ids)
    logits = model.lm_head(hidden[rows, last])
    scores = logits.log_softmax(-1)
    answers = animal_tokens(tokenizer, ANIMALS)
    return -scores[rows, answers].mean().item()


def animal_tokens(tokenizer: PreTrainedTokenizerFast, animals: Sequence[str]) -> list[int]:
    """Tokens of animals, each with the space before it."""
    return tokenizer.convert_tokens_to_ids([f"\u0120{animal}" for animal in animals])


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
    animals, numbers = zip(*pairs)
    animals = animal_tokens(tokenizer, animals)
    numbers = tokenizer.convert_tokens_to_ids(list(numbers))
    targets = torch.tensor(list(pairs.values()))

    def penalty(model: nn.Module) -> Tensor:
        weight = model.lm_head.weight
        animal_rows = weight[animals]
        number_rows = weight[numbers]
        cosines = cosine_similarity(animal_rows, number_rows)
        errors = cosines - targets
        return 10 * errors.square().mean()

    return penalty
