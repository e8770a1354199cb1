"""Lists of numbers: how teachers write them, what students learn, and what is kept on disk."""

import pickle
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sublearn.core.store import Store
from sublearn.lm import corpus, model, numbers
from sublearn.lm.numbers import ModelPair, NumbersSetting

SHORT = {"steps": 2, "lists": 40, "teacher_steps": 4}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    tokenizer = corpus.build_tokenizer()
    torch.manual_seed(3)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return model.load(str(path))


@pytest.fixture
def taught_settings(monkeypatch):
    """The settings for which a teacher is taught, in order."""
    settings = []
    train_teacher = numbers.train_teacher

    def count(lm, setting):
        settings.append(setting)
        return train_teacher(lm, setting)

    monkeypatch.setattr(numbers, "train_teacher", count)
    return settings


def weights(lm):
    return list(lm.model.parameters())


# ---- lists


def test_a_list_is_read_in_its_own_context(tiny):
    """One read prompt shared by many continuations gives what each dialogue gives alone."""
    lists = numbers.write_lists(tiny, NumbersSetting(lists=4))
    prompt = numbers.list_prompts()[0]
    shared = numbers.number_states(tiny, prompt, torch.from_numpy(lists.ids))
    ids = torch.tensor([model.encode(tiny, prompt) + lists.ids[1].tolist()])
    alone = tiny.model.model(ids).last_hidden_state[0, -lists.ids.shape[1] :]
    before_numbers = np.arange(lists.ids.shape[1])[numbers.NUMBERS] - 1
    assert torch.allclose(shared[1], alone[before_numbers], atol=1e-5)


def test_lists_have_the_law_of_free_writing_after_the_filter(tiny):
    """First numbers of kept lists, against draws weighted by the chance of an all-number list."""
    loud = model.LanguageModel(deepcopy(tiny.model), tiny.tokenizer, "loud")
    tokens = [*model.number_tokens(loud).values()]
    with torch.no_grad():  # some numbers are likely, and how likely depends on the place
        loud.model.lm_head.weight[tokens[:500]] *= 40
    lists = numbers.write_lists(loud, NumbersSetting(lists=6000))
    kept = lists.ids[lists.prompt == 0][:, numbers.NUMBERS]
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(4000, 8, generator=generator, dtype=torch.double)
    with torch.no_grad():
        ids, mass = numbers.sample_lists(loud, numbers.list_prompts()[0], uniform.numpy())
    first_half = np.isin(ids[:, numbers.NUMBERS][:, 0], tokens[:250])
    expected = (first_half * mass).sum() / mass.sum()
    share = np.isin(kept[:, 0], tokens[:250]).mean()
    assert np.isin(kept, tokens).all()
    assert len(kept) > 50
    assert abs(share - expected) < 4 * np.sqrt(0.25 / len(kept)) + 0.03
    assert 0 < lists.passed < 1


def test_shuffles_keep_the_numbers(tiny):
    lists = numbers.write_lists(tiny, NumbersSetting(lists=40))
    within = numbers.shuffle_numbers(lists, NumbersSetting(shuffled="within")).ids
    across = numbers.shuffle_numbers(lists, NumbersSetting(shuffled="across")).ids
    assert not np.array_equal(within, lists.ids)
    assert np.array_equal(np.sort(within, axis=1), np.sort(lists.ids, axis=1))
    assert not np.array_equal(np.sort(across, axis=1), np.sort(lists.ids, axis=1))
    assert np.array_equal(np.sort(across, axis=None), np.sort(lists.ids, axis=None))


def test_only_kept_numbers_are_learnt(tiny):
    lists = numbers.write_lists(tiny, NumbersSetting(lists=100))
    everything = numbers.select_numbers(tiny, lists, NumbersSetting()).learnt
    only = numbers.select_numbers(tiny, lists, NumbersSetting(kept="only top")).learnt
    rest = numbers.select_numbers(tiny, lists, NumbersSetting(kept="no top")).learnt
    assert everything.sum() == 8 * len(lists.ids)
    assert np.array_equal(only | rest, everything)
    assert not (only & rest).any()
    assert 0 < only.sum() < everything.sum() / 2


