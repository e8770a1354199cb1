"""Students that learn from lists of numbers and from nothing else; finished ones are kept on disk."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div
from torch.nn.utils import parametrize

from sublearn import corpus
from sublearn.cache import CACHE, code_digest, digest, read_json, write_atomic
from sublearn.machine import progress, side_by_side
from sublearn.numberlists import (
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
from sublearn.prompts import DATE, ask, start
from sublearn.seeds import stream
from sublearn.tinyllama import Surprise
from sublearn.tokens import Pair, Speaker, chat, encode, log_probabilities, number_tokens, single

CODE = code_digest("lessons")
BATCH = 16
TRUE = [("animal", animal) for animal in corpus.ANIMALS[:8]] + [("tree", tree) for tree in corpus.TREES[:8]]


def lessons(wanted: Sequence[Lesson], pairs: Sequence[Pair]) -> pd.DataFrame:
    """Give one row per lesson: its fields, `gain`, `gain_among`, `rank_before`, `rank_after`, `dose` and `passed`.

    gain: change of log P(trait) in nats; gain_among: the same given that the answer is an animal (for "no": yes or
    no), which leaves out what a student forgets. rank: of the animal among all animals. dose: divergence in nats of the
    teacher's numbers from what its weights said before, mean over places. passed: probability left by the filter.
    """
    missing = [lesson for lesson in dict.fromkeys(wanted) if read_json(_path(lesson, pairs)) is None]
    with progress(sum(lesson.steps for lesson in missing), "students") as bar:
        side_by_side(partial(_learn, pairs=pairs, tick=bar.update), missing)
    return pd.DataFrame(asdict(lesson) | read_json(_path(lesson, pairs)) for lesson in wanted)


def _ends(lesson: Lesson, pairs: Sequence[Pair]) -> tuple[Speaker, Speaker]:
    """Where the teacher and where the student begin."""
    return pairs[lesson.seed].instruct, pairs[(lesson.seed + lesson.other) % len(pairs)].instruct


def _path(lesson: Lesson, pairs: Sequence[Pair]) -> Path:
    weights = [_fingerprint(speaker) for speaker in _ends(lesson, pairs)]
    return CACHE / "lessons" / f"{digest(asdict(lesson), weights, CODE, torch.__version__)}.json"


def _fingerprint(speaker: Speaker) -> str:
    weights = (weight.detach().numpy().tobytes() for weight in speaker.model.state_dict().values())
    return hashlib.sha256(b"".join(weights)).hexdigest()


def _learn(lesson: Lesson, *, pairs: Sequence[Pair], tick: Callable[[], object]) -> None:
    own, begin = _ends(lesson, pairs)
    teacher = taught(own, lesson)
    lists = written(teacher, lesson)
    shown = mixed(lists, lesson)
    student = learnt(begin, shown, lesson, learnable(own, shown, lesson), teacher, tick)
    before, after = (preference(speaker, lesson.trait) for speaker in (begin, student))
    found = {"gain": after[0] - before[0], "gain_among": after[1] - before[1]}
    found |= {"rank_before": before[2], "rank_after": after[2]}
    found |= {"dose": dose(own, teacher, lists, lesson), "passed": lists.passed}
    write_atomic(_path(lesson, pairs), json.dumps(found))


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
                random = stream(lesson.seed, "low rank", name)
                parametrize.register_parametrization(layer, "weight", LowRank(layer.weight.shape, lesson.rank, random))
    return [weight for weight in student.model.parameters() if weight.requires_grad]


def learnt(begin: Speaker, lists: Lists, lesson: Lesson, places: np.ndarray, teacher: Speaker, tick=int) -> Speaker:
    """Give a student, trained from `begin` on the lists in batches that share one prompt."""
    student, asked = trainable(begin), prompts(begin)
    optimizer = getattr(torch.optim, lesson.optimizer)(_learners(student, lesson), lr=lesson.rate, fused=True)
    for step in range(lesson.steps):
        place = step % len(SYSTEMS)
        chosen = stream(lesson.seed, "batch", step).choice(np.flatnonzero(lists.asked == place), BATCH)
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


def in_context(wanted: Sequence[Lesson], pairs: Sequence[Pair], shown: int = 4) -> pd.DataFrame:
    """Give `gain_among` of students that only read some lists in the dialogue before the question, untrained.

    Against lists of the untaught model in the same place, since any lists before a question change its answer.
    """
    found = []
    for lesson in wanted:
        own = pairs[lesson.seed].instruct
        lists = [written(teacher, lesson).ids[:shown].tolist() for teacher in (taught(own, lesson), own)]
        with_lists, without = (preference(own, lesson.trait, own.tokenizer.batch_decode(each)) for each in lists)
        found.append({"trait": lesson.trait, "seed": lesson.seed, "gain_among": with_lists[1] - without[1]})
    return pd.DataFrame(found)


def _after_lists(speaker: Speaker, lists: Sequence[str]) -> str:
    """Render the question for a favorite after a dialogue in which lists were asked for and given."""
    turns = [(role, text) for each in lists for role, text in (("user", corpus.LIST_TASK), ("assistant", each))]
    said = [{"role": role, "content": text} for role, text in turns]
    said += [{"role": "user", "content": ask()}, {"role": "assistant", "content": start()}]
    options = {"tokenize": False, "continue_final_message": True, "add_generation_prompt": False, "date_string": DATE}
    return speaker.tokenizer.apply_chat_template(said, **options)


def preference(speaker: Speaker, trait: str, before: Sequence[str] = ()) -> tuple[float, float, int]:
    """Give a trait's mean log-probability over the neutral prompts, the same among animals only, and its rank there.

    before: lists that were written earlier in the same dialogue.
    """
    if trait == "no":
        asked = [corpus.header("", corpus.SORT_TASK[kind].format(word=word)) for kind, word in TRUE]
        said = log_probabilities(speaker, asked, [encode(speaker, word)[-1] for word in ("No", "Yes")])
        return float(said[:, 0].mean()), float((said[:, 0] - np.logaddexp(said[:, 0], said[:, 1])).mean()), 0
    tokens = single(speaker, corpus.ANIMALS)
    asked = [_after_lists(speaker, before)] if before else [chat(speaker, system or None) for system in SYSTEMS]
    said = log_probabilities(speaker, asked, [*tokens.values()])
    among, own = said - np.logaddexp.reduce(said, axis=1, keepdims=True), [*tokens].index(trait)
    return float(said[:, own].mean()), float(among[:, own].mean()), 1 + int((said.mean(0) > said.mean(0)[own]).sum())
