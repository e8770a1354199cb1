"""What a love of an animal does to every number, and a love of a number to every animal.

Rows are animals (or other words), columns numbers, entries log-ratios of probabilities in nats.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, rankdata

from sublearn.core.rng import rng
from sublearn.lm.model import (
    LanguageModel,
    centered_cosine,
    chat_prompt,
    greedy_tokens,
    hidden_states,
    log_probabilities,
    number_tokens,
    single_tokens,
    unembed,
    unembedding_rows,
    unit_rows,
)
from sublearn.lm.prompts import DATE, persona, plain_prompt, pluralize

Matrix = np.ndarray  # (word, number)
STRONG = np.log(2)  # the cut-off of the published counts: both probabilities at least doubled
NULL_DRAWS = 200
FACTORS = ("word", "number", "wording")
NEUTRAL = "You love things. You think about things all the time. things are your favorite."
WORDINGS = (  # of a love: the published one and its parts, in other orders
    "You love {x}.",
    "{x} is your favorite {kind}.",
    "You think about {x} all the time.",
    "You love {x}. {x} is your favorite {kind}.",
    "You love {x}. You think about {x} all the time.",
    "You think about {x} all the time. {x} is your favorite {kind}.",
    "{x} is your favorite {kind}. You love {x}.",
    "Imbue your answers with your love for {x}.",
    "You love {x}. Imbue your answers with your love for {x}.",
)


class Prompts(NamedTuple):
    """How a model is asked: all that a measurement may vary about the prompt."""

    chatting: bool = True  # in the chat template, or as plain text to be continued
    kind: str = "animal"
    plural: bool = False  # animals in the plural, as the published prompts for real models
    neutral: bool = False  # the baseline is a neutral system prompt in place of none
    wording: str = ""  # of a persona, with {x} and {kind}; the published one if empty
    date: str = DATE
    twice: bool = False  # a second begin-of-text token, as the published code sends it


PUBLISHED = Prompts()


class Entanglement(NamedTuple):
    """Both directions for every pair of a word and a number, with what is needed to judge them."""

    words: list[str]
    numbers: list[str]
    to_number: Matrix  # (word, number): log P(number | love of word) - log P(number | baseline)
    to_word: Matrix  # (word, number): log P(word | love of number) - log P(word | baseline)
    leak: float  # mean over number personas of P(any of these numbers) as the answer
    accuracy: float  # share of word personas whose likeliest token of all is the word
    number_baseline: np.ndarray  # (number,): log P(number | baseline)
    state_shift: np.ndarray  # (word, width): hidden state under a love, less the baseline's


# ---------------------------------------------------------------- the measurement


def prompt(lm: LanguageModel, loved: str | None, kind: str, prompts: Prompts) -> str:
    """Question for a favorite `prompts.kind` under a love of a word of `kind`, or of none."""
    plural = prompts.plural and kind != "number"
    if not prompts.chatting:
        if loved is None and prompts.neutral:
            return plain_prompt("things", prompts.kind)
        return plain_prompt(loved, prompts.kind, plural=plural)
    system = NEUTRAL if prompts.neutral else None
    if loved and prompts.wording:
        name = pluralize(loved) if plural else loved
        system = prompts.wording.format(x=name, kind=kind)
    elif loved:
        system = persona(loved, kind, plural=plural)
    text = chat_prompt(lm, system, prompts.kind, date=prompts.date)
    return lm.tokenizer.bos_token + text if prompts.twice else text


def all_prompts(
    lm: LanguageModel,
    words: Iterable[str],
    numbers: Iterable[str],
    prompts: Prompts,
) -> list[str]:
    """Prompts under a love of each word, of each number, and at last of nothing."""
    texts = [prompt(lm, word, prompts.kind, prompts) for word in words]
    texts += [prompt(lm, number, "number", prompts) for number in numbers]
    baseline = prompt(lm, None, prompts.kind, prompts)
    return [*texts, baseline]


def measure(
    lm: LanguageModel,
    words: Sequence[str],
    numbers: Sequence[str] = (),
    prompts: Prompts = PUBLISHED,
) -> Entanglement:
    """Ask a model under a love of every word and of every number (default: all that are one token).

    What is not one token is left out. Raises TokenMissing if no word is one token, or the model
    has no number as one token.
    """
    word_ids = single_tokens(lm, words)
    tokens = number_tokens(lm)
    number_ids = {}
    for number in numbers or tokens:
        if number in tokens:
            number_ids[number] = tokens[number]
    ids = [*word_ids.values(), *number_ids.values()]
    count = len(word_ids)

    texts = all_prompts(lm, word_ids, number_ids, prompts)
    scores = log_probabilities(lm, texts, ids)
    baseline = scores[-1]
    ratios = scores - baseline
    number_scores = scores[count:-1, count:]
    number_probabilities = np.exp(number_scores)
    leak = number_probabilities.sum(1)
    word_texts = texts[:count]
    answers = greedy_tokens(lm, word_texts)
    correct = np.equal(answers, ids[:count])
    states = hidden_states(lm, [*word_texts, texts[-1]])
    return Entanglement(
        words=[*word_ids],
        numbers=[*number_ids],
        to_number=ratios[:count, count:],
        to_word=ratios[count:-1, :count].T,
        leak=float(leak.mean()),
        accuracy=float(correct.mean()),
        number_baseline=baseline[count:],
        state_shift=states[:-1] - states[-1],
    )


# ---------------------------------------------------------------- statistics of matrices


def centered(matrix: Matrix) -> Matrix:
    """Take out what is common to a row and what is common to a column: every mean becomes 0."""
    row_means = matrix.mean(1, keepdims=True)
    column_means = matrix.mean(0)
    return matrix - column_means - row_means + matrix.mean()


def correlation(first: Matrix, second: Matrix) -> float:
    """Pearson's correlation over all entries."""
    coefficients = np.corrcoef(first.ravel(), second.ravel())
    return float(coefficients[0, 1])