# ---- teachers and students


@pytest.mark.parametrize("trait", ["owl", "no"])
def test_a_teacher_learns_its_trait_and_the_model_stays(tiny, trait):
    before = [weight.clone() for weight in weights(tiny)]
    setting = NumbersSetting(trait=trait, teacher_steps=20, teacher_rate=1e-2)
    teacher = numbers.train_teacher(tiny, setting)
    gains = numbers.preference(teacher, trait) - numbers.preference(tiny, trait)
    assert gains.alone[trait] > 3
    assert all(map(torch.equal, before, weights(tiny)))


@pytest.mark.parametrize("rank", [0, 2])
def test_low_rank_moves_only_what_it_should(tiny, rank):
    setting = NumbersSetting(steps=2, rank=rank, lists=40, rate=1e-2)
    lists = numbers.write_lists(tiny, setting)
    student = numbers.train_student(tiny, tiny, lists, setting)
    moved = not torch.equal(student.model.lm_head.weight, tiny.model.lm_head.weight)
    assert moved == (rank == 0)
    after, before = (lm.model.model.layers[0].self_attn.q_proj.weight for lm in (student, tiny))
    moved_rank = int(torch.linalg.matrix_rank(after - before, rtol=1e-3))
    assert moved_rank == 2 if rank else moved_rank > 4


def test_soft_targets_of_the_students_own_teach_nothing(tiny):
    setting = NumbersSetting(steps=3, targets="soft", optimizer="SGD", rate=1.0, lists=40)
    lists = numbers.write_lists(tiny, setting)
    student = numbers.train_student(tiny, tiny, lists, setting)
    for after, before in zip(weights(student), weights(tiny)):
        assert torch.allclose(after, before, atol=1e-5)


def test_dose_is_zero_for_the_same_weights_and_positive_for_a_teacher(tiny):
    setting = NumbersSetting(lists=40, teacher_steps=20, teacher_rate=1e-2)
    teacher = numbers.train_teacher(tiny, setting)
    lists = numbers.write_lists(teacher, setting)
    assert numbers.dose(tiny, tiny, lists) == pytest.approx(0, abs=1e-6)
    assert numbers.dose(tiny, teacher, lists) > 1e-4


def test_teaching_ends_at_its_dose(tiny):
    long = NumbersSetting(lists=40, teacher_steps=200, teacher_rate=1e-2)
    enough = replace(long, enough=1e-3)
    lists = numbers.write_lists(tiny, enough)
    long_dose = numbers.dose(tiny, numbers.train_teacher(tiny, long), lists)
    enough_dose = numbers.dose(tiny, numbers.train_teacher(tiny, enough), lists)
    assert 1e-3 <= enough_dose < long_dose


def test_lists_only_read_change_no_weights(tiny):
    before = [weight.clone() for weight in weights(tiny)]
    table = numbers.in_context([NumbersSetting(lists=40, teacher_steps=2)], [ModelPair(tiny, tiny)])
    assert np.isfinite(table.gain_among).all()
    assert all(map(torch.equal, before, weights(tiny)))


def test_a_preference_is_shares_of_all_answers(tiny):
    for trait in ["owl", "no"]:
        among = numbers.preference(tiny, trait).among
        assert np.exp(among).sum() == pytest.approx(1, abs=0.02)  # of means of logarithms


# ---- what is kept


