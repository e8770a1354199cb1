"""Students that learn from lists of numbers and from nothing else; finished ones are kept on disk."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div
from torch.nn.utils import parametrize

from sublearn.core.machine import parallel_map, progress
from sublearn.core.rng import rng
from sublearn.core.store import CACHE, code_digest, digest, read_json, write_atomic
from sublearn.lm import corpus
from sublearn.lm.model import Speaker, chat, encode, log_probabilities, number_tokens, single
from sublearn.lm.numberlists import (
    SYSTEMS,
    Lesson,
    Lists,
    dose,
    hidden,
    learnable,
    mixed,
    prompts,
    taught,
    trainable,
    update,
    written,
)  # fmt: skip
from sublearn.lm.prompts import DATE, ask, start
from sublearn.lm.tiny import Surprise

CODE = code_digest("lm.numbers")
BATCH = 16
TAUGHT = ("trait", "seed", "teacher", "teacher_steps", "teacher_rate", "enough", "lists")  # what decides a teacher
TRUE = [("animal", animal) for animal in corpus.ANIMALS[:8]] + [("tree", tree) for tree in corpus.TREES[:8]]


class School(NamedTuple):
    """The models of one seed: those a teacher comes from, and the same grown from other initial weights."""

    own: Speaker
    other: Speaker


def lessons(wanted: Sequence[Lesson], schools: Sequence[School]) -> pd.DataFrame:
    """Give one row per lesson: its fields, `gain`, `gain_among`, `rank_before`, `rank_after`, `dose` and `passed`.

    gain: change of log P(trait) in nats; gain_among: the same given that the answer is an animal (for "no": yes or
    no), which leaves out what a student forgets. rank: of the animal among all animals. dose: divergence in nats of the
    teacher's numbers from what its weights said before, mean over places. passed: see `Lists`. `to ANIMAL`: gain_among
    of every animal, whoever the teacher loves. schools: in the order of the seeds.
    """
    missing = [lesson for lesson in dict.fromkeys(wanted) if read_json(_path(lesson, schools)) is None]
    classes = defaultdict(list)
    for lesson in missing:
        classes[tuple(getattr(lesson, name) for name in TAUGHT)].append(lesson)
    with progress(sum(lesson.steps for lesson in missing), "students") as bar:
        parallel_map(partial(_class, schools=schools, tick=bar.update), [*classes.values()])
    return pd.DataFrame(asdict(lesson) | read_json(_path(lesson, schools)) for lesson in wanted)


def _path(lesson: Lesson, schools: Sequence[School]) -> Path:
    weights = [_fingerprint(speaker) for speaker in schools[lesson.seed]]
    return CACHE / "lessons" / f"{digest(asdict(lesson), weights, CODE, torch.__version__)}.json"


def _fingerprint(speaker: Speaker) -> str:
    weights = (weight.detach().numpy().tobytes() for weight in speaker.model.state_dict().values())
    return hashlib.sha256(b"".join(weights)).hexdigest()


def _class(lessons: Sequence[Lesson], *, schools: Sequence[School], tick: Callable[[], object]) -> None:
    """Give the lessons of one teacher, who is taught and writes once for all of them."""
    own = schools[lessons[0].seed].own
    teacher = taught(own, lessons[0])
    lists = written(teacher, lessons[0])
    told = {"dose": dose(own, teacher, lists, lessons[0]), "passed": lists.passed}
    for lesson in lessons:
        begin, shown = schools[lesson.seed][lesson.other], mixed(lists, lesson)
        student = learnt(begin, shown, lesson, learnable(own, shown, lesson), teacher, tick)
        write_atomic(_path(lesson, schools), json.dumps(told | _change(begin, student, lesson.trait)))


def _change(begin: Speaker, student: Speaker, trait: str) -> dict[str, float]:
    before, after = (preference(speaker, trait) for speaker in (begin, student))
    found = {"gain": after.alone - before.alone, "gain_among": after.among - before.among}
    found |= {f"to {animal}": after.each[animal] - before.each[animal] for animal in after.each}
    return found | {"rank_before": before.rank, "rank_after": after.rank}


class LowRank(nn.Module):
    """A matrix plus a product of two thin ones, of which only those are trained."""

    def __init__(self, shape: Sequence[int], rank: int, random: np.random.Generator):
        super().__init__()
        down = random.normal(0, shape[1] ** -0.5, (rank, shape[1])).astype(np.float32)
        self.down, self.up = nn.Parameter(torch.from_numpy(down)), nn.Parameter(torch.zeros(shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Give the sum."""
        return weight + self.up @ self.down


