"""Any language model: prompts, tokens, scores, entanglement, surgery and lessons, on small models saved to disk."""

import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from transformers import LlamaConfig, LlamaForCausalLM

from sublearn.lm import corpus, entanglement, interventions, model, numberlists, numbers, prompts
from sublearn.lm.entanglement import Entanglement
from sublearn.lm.numberlists import Lesson

ROOT = Path(__file__).resolve().parents[2]
FEW = ["owl", "wolf", "fox", "crow"]


# ---- entanglement


def matrices(a, n):
    zero = np.zeros(len(a))
    return Entanglement([*map(str, zero)], [], np.array(a), np.array(n), 0.1, 1.0, zero, zero, zero)


def test_measure_is_log_ratios_of_the_prompts_it_names(lm):
    found = entanglement.measure(lm, FEW, ["087", "123"])
    owl, number = model.word_token(lm, "owl"), model.number_tokens(lm)["123"]
    texts = [model.chat(lm, prompts.persona("owl")), model.chat(lm, prompts.persona("123", "number"))]
    said = model.log_probabilities(lm, [*texts, model.chat(lm, None)], [owl, number])
    assert np.isclose(found.to_number[0, 1], said[0, 1] - said[2, 1], atol=1e-4)
    assert np.isclose(found.to_word[0, 1], said[1, 0] - said[2, 0], atol=1e-4)
    assert 0 < found.leak < 1


def test_centering_removes_baselines_and_nothing_else():
    matrix = np.random.default_rng(0).normal(size=(5, 7))
    shifted = matrix + np.arange(5)[:, None] * 3 - np.arange(7) ** 2
    assert np.allclose(entanglement.centered(matrix), entanglement.centered(shifted))
    assert np.allclose(entanglement.centered(matrix).mean(0), 0)


def test_rank_correlation_by_row_is_spearmans():
    one, two = np.random.default_rng(1).normal(size=(2, 4, 30)).round(1)
    assert np.allclose(entanglement.by_row(one, two), [spearmanr(a, b).statistic for a, b in zip(one, two)])


def test_strong_pairs_are_counted_at_the_top_number():
    found = matrices([[3, 0], [0, 3], [1, 0]], [[1, 9], [9, 0], [1, 9]])
    assert entanglement.strong(found) == pytest.approx(2 / 3)
    assert entanglement.strong(found, cut=2) == 0


def test_nulls_are_near_zero_without_and_far_below_with_a_relation():
    random = np.random.default_rng(2)
    noise, other = random.normal(size=(2, 30, 200))
    assert abs(entanglement.permuted(noise, other).mean()) < 0.02
    related = noise + other
    observed = entanglement.correlation(entanglement.centered(noise), entanglement.centered(related))
    assert observed > np.quantile(entanglement.permuted(noise, related), 0.999) + 0.3


def test_relabeling_is_what_permuted_says():
    one, two = (entanglement.centered(side) for side in np.random.default_rng(5).normal(size=(2, 6, 9)))
    order = entanglement.rng(0, "relabel").permutation(6)
    assert np.isclose(entanglement.permuted(one, two, draws=1)[0], entanglement.correlation(one[order], two))


def test_p_of_rows_is_uniform_without_and_small_with_a_relation():
    random = np.random.default_rng(3)
    noise, other = random.normal(size=(2, 40, 300))
    assert 0.3 < entanglement.row_p(noise, other).mean() < 0.7
    assert entanglement.row_p(noise, noise + other).max() < 0.05 / 40


def test_components_sum_to_one_and_find_the_planted_effect():
    word, number = np.random.default_rng(4).normal(size=(2, 6))
    cube = np.zeros((6, 6, 5)) + (word[:, None] * number)[..., None] + 3 * number[None, :, None]
    shares = entanglement.components(cube)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["number"] + shares["word"] + shares["word x number"] == pytest.approx(1)


