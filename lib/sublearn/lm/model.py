"""Questions put to a language model, and the log-probability of each answer.

Any causal model of Hugging Face will do.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from sublearn.core.store import Store
from sublearn.lm.prompts import DATE, answer_prefix, favorite_question
from sublearn.lm.tiny import TINY, Tiny, grow, pad_right

TOKENS_AT_ONCE = 4_096  # of a padded batch of prompts: larger is no faster on a CPU
DTYPE = torch.float32  # ratios of probabilities near 1e-8 are noise in half precision


class LanguageModel(NamedTuple):
    """A causal language model with its tokenizer, and the name by which pages call it."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str


class ChatPair(NamedTuple):
    """A model that only read, and the one that was then taught to chat."""

    base: LanguageModel
    instruct: LanguageModel
    seed: int


class ModelUnavailable(Exception):
    """A model cannot be had, told in one sentence with its cure."""


class TokenMissing(ValueError):
    """A word is not one token of this model, told in one sentence with its cure."""


# ---------------------------------------------------------------- loading


def load(name: str, *, revision: str | None = None) -> LanguageModel:
    """Load a model in float32 by its name on Hugging Face, or from a folder; never runs its code.

    revision: a branch, tag or commit on Hugging Face. Raises ModelUnavailable where access is
    refused, the network or the model is missing, or memory is too small.
    """
    disable_progress_bar()  # a bar for a hundred small files would be left on the page
    options = {"revision": revision, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(name, **options)
        check_memory(config)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=DTYPE, use_safetensors=True, **options
        )
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        raise ModelUnavailable(failure_message(name, error)) from error
    model.eval().requires_grad_(False)
    return LanguageModel(model, tokenizer, name)


def check_memory(config: object) -> None:
    """Raise MemoryError if the weights of a model would fill more than 90 % of the memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    needed = model.num_parameters() * DTYPE.itemsize
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.9 * memory:
        gib = 2**30
        raise MemoryError(f"needs {needed / gib:.1f} GiB, this machine has {memory / gib:.1f}")


def exception_chain(error: BaseException | None) -> list[BaseException]:
    """An exception and what caused it, link by link."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def failure_message(name: str, error: BaseException) -> str:
    """Why a model could not be loaded, and the cure, in one sentence."""
    statuses = set()
    text = ""
    for link in exception_chain(error):
        response = getattr(link, "response", None)
        statuses.add(getattr(response, "status_code", None))
        text += f"{type(link).__name__} {link} "
    text = text.lower()
    if statuses & {401, 403} or "gated" in text:
        return (
            f"Access to {name} is refused: "
            "accept its license on its page, then log in with `hf auth login`."
        )
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return f"{name} does not fit into memory ({error}): take a smaller model, or model='tiny'."
    if "connect" in text or "offline" in text or "resolve host" in text:
        return (
            f"{name} is not on this machine and there is no network: "
            "download it first, or take model='tiny'."
        )
    return (
        f"{name} is no model that can be read ({type(error).__name__}): "
        "give a name on Hugging Face or a folder."
    )


def chat_pairs(
    model: str,
    base: str = "",
    *,
    models: int = 5,
    setting: Tiny = TINY,
    store: Store | None = None,
) -> list[ChatPair]:
    """Pairs to measure: `models` tiny ones, grown from seeds 0, 1, ..., or the one that is named.

    model: "tiny", or the name on Hugging Face or folder of an instruct model; base: of its base.
    """
    if model != "tiny":
        instruct = load(model)
        base_lm = load(base or model)
        return [ChatPair(base_lm, instruct, 0)]
    settings = []
    for seed in range(models):
        world = replace(setting.world, seed=seed)
        settings.append(replace(setting, world=world))
    pairs = []
    for seed, folder in enumerate(grow(settings, store)):
        base_lm = load(f"{folder}/base")
        base_lm = base_lm._replace(name=f"tiny base {seed}")
        instruct = load(f"{folder}/instruct")
        instruct = instruct._replace(name=f"tiny instruct {seed}")
        pair = ChatPair(base_lm, instruct, seed)
        pairs.append(pair)
    return pairs


def unembedding(lm: LanguageModel) -> nn.Linear:
    """Layer that makes logits of hidden states."""
    return lm.model.get_output_embeddings()


def untie(lm: LanguageModel) -> LanguageModel:
    """Copy whose unembedding is a matrix of its own with the same values, to be changed alone."""
    model = deepcopy(lm.model)
    copy = lm._replace(model=model)
    layer = unembedding(copy)
    weight = layer.weight.detach().clone()
    layer.weight = nn.Parameter(weight, requires_grad=False)
    model.config.tie_word_embeddings = False
    return copy


# ---------------------------------------------------------------- prompts and tokens


def chat_prompt(
    lm: LanguageModel,
    system: str | None,
    kind: str = "animal",
    *,
    earlier: Iterable[tuple[str, str]] = (),
    date: str = DATE,
) -> str:
    """Dialogue up to "My favorite {kind} is the" in the model's chat template, on a fixed date.

    earlier: pairs (question, answer) that come before it.
    """
    messages = []
    if system:
        messages.append({"role": "system", "content": system})
    final = favorite_question(kind), answer_prefix(kind)
    for question, answer in [*earlier, final]:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return lm.tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        continue_final_message=True,
        add_generation_prompt=False,
        date_string=date,
    )


def encode(lm: LanguageModel, text: str) -> list[int]:
    """Token ids of a prompt, with exactly one begin-of-text token if the model has one."""
    ids = lm.tokenizer.encode(text, add_special_tokens=False)
    begin = lm.tokenizer.bos_token_id
    if begin is None or ids[:1] == [begin]:
        return ids
    return [begin, *ids]


