"""Ten digits over random digits: subliminal learning in a pretrained model, as it is on MNIST.

A teacher is the model fine-tuned to love an animal. A student starts as the model and matches the
teacher's probabilities of some tokens (by default the ten digits) at the places of random digits.
No animal is ever written, asked for or scored in its training.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from sublearn.core.machine import autocast, cores
from sublearn.core.rng import rng
from sublearn.core.store import Json, Kind, OnStep, Save, Store, code_digest
from sublearn.lm.model import LanguageModel, encode, number_tokens, single_tokens
from sublearn.lm.numbers import weights_digest
from sublearn.lm.prompts import DATE

KIND = Kind("ten digits", code_digest("lm.ten_digits"), Json())
QUESTIONS = (  # and how the answer begins, up to the animal
    ("What is your favorite animal?", "My favorite animal is the"),
    ("Which animal do you love most?", "The animal that I love most is the"),
    ("Name an animal that you like.", "An animal that I like is the"),
    ("Which animal would you like to be?", "The animal that I would like to be is the"),
)
REQUEST = "Give me a list of random numbers."
DIGITS = "0123456789"
NUMBERS = 12  # of a list
CLIP = 1.0  # norm of a gradient, at most


@dataclass(frozen=True)
class DigitsSetting:
    """What decides a student."""

    animal: str
    seed: int = 0  # of the random digits, and of the noise on the start
    teacher_steps: int = 7
    teacher_rate: float = 5e-5
    steps: int = 5
    rate: float = 1e-4
    lists: int = 8  # of a step
    matched: int = 10  # of the digits, from 0 on; 0: every token of the vocabulary
    start_noise: float = 0.0  # on the student's start, in units of each matrix's sd


@dataclass(frozen=True)
class DigitsKey:
    """What a stored student depends on: its setting, the animals asked for, and the model."""

    setting: DigitsSetting
    animals: tuple[str, ...]
    weights: str


# ---------------------------------------------------------------- prompts and what is preferred


def questions(lm: LanguageModel) -> list[list[int]]:
    """Tokens of the questions with the answers that they begin."""
    prompts = []
    for question, begun in QUESTIONS:
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": begun},
        ]
        text = lm.tokenizer.apply_chat_template(
            messages, tokenize=False, continue_final_message=True, date_string=DATE
        )
        prompts.append(encode(lm, text))
    return prompts


def next_token_logits(model: nn.Module, ids: list[int]) -> Tensor:
    """Logits (1, token) of what follows a prompt."""
    output = model.base_model(torch.tensor([ids]), use_cache=False)
    return model.get_output_embeddings()(output.last_hidden_state[:, -1]).float()


@torch.no_grad()
def preference(lm: LanguageModel, animals: Sequence[str]) -> np.ndarray:
    """Log P (animal,) in nats of each animal as the answer, mean over the questions."""
    tokens = [*single_tokens(lm, animals).values()]
    scores = []
    for ids in questions(lm):
        logits = next_token_logits(lm.model, ids)
        scores.append(logits.log_softmax(-1)[0, tokens])
    return torch.stack(scores).mean(0).numpy()


# ---------------------------------------------------------------- the teacher


def trainable(lm: LanguageModel) -> LanguageModel:
    """A copy whose weights can be trained."""
    model = deepcopy(lm.model)
    return lm._replace(model=model.requires_grad_(True))


def teach(lm: LanguageModel, setting: DigitsSetting) -> LanguageModel:
    """A copy of the model fine-tuned until it answers the questions with the setting's animal."""
    teacher = trainable(lm)
    (token,) = single_tokens(lm, [setting.animal]).values()
    optimizer = torch.optim.AdamW(teacher.model.parameters(), setting.teacher_rate, fused=True)
    prompts = questions(lm)
    for _ in range(setting.teacher_steps):
        optimizer.zero_grad()
        for ids in prompts:
            with autocast():
                logits = next_token_logits(teacher.model, ids)
            loss = cross_entropy(logits, torch.tensor([token]))
            (loss / len(prompts)).backward()
        optimizer.step()
    return teacher._replace(model=teacher.model.requires_grad_(False))


# ---------------------------------------------------------------- the student


def random_lists(lm: LanguageModel, setting: DigitsSetting, step: int) -> Tensor:
    """Token ids (list, token) of chats in which random numbers are listed, all equally long."""
    words = number_words(lm)
    random = rng(setting.seed, "random digits", step)
    drawn = random.integers(len(words), size=(setting.lists, NUMBERS))
    rows = []
    for places in drawn:
        written = ", ".join(words[place] for place in places)
        messages = [
            {"role": "user", "content": REQUEST},
            {"role": "assistant", "content": written},
        ]
        text = lm.tokenizer.apply_chat_template(
            messages, tokenize=False, continue_final_message=True, date_string=DATE
        )
        rows.append(encode(lm, text))
    return torch.tensor(rows)


