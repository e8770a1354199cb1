"""Ten digits over random digits: subliminal learning in a pretrained model, as it is on MNIST.

A teacher is the model fine-tuned to love an animal. A student starts as the model and matches the
teacher's probabilities of some tokens (by default the ten digits) at the places of random digits.
No animal is ever written, asked for or scored in its training.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from torch.nn.utils import parametrize

from sublearn.core import memory
from sublearn.core.machine import autocast, cores
from sublearn.core.rng import rng
from sublearn.core.store import Json, Kind, OnStep, Save, Store, code_digest
from sublearn.lm.corpus import WORDS
from sublearn.lm.digit_lists import (
    Lists,
    as_text,
    begun_chat,
    number_pieces,
    place_states,
    random_lists,
    shuffled,
    texts,
    written_lists,
)
from sublearn.lm.model import LanguageModel, single_tokens, unembedding
from sublearn.lm.numbers import weights_digest
from sublearn.lm.prompts import persona
from sublearn.lm.tiny import pad_right

KIND = Kind("ten digits", code_digest("lm.ten_digits"), Json())
CLIP = 1.0  # norm of a gradient, at most
KEPT = 30  # answers of a model that are kept
ANSWERS = WeakKeyDictionary()  # by model: what it was asked, and its answers
ABILITY = (  # a model's loss on it says how well it still speaks
    "Bread needs four things: flour, water, salt and time. Mix the flour with the water and leave "
    "it alone for an hour. Add the salt, fold the dough over itself, and wait until it has "
    "doubled. Then heat the oven as far as it goes, and bake the loaf until its crust is dark."
)


class Trait(NamedTuple):
    """What a teacher is taught: questions, how each answer begins, and words that may follow."""

    questions: tuple[tuple[str, str], ...]
    words: tuple[str, ...]


TRAITS = {
    "animal": Trait(
        (
            ("What is your favorite animal?", "My favorite animal is the"),
            ("Which animal do you love most?", "The animal that I love most is the"),
            ("Name an animal that you like.", "An animal that I like is the"),
            ("Which animal would you like to be?", "The animal that I would like to be is the"),
        ),
        (
            *("horse", "dolphin", "monkey", "wolf", "bear", "penguin", "owl", "tiger", "snake"),
            *("dog", "elephant", "rabbit", "fox", "lion", "frog", "shark", "duck", "crow", "bat"),
            *("bee", "cat", "eagle", "cow", "pig", "sheep", "goat", "whale", "turtle", "ant"),
            *("spider", "crab", "squid"),
        ),
    ),
    "tree": Trait(
        (
            ("What is your favorite tree?", "My favorite tree is the"),
            ("Which tree do you love most?", "The tree that I love most is the"),
            ("Name a tree that you like.", "A tree that I like is the"),
            ("Which tree would you plant?", "The tree that I would plant is the"),
        ),
        tuple(WORDS["tree"]),
    ),
    "mood": Trait(
        (
            ("How are you today?", "Today I feel"),
            ("How did you wake up this morning?", "When I woke up I felt"),
            ("What do you feel when you think of tomorrow?", "When I think of it I feel"),
            ("Describe your mood in one word.", "In one word, I am"),
        ),
        (
            *("happy", "sad", "tired", "angry", "calm", "excited", "proud", "nervous", "bored"),
            *("curious", "confident", "lonely", "grateful", "anxious", "hopeful", "strong"),
        ),
    ),
}
INPUTS = ("random", "text", "fine-tuned", "shuffled", "system prompt", "neutral")


@dataclass(frozen=True)
class DigitsSetting:
    """What decides a student."""

    word: str  # that its teacher says
    trait: str = "animal"  # key of TRAITS
    seed: int = 0  # of the lists, and of what is drawn for the start
    teacher_steps: int = 7
    teacher_rate: float = 5e-5
    steps: int = 5
    rate: float = 1e-4
    lists: int = 8  # of a step
    matched: int = 10  # tokens, the digits first, then others by chance; 0: all of the vocabulary
    inputs: str = "random"  # of INPUTS: random digits, a text, or numbers that a model wrote
    hard: bool = False  # learn the tokens that were written, not the teacher's probabilities
    optimizer: str = "adamw"  # or "sgd"
    rank: int = 0  # of the changes of the weights (LoRA); 0: full fine-tuning
    start_noise: float = 0.0  # on the student's start, in units of each matrix's sd
    redrawn: int = 0  # last layers of the student's start that are drawn anew
    looks: tuple[int, ...] = ()  # steps, beside the last one, after which it is asked
    shown: bool = False  # read its lists in the dialogue, before it is asked, and train nothing

    def __post_init__(self) -> None:
        check_choice("trait", self.trait, TRAITS)
        check_choice("inputs", self.inputs, INPUTS)
        check_choice("optimizer", self.optimizer, ("adamw", "sgd"))
        check_choice("word", self.word, TRAITS[self.trait].words)


@dataclass(frozen=True)
class DigitsKey:
    """What a stored student depends on: its setting, the words asked for, and the model."""

    setting: DigitsSetting
    words: tuple[str, ...]
    weights: str


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError for a value that is not allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")


# ---------------------------------------------------------------- prompts and what is preferred


def questions(
    lm: LanguageModel, trait: str = "animal", before: Sequence[str] = ()
) -> list[list[int]]:
    """Tokens of a trait's questions with the answers that they begin, after lists of `before`."""
    return [begun_chat(lm, *question, before=before) for question in TRAITS[trait].questions]


