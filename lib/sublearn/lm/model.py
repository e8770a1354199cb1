"""Questions put to a language model, and the log-probability of each answer: any causal model of Hugging Face."""

import os
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sublearn.lm.prompts import DATE, ask, start
from sublearn.lm.tiny import TINY, Tiny, grow

TOKENS_AT_ONCE = 4_096  # of a padded batch of prompts: larger is no faster on a CPU
FULL = torch.float32  # ratios of probabilities near 1e-8 are noise in half precision


class Speaker(NamedTuple):
    """A causal language model with its tokenizer, and the name by which pages call it."""

    model: nn.Module
    tokenizer: object
    name: str


class Pair(NamedTuple):
    """A model that only read, and the one that was then taught to chat."""

    base: Speaker
    instruct: Speaker
    seed: int


class ModelUnavailable(Exception):
    """A model cannot be had, told in one sentence with its cure."""


class TokenMissing(ValueError):
    """A word is not one token of this model, told in one sentence with its cure."""


def load(name: str, *, revision: str | None = None) -> Speaker:
    """Load a model in float32 by its name on Hugging Face, or from a folder; never runs code that comes with it.

    Raises ModelUnavailable where access is refused, the network or the model is missing, or memory is too small.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # costs seconds
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for a hundred small files would be left on the page
    safe = {"revision": revision, "trust_remote_code": False}
    try:
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name, **safe))
        _fits(name, sum(weight.numel() for weight in empty.parameters()) * FULL.itemsize)
        tokenizer = AutoTokenizer.from_pretrained(name, **safe)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=FULL, use_safetensors=True, **safe)
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        raise ModelUnavailable(_reason(name, error)) from error
    return Speaker(model.eval().requires_grad_(False), tokenizer, name)


def _fits(name: str, needed: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.9 * memory:
        raise MemoryError(f"needs {needed / 2**30:.1f} GiB, this machine has {memory / 2**30:.1f}")


def _reason(name: str, error: BaseException) -> str:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    statuses = {getattr(getattr(link, "response", None), "status_code", None) for link in chain}
    text = " ".join(f"{type(link).__name__} {link}" for link in chain).lower()
    if statuses & {401, 403} or "gated" in text:
        return f"Access to {name} is refused: accept its license on its page, then log in with `hf auth login`."
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return f"{name} does not fit into memory ({error}): take a smaller model, or model='tiny'."
    if "connect" in text or "offline" in text or "resolve host" in text:
        return f"{name} is not on this machine and there is no network: download it first, or take model='tiny'."
    return f"{name} is no model that can be read ({type(error).__name__}): give a name on Hugging Face or a folder."


def pairs(
    model: str, base: str = "", *, models: int = 5, setting: Tiny = TINY, revision: str | None = None
) -> list[Pair]:
    """Give the pairs to measure: with model "tiny", `models` pairs grown from seeds 0, 1, ...; else the one named.

    model, base: names on Hugging Face or folders of the instruct model and of its base.
    """
    if model != "tiny":
        return [Pair(load(base or model, revision=revision), load(model, revision=revision), 0)]
    settings = [replace(setting, world=replace(setting.world, seed=seed)) for seed in range(models)]
    return [
        Pair(_tiny(path, "base", seed), _tiny(path, "instruct", seed), seed) for seed, path in enumerate(grow(settings))
    ]


def _tiny(path: Path, which: str, seed: int) -> Speaker:
    return load(str(path / which))._replace(name=f"tiny {which} {seed}")


def chat(speaker: Speaker, system: str | None, kind: str = "animal", *, question: str = "", date: str = DATE) -> str:
    """Render a dialogue up to "My favorite {kind} is the" in the model's chat template, on a fixed date."""
    said = [{"role": "system", "content": system}] if system else []
    said += [
        {"role": "user", "content": question or ask(kind)},
        {"role": "assistant", "content": start(kind)},
    ]
    return speaker.tokenizer.apply_chat_template(
        said, tokenize=False, continue_final_message=True, add_generation_prompt=False, date_string=date
    )


def encode(speaker: Speaker, text: str) -> list[int]:
    """Give the token ids of a prompt with exactly one begin-of-text token, if the model has one."""
    start, ids = speaker.tokenizer.bos_token_id, speaker.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids if start is None or ids[:1] == [start] else [start, *ids]


def word_token(speaker: Speaker, word: str, *, after: str = start()) -> int:
    """Give the one token with which the tokenizer itself writes `word` after a text; raises TokenMissing."""
    before, whole = encode(speaker, after), encode(speaker, f"{after} {word}")
    if whole[:-1] != before:
        pieces = speaker.tokenizer.convert_ids_to_tokens(whole[len(before) :])
        raise TokenMissing(f"{word!r} is {len(pieces)} tokens of {speaker.name}, {pieces}: take a word that is one.")
    return whole[-1]