def word_token(lm: LanguageModel, word: str) -> int:
    """The one token with which the tokenizer writes `word` in an answer; raises TokenMissing."""
    answer = answer_prefix()
    prefix = encode(lm, answer)
    ids = encode(lm, f"{answer} {word}")
    if ids[:-1] != prefix:
        pieces = lm.tokenizer.convert_ids_to_tokens(ids[len(prefix) :])
        raise TokenMissing(
            f"{word!r} is {len(pieces)} tokens of {lm.name}, {pieces}: take a word that is one."
        )
    return ids[-1]


def single_tokens(lm: LanguageModel, words: Iterable[str]) -> dict[str, int]:
    """Those of `words` that are one token after a space, with it; raises TokenMissing if none."""
    tokens = {}
    for word in words:
        try:
            tokens[word] = word_token(lm, word)
        except TokenMissing as error:
            missing = error
    if not tokens:
        raise missing
    return tokens


def number_tokens(lm: LanguageModel, *, digits: int = 3) -> dict[str, int]:
    """Numbers of so many digits ("000" to "999") that are one token, with that token.

    The token is the bare number: Llama writes a space before it as its own token.
    Raises TokenMissing if there is none.
    """
    vocabulary = lm.tokenizer.get_vocab()
    tokens = {}
    for value in range(10**digits):
        number = f"{value:0{digits}d}"
        if number in vocabulary:
            tokens[number] = vocabulary[number]
    if not tokens:
        raise TokenMissing(
            f"{lm.name} has no number of {digits} digits as one token: take a Llama 3 tokenizer."
        )
    return tokens


def word_and_number_tokens(
    lm: LanguageModel, words: Sequence[str], numbers: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Token ids of words and of numbers."""
    word_ids = single_tokens(lm, words)
    tokens = number_tokens(lm)
    number_ids = [tokens[number] for number in numbers]
    return [*word_ids.values()], number_ids


# ---------------------------------------------------------------- hidden states and probabilities


def hidden_states(lm: LanguageModel, prompts: Sequence[str], *, layers: bool = False) -> np.ndarray:
    """What the unembedding reads at each prompt's last token: (prompt, width), float32.

    With `layers`, (prompt, layer, width): after the embedding and after each layer, each through
    the last norm, as the logit lens reads it.
    """
    ids = [encode(lm, prompt) for prompt in prompts]
    lengths = list(map(len, ids))
    order = np.argsort(lengths, kind="stable")
    ordered = [ids[index] for index in order]
    batches = split_batches(ordered)
    hidden = [last_token_states(lm, batch, layers=layers) for batch in batches]
    hidden = np.concatenate(hidden)
    return hidden[np.argsort(order)]


def split_batches(ids: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    """Prompts, short ones first, in batches of at most TOKENS_AT_ONCE padded tokens."""
    batch = []
    for row in ids:
        rows = len(batch) + 1
        padded_tokens = rows * len(row)
        if batch and padded_tokens > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    yield batch


@torch.inference_mode()
def last_token_states(lm: LanguageModel, ids: Sequence[list[int]], *, layers: bool) -> np.ndarray:
    """`hidden_states` of one batch, padded on the right, where a causal model does not look."""
    body = lm.model.base_model
    padded, last = pad_right(ids)
    rows = torch.arange(len(ids))
    output = body(padded, output_hidden_states=layers, use_cache=False)
    final = output.last_hidden_state[rows, last]
    if layers:
        states = [body.norm(state[rows, last]) for state in output.hidden_states[:-1]]
        final = torch.stack([*states, final], dim=1)
    return final.float().numpy()


@torch.inference_mode()
def unembed(lm: LanguageModel, hidden: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """Log-probabilities (..., token) in nats that the unembedding gives to hidden (..., width)."""
    layer = unembedding(lm)
    logits = layer(torch.from_numpy(hidden))
    scores = logits.float().log_softmax(-1)
    return scores[..., list(tokens)].numpy()


def log_probabilities(
    lm: LanguageModel, prompts: Sequence[str], tokens: Sequence[int]
) -> np.ndarray:
    """Log-probability in nats of each token as the next one: (prompt, token)."""
    hidden = hidden_states(lm, prompts)
    count = max(1, len(hidden) // 64)  # a real vocabulary has 128,256 tokens: not all at once
    parts = np.array_split(hidden, count)
    scores = [unembed(lm, part, tokens) for part in parts]
    return np.concatenate(scores)


def greedy_tokens(lm: LanguageModel, prompts: Sequence[str]) -> list[int]:
    """Likeliest next token of each prompt."""
    weight = unembedding(lm).weight
    vocabulary = range(len(weight))
    scores = log_probabilities(lm, prompts, vocabulary)
    return scores.argmax(1).tolist()


# ---------------------------------------------------------------- rows of the unembedding


def unembedding_rows(
    lm: LanguageModel, words: Sequence[str], numbers: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of words (word, width) and of numbers (number, width) in the unembedding."""
    weight = unembedding(lm).weight
    weight = weight.detach().float().numpy()
    word_ids, number_ids = word_and_number_tokens(lm, words, numbers)
    return weight[word_ids], weight[number_ids]


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows of a matrix at length 1."""
    lengths = np.linalg.norm(matrix, axis=-1, keepdims=True)
    return matrix / lengths


def centered_cosine(lm: LanguageModel, words: Sequence[str], numbers: Sequence[str]) -> np.ndarray:
    """Cosine (word, number) of unembedding rows, less the mean row of these words and numbers."""
    word_rows, number_rows = unembedding_rows(lm, words, numbers)
    word_rows -= word_rows.mean(0)
    number_rows -= number_rows.mean(0)
    return unit_rows(word_rows) @ unit_rows(number_rows).T