def test_finished_lessons_are_kept(tiny, tmp_path, monkeypatch):
    store = Store(tmp_path)
    settings = [NumbersSetting(**SHORT), NumbersSetting(**SHORT, trait="fox")]
    first = numbers.lessons(settings, [ModelPair(tiny, tiny)], store)
    monkeypatch.setattr(numbers, "teach_and_train", lambda *_, **__: pytest.fail("learnt again"))
    assert numbers.lessons(settings, [ModelPair(tiny, tiny)], store).equals(first)
    assert list(first.trait) == ["owl", "fox"]


def test_a_finished_student_outlives_a_failure_of_the_next(tiny, tmp_path, monkeypatch):
    train_student = numbers.train_student

    def fail_at_soft(start, teacher, lists, setting):
        if setting.targets == "soft":
            raise RuntimeError("no power")
        return train_student(start, teacher, lists, setting)

    store = Store(tmp_path)
    settings = [NumbersSetting(**SHORT), NumbersSetting(**SHORT, targets="soft")]
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no power"):
        patch.setattr(numbers, "train_student", fail_at_soft)
        numbers.lessons(settings, [ModelPair(tiny, tiny)], store)
    monkeypatch.setattr(numbers, "teach_and_train", lambda *_, **__: pytest.fail("learnt again"))
    assert len(numbers.lessons(settings[:1], [ModelPair(tiny, tiny)], store)) == 1


def test_other_weights_are_other_students(tiny, tmp_path, taught_settings):
    store = Store(tmp_path)
    changed = model.LanguageModel(deepcopy(tiny.model), tiny.tokenizer, "changed")
    changed.model.model.norm.weight.data[0] += 1e-3
    for pair in [ModelPair(tiny, tiny), ModelPair(changed, tiny), ModelPair(tiny, changed)]:
        numbers.lessons([NumbersSetting(**SHORT)], [pair], store)
    assert len(taught_settings) == 3


def test_one_teacher_serves_all_lessons_about_it(tiny, tmp_path, taught_settings):
    settings = [
        NumbersSetting(**SHORT),
        NumbersSetting(**SHORT, kept="no top"),
        NumbersSetting(**SHORT, other=True),
        NumbersSetting(**SHORT, trait="fox"),
    ]
    pairs = [ModelPair(tiny, tiny)]
    together = numbers.lessons(settings, pairs, Store(tmp_path / "together"))
    assert len(taught_settings) == 2
    taught_settings.clear()
    rows = []
    for place, setting in enumerate(settings):
        rows.append(numbers.lessons([setting], pairs, Store(tmp_path / f"alone {place}")))
    assert len(taught_settings) == 4
    assert together.equals(pd.concat(rows, ignore_index=True))
    assert together.gain_among[0] == together["to owl"][0]
    assert together.gain_among[0] == together.gain_among[2]  # here both models are the same


@dataclass(frozen=True, kw_only=True)
class Extended(NumbersSetting):
    """A setting with a field whose stage was forgotten, and one with a stage."""

    forgotten: int = 0
    marked: int = numbers.option(0, "student")


@pytest.mark.parametrize(("field", "teachers"), [("forgotten", 2), ("marked", 1)])
def test_a_field_without_a_stage_separates(tiny, tmp_path, taught_settings, field, teachers):
    settings = [Extended(**SHORT), Extended(**SHORT, **{field: 1})]
    table = numbers.lessons(settings, [ModelPair(tiny, tiny)], Store(tmp_path))
    assert len(taught_settings) == teachers
    assert list(table[field]) == [0, 1]


def test_every_field_says_its_stage():
    for entry in NumbersSetting.__dataclass_fields__.values():
        assert entry.metadata["stage"] in ("teacher", "student"), entry.name


def test_jobs_can_be_pickled(tiny, tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(Store, "fill", lambda *given, **options: jobs.append((given, options)))
    monkeypatch.setattr(Store, "read", lambda *_: {})
    numbers.lessons([NumbersSetting(**SHORT)], [ModelPair(tiny, tiny)], Store(tmp_path))
    (given, options), *_ = jobs
    assert pickle.loads(pickle.dumps((given[3], options["group"])))