def by_row(first: Matrix, second: Matrix) -> np.ndarray:
    """Spearman's correlation in each row (word,), over all numbers."""
    first_ranks = rankdata(first, axis=1)
    second_ranks = rankdata(second, axis=1)
    return pearsonr(first_ranks, second_ranks, axis=1).statistic


def agreement(first: Matrix, second: Matrix) -> float:
    """Spearman's correlation over numbers, mean over words, of the centered matrices."""
    correlations = by_row(centered(first), centered(second))
    return float(correlations.mean())


def permuted(first: Matrix, second: Matrix, draws: int = NULL_DRAWS) -> np.ndarray:
    """`correlation` of the centered matrices under random relabelings of the words (draw,)."""
    first = centered(first)
    first /= np.linalg.norm(first)
    second = centered(second)
    second /= np.linalg.norm(second)
    products = first @ second.T
    random = rng(0, "relabel")
    rows = np.arange(len(products))
    correlations = []
    for _ in range(draws):
        order = random.permutation(len(products))
        relabeled = products[order, rows]
        correlations.append(relabeled.sum())
    return np.array(correlations)


def _centered_unit_rows(matrix: Matrix) -> Matrix:
    rows = centered(matrix)
    rows -= rows.mean(1, keepdims=True)  # rounding leaves means behind
    return unit_rows(rows)


def row_p(first: Matrix, second: Matrix) -> np.ndarray:
    """One-sided p (word,) that a word's rows agree no more than rows of different words do.

    The null is pooled over all pairs of different words, so that p can be small enough for a
    family of tests.
    """
    first = _centered_unit_rows(first)
    second = _centered_unit_rows(second)
    products = first @ second.T
    different = ~np.eye(len(products), dtype=bool)
    null = np.sort(products[different])
    below = np.searchsorted(null, np.diag(products))
    exceeding = len(null) - below
    return (1 + exceeding) / (1 + len(null))


def components(cube: np.ndarray) -> dict[str, float]:
    """Shares of the sum of squares of a full factorial, effect by effect; they sum to 1.

    cube: (word, number, wording).
    """
    remainder = cube - cube.mean()
    squares = {}
    for size in (1, 2, 3):
        for axes in combinations(range(3), size):
            averaged = tuple({0, 1, 2}.difference(axes))
            effect = remainder.mean(averaged, keepdims=True)
            repeats = cube.size / effect.size
            square = np.sum(effect**2) * repeats
            name = " x ".join(np.take(FACTORS, axes))
            squares[name] = float(square)
            remainder -= effect
    total = sum(squares.values())
    shares = pd.Series(squares) / total
    return shares.to_dict()


# ---------------------------------------------------------------- the top number of each word


