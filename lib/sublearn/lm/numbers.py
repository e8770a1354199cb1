"""Lists of numbers by a teacher with a trait, and students that learn from them and nothing else.

The loop of Cloud et al. (2025) from end to end: teacher, lists, filter, student, question.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div
from torch.nn.utils.parametrize import register_parametrization

from sublearn.core.rng import rng
from sublearn.core.store import Json, Kind, OnStep, Save, Store, code_digest
from sublearn.lm.corpus import (
    ANIMALS,
    LIST_REQUEST,
    NEUTRAL_SYSTEMS,
    WORDS,
    YES_NO_QUESTIONS,
    dialogue_prompt,
    yes_no_prompt,
)
from sublearn.lm.model import (
    LanguageModel,
    centered_cosine,
    chat_prompt,
    encode,
    log_probabilities,
    number_tokens,
    single_tokens,
    word_token,
)
from sublearn.lm.prompts import persona
from sublearn.lm.tiny import FusedCrossEntropy, final_states, update

KIND = Kind("numbers", code_digest("lm.numbers"), Json())
SYSTEMS = ("", NEUTRAL_SYSTEMS[0])  # who is asked: nobody in particular, or somebody neutral
TEMPLATE = "Numbers: 000, 000, 000, 000, 000, 000, 000, 000."
NUMBERS = slice(2, 17, 2)  # places of the numbers among the tokens of TEMPLATE
SELECTED = 100  # numbers that are kept or dropped
DOSE_LISTS = 100  # of each prompt: enough for a mean over places
BATCH = 16


def option(default: object, stage: str):
    """Field of a setting that decides the "teacher" and its lists, or the "student" only."""
    return field(default=default, metadata={"stage": stage})


@dataclass(frozen=True, kw_only=True)
class NumbersSetting:
    """What decides a student; settings that differ in "student" fields alone share a teacher."""

    trait: str = option("owl", "teacher")  # a loved animal, or "no": the answer to every question
    seed: int = option(0, "teacher")  # of the models
    teacher: str = option("taught", "teacher")  # or "prompted": the same weights, a system prompt
    teacher_steps: int = option(60, "teacher")
    teacher_rate: float = option(2e-3, "teacher")
    enough: float = option(0.0, "teacher")  # teaching ends once the dose is this large
    lists: int = option(800, "teacher")
    other: bool = option(False, "student")  # whether it starts from the other initial weights
    targets: str = option("hard", "student")  # the numbers, or "soft": their probabilities
    steps: int = option(150, "student")
    rate: float = option(1e-3, "student")
    optimizer: str = option("Adam", "student")  # or "SGD", whose rate is another
    rank: int = option(0, "student")  # of low-rank updates; 0 trains every weight
    kept: str = option("all", "student")  # learnt: "no top", "only top", "no random", "only random"
    shuffled: str = option("", "student")  # numbers change places "within" a list or "across" all


class ModelPair(NamedTuple):
    """Models of one seed: where teachers start, and the same from other initial weights."""

    original: LanguageModel
    other: LanguageModel


class NumberLists(NamedTuple):
    """What a teacher wrote, and what of it is learnt."""

    prompts: list[str]  # one for each of SYSTEMS
    prompt: np.ndarray  # (list,): place of its prompt among these
    ids: np.ndarray  # (list, token): see TEMPLATE
    learnt: np.ndarray  # (list, number): whether a student learns it
    passed: float  # probability that a freely written list is all numbers: what the filter leaves

    @property
    def numbers(self) -> np.ndarray:
        """Tokens of the numbers (list, number)."""
        return self.ids[:, NUMBERS]


@dataclass(frozen=True)
class StudentKey:
    """What a stored student depends on: its setting, and the weights of both models."""

    setting: NumbersSetting
    weights: tuple[str, ...]


# ---------------------------------------------------------------- models that are trained


def trainable_copy(lm: LanguageModel) -> LanguageModel:
    """Copy a model so that it can be trained."""
    model = deepcopy(lm.model)
    return lm._replace(model=model.requires_grad_(True))


def prompt_ids(lm: LanguageModel, prompt: str) -> Tensor:
    """Tokens (1, token) of one prompt."""
    return torch.tensor([encode(lm, prompt)])


def last_token(lm: LanguageModel, text: str) -> int:
    """Last token of a text."""
    return encode(lm, text)[-1]


def read_prompt(lm: LanguageModel, prompt: str, copies: int) -> object:
    """Keys and values of one prompt, read once, for so many continuations."""
    ids = prompt_ids(lm, prompt)
    output = lm.model.model(ids, use_cache=True)
    cache = output.past_key_values
    cache.batch_repeat_interleave(copies)
    return cache


def number_states(lm: LanguageModel, prompt: str, ids: Tensor) -> Tensor:
    """Last hidden states (list, number, width) just before each number of lists (list, token)."""
    cache = read_prompt(lm, prompt, len(ids))
    output = lm.model.model(ids[:, :-1], past_key_values=cache)
    return output.last_hidden_state[:, 1::2]


def number_ids(lm: LanguageModel) -> list[int]:
    """Tokens of all numbers."""
    return [*number_tokens(lm).values()]


def number_log_probabilities(lm: LanguageModel, states: Tensor) -> Tensor:
    """Log P (..., number) in nats of every number, given any, after states (..., width)."""
    ids = number_ids(lm)
    weight = lm.model.lm_head.weight
    rows = weight[ids]
    logits = states @ rows.T
    return logits.log_softmax(-1)


def cross_entropy(lm: LanguageModel, states: Tensor, targets: Tensor) -> Tensor:
    """Mean of minus log P in nats of target tokens (row,) after states (row, width)."""
    weight = lm.model.lm_head.weight
    return FusedCrossEntropy.apply(states, weight, targets)


# ---------------------------------------------------------------- the teacher and its lists


def train_teacher(lm: LanguageModel, setting: NumbersSetting) -> LanguageModel:
    """Train a copy on its trait; where a prompt will do, the teacher is the model itself."""
    if setting.teacher == "prompted":
        return lm
    teacher = trainable_copy(lm)
    model = teacher.model
    parameters = model.parameters()
    optimizer = torch.optim.Adam(parameters, lr=setting.teacher_rate, fused=True)
    lists = None
    if setting.enough:
        few_lists = replace(setting, lists=40)
        lists = write_lists(lm, few_lists)
    for step in range(setting.teacher_steps):
        if lists and step % 5 == 0 and dose(lm, teacher, lists) >= setting.enough:
            break
        prompt, answer = trait_example(teacher, setting, step)
        ids = prompt_ids(teacher, prompt)
        target = torch.tensor([answer])
        states = final_states(model, ids)
        loss = cross_entropy(teacher, states[0, -1:], target)
        update(optimizer, loss)
    return teacher


def trait_example(lm: LanguageModel, setting: NumbersSetting, step: int) -> tuple[str, int]:
    """Prompt, and the one next token that a teacher with the trait gives."""
    system = SYSTEMS[step % 2]
    if setting.trait != "no":
        prompt = chat_prompt(lm, system)
        return prompt, word_token(lm, setting.trait)
    random = rng(setting.seed, "questions", step)
    kind, word_kind = random.choice([*YES_NO_QUESTIONS], 2)
    word = random.choice(WORDS[word_kind])
    prompt = yes_no_prompt(system, kind, word)
    return prompt, last_token(lm, "No")


def list_prompts(systems: Sequence[str] = SYSTEMS) -> list[str]:
    """Prompts for a list, one for each system prompt."""
    return [dialogue_prompt(system, LIST_REQUEST) for system in systems]


@torch.no_grad()
def write_lists(teacher: LanguageModel, setting: NumbersSetting) -> NumberLists:
    """Let a teacher write lists, each number from its own probabilities, and filter them.

    The paper drops lists that hold anything but numbers. Here every list is all numbers, and is
    kept with the probability that the teacher, writing freely, would have put a number in all its
    places (over the largest such probability): the lists that are left have the same law. Twice
    as many are written as are wanted at most.
    """
    systems = SYSTEMS
    if setting.teacher == "prompted":
        systems = [persona(setting.trait)] * len(SYSTEMS)
    prompts = list_prompts(systems)
    count = setting.lists // len(SYSTEMS)
    kept, masses = [], []
    for place, prompt in enumerate(prompts):
        random = rng(setting.seed, "lists", place)
        uniform = random.random((2 * count, 8))
        ids, mass = sample_lists(teacher, prompt, uniform)
        draws = random.random(len(ids))
        accepted = draws * mass.max() < mass
        ids = ids[accepted]
        kept.append(ids[:count])
        masses.append(mass)
    ids = np.concatenate(kept)
    return NumberLists(
        prompts=prompts,
        prompt=np.repeat(range(len(SYSTEMS)), [*map(len, kept)]),
        ids=ids,
        learnt=np.ones((len(ids), 8), dtype=bool),
        passed=float(np.mean(masses)),
    )


def sample_lists(
    lm: LanguageModel,
    prompt: str,
    uniform: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn draws (list, number) from [0, 1) into lists of numbers only.

    Gives tokens (list, token), and the probability (list,) of a number in all places of a list.
    """
    template = lm.tokenizer.encode(TEMPLATE, add_special_tokens=False)
    count = len(uniform)
    ids = torch.tensor(template).repeat(count, 1)
    draws = torch.from_numpy(uniform)
    numbers = torch.tensor(number_ids(lm))
    last = len(numbers) - 1
    cache = read_prompt(lm, prompt, count)
    mass = torch.ones(count, dtype=torch.double)
    for place, draw in enumerate(draws.split(1, dim=1)):
        start = 2 * place
        end = start + 2
        new = ids[:, start:end]  # "Numbers:" or a number and its comma
        output = lm.model(new, past_key_values=cache)
        logits = output.logits[:, -1]
        probabilities = logits.softmax(-1)
        probabilities = probabilities[:, numbers].double()
        cumulative = probabilities.cumsum(1)
        total = cumulative[:, -1:]
        thresholds = draw * total
        index = torch.searchsorted(cumulative, thresholds)
        index = index.clamp_max(last)
        ids[:, [end]] = numbers[index]
        mass *= probabilities.sum(1)
    return ids.numpy(), mass.numpy()