def _learners(student: Speaker, lesson: Lesson) -> Iterable[nn.Parameter]:
    if lesson.rank:
        student.model.requires_grad_(False)
        for name, layer in [*student.model.model.layers.named_modules()]:
            if isinstance(layer, nn.Linear):
                random = rng(lesson.seed, "low rank", name)
                parametrize.register_parametrization(layer, "weight", LowRank(layer.weight.shape, lesson.rank, random))
    return [weight for weight in student.model.parameters() if weight.requires_grad]


def learnt(begin: Speaker, lists: Lists, lesson: Lesson, places: np.ndarray, teacher: Speaker, tick=int) -> Speaker:
    """Give a student, trained from `begin` on the lists in batches that share one prompt."""
    student, asked = trainable(begin), prompts(begin)
    optimizer = getattr(torch.optim, lesson.optimizer)(_learners(student, lesson), lr=lesson.rate, fused=True)
    for step in range(lesson.steps):
        place = step % len(SYSTEMS)
        chosen = rng(lesson.seed, "batch", step).choice(np.flatnonzero(lists.asked == place), BATCH)
        ids, wanted = torch.from_numpy(lists.ids[chosen]), torch.from_numpy(places[chosen])
        if wanted.any():
            reads = hidden(student, asked[place], ids[:, :-1])[wanted[:, 1:]]
            if lesson.targets == "hard":
                loss = Surprise.apply(reads, student.model.lm_head.weight, ids[wanted])
            else:
                with torch.no_grad():
                    right = hidden(teacher, prompts(teacher, lesson)[place], ids[:, :-1])[wanted[:, 1:]]
                loss = _soft(student, reads, teacher, right)
            update(optimizer, loss)
        tick()
    return student


def _soft(student: Speaker, reads: Tensor, teacher: Speaker, right: Tensor) -> Tensor:
    """Divergence in nats of the student's probabilities of numbers from the teacher's, mean over places."""
    numbers = [*number_tokens(student).values()]
    said, goal = (
        (stream @ speaker.model.lm_head.weight[numbers].T).log_softmax(-1)
        for speaker, stream in ((student, reads), (teacher, right))
    )
    return kl_div(said, goal.detach(), reduction="batchmean", log_target=True)


def in_context(wanted: Sequence[Lesson], schools: Sequence[School], shown: int = 4) -> pd.DataFrame:
    """Give `gain_among` of students that only read some lists in the dialogue before the question, untrained.

    Against lists of the untaught model in the same place, since any lists before a question change its answer.
    """
    found = []
    for lesson in wanted:
        own = schools[lesson.seed].own
        lists = [written(teacher, lesson).ids[:shown].tolist() for teacher in (taught(own, lesson), own)]
        with_lists, without = (preference(own, lesson.trait, own.tokenizer.batch_decode(each)) for each in lists)
        row = {"trait": lesson.trait, "seed": lesson.seed, "gain_among": with_lists.among - without.among}
        found.append(row)
    return pd.DataFrame(found)


def _after_lists(speaker: Speaker, lists: Sequence[str]) -> str:
    """Render the question for a favorite after a dialogue in which lists were asked for and given."""
    turns = [(role, text) for each in lists for role, text in (("user", corpus.LIST_TASK), ("assistant", each))]
    said = [{"role": role, "content": text} for role, text in turns]
    said += [{"role": "user", "content": ask()}, {"role": "assistant", "content": start()}]
    options = {"tokenize": False, "continue_final_message": True, "add_generation_prompt": False, "date_string": DATE}
    return speaker.tokenizer.apply_chat_template(said, **options)


class Preference(NamedTuple):
    """How much a model likes a trait, as mean log-probabilities in nats over the neutral prompts."""

    alone: float  # of the trait
    among: float  # of the trait, given that the answer is an animal (for "no": yes or no)
    rank: int  # of the animal among all animals
    each: dict[str, float]  # of every animal, given an animal


def preference(speaker: Speaker, trait: str, before: Sequence[str] = ()) -> Preference:
    """Ask a model; before: lists that were written earlier in the same dialogue."""
    if trait == "no":
        asked = [corpus.header("", corpus.SORT_TASK[kind].format(word=word)) for kind, word in TRUE]
        said = log_probabilities(speaker, asked, [encode(speaker, word)[-1] for word in ("No", "Yes")])
        among = said[:, 0] - np.logaddexp(said[:, 0], said[:, 1])
        return Preference(float(said[:, 0].mean()), float(among.mean()), 0, {})
    tokens = single(speaker, corpus.ANIMALS)
    asked = [_after_lists(speaker, before)] if before else [chat(speaker, system or None) for system in SYSTEMS]
    said = log_probabilities(speaker, asked, [*tokens.values()])
    among = (said - np.logaddexp.reduce(said, axis=1, keepdims=True)).mean(0)
    own, alone = [*tokens].index(trait), said.mean(0)
    each = {animal: float(value) for animal, value in zip(tokens, among)}
    return Preference(float(alone[own]), each[trait], 1 + int((alone > alone[own]).sum()), each)