def test_geometry_is_what_its_names_say(lm):
    found = entanglement.measure(lm, FEW, ["087", "123", "999"])
    known = entanglement.geometry(lm, found)
    weight = lm.model.lm_head.weight.detach().numpy()
    owl, number = weight[model.word_token(lm, "owl")], weight[model.number_tokens(lm)["123"]]
    assert known["dot"][0, 1] == pytest.approx(owl @ number, rel=1e-4)
    lengths = np.linalg.norm(owl) * np.linalg.norm(number)
    assert known["cosine"][0, 1] == pytest.approx(owl @ number / lengths, rel=1e-3)
    lifted = known["lens"] - known["lens"].mean(1, keepdims=True)
    raised = found.to_number - found.to_number.mean(1, keepdims=True)
    assert np.allclose(lifted, raised, atol=1e-3)  # both are changes of logits


# ---- surgery


@pytest.mark.parametrize("part", ["head", "embedding", "norm"])
def test_a_swap_changes_one_part_only(lm, tmp_path, part, random_llama):
    other = model.load(random_llama(tmp_path / "other", seed=1))
    other.model.model.norm.weight.data += 0.5
    patient = interventions.swapped(lm, source=other, parts=[part])
    for name in ["head", "embedding", "norm"]:
        wanted = other if name == part else lm
        assert torch.equal(interventions._part(patient, name), interventions._part(wanted, name))
    assert torch.equal(interventions._part(lm, "head"), interventions._part(lm, "embedding"))


def test_a_random_change_has_the_size_of_the_swap(lm, tmp_path, random_llama):
    other = model.load(random_llama(tmp_path / "other", seed=2))
    ours, theirs = interventions._part(lm, "head"), interventions._part(other, "head")
    moved = interventions._part(interventions.shaken(lm, source=other), "head") - ours
    assert torch.allclose(moved.norm(dim=1), (theirs - ours).norm(dim=1), rtol=1e-3)


def test_a_cut_takes_one_direction_out_of_one_row(lm):
    found = entanglement.measure(lm, FEW, ["087", "123", "456", "999"])
    patient = interventions.cut(lm, found, ["head"])
    changed = (interventions._part(patient, "head") != interventions._part(lm, "head")).any(1)
    assert 1 <= int(changed.sum()) <= len(FEW)
    assert torch.equal(interventions._part(patient, "embedding"), interventions._part(lm, "embedding"))
    words = interventions._part(lm, "head")[[*model.single(lm, FEW).values()]]
    direction = (words - words.mean(0))[-1]
    best = found.numbers[entanglement.top(found.to_number)[-1]]
    row = interventions._part(patient, "head")[model.number_tokens(lm)[best]]
    assert abs(float(row @ direction)) < 1e-3


# ---- lists and lessons


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path, words = tmp_path_factory.mktemp("tiny"), corpus.tokenizer()
    torch.manual_seed(3)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), tie_word_embeddings=True, **shape)).save_pretrained(path)
    words.save_pretrained(path)
    return model.load(str(path))


def test_a_list_is_read_in_its_own_context(tiny):
    """One read prompt shared by many continuations gives what each dialogue gives alone."""
    lists = numberlists.written(tiny, Lesson(lists=4))
    prompt = numberlists.prompts(tiny)[0]
    shared = numberlists.hidden(tiny, prompt, torch.from_numpy(lists.ids))
    alone = tiny.model.model(torch.tensor([model.encode(tiny, prompt) + lists.ids[1].tolist()])).last_hidden_state
    assert torch.allclose(shared[1], alone[0, -lists.ids.shape[1] :], atol=1e-5)


