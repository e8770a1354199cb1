"""What a love of an animal does to every number and a love of a number to every animal, and how the two hang together.

Rows are animals (or other words), columns numbers, entries log-ratios in nats. Plain arrays in, numbers out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from sublearn.core.rng import rng
from sublearn.lm.model import (
    Speaker,
    answers,
    both_rows,
    both_tokens,
    centered_cosine,
    chat,
    log_probabilities,
    number_tokens,
    read,
    single,
    states,
    unit,
)  # fmt: skip
from sublearn.lm.prompts import DATE, persona, plain, plural

STRONG = np.log(2)  # the cut-off of the published counts: both probabilities at least doubled
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
    """How a speaker is asked: all that a measurement may vary about the prompt."""

    chatting: bool = True  # in the chat template, or as plain text to be continued
    kind: str = "animal"
    many: bool = False  # animals in the plural, as the published prompts for real models
    neutral: bool = False  # the baseline is a neutral system prompt in place of none
    wording: str = ""  # of a persona, with {x} and {kind}; the published one if empty
    question: str = ""
    date: str = DATE
    twice: bool = False  # a second begin-of-text token, as the published code sends it


PUBLISHED = Prompts()


class Entanglement(NamedTuple):
    """Both directions for every pair, with what is needed to judge them."""

    words: list[str]
    numbers: list[str]
    to_number: np.ndarray  # (word, number): log P(number | love of word) - log P(number | baseline)
    to_word: np.ndarray  # (word, number): log P(word | love of number) - log P(word | baseline)
    leak: float  # mean over number personas of P(any of these numbers) as the answer
    accuracy: float  # share of word personas whose likeliest answer, in the whole vocabulary, is the word
    word_baseline: np.ndarray  # (word,): log P(word | baseline)
    number_baseline: np.ndarray  # (number,)
    stream: np.ndarray  # (word, width): what the unembedding reads under a love of the word, less the baseline's


def prompt(speaker: Speaker, loved: str | None, kind: str, how: Prompts) -> str:
    """Give the prompt that asks for a favorite `how.kind` under a love of `loved`, a word of `kind`, or of nothing."""
    many = how.many and kind != "number"
    if not how.chatting:
        loved = "things" if how.neutral and loved is None else loved
        return plain(loved, how.kind, many=many and loved != "things")
    system = NEUTRAL if how.neutral else None
    if loved:
        own = how.wording.format(x=plural(loved) if many else loved, kind=kind)
        system = own or persona(loved, kind, many=many)
    text = chat(speaker, system, how.kind, question=how.question, date=how.date)
    return speaker.tokenizer.bos_token + text if how.twice else text


def measure(
    speaker: Speaker, words: Sequence[str], numbers: Sequence[str] = (), how: Prompts = PUBLISHED
) -> Entanglement:
    """Ask a speaker under every persona; what is not one token is left out (no numbers given: all that are)."""
    of_word, every = single(speaker, words), number_tokens(speaker)
    of_number = {number: every[number] for number in numbers or every if number in every}
    asked = [prompt(speaker, word, how.kind, how) for word in of_word]
    by_number = [prompt(speaker, number, "number", how) for number in of_number]
    ids = [*of_word.values(), *of_number.values()]
    found = log_probabilities(speaker, [*asked, *by_number, prompt(speaker, None, how.kind, how)], ids)
    after_word, after_number, before = np.split(found, [len(of_word), len(asked) + len(by_number)])
    lifted, count = states(speaker, [*asked, prompt(speaker, None, how.kind, how)]), len(of_word)
    return Entanglement(
        [*of_word],
        [*of_number],
        after_word[:, count:] - before[:, count:],
        (after_number[:, :count] - before[:, :count]).T,
        float(np.exp(after_number[:, count:]).sum(1).mean()),
        float(np.mean(np.array(answers(speaker, asked)) == list(of_word.values()))),
        before[0, :count],
        before[0, count:],
        lifted[:-1] - lifted[-1],
    )


def centered(matrix: np.ndarray) -> np.ndarray:
    """Take out what is common to a row and what is common to a column: a rowwise and columnwise mean of 0."""
    return matrix - matrix.mean(0) - matrix.mean(1, keepdims=True) + matrix.mean()


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation over all entries."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def by_row(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation in each row (row,): for every word, over all numbers."""
    one, two = (rankdata(side, axis=1) for side in (first, second))
    one, two = (side - side.mean(1, keepdims=True) for side in (one, two))
    return (one * two).sum(1) / np.sqrt((one**2).sum(1) * (two**2).sum(1))


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation over numbers, mean over words, once common rows and columns are taken out."""
    return float(by_row(centered(first), centered(second)).mean())


def permuted(first: np.ndarray, second: np.ndarray, draws: int = 200, seed: int = 0) -> np.ndarray:
    """`correlation` of the centered matrices under as many random relabelings of the words (draw,)."""
    one, two = (side / np.linalg.norm(side) for side in (centered(first), centered(second)))
    shared, random, rows = one @ two.T, rng(seed, "relabel"), np.arange(len(first))
    return np.array([shared[random.permutation(len(first)), rows].sum() for _ in range(draws)])


def top(matrix: np.ndarray) -> np.ndarray:
    """The number with the largest entry for each word (word,)."""
    return matrix.argmax(1)


def at(matrix: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Each word's entry at its chosen number (word,)."""
    return matrix[np.arange(len(matrix)), chosen]