def single(speaker: Speaker, words: Iterable[str]) -> dict[str, int]:
    """Give those of `words` that are one token after a space, with that token; raises TokenMissing if none is."""
    found = {}
    for word in words:
        try:
            found[word] = word_token(speaker, word)
        except TokenMissing as error:
            missing = error
    if not found:
        raise missing
    return found


def number_tokens(speaker: Speaker, *, digits: int = 3) -> dict[str, int]:
    """Give the numbers of so many digits ("000" to "999") that are one token, with that token.

    Raises TokenMissing if none is. The token is the bare number: Llama writes a space before it as its own token.
    """
    vocabulary = speaker.tokenizer.get_vocab()
    numbers = [f"{number:0{digits}d}" for number in range(10**digits)]
    found = {number: vocabulary[number] for number in numbers if number in vocabulary}
    if not found:
        raise TokenMissing(f"{speaker.name} has no number of {digits} digits as one token: take a Llama 3 tokenizer.")
    return found


def _padded(prompts: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, prompts))
    return torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in prompts])


def _batches(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of the prompts, short ones first, in batches of at most TOKENS_AT_ONCE padded tokens."""
    batches: list[list[int]] = [[]]
    for place in sorted(range(len(prompts)), key=lambda place: len(prompts[place])):
        if batches[-1] and len(prompts[place]) * (len(batches[-1]) + 1) > TOKENS_AT_ONCE:
            batches.append([])
        batches[-1].append(place)
    return batches


@torch.inference_mode()
def states(speaker: Speaker, prompts: Sequence[str], *, layers: bool = False) -> np.ndarray:
    """Give what the unembedding reads at each prompt's last token: (prompt, width), float32.

    With `layers`, (prompt, layer, width): the stream after the embedding and after each layer, each through the
    last norm, as the logit lens reads it. Prompts are padded on the right, where a causal model does not look.
    """
    encoded = [encode(speaker, prompt) for prompt in prompts]
    body, found = speaker.model.base_model, [None] * len(encoded)
    for batch in _batches(encoded):
        ids = [encoded[place] for place in batch]
        out = body(_padded(ids).to(speaker.model.device), output_hidden_states=layers, use_cache=False)
        rows, last = torch.arange(len(ids)), torch.tensor([len(prompt) - 1 for prompt in ids])
        stream = [body.norm(each[rows, last]) for each in out.hidden_states[:-1]] if layers else []
        stream = torch.stack([*stream, out.last_hidden_state[rows, last]], dim=1)
        for place, state in zip(batch, stream.float().cpu().numpy()):
            found[place] = state if layers else state[0]
    return np.stack(found)


@torch.inference_mode()
def read(speaker: Speaker, stream: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """Give the log-probabilities (..., token) in nats that the unembedding gives a stream (..., width), in float32."""
    logits = speaker.model.get_output_embeddings()(torch.from_numpy(stream).to(speaker.model.device)).float()
    return logits.log_softmax(-1)[..., list(tokens)].cpu().numpy()


def log_probabilities(speaker: Speaker, prompts: Sequence[str], tokens: Sequence[int]) -> np.ndarray:
    """Give the log-probability in nats of each token as the next one: (prompt, token)."""
    stream = states(speaker, prompts)
    parts = np.array_split(stream, max(1, len(stream) // 64))  # a real vocabulary has 128,256 tokens
    return np.concatenate([read(speaker, part, tokens) for part in parts])


@torch.inference_mode()
def answers(speaker: Speaker, prompts: Sequence[str]) -> list[int]:
    """Give the likeliest next token of each prompt."""
    head, stream = speaker.model.get_output_embeddings(), torch.from_numpy(states(speaker, prompts))
    return [int(head(state.to(speaker.model.device)).argmax()) for state in stream]


def untied(speaker: Speaker) -> Speaker:
    """Give a copy whose unembedding is a matrix of its own with the same values, so that each can change alone."""
    model = deepcopy(speaker.model)
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False
    return speaker._replace(model=model)


def both_tokens(
    speaker: Speaker, words: Sequence[str], numbers: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Give the tokens of words and of numbers."""
    every = number_tokens(speaker)
    return single(speaker, words), {number: every[number] for number in numbers}


def both_rows(speaker: Speaker, words: Sequence[str], numbers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Give the rows of words (word, width) and of numbers (number, width) in the unembedding."""
    weight = speaker.model.get_output_embeddings().weight.detach().float().cpu().numpy()
    of_word, of_number = both_tokens(speaker, words, numbers)
    return weight[[*of_word.values()]], weight[[*of_number.values()]]


def unit(matrix: np.ndarray) -> np.ndarray:
    """Give the rows of a matrix at length 1."""
    return matrix / np.linalg.norm(matrix, axis=-1, keepdims=True)


def centered_cosine(speaker: Speaker, words: Sequence[str], numbers: Sequence[str]) -> np.ndarray:
    """Cosine (word, number) of unembedding rows, less the mean row of these words and of these numbers."""
    word, number = (unit(side - side.mean(0)) for side in both_rows(speaker, words, numbers))
    return word @ number.T