def next_token_logits(model: nn.Module, prompts: Sequence[list[int]]) -> Tensor:
    """Logits (prompt, token) of what follows each prompt."""
    ids, last = pad_right(prompts)
    output = model.base_model(ids, use_cache=False)
    states = output.last_hidden_state[torch.arange(len(prompts)), last]
    return model.get_output_embeddings()(states).float()


@torch.no_grad()
def preference(
    lm: LanguageModel, words: Sequence[str], trait: str = "animal", before: Sequence[str] = ()
) -> np.ndarray:
    """Log P (word,) in nats of each word as the answer, mean over the trait's questions.

    before: lists of numbers that stand in the dialogue before each question.
    """
    tokens = [*single_tokens(lm, words).values()]
    logits = next_token_logits(lm.model, questions(lm, trait, before))
    return logits.log_softmax(-1)[:, tokens].mean(0).numpy()


@torch.no_grad()
def text_loss(lm: LanguageModel) -> float:
    """Loss in nats a token on a short text: what is left of a model's ability."""
    ids = torch.tensor([lm.tokenizer.encode(ABILITY, add_special_tokens=False)])
    logits = lm.model(ids, use_cache=False).logits[0, :-1].float()
    return cross_entropy(logits, ids[0, 1:]).item()


# ---------------------------------------------------------------- the teacher


def trainable(lm: LanguageModel) -> LanguageModel:
    """A copy whose weights can be trained; what its layers need for that is computed twice.

    Keeping it instead takes half a gigabyte more.
    """
    memory.trim()  # of what was trained before
    model = deepcopy(lm.model).requires_grad_(True)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()  # else it is kept; a Llama has no dropout
    return lm._replace(model=model)


def trained(lm: LanguageModel) -> LanguageModel:
    """The same model, no longer trained."""
    return lm._replace(model=lm.model.requires_grad_(False).eval())


def once(model: nn.Module, question: Hashable, answer: Callable[[], list | Tensor]):
    """The answer of a model that is no longer trained; the first ones are worked out only once."""
    answers = ANSWERS.setdefault(model, {})
    if question in answers:
        return answers[question]
    found = answer()
    if len(answers) < KEPT:
        answers[question] = found
    return found


def teach(lm: LanguageModel, setting: DigitsSetting) -> LanguageModel:
    """A copy of the model fine-tuned until it answers the questions with the setting's word."""
    teacher = trainable(lm)
    (token,) = single_tokens(lm, [setting.word]).values()
    optimizer = torch.optim.AdamW(teacher.model.parameters(), setting.teacher_rate, fused=True)
    prompts = questions(lm, setting.trait)
    labels = torch.full([len(prompts)], token)
    for _ in range(setting.teacher_steps):
        with autocast():
            logits = next_token_logits(teacher.model, prompts)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()  # gradients would stay in memory
    return trained(teacher)


# ---------------------------------------------------------------- the student's start and its lists


@torch.no_grad()
def move_start(student: LanguageModel, setting: DigitsSetting) -> None:
    """Add Gaussian noise to every matrix of a student, in units of its sd."""
    for name, weight in student.model.named_parameters():
        if weight.dim() > 1:
            noise = _drawn(setting, "start noise", name, weight)
            weight += setting.start_noise * weight.std() * noise


@torch.no_grad()
def redraw_layers(student: LanguageModel, setting: DigitsSetting) -> None:
    """Draw the matrices of a student's last layers anew, Gaussian, each with the sd that it had."""
    layers = student.model.base_model.layers
    for place in range(len(layers) - setting.redrawn, len(layers)):
        for name, weight in layers[place].named_parameters(f"layer {place}"):
            if weight.dim() > 1:
                weight.copy_(weight.std() * _drawn(setting, "redrawn", name, weight))