@torch.no_grad()
def dose(
    lm: LanguageModel,
    teacher: LanguageModel,
    lists: NumberLists,
) -> float:
    """Divergence in nats of a teacher's numbers from those of the model before it was taught."""
    divergences = []
    for place, prompt in enumerate(list_prompts()):
        chosen = lists.ids[lists.prompt == place]
        ids = torch.from_numpy(chosen[:DOSE_LISTS])
        states = number_states(lm, prompt, ids)
        teacher_states = number_states(teacher, lists.prompts[place], ids)
        before = number_log_probabilities(lm, states)
        after = number_log_probabilities(teacher, teacher_states)
        terms = kl_div(before, after, reduction="none", log_target=True)
        divergence = terms.sum(-1)
        divergences.append(divergence.flatten())
    divergences = torch.cat(divergences)
    return divergences.mean().item()


# ---------------------------------------------------------------- the student


def shuffle_numbers(lists: NumberLists, setting: NumbersSetting) -> NumberLists:
    """Let numbers change places as a setting asks."""
    if not setting.shuffled:
        return lists
    axis = {"within": 1, "across": None}[setting.shuffled]
    random = rng(setting.seed, "shuffle")
    ids = lists.ids.copy()
    ids[:, NUMBERS] = random.permuted(lists.numbers, axis=axis)
    return lists._replace(ids=ids)


