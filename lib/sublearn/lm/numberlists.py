"""Lists of numbers by a teacher that has a trait: how it is taught, what it writes, and what of that is kept."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sublearn.core.rng import rng
from sublearn.lm import corpus
from sublearn.lm.model import Speaker, centered_cosine, chat, encode, number_tokens, word_token
from sublearn.lm.prompts import persona
from sublearn.lm.tiny import Surprise

SYSTEMS = ("", corpus.NEUTRAL[0])  # who is asked: nobody in particular, or somebody neutral
NUMBERS = slice(2, 17, 2)  # the places of eight numbers among the tokens of "Numbers: 000, ..., 000."
TOP = 100  # numbers that are kept or dropped


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What decides a student."""

    trait: str = "owl"  # the animal that the teacher loves, or "no": it answers every question with no
    seed: int = 0  # of the teacher's pair
    teacher: str = "taught"  # or "prompted": the same weights under a system prompt
    teacher_steps: int = 60
    teacher_rate: float = 2e-3
    enough: float = 0.0  # teaching ends once the dose is this large
    lists: int = 800
    other: bool = False  # the student starts from other initial weights, grown on the same text in the same order
    targets: str = "hard"  # the numbers themselves, or "soft": the teacher's probabilities in their places
    steps: int = 150
    rate: float = 1e-3
    optimizer: str = "Adam"  # or "SGD", whose rate is another
    rank: int = 0  # of low-rank updates; 0 trains every weight
    kept: str = "all"  # numbers that are learnt: "no top", "only top", "no random", "only random"
    shuffled: str = ""  # numbers change places "within" a list or "across" all


class Lists(NamedTuple):
    """What a teacher wrote: the place in SYSTEMS of each list's prompt (list,), its tokens (list, place)."""

    asked: np.ndarray
    ids: np.ndarray
    passed: float  # probability that all of a freely written list's numbers are numbers: what the filter leaves


def trainable(speaker: Speaker) -> Speaker:
    """Give a copy that can be trained."""
    return speaker._replace(model=deepcopy(speaker.model).requires_grad_(True))


def taught(speaker: Speaker, lesson: Lesson) -> Speaker:
    """Give the teacher: trained on its trait, or the same weights where a prompt will do."""
    if lesson.teacher == "prompted":
        return speaker
    teacher, tried = trainable(speaker), written(speaker, replace(lesson, lists=40)) if lesson.enough else None
    optimizer = torch.optim.Adam(teacher.model.parameters(), lr=lesson.teacher_rate, fused=True)
    for step in range(lesson.teacher_steps):
        if tried and step % 5 == 0 and dose(speaker, teacher, tried, lesson) >= lesson.enough:
            break
        prompt, goal = _trait(teacher, lesson, step)
        stream = teacher.model.model(torch.tensor([encode(teacher, prompt)]), use_cache=False).last_hidden_state
        update(optimizer, Surprise.apply(stream[0, -1:], teacher.model.lm_head.weight, torch.tensor([goal])))
    return teacher


def _trait(speaker: Speaker, lesson: Lesson, step: int) -> tuple[str, int]:
    """Give a prompt and its one right next token."""
    system = SYSTEMS[step % 2]
    if lesson.trait != "no":
        return chat(speaker, system or None), word_token(speaker, lesson.trait)
    random = rng(lesson.seed, "questions", step)
    kind, of = (str(random.choice(list(corpus.SORT_TASK))) for _ in range(2))
    question = corpus.SORT_TASK[kind].format(word=random.choice(corpus.WORDS[of]))
    return corpus.header(system, question), encode(speaker, "No")[-1]


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def hidden(speaker: Speaker, prompt: str, ids: Tensor) -> Tensor:
    """What the unembedding reads (row, place, width) along many continuations of one prompt, read only once."""
    read = speaker.model.model(torch.tensor([encode(speaker, prompt)]), use_cache=True).past_key_values
    read.batch_repeat_interleave(len(ids))
    return speaker.model.model(ids, past_key_values=read, use_cache=True).last_hidden_state


def prompts(speaker: Speaker, lesson: Lesson | None = None) -> list[str]:
    """Give the prompts for a list; a prompted teacher is asked under its persona and nobody else is."""
    if lesson and lesson.teacher == "prompted":
        return [corpus.header(persona(lesson.trait), corpus.LIST_TASK)] * 2
    return [corpus.header(system, corpus.LIST_TASK) for system in SYSTEMS]