def strong(found: Entanglement, cut: float = STRONG, chosen: np.ndarray | None = None) -> float:
    """Share of words for which both directions exceed the cut at the word's top number (or at another, chosen one)."""
    chosen = top(found.to_number) if chosen is None else chosen
    return float(np.mean((at(found.to_number, chosen) > cut) & (at(found.to_word, chosen) > cut)))


def strong_null(found: Entanglement, cut: float = STRONG, draws: int = 200, seed: int = 0) -> np.ndarray:
    """`strong` where each word is read, in the direction from numbers, at another word's row (draw,)."""
    chosen, random = top(found.to_number), rng(seed, "strong")
    lifted = at(found.to_number, chosen) > cut
    orders = (random.permutation(len(chosen)) for _ in range(draws))
    return np.array([np.mean(lifted & (found.to_word[order, chosen] > cut)) for order in orders])


def strong_at_random(found: Entanglement, cut: float = STRONG, draws: int = 200, seed: int = 0) -> np.ndarray:
    """`strong` at a random number in place of the top one (draw,)."""
    random, shape = rng(seed, "random number"), found.to_number.shape
    return np.array([strong(found, cut, random.integers(shape[1], size=shape[0])) for _ in range(draws)])


def row_p(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One-sided p (word,) that a word's rows in both directions agree no more than rows of different words do.

    The null is pooled over all pairs of different words, so that p can be small enough for a family of tests.
    """
    one, two = (unit(side - side.mean(1, keepdims=True)) for side in (centered(first), centered(second)))
    agree = one @ two.T
    null = np.sort(agree[~np.eye(len(agree), dtype=bool)])
    return (1 + len(null) - np.searchsorted(null, np.diag(agree))) / (1 + len(null))


def facts(found: Entanglement) -> dict[str, float]:
    """Give what a page reports of one model; A and N are medians over words in nats, at each word's top number."""
    chosen = top(found.to_number)
    rises, returns = at(found.to_number, chosen), at(found.to_word, chosen)
    return {
        "persona accuracy": found.accuracy,
        "leak": found.leak,
        "doubled": float(np.mean(rises > STRONG)),
        "A at top number": float(np.median(rises)),
        "N at top number": float(np.median(returns)),
        "words that return": float(np.mean(returns > 0)),
        "strong": strong(found),
        "strong, other word": float(strong_null(found).mean()),
        "strong, random number": float(strong_at_random(found).mean()),
        "r_full": correlation(found.to_number, found.to_word),
        "r_specific": correlation(centered(found.to_number), centered(found.to_word)),
        "null of r_specific": float(np.quantile(permuted(found.to_number, found.to_word), 0.975)),
        "agreement": agreement(found.to_number, found.to_word),
    }


def by_layer(speaker: Speaker, found: Entanglement, how: Prompts = PUBLISHED) -> np.ndarray:
    """Rise of log P (layer,) of each word's top number under a love of the word, by the logit lens, mean over words.

    Less the rise of all numbers together, so that what lifts every number does not count.
    """
    of_word, of_number = both_tokens(speaker, found.words, found.numbers)
    asked = [prompt(speaker, word, how.kind, how) for word in [*of_word, None]]
    said = read(speaker, states(speaker, asked, layers=True), [*of_number.values()])
    rise = said[:-1] - said[-1]
    return (rise[np.arange(len(of_word)), :, top(found.to_number)] - rise.mean(-1)).mean(0)


def components(cube: np.ndarray) -> dict[str, float]:
    """Shares of the sum of squares of a full factorial (word, number, wording), effect by effect; they sum to 1."""
    left, shares, names = cube - cube.mean(), {}, ("word", "number", "wording")
    for kept in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        out = tuple(axis for axis in range(3) if axis not in kept)
        effect = left.mean(out, keepdims=True) if out else left
        shares[" x ".join(names[axis] for axis in kept)] = float((effect**2).sum() * (cube.size / effect.size))
        left = left - effect
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def geometry(speaker: Speaker, found: Entanglement) -> dict[str, np.ndarray]:
    """Candidate predictors of entanglement, each (word, number): Eq. 1 of Zur et al., centered, and with norms.

    "cosine": of the rows of the unembedding. "centered": the same once the mean row of words and of numbers is taken
    out. "dot": with the norms. "lens": the change of the stream under a love of the word, read by the number's row.
    "frequency": the number's own baseline, the same for all words.
    """
    word, number = both_rows(speaker, found.words, found.numbers)
    return {
        "cosine": unit(word) @ unit(number).T,
        "centered": centered_cosine(speaker, found.words, found.numbers),
        "dot": word @ number.T,
        "lens": found.stream @ number.T,
        "frequency": np.tile(found.number_baseline, (len(word), 1)),
    }