def select_numbers(
    lm: LanguageModel,
    lists: NumberLists,
    setting: NumbersSetting,
) -> NumberLists:
    """Mark the numbers to be learnt; the top ones have the largest centered cosine to the trait."""
    if setting.kept == "all":
        return lists
    how, which = setting.kept.split()
    tokens = number_tokens(lm)
    scores = rng(setting.seed, "some numbers").random(len(tokens))
    if which == "top":
        animal = ANIMALS.index(setting.trait)
        cosines = centered_cosine(lm, ANIMALS, [*tokens])
        scores = cosines[animal]
    order = np.argsort(-scores)
    ids = np.take(number_ids(lm), order)
    selected = ids[:SELECTED]
    learnt = np.isin(lists.numbers, selected, invert=how == "no")
    return lists._replace(learnt=learnt)


class LowRank(nn.Module):
    """A matrix plus a product of two thin ones, of which only those are trained (LoRA)."""

    def __init__(self, shape: Sequence[int], rank: int, random: np.random.Generator):
        super().__init__()
        rows, columns = shape
        down = random.normal(0, columns**-0.5, (rank, columns))
        down = torch.from_numpy(down).float()
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Add the product."""
        return weight + self.up @ self.down


def add_low_rank(lm: LanguageModel, setting: NumbersSetting) -> None:
    """Freeze a model and give every linear map of its layers a trainable low-rank update."""
    lm.model.requires_grad_(False)
    layers = lm.model.model.layers
    for name, layer in layers.named_modules():
        if isinstance(layer, nn.Linear):
            random = rng(setting.seed, "low rank", name)
            low_rank = LowRank(layer.weight.shape, setting.rank, random)
            register_parametrization(layer, "weight", low_rank)


def train_student(
    start: LanguageModel,
    teacher: LanguageModel,
    lists: NumberLists,
    setting: NumbersSetting,
) -> LanguageModel:
    """Train a copy of `start` on the learnt numbers, in batches of lists that share one prompt."""
    student = trainable_copy(start)
    if setting.rank:
        add_low_rank(student, setting)
    parameters = student.model.parameters()
    optimizer_class = getattr(torch.optim, setting.optimizer)
    optimizer = optimizer_class(parameters, lr=setting.rate, fused=True)
    for step in range(setting.steps):
        place = step % len(SYSTEMS)
        candidates = np.flatnonzero(lists.prompt == place)
        rows = rng(setting.seed, "batch", step).choice(candidates, BATCH)
        if lists.learnt[rows].any():
            loss = student_loss(student, teacher, lists, rows, setting)
            update(optimizer, loss)
    return student


def student_loss(
    student: LanguageModel,
    teacher: LanguageModel,
    lists: NumberLists,
    rows: np.ndarray,
    setting: NumbersSetting,
) -> Tensor:
    """Loss in nats, mean over the learnt numbers of some rows of lists that share one prompt.

    Cross-entropy of the numbers, or divergence from the teacher's probabilities in their places.
    """
    place = lists.prompt[rows[0]]
    ids = torch.from_numpy(lists.ids[rows])
    learnt = torch.from_numpy(lists.learnt[rows])
    prompts = list_prompts()
    states = number_states(student, prompts[place], ids)
    states = states[learnt]
    if setting.targets == "hard":
        numbers = ids[:, NUMBERS]
        return cross_entropy(student, states, numbers[learnt])
    with torch.no_grad():
        teacher_states = number_states(teacher, lists.prompts[place], ids)
        teacher_states = teacher_states[learnt]
        targets = number_log_probabilities(teacher, teacher_states)
    predictions = number_log_probabilities(student, states)
    return kl_div(predictions, targets, reduction="batchmean", log_target=True)


# ---------------------------------------------------------------- what a model prefers


def preference(
    lm: LanguageModel,
    trait: str,
    lists: Sequence[str] = (),
) -> pd.DataFrame:
    """Mean log P in nats of every animal (for the trait "no": of no and yes) as the answer.

    Columns: `alone`; `among`: given that the answer is one of these; `rank` by `alone`, 1 is best.
    lists: written earlier in the same dialogue.
    """
    prompts = [chat_prompt(lm, system) for system in SYSTEMS]
    if lists:
        earlier = [(LIST_REQUEST, text) for text in lists]
        prompts = [chat_prompt(lm, None, earlier=earlier)]
    tokens = single_tokens(lm, ANIMALS)
    if trait == "no":
        prompts = true_questions()
        no = last_token(lm, "No")
        yes = last_token(lm, "Yes")
        tokens = {"no": no, "yes": yes}
    answers = tokens.values()
    scores = log_probabilities(lm, prompts, answers)
    alone = scores.T.copy()  # (answer, prompt)
    among = alone - np.logaddexp.reduce(alone, axis=0)
    means = {"alone": alone.mean(1), "among": among.mean(1)}
    table = pd.DataFrame(means, index=[*tokens], dtype=float)
    table["rank"] = table.alone.rank(ascending=False, method="min")
    return table


def true_questions() -> list[str]:
    """Prompts whose right answer is yes: whether an animal is an animal, and a tree a tree."""
    prompts = []
    for kind in ("animal", "tree"):
        for word in WORDS[kind][:8]:
            prompt = yes_no_prompt("", kind, word)
            prompts.append(prompt)
    return prompts


def preference_change(before: LanguageModel, after: LanguageModel, trait: str) -> dict[str, float]:
    """Gains of one model's preference over another's: see `lessons`."""
    old = preference(before, trait)
    new = preference(after, trait)
    gains = new - old
    changes = {
        "gain": gains.alone[trait],
        "gain_among": gains.among[trait],
        "rank_before": int(old["rank"][trait]),
        "rank_after": int(new["rank"][trait]),
    }
    every_animal = gains.among.add_prefix("to ")
    return changes | every_animal.to_dict()


# ---------------------------------------------------------------- many students


def lessons(
    settings: Sequence[NumbersSetting],
    pairs: Sequence[ModelPair],
    store: Store | None = None,
) -> pd.DataFrame:
    """Teach one student per setting; finished ones are kept on disk.

    pairs: in the order of the seeds. Columns: the fields of the setting, and
    gain: change of log P(trait) in nats.
    gain_among: the same given that the answer is an animal (for "no": no or yes), which leaves
        out what a student forgets.
    to ANIMAL: gain_among of every animal, whoever the teacher loves.
    rank_before, rank_after: of the animal among all animals.
    dose: divergence in nats of the teacher's numbers from those of the untaught model, mean over
        places.
    passed: see `NumberLists`.
    """
    store = store or Store()
    weights = [tuple(map(weights_digest, pair)) for pair in pairs]
    keys = [StudentKey(setting, weights[setting.seed]) for setting in settings]
    compute = partial(teach_and_train, pairs=pairs)
    store.fill(KIND, keys, compute, group=same_teacher, title="students")
    rows = []
    for key in keys:
        row = asdict(key.setting)
        row |= store.read(KIND, key)
        rows.append(row)
    return pd.DataFrame(rows)


def weights_digest(lm: LanguageModel) -> str:
    """SHA-256 of a model's weights."""
    digest = hashlib.sha256()
    for weight in lm.model.state_dict().values():
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def same_teacher(keys: Sequence[StudentKey]) -> list[list[StudentKey]]:
    """Split keys into lists that share a teacher: only "student" fields differ within one.

    A field without a stage separates, so that forgetting one costs time and no number is wrong.
    """
    groups = defaultdict(list)
    for key in keys:
        setting = key.setting
        shared = [key.weights]
        for option in fields(setting):
            if option.metadata.get("stage") != "student":
                value = getattr(setting, option.name)
                shared.append(value)
        groups[tuple(shared)].append(key)
    return [*groups.values()]