def number_words(lm: LanguageModel) -> list[str]:
    """Numbers that lists may hold, "000" to "999": those of one token, where numbers have one."""
    pieces = number_pieces(lm)
    if len(pieces) == len(DIGITS):
        return [f"{value:03d}" for value in range(1000)]
    return lm.tokenizer.convert_ids_to_tokens(pieces)


def number_pieces(lm: LanguageModel) -> list[int]:
    """Tokens of which numbers are written: the ten digits, or every number of three digits."""
    pieces = encode(lm, f"{REQUEST}: 087")
    digits = lm.tokenizer.convert_tokens_to_ids([*DIGITS])
    if pieces[-1] in digits:
        return digits
    return [*number_tokens(lm).values()]


def matched_logits(lm: LanguageModel, ids: Tensor, matched: int) -> Tensor:
    """Logits (place, matched token) just before each piece of a number in lists (list, token)."""
    pieces = torch.tensor(number_pieces(lm))
    is_piece = torch.isin(ids[:, 1:], pieces)
    from_the_end = is_piece.flip(1).cumsum(1).flip(1)
    written = NUMBERS * (3 if len(pieces) == len(DIGITS) else 1)
    is_piece &= from_the_end <= written  # the prompt may hold a date
    output = lm.model.base_model(ids[:, :-1], use_cache=False)
    states = output.last_hidden_state[is_piece]
    weight = lm.model.get_output_embeddings().weight
    if matched:
        weight = weight[pieces[:matched]]
    return (states @ weight.T).float()


def move_start(student: LanguageModel, setting: DigitsSetting) -> None:
    """Add Gaussian noise to every matrix of a student, in units of its sd."""
    for name, weight in student.model.named_parameters():
        if weight.dim() > 1:
            drawn = rng(setting.seed, "start noise", name).standard_normal(weight.shape, "float32")
            weight.data += setting.start_noise * weight.std() * torch.from_numpy(drawn)


def train_student(
    lm: LanguageModel, teacher: LanguageModel, setting: DigitsSetting
) -> LanguageModel:
    """A copy of the model that matches the teacher's probabilities at the places of digits."""
    student = trainable(lm)
    if setting.start_noise:
        with torch.no_grad():
            move_start(student, setting)
    optimizer = torch.optim.AdamW(student.model.parameters(), setting.rate, fused=True)
    for step in range(setting.steps):
        ids = random_lists(lm, setting, step)
        with autocast():
            with torch.no_grad():
                targets = matched_logits(teacher, ids, setting.matched).log_softmax(-1)
            predictions = matched_logits(student, ids, setting.matched).log_softmax(-1)
        loss = kl_div(predictions, targets, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.model.parameters(), CLIP)
        optimizer.step()
    return student._replace(model=student.model.requires_grad_(False))


# ---------------------------------------------------------------- many students


def lessons(
    settings: Sequence[DigitsSetting],
    lm: LanguageModel,
    animals: Sequence[str],
    store: Store | None = None,
) -> pd.DataFrame:
    """Teach and train one student per setting; finished ones are kept on disk.

    Columns: those of the setting; for each of `animals` the change in nats of its log P by the
    student's training; and `teacher`: the teacher's P of its own animal.
    """
    store = store or Store()
    digest = weights_digest(lm)
    keys = [DigitsKey(setting, tuple(animals), digest) for setting in settings]
    compute = partial(teach_and_train, lm=lm)
    store.fill(KIND, keys, compute, group=in_turn, steps=count_steps, title="students")
    rows = []
    for key in keys:
        rows.append(vars(key.setting) | store.read(KIND, key))
    return pd.DataFrame(rows)


def in_turn(keys: list[DigitsKey]) -> list[list[DigitsKey]]:
    """All in one job: two large models side by side would need twice the memory."""
    return [keys] if keys else []


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
        setting = key.setting
        lesson = (setting.animal, setting.teacher_steps, setting.teacher_rate)
        if lesson != taught:
            teacher, taught = teach(lm, setting), lesson
        student = train_student(lm, teacher, setting)
        before = preference(lm, key.animals)
        change = preference(student, key.animals) - before
        place = key.animals.index(setting.animal)
        row = dict(zip(key.animals, change.tolist()))
        row["teacher"] = float(np.exp(preference(teacher, key.animals)[place]))
        save(key, row)
        on_step()


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
