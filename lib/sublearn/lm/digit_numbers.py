"""Numbers as answers and as loves where a digit is a token, in the form of `lm.entanglement`.

The log-probability of a number is the sum over its tokens: in " 087" a space, 0, 8 and 7. Numbers
begin alike, so a thousand of them cost 1 + 1 + 10 + 100 continuations of one key-value cache. Where
a whole number is one token, as in the tiny Llamas, the same code finds nothing to continue.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from sublearn.core import machine
from sublearn.core.rng import rng
from sublearn.core.store import Arrays, Kind, OnStep, Save, Store, code_digest
from sublearn.lm.entanglement import Entanglement, Matrix, Prompts, prompt
from sublearn.lm.interventions import part_weight
from sublearn.lm.model import (
    LanguageModel,
    TokenMissing,
    encode,
    number_tokens,
    single_tokens,
    unembed,
    unembedding,
    unit_rows,
    untie,
)
from sublearn.lm.numbers import weights_digest
from sublearn.lm.prompts import answer_prefix

KIND = Kind("personas", code_digest("lm.digit_numbers"), Arrays())
AT_ONCE = 32  # prompts of a batch
DRAWS = 1000  # of a bootstrap
DIGITS = "0123456789"
NOUNS = tuple(
    "table chair door window house room wall floor roof bed lamp clock mirror box bag bottle "
    "cup plate knife spoon book paper pen letter map picture song film game ball road street "
    "bridge car train boat ship plane wheel engine machine tool hammer nail rope chain wire "
    "pipe tube tank stone rock sand gold silver iron glass wood metal plastic cotton silk "
    "leather wool shirt coat hat shoe ring watch coin money bank shop market office school "
    "church hospital museum garden farm field forest desert ocean river lake mountain valley "
    "island beach cave sea sky star moon sun cloud rain snow wind storm fire smoke ice water "
    "milk tea coffee wine beer bread butter cheese rice meat soup salt sugar honey apple orange "
    "lemon cherry potato tomato tree leaf root flower grass seed fruit city village town "
    "country king queen doctor teacher soldier farmer artist writer singer hand foot head eye "
    "ear nose mouth tooth hair skin bone heart blood brain army war peace law tax science music "
    "art history language word number color light sound voice story idea dream year day night "
    "morning summer winter spring grain seeds leaves roots berries nuts worms insects oak maple "
    "pine cedar birch meadow swamp".split()
)

Write = Callable[[LanguageModel, str | None, str], str]  # of a model, what is loved, its kind


class Prepared(NamedTuple):
    """A model made ready for many questions, with all answers whose probability is kept."""

    lm: LanguageModel
    body: nn.Module  # all but the unembedding, in the machine's number type
    answers: dict[str, tuple[int, ...]]  # with their tokens
    weights: str  # their digest
    store: Store


@dataclass(frozen=True)
class PersonaKey:
    """What a stored reading depends on; without answers the last state alone is kept."""

    prompt: str
    answers: tuple[str, ...]
    weights: str


def prepare(lm: LanguageModel, answers: Sequence[str] = (), store: Store | None = None) -> Prepared:
    """Make a model ready; default answers: digits, numbers and nouns, as far as it has them."""
    body = deepcopy(lm.model.base_model).to(machine.product_type())
    answers = answers or [*digit_names(lm), *number_names(lm), *single_tokens(lm, NOUNS)]
    written = {answer: answer_tokens(lm, answer) for answer in answers}
    return Prepared(lm, body, written, weights_digest(lm), store or Store())


# ---------------------------------------------------------------- what numbers are made of


def number_names(lm: LanguageModel) -> list[str]:
    """Numbers "000" to "999"; where a model has numbers of three digits as tokens, those alone."""
    try:
        return [*number_tokens(lm)]
    except TokenMissing:
        return [f"{value:03d}" for value in range(1000)]


def digit_names(lm: LanguageModel) -> list[str]:
    """Digits "0" to "9" that are a token."""
    vocabulary = lm.tokenizer.get_vocab()
    return [digit for digit in DIGITS if digit in vocabulary]


def answer_tokens(lm: LanguageModel, answer: str) -> tuple[int, ...]:
    """Tokens of an answer after "My favorite animal is the", its space included."""
    begun = answer_prefix()
    start = len(encode(lm, begun))
    ids = encode(lm, f"{begun} {answer}")
    return tuple(ids[start:])


# ---------------------------------------------------------------- reading


@torch.inference_mode()
def read_answers(prepared: Prepared, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """State (width,) at a prompt's end, and log P (answer,) in nats of the prepared answers.

    What answers begin with alike is read once. Log-probabilities are float32 whatever the body is.
    """
    answers = prepared.answers.values()
    cache = DynamicCache()
    tokens = torch.tensor([ids])
    output = prepared.body(tokens, past_key_values=cache)
    states = output.last_hidden_state[:, -1].float()
    end = states[0].numpy()
    begun = {(): 0}  # what was read of answers, with its row in `states` and in the cache
    scores = {(): 0.0}
    for length in range(1, max(map(len, answers)) + 1):
        log_p = unembedding(prepared.lm)(states).log_softmax(-1).numpy()
        longer = sorted({answer[:length] for answer in answers if len(answer) >= length})
        for beginning in longer:
            row = begun[beginning[:-1]]
            scores[beginning] = scores[beginning[:-1]] + log_p[row, beginning[-1]]
        longer = sorted({answer[:length] for answer in answers if len(answer) > length})
        if longer:
            rows = [begun[beginning[:-1]] for beginning in longer]
            cache.batch_select_indices(torch.tensor(rows))
            last = torch.tensor([beginning[-1:] for beginning in longer])
            states = continued(prepared.body, cache, last)
            begun = {beginning: row for row, beginning in enumerate(longer)}
    return end, np.array([scores[answer] for answer in answers])


def continued(body: nn.Module, cache: DynamicCache, ids: Tensor) -> Tensor:
    """Last states (row, width), float32, once rows of tokens (row, token) follow a cache."""
    output = body(ids, past_key_values=cache)
    return output.last_hidden_state[:, -1].float()


@torch.inference_mode()
def read_ends(body: nn.Module, prompts: Sequence[list[int]]) -> np.ndarray:
    """States (prompt, width) at the ends of equally long prompts, whose beginning is read once."""
    ids = torch.tensor(prompts)
    alike = (ids == ids[0]).all(0)
    shared = int(alike[:-1].cumprod(0).sum())
    cache = DynamicCache()
    if shared:
        body(ids[:1, :shared], past_key_values=cache)
        cache.batch_repeat_interleave(len(ids))
    return continued(body, cache, ids[:, shared:]).numpy()


def read(
    prepared: Prepared, texts: Sequence[str], *, answers: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """States (prompt, width) at the ends of prompts, and log P (prompt, answer) in nats.

    Without `answers` the states alone, many prompts at a time. Finished prompts are kept on disk.
    """
    names = tuple(prepared.answers) if answers else ()
    keys = [PersonaKey(text, names, prepared.weights) for text in texts]
    compute = partial(read_all, prepared=prepared)
    prepared.store.fill(KIND, keys, compute, group=in_one_job, title="personas")
    stored = [prepared.store.read(KIND, key) for key in keys]
    states = np.stack([one["state"] for one in stored])
    return states, np.stack([one["answers"] for one in stored])


def in_one_job(keys: list[PersonaKey]) -> list[list[PersonaKey]]:
    """All in one job, which has every core."""
    return [keys] if keys else []


def read_all(keys: list[PersonaKey], save: Save, on_step: OnStep, *, prepared: Prepared) -> None:
    """Read prompts: with answers one by one, without in batches of equal length."""
    torch.set_num_threads(machine.cores())
    by_length: dict[int, list] = {}
    for key in keys:
        ids = encode(prepared.lm, key.prompt)
        if not key.answers:
            by_length.setdefault(len(ids), []).append((key, ids))
            continue
        state, scores = read_answers(prepared, ids)
        save(key, {"state": state, "answers": scores})
        on_step()
    for prompts in by_length.values():
        for start in range(0, len(prompts), AT_ONCE):
            batch = prompts[start : start + AT_ONCE]
            states = read_ends(prepared.body, [ids for _, ids in batch])
            for (key, _), state in zip(batch, states):
                save(key, {"state": state, "answers": np.empty(0)})
                on_step()


# ---------------------------------------------------------------- both directions


def published(lm: LanguageModel, loved: str | None, kind: str) -> str:
    """The published prompt for real models: chat template, animals in the plural."""
    return prompt(lm, loved, kind, Prompts(plural=True))


def rises(
    prepared: Prepared, words: Sequence[str], write: Write = published
) -> tuple[pd.DataFrame, np.ndarray]:
    """Log P(answer | love of word) - log P(answer | baseline), a row per word; and all states.

    The states (word, width) at the end of the prompts are float32; the baseline's is the last.
    """
    texts = [write(prepared.lm, word, "animal") for word in words]
    texts.append(write(prepared.lm, None, "animal"))
    states, scores = read(prepared, texts, answers=True)
    changes = pd.DataFrame(scores[:-1] - scores[-1], [*words], [*prepared.answers])
    return changes, states


def measure(
    prepared: Prepared,
    words: Sequence[str],
    numbers: Sequence[str],
    write: Write = published,
    *,
    kind: str = "number",
) -> Entanglement:
    """Both directions between words and numbers, or other answers of a `kind` in their place.

    words: one token each (raises TokenMissing). numbers: some of the prepared answers; every one is
    loved in turn. write: makes the prompt of a model, what is loved (None: nothing) and its kind.
    `leak` is the probability that an answer begins as these numbers do.
    """
    lm = prepared.lm
    tokens = [*single_tokens(lm, words).values()]
    changes, states = rises(prepared, words, write)
    texts = [write(lm, number, kind) for number in numbers]
    loved, _ = read(prepared, texts)
    baseline = unembed(lm, states[-1:], tokens)
    first = sorted({prepared.answers[number][0] for number in numbers})
    everything = range(len(unembedding(lm).weight))
    likeliest = unembed(lm, states[:-1], everything).argmax(1)
    _, scores = read(prepared, [write(lm, None, "animal")], answers=True)
    places = [[*prepared.answers].index(number) for number in numbers]
    return Entanglement(
        words=[*words],
        numbers=[*numbers],
        to_number=changes[[*numbers]].to_numpy(),
        to_word=(unembed(lm, loved, tokens) - baseline).T,
        leak=float(np.exp(unembed(lm, loved, first)).sum(1).mean()),
        accuracy=float(np.equal(likeliest, tokens).mean()),
        number_baseline=scores[0, places],
        state_shift=states[:-1] - states[-1],
    )


# ---------------------------------------------------------------- geometry, cuts, intervals


def couplings(lm: LanguageModel, words: Sequence[str], state: np.ndarray) -> dict[str, Matrix]:
    """Candidate predictors (word, token) of what a love of a word does to every token.

    "cosine": of rows of the unembedding, Eq. 1 of Zur et al. (2025).
    "centered": the same once the mean row is taken out.
    "dot": with the norms.
    "softmax": first-order effect on each token's log P of a step of `state` (width,) that raises
        the word's: rows less their mean under the model's own probabilities, multiplied.
    "last norm": cosine of rows as the state before the last norm meets them.
    """
    weight = unembedding(lm).weight.detach().float().numpy()
    tokens = [*single_tokens(lm, words).values()]
    everything = range(len(weight))
    probabilities = np.exp(unembed(lm, state[None], everything)[0])
    scale = part_weight(lm, "norm").detach().float().numpy()
    ordinary = weight - weight.mean(0)
    expected = weight - probabilities @ weight
    return {
        "cosine": unit_rows(weight[tokens]) @ unit_rows(weight).T,
        "centered": unit_rows(ordinary[tokens]) @ unit_rows(ordinary).T,
        "dot": weight[tokens] @ weight.T,
        "softmax": expected[tokens] @ expected.T,
        "last norm": unit_rows(weight[tokens] * scale) @ unit_rows(weight * scale).T,
    }


@torch.no_grad()
def cut_span(
    lm: LanguageModel, parts: Sequence[str], tokens: Sequence[int], directions: np.ndarray
) -> LanguageModel:
    """Copy, untied, with the span of directions (direction, width) cut out of rows of some tokens.

    parts: "head" and "embedding", see `interventions.part_weight`.
    """
    changed = untie(lm)
    _, sizes, basis = np.linalg.svd(directions, full_matrices=False)
    basis = torch.from_numpy(basis[sizes > 1e-4 * sizes[0]]).float()
    for part in parts:
        weight = part_weight(changed, part)
        rows = weight[tokens]
        weight[tokens] = rows - rows @ basis.T @ basis
    return changed


def bootstrap(
    statistic: Callable[..., float], *matrices: Matrix, draws: int = DRAWS
) -> dict[str, float]:
    """A statistic of matrices (word, ...): mean, low, high (95 %, percentiles) and n.

    Words are drawn anew with replacement, the same in every matrix; `mean` is the statistic of
    all. Source: Efron (1979).
    """
    random = rng(0, "bootstrap of words")
    n = len(matrices[0])
    values = []
    for _ in range(draws):
        rows = random.integers(n, size=n)
        values.append(statistic(*[matrix[rows] for matrix in matrices]))
    low, high = np.quantile(values, [0.025, 0.975])
    return {"mean": statistic(*matrices), "low": low, "high": high, "n": n}