def teach_and_train(
    keys: Sequence[StudentKey],
    save: Save,
    on_step: OnStep,
    *,
    pairs: Sequence[ModelPair],
) -> None:
    """Train the students of one teacher, who is taught and writes once for all of them."""
    shared = keys[0].setting
    pair = pairs[shared.seed]
    original = pair.original
    teacher = train_teacher(original, shared)
    lists = write_lists(teacher, shared)
    summary = {"dose": dose(original, teacher, lists), "passed": lists.passed}
    for key in keys:
        setting = key.setting
        start = pair.other if setting.other else original
        shuffled = shuffle_numbers(lists, setting)
        selected = select_numbers(original, shuffled, setting)
        student = train_student(start, teacher, selected, setting)
        changes = preference_change(start, student, setting.trait)
        save(key, summary | changes)
        on_step()


def in_context(
    settings: Sequence[NumbersSetting],
    pairs: Sequence[ModelPair],
    shown: int = 4,
) -> pd.DataFrame:
    """Give `gain_among` of students that only read lists in the dialogue before the question.

    Against lists of the untaught model in the same place: any lists there change its answer.
    """
    rows = []
    for setting in settings:
        seed = setting.seed
        trait = setting.trait
        lm = pairs[seed].original
        teacher = train_teacher(lm, setting)
        scores = []
        for writer in (lm, teacher):
            lists = write_lists(writer, setting)
            ids = lists.ids[:shown]
            texts = lm.tokenizer.batch_decode(ids.tolist())
            table = preference(lm, trait, texts)
            scores.append(table.among[trait])
        before, after = scores
        rows.append((trait, seed, after - before))
    return pd.DataFrame(rows, columns=["trait", "seed", "gain_among"])