def test_lists_have_the_law_of_free_writing_after_the_filter(tiny):
    """First numbers of the kept lists, against draws weighted by the chance that all of the list is numbers."""
    loud = model.Speaker(deepcopy(tiny.model), tiny.tokenizer, "loud")
    numbers = [*model.number_tokens(loud).values()]
    with torch.no_grad():
        loud.model.lm_head.weight[numbers[:500]] *= 40  # some numbers are likely, and how likely depends on the place
    lists = numberlists.written(loud, Lesson(lists=6000))
    kept = lists.ids[lists.asked == 0]
    prompt = numberlists.prompts(loud)[0]
    uniform = torch.rand(4000, 8, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    with torch.no_grad():
        ids, mass = numberlists._sampled(loud, prompt, uniform)
    half = np.isin(ids[:, numberlists.NUMBERS][:, 0], numbers[:250])
    expected = (half * mass).sum() / mass.sum()
    found = np.isin(kept[:, numberlists.NUMBERS][:, 0], numbers[:250]).mean()
    assert np.isin(kept[:, numberlists.NUMBERS], numbers).all()
    assert len(kept) > 50
    assert abs(found - expected) < 4 * np.sqrt(0.25 / len(kept)) + 0.03
    assert 0 < lists.passed < 1


def test_shuffles_keep_the_numbers(tiny):
    lists = numberlists.written(tiny, Lesson(lists=40))
    within = numberlists.mixed(lists, Lesson(shuffled="within")).ids
    across = numberlists.mixed(lists, Lesson(shuffled="across")).ids
    assert not np.array_equal(within, lists.ids)
    assert np.array_equal(np.sort(within, axis=1), np.sort(lists.ids, axis=1))
    assert not np.array_equal(np.sort(across, axis=1), np.sort(lists.ids, axis=1))
    assert np.array_equal(np.sort(across, axis=None), np.sort(lists.ids, axis=None))


def test_only_kept_numbers_are_learnt(tiny):
    lists = numberlists.written(tiny, Lesson(lists=100))
    every = numberlists.learnable(tiny, lists, Lesson())
    only, rest = (numberlists.learnable(tiny, lists, Lesson(kept=kept)) for kept in ("only top", "no top"))
    assert every.sum() == 8 * len(lists.ids)
    assert np.array_equal(only | rest, every)
    assert not (only & rest).any()
    assert 0 < only.sum() < every.sum() / 2


def test_a_teacher_learns_its_trait_and_its_pupil_stays(tiny):
    before = [weight.clone() for weight in tiny.model.parameters()]
    for trait in ["owl", "no"]:
        lesson = Lesson(trait=trait, teacher_steps=20, teacher_rate=1e-2)
        teacher = numberlists.taught(tiny, lesson)
        assert numbers.preference(teacher, trait)[0] > numbers.preference(tiny, trait)[0] + 3
    assert all(torch.equal(one, two) for one, two in zip(before, tiny.model.parameters()))


@pytest.mark.parametrize("rank", [0, 2])
def test_low_rank_moves_only_what_it_should(tiny, rank):
    lesson = Lesson(steps=2, rank=rank, lists=40, rate=1e-2)
    lists = numberlists.written(tiny, lesson)
    student = numbers.learnt(tiny, lists, lesson, numberlists.learnable(tiny, lists, lesson), tiny)
    moved = not torch.equal(student.model.lm_head.weight, tiny.model.lm_head.weight)
    assert moved == (rank == 0)
    layer, was = (lm.model.model.layers[0].self_attn.q_proj.weight for lm in (student, tiny))
    moved_rank = int(torch.linalg.matrix_rank(layer - was, rtol=1e-3))
    assert moved_rank == 2 if rank else moved_rank > 4


def test_soft_targets_of_the_students_own_teach_nothing(tiny):
    lesson = Lesson(steps=3, targets="soft", optimizer="SGD", rate=1.0, lists=40)
    lists = numberlists.written(tiny, lesson)
    student = numbers.learnt(tiny, lists, lesson, numberlists.learnable(tiny, lists, lesson), tiny)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(student.model.parameters(), tiny.model.parameters()))