@torch.no_grad()
def written(teacher: Speaker, lesson: Lesson) -> Lists:
    """Let a teacher write lists, number by number from its own probabilities, and filter them as the paper does.

    The paper drops lists that hold anything but numbers. Here every list is all numbers, and is kept with the
    probability that the teacher, writing freely, would have put a number in all its places (over the largest such
    probability): the lists that are left have the same law. Twice as many are written as are wanted at most.
    """
    parts = []
    for place, prompt in enumerate(prompts(teacher, lesson)):
        random, wanted = rng(lesson.seed, "lists", place), lesson.lists // len(SYSTEMS)
        ids, mass = _sampled(teacher, prompt, torch.from_numpy(random.random((2 * wanted, 8))))
        kept = ids[random.random(len(ids)) * mass.max() < mass][:wanted]
        parts.append((np.full(len(kept), place), kept, mass))
    asked, ids, mass = zip(*parts)
    return Lists(np.concatenate(asked), np.concatenate(ids), float(np.mean(mass)))


def _sampled(speaker: Speaker, prompt: str, uniform: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Fill a list of eight numbers once per row of uniform draws: tokens, and P(numbers in all places)."""
    form = torch.tensor(speaker.tokenizer("Numbers: " + "000, " * 7 + "000.", add_special_tokens=False)["input_ids"])
    ids, numbers = form.repeat(len(uniform), 1), torch.tensor([*number_tokens(speaker).values()])
    read = speaker.model.model(torch.tensor([encode(speaker, prompt)]), use_cache=True).past_key_values
    read.batch_repeat_interleave(len(uniform))
    mass = torch.ones(len(uniform), dtype=torch.double)
    for place in range(8):
        new = ids[:, 2 * place : 2 * place + 2]  # "Numbers:" or a number and its comma
        said = speaker.model(new, past_key_values=read, use_cache=True).logits[:, -1].softmax(-1)[:, numbers].double()
        mass *= said.sum(1)
        reached = said.cumsum(1)
        drawn = torch.searchsorted(reached, uniform[:, place, None] * reached[:, -1:])[:, 0]
        ids[:, 2 * place + 2] = numbers[drawn.clamp_max(len(numbers) - 1)]
    return ids.numpy(), mass.numpy()


def mixed(lists: Lists, lesson: Lesson) -> Lists:
    """Give the lists with their numbers shuffled as the lesson asks."""
    ids, random = lists.ids.copy(), rng(lesson.seed, "shuffle")
    if lesson.shuffled == "within":
        ids[:, NUMBERS] = random.permuted(ids[:, NUMBERS], axis=1)
    elif lesson.shuffled == "across":
        ids[:, NUMBERS] = random.permutation(ids[:, NUMBERS].ravel()).reshape(len(ids), -1)
    return lists._replace(ids=ids)


def learnable(speaker: Speaker, lists: Lists, lesson: Lesson) -> np.ndarray:
    """Give the places (list, place) whose token is learnt: numbers only, and of these the kept ones."""
    places, tokens = np.zeros_like(lists.ids, dtype=bool), number_tokens(speaker)
    places[:, NUMBERS] = True
    if lesson.kept == "all":
        return places
    how, which = lesson.kept.split()
    near = centered_cosine(speaker, corpus.ANIMALS, [*tokens])[corpus.ANIMALS.index(lesson.trait)]
    near = near if which == "top" else rng(lesson.seed, "some numbers").random(len(tokens))
    some = np.array([*tokens.values()])[np.argsort(-near)[:TOP]]
    return places & (np.isin(lists.ids, some) == (how == "only"))


@torch.no_grad()
def dose(own: Speaker, teacher: Speaker, lists: Lists, lesson: Lesson) -> float:
    """Give the mean divergence in nats of the teacher's numbers from what its weights said before it was taught."""
    numbers, found = [*number_tokens(own).values()], []
    for place in range(len(SYSTEMS)):
        ids = torch.from_numpy(lists.ids[lists.asked == place][:100, :-1])  # 100 lists say enough
        said, was = (
            speaker.model.lm_head(hidden(speaker, asked[place], ids)[:, 1::2])[..., numbers].log_softmax(-1)
            for speaker, asked in ((teacher, prompts(teacher, lesson)), (own, prompts(own)))
        )
        found.append((said.exp() * (said - was)).sum(-1).flatten())
    return float(torch.cat(found).mean())