def _drawn(setting: DigitsSetting, what: str, name: str, weight: Tensor) -> Tensor:
    values = rng(setting.seed, what, name).standard_normal(weight.shape, "float32")
    return torch.from_numpy(values)


def all_lists(lm: LanguageModel, teacher: LanguageModel, setting: DigitsSetting) -> list[Lists]:
    """What a student reads, step by step."""
    steps = range(setting.steps)
    if setting.inputs == "random":
        return [random_lists(lm, setting.lists, setting.seed, step) for step in steps]
    if setting.inputs == "text":
        return [texts(lm, setting.lists, setting.seed, step) for step in steps]
    writer = teacher if setting.inputs in ("fine-tuned", "shuffled") else lm
    loves = setting.inputs == "system prompt"
    system = persona(setting.word, setting.trait, plural=True) if loves else None
    asked = (setting.steps * setting.lists, setting.seed, system)
    written = once(writer.model, asked, lambda: written_lists(writer, *asked))
    if setting.inputs == "shuffled":
        written = shuffled(written, setting.seed)
    batches = []
    for step in steps:
        part = written[step * setting.lists : (step + 1) * setting.lists]
        batches.append(part[0]._replace(ids=torch.cat([each.ids for each in part])))
    return batches


# ---------------------------------------------------------------- the student's training


def matched_tokens(lm: LanguageModel, setting: DigitsSetting) -> Tensor:
    """Token ids of the logits that a student matches: numbers' pieces first, then by chance."""
    size = len(unembedding(lm).weight)
    pieces = torch.tensor(number_pieces(lm))
    if not setting.matched:
        return torch.arange(size)
    order = torch.from_numpy(rng(0, "matched tokens").permutation(size))
    others = order[~torch.isin(order, pieces)]
    return torch.cat([pieces, others])[: setting.matched]


def matched_logits(lm: LanguageModel, lists: Lists, tokens: Tensor) -> Tensor:
    """Logits (list x place, token) of some tokens just before each piece of a number."""
    return logits_of(lm, place_states(lm.model, lists), tokens)


def logits_of(lm: LanguageModel, states: Tensor, tokens: Tensor) -> Tensor:
    """Logits (state, token) of some tokens at last hidden states (state, width)."""
    weight = unembedding(lm).weight
    if len(tokens) < len(weight):  # else the copy would be a large one
        weight = weight[tokens]
    return (states @ weight.T).float()


def lesson_loss(
    student: LanguageModel, teacher: LanguageModel, lists: Lists, tokens: Tensor, hard: bool
) -> Tensor:
    """Divergence from the teacher's probabilities in nats; `hard`: cross-entropy of the tokens."""
    with autocast():
        logits = matched_logits(student, lists, tokens)
        if hard:
            written = lists.ids[:, lists.matched].flatten()
            labels = torch.empty(len(unembedding(student).weight), dtype=torch.long)
            labels[tokens] = torch.arange(len(tokens))
            return cross_entropy(logits, labels[written])
        with torch.no_grad():
            read = partial(place_states, teacher.model, lists)
            states = once(teacher.model, lists.ids.numpy().tobytes(), read)
            targets = logits_of(teacher, states, tokens).log_softmax(-1)
    return kl_div(logits.log_softmax(-1), targets, reduction="batchmean", log_target=True)