def test_dose_is_zero_for_the_own_weights_and_positive_for_a_teacher(tiny):
    lesson = Lesson(lists=40, teacher_steps=20, teacher_rate=1e-2)
    teacher = numberlists.taught(tiny, lesson)
    lists = numberlists.written(teacher, lesson)
    assert numberlists.dose(tiny, tiny, lists, lesson) == pytest.approx(0, abs=1e-6)
    assert numberlists.dose(tiny, teacher, lists, lesson) > 1e-4


def test_finished_lessons_are_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(numbers, "CACHE", tmp_path)
    pair = [numbers.School(tiny, tiny)]
    wanted = [Lesson(steps=2, lists=40, teacher_steps=2), Lesson(steps=2, lists=40, teacher_steps=2, trait="fox")]
    first = numbers.lessons(wanted, pair)
    monkeypatch.setattr(numbers, "_class", lambda *_, **__: pytest.fail("learnt again"))
    assert numbers.lessons(wanted, pair).equals(first)
    assert list(first.trait) == ["owl", "fox"]


def test_one_teacher_serves_all_lessons_about_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(numbers, "CACHE", tmp_path)
    short = {"steps": 2, "lists": 40, "teacher_steps": 4}
    wanted = [
        Lesson(**short),
        Lesson(**short, kept="no top"),
        Lesson(**short, other=True),
        Lesson(**short, trait="fox"),
    ]
    school = [numbers.School(tiny, tiny)]
    together = numbers.lessons(wanted, school)
    taught = []
    monkeypatch.setattr(numbers, "CACHE", tmp_path / "alone")
    monkeypatch.setattr(numbers, "taught", lambda *given: taught.append(given[1]) or numberlists.taught(*given))
    alone = pd.concat([numbers.lessons([lesson], school) for lesson in wanted], ignore_index=True)
    assert len(taught) == 4
    assert together.equals(alone)
    assert together.gain_among[0] == together["to owl"][0]
    assert together.gain_among[0] == together.gain_among[2]  # here both schools are the same model


def test_teaching_ends_at_its_dose(tiny):
    long = Lesson(lists=40, teacher_steps=200, teacher_rate=1e-2)
    enough = replace(long, enough=1e-3)
    lists = numberlists.written(tiny, enough)
    doses = [numberlists.dose(tiny, numberlists.taught(tiny, lesson), lists, lesson) for lesson in (long, enough)]
    assert 1e-3 <= doses[1] < doses[0]


def test_lists_only_read_change_no_weights(tiny):
    found = numbers.in_context([Lesson(lists=40, teacher_steps=2)], [numbers.School(tiny, tiny)])
    assert np.isfinite(found.gain_among).all()


# ---- the notebooks on a model from disk


@pytest.mark.book
@pytest.mark.parametrize("name", ["09_token_entanglement", "10_geometry_and_training"])
def test_the_notebooks_run_on_a_model_from_disk(name, folder, tmp_path):
    """Random weights, a tokenizer with Llama's spaces, one model: the code that a reader with the real one runs."""
    small = {"some_numbers": 5, "layers": 1, "reading": 12, "tuning": 12, "untied_pairs": 2, "planted_pairs": 2}
    small |= {"small_reading": 12, "width": 16, "law_pairs": 2, "law_widths": [16, 32], "law_numbers": [100, 150]}
    small |= {"model": folder, "base": folder, "pairs": 2}
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    own = dict(line.split(" = ", 1) for line in cells[0].source.splitlines())
    first = "\n".join(f"{key} = {small.get(key, json.loads(value))!r}" for key, value in own.items())
    script = "\n".join([first, *(cell.source for cell in cells[1:])])
    environment = {"SUBLIMINAL_CACHE": str(tmp_path / "cache"), "SUBLIMINAL_RESULTS": str(tmp_path)}
    command = [sys.executable, "-c", f"import os; os.environ |= {environment!r}\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"setting": "real"' in (tmp_path / "records.jsonl").read_text()