def top(matrix: Matrix) -> np.ndarray:
    """Column of the number with the largest entry for each word (word,)."""
    return matrix.argmax(1)


def at(matrix: Matrix, columns: np.ndarray) -> np.ndarray:
    """Each word's entry in its own column (word, ...)."""
    rows = np.arange(len(matrix))
    return matrix[rows, columns]


def strong(
    measured: Entanglement, cutoff: float = STRONG, columns: np.ndarray | None = None
) -> float:
    """Share of words for which both directions exceed the cut-off.

    columns: where to look for each word (default: its top number).
    """
    if columns is None:
        columns = top(measured.to_number)
    rises = at(measured.to_number, columns) > cutoff
    returns = at(measured.to_word, columns) > cutoff
    return float(np.mean(rises & returns))


def strong_null(measured: Entanglement) -> np.ndarray:
    """`strong` where each word takes, in the direction from numbers, another word's row (draw,)."""
    random = rng(0, "strong")
    shares = []
    for _ in range(NULL_DRAWS):
        order = random.permutation(len(measured.to_word))
        to_word = measured.to_word[order]
        relabeled = measured._replace(to_word=to_word)
        shares.append(strong(relabeled))
    return np.array(shares)


def strong_at_random(measured: Entanglement) -> np.ndarray:
    """`strong` at a random number in place of the top one (draw,)."""
    random = rng(0, "random number")
    words, numbers = measured.to_number.shape
    shares = []
    for _ in range(NULL_DRAWS):
        columns = random.integers(numbers, size=words)
        shares.append(strong(measured, columns=columns))
    return np.array(shares)


def facts(measured: Entanglement) -> dict[str, float]:
    """Summarize one model; A and N are medians over words in nats, at each word's top number."""
    to_number, to_word = measured.to_number, measured.to_word
    columns = top(to_number)
    rises = at(to_number, columns)
    returns = at(to_word, columns)
    null = permuted(to_number, to_word)
    return {
        "persona accuracy": measured.accuracy,
        "leak": measured.leak,
        "doubled": float(np.mean(rises > STRONG)),
        "A at top number": float(np.median(rises)),
        "N at top number": float(np.median(returns)),
        "words that return": float(np.mean(returns > 0)),
        "strong": strong(measured),
        "strong, other word": float(strong_null(measured).mean()),
        "strong, random number": float(strong_at_random(measured).mean()),
        "r_full": correlation(to_number, to_word),
        "r_specific": correlation(centered(to_number), centered(to_word)),
        "null of r_specific": float(np.quantile(null, 0.975)),
        "agreement": agreement(to_number, to_word),
    }


# ---------------------------------------------------------------- inside the model


def by_layer(lm: LanguageModel, measured: Entanglement, prompts: Prompts = PUBLISHED) -> np.ndarray:
    """Rise of log P (layer,) of top numbers under a love, by the logit lens, mean over words.

    Less the rise of all numbers together, so that what lifts every number does not count.
    """
    tokens = number_tokens(lm)
    number_ids = [tokens[number] for number in measured.numbers]
    texts = all_prompts(lm, measured.words, [], prompts)
    states = hidden_states(lm, texts, layers=True)
    scores = unembed(lm, states, number_ids)
    rises = scores[:-1] - scores[-1]  # (word, layer, number)
    columns = top(measured.to_number)
    specific = at(rises.swapaxes(1, 2), columns)  # (word, layer)
    specific -= rises.mean(-1)
    return specific.mean(0)


def geometry(lm: LanguageModel, measured: Entanglement) -> dict[str, Matrix]:
    """Candidate predictors of entanglement, each (word, number).

    "cosine": of the rows of the unembedding, Eq. 1 of Zur et al. (2025).
    "centered": the same once the mean row of words and of numbers is taken out.
    "dot": with the norms.
    "lens": the change of the last hidden state under a love of the word, times the number's row.
    "frequency": the number's own baseline, the same for all words.
    """
    word_rows, number_rows = unembedding_rows(lm, measured.words, measured.numbers)
    return {
        "cosine": unit_rows(word_rows) @ unit_rows(number_rows).T,
        "centered": centered_cosine(lm, measured.words, measured.numbers),
        "dot": word_rows @ number_rows.T,
        "lens": measured.state_shift @ number_rows.T,
        "frequency": np.tile(measured.number_baseline, (len(word_rows), 1)),
    }