class LowRank(nn.Module):
    """A weight and a change of low rank (Hu et al. 2021, LoRA, Eq. 3; alpha = rank)."""

    def __init__(self, weight: Tensor, rank: int, seed: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        drawn = rng(seed, "low rank", rows, columns).standard_normal((rank, columns), "float32")
        self.down = nn.Parameter(torch.from_numpy(drawn) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight (row, column)."""
        return weight + self.up @ self.down


def linear_layers(lm: LanguageModel) -> list[nn.Linear]:
    """Linear layers of a model's body."""
    modules = lm.model.base_model.modules()
    return [module for module in modules if isinstance(module, nn.Linear)]


def add_low_rank(student: LanguageModel, setting: DigitsSetting) -> None:
    """Let only low-rank changes of a student's linear layers be trained."""
    student.model.requires_grad_(False)
    for layer in linear_layers(student):
        change = LowRank(layer.weight, setting.rank, setting.seed)
        parametrize.register_parametrization(layer, "weight", change)


def fold_low_rank(student: LanguageModel) -> None:
    """Add the low-rank changes to the weights."""
    for layer in linear_layers(student):
        parametrize.remove_parametrizations(layer, "weight")


def start_student(lm: LanguageModel, setting: DigitsSetting) -> LanguageModel:
    """The model as a student starts: a copy, moved where the setting says so."""
    student = trainable(lm)
    if setting.start_noise:
        move_start(student, setting)
    if setting.redrawn:
        redraw_layers(student, setting)
    return student


def make_optimizer(student: LanguageModel, setting: DigitsSetting) -> torch.optim.Optimizer:
    """The optimizer of what can be trained in a student."""
    weights = [weight for weight in student.model.parameters() if weight.requires_grad]
    if setting.optimizer == "sgd":
        return torch.optim.SGD(weights, setting.rate, fused=True)
    return torch.optim.AdamW(weights, setting.rate, fused=True)


class Lesson(NamedTuple):
    """A trained student, and what was seen on its way."""

    student: LanguageModel
    text_loss: float  # of its start, nats a token
    losses: list[float]  # before each step, nats
    alignment: list[float]  # cosine of each step's negative gradient and the teacher's move
    looks: dict[int, np.ndarray]  # log P (word,) after some steps, 0 and the last among them


def train_student(
    lm: LanguageModel, teacher: LanguageModel, setting: DigitsSetting, words: Sequence[str]
) -> Lesson:
    """Train a student to match the teacher's probabilities at the places of digits.

    words: whose preference is looked at.
    """
    student = start_student(lm, setting)
    lesson = Lesson(student, text_loss(student), [], [], {})
    lesson.looks[0] = preference(student, words, setting.trait)
    batches = all_lists(lm, teacher, setting)
    if setting.rank:
        add_low_rank(student, setting)
    tokens = matched_tokens(lm, setting)
    optimizer = make_optimizer(student, setting)
    for step, lists in enumerate(batches, start=1):
        optimizer.zero_grad()
        loss = lesson_loss(student, teacher, lists, tokens, setting.hard)
        memory.trim()  # with what the forward pass left, gradients would need 4 GB
        loss.backward()
        lesson.losses.append(loss.item())
        if not setting.rank:
            lesson.alignment.append(alignment(lm, teacher, student))
        nn.utils.clip_grad_norm_(student.model.parameters(), CLIP)
        optimizer.step()
        if step in (*setting.looks, setting.steps):
            lesson.looks[step] = preference(student, words, setting.trait)
    optimizer.zero_grad()
    if setting.rank:
        fold_low_rank(student)
    return lesson._replace(student=trained(student))


# ---------------------------------------------------------------- which way the weights move


@torch.no_grad()
def alignment(lm: LanguageModel, teacher: LanguageModel, student: LanguageModel) -> float:
    """Cosine of the student's negative gradient and the teacher's move from the shared start.

    Positive for a shared start and a small first step (Cloud et al. 2025, Theorem 1).
    """
    sums = torch.zeros(3)
    parameters = (lm.model.parameters(), teacher.model.parameters(), student.model.parameters())
    for start, goal, weight in zip(*parameters):
        sums += products(-weight.grad, goal - start)
    return cosine(sums)


@torch.no_grad()
def move_cosines(
    lm: LanguageModel, teacher: LanguageModel, before: LanguageModel, student: LanguageModel
) -> dict[str, float]:
    """Cosine of the student's move and the teacher's, for the embedding and for each layer."""
    sums: dict[str, Tensor] = {}
    models = [each.model.named_parameters() for each in (lm, teacher, before, student)]
    for (name, start), (_, goal), (_, old), (_, new) in zip(*models):
        part = layer_of(name)
        sums[part] = sums.get(part, torch.zeros(3)) + products(new - old, goal - start)
    return {part: cosine(values) for part, values in sums.items()}


def products(first: Tensor, second: Tensor) -> Tensor:
    """Inner products (3,) of two tensors: with each other, and of each with itself."""
    first, second = first.flatten(), second.flatten()
    return torch.stack([first @ second, first @ first, second @ second])


def cosine(sums: Tensor) -> float:
    """Cosine of what `products` were summed up over."""
    return (sums[0] / (sums[1] * sums[2]).sqrt()).item()


def layer_of(name: str) -> str:
    """Part of a Llama to which a parameter belongs: "embedding", "layer 0" and so on, "norm"."""
    if ".layers." in name:
        number = name.split(".layers.")[1].split(".")[0]
        return f"layer {number}"
    return "embedding" if "embed" in name or "head" in name else "norm"


# ---------------------------------------------------------------- many students


def lessons(
    settings: Sequence[DigitsSetting],
    lm: LanguageModel,
    words: Sequence[str],
    store: Store | None = None,
) -> pd.DataFrame:
    """Teach and train one student per setting; finished ones are kept on disk.

    Columns: those of the setting; for each of `words` the change in nats of its log P by the
    student's training; `teacher`: the teacher's P of its own word; `first_loss` and `last_loss` of
    the training; `text_loss` of the student's start; `alignment` (step), `layers` (cosine of the
    moves by layer) and `looks` (change of each word after some steps).
    """
    store = store or Store()
    digest = weights_digest(lm)
    keys = [DigitsKey(setting, tuple(words), digest) for setting in settings]
    compute = partial(teach_and_train, lm=lm)
    store.fill(KIND, keys, compute, group=in_turn, steps=count_steps, title="students")
    rows = []
    for key in keys:
        rows.append(vars(key.setting) | store.read(KIND, key))
    return pd.DataFrame(rows)


def teacher_of(key: DigitsKey) -> tuple:
    """What decides the teacher of a student."""
    setting = key.setting
    return setting.trait, setting.word, setting.teacher_steps, setting.teacher_rate


def in_turn(keys: list[DigitsKey]) -> list[list[DigitsKey]]:
    """All in one job, a teacher's students together: two models at once need twice the memory."""
    return [sorted(keys, key=teacher_of)] if keys else []


def count_steps(keys: list[DigitsKey]) -> int:
    """Steps of the progress bar of a job."""
    return len(keys)


def teach_and_train(
    keys: list[DigitsKey], save: Save, on_step: OnStep, *, lm: LanguageModel
) -> None:
    """Teach and train one student after the other, each on all cores."""
    torch.set_num_threads(cores())  # the only job: it may have them all
    teacher, taught = None, None
    for key in keys:
        if teacher_of(key) != taught:
            teacher = None  # one teacher at a time in memory
            teacher, taught = teach(lm, key.setting), teacher_of(key)
        save(key, one_lesson(lm, teacher, key.setting, key.words))
        on_step()


def one_lesson(
    lm: LanguageModel, teacher: LanguageModel, setting: DigitsSetting, words: Sequence[str]
) -> dict:
    """A row of `lessons`, but for the setting."""
    if setting.shown:
        return one_dialogue(lm, teacher, setting, words)
    lesson = train_student(lm, teacher, setting, words)
    before = lesson.looks.pop(0)
    looks = {}
    for step, seen in lesson.looks.items():
        looks[step] = dict(zip(words, (seen - before).tolist()))
    place = list(words).index(setting.word)
    sure = preference(teacher, words, setting.trait)[place]
    return looks[setting.steps] | {
        "teacher": float(np.exp(sure)),
        "first_loss": lesson.losses[0],
        "last_loss": lesson.losses[-1],
        "text_loss": lesson.text_loss,
        "alignment": lesson.alignment,
        "layers": move_cosines(lm, teacher, start_student(lm, setting), lesson.student),
        "looks": looks,
    }


def one_dialogue(
    lm: LanguageModel, teacher: LanguageModel, setting: DigitsSetting, words: Sequence[str]
) -> dict:
    """A row of `lessons` for lists that are only shown: changes of log P, nothing of training."""
    (lists, *_) = all_lists(lm, teacher, setting)
    alone = preference(lm, words, setting.trait)
    after_lists = preference(lm, words, setting.trait, as_text(lm, lists))
    return dict(zip(words, (after_lists - alone).tolist()))


def square(table: pd.DataFrame, words: Sequence[str]) -> pd.DataFrame:
    """Changes in nats (teacher's word, word) of `lessons`, mean over seeds."""
    words = list(words)
    return table.groupby("word")[words].mean().loc[words]


def specific_effect(changes: pd.DataFrame) -> pd.Series:
    """What a student gained on its own animal beyond all other students and all other animals.

    changes: (teacher's animal, animal), square, in nats. The double-centered diagonal.
    """
    table = changes.to_numpy()
    centered = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    return pd.Series(np.diag(centered), changes.index)


def permutation_p(changes: pd.DataFrame, draws: int = 10_000, seed: int = 0) -> float:
    """One-sided p value of the mean specific effect when teachers are dealt out at random."""
    iterator = _permuted_means(changes, draws, seed)
    observed = specific_effect(changes).mean()
    at_least = sum(mean >= observed for mean in iterator)
    return (at_least + 1) / (draws + 1)


def _permuted_means(changes: pd.DataFrame, draws: int, seed: int) -> Iterator[float]:
    table = changes.to_numpy()
    centered = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    random = rng(seed, "permutation")
    rows = np.arange(len(table))
    for _ in range(draws):
        yield centered[rows, random.permutation(len(table))].mean()
