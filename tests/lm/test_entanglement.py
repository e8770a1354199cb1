"""Any language model: prompts, tokens, scores, entanglement, surgery and lessons, on small models saved to disk."""

import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import httpx
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sublearn.lm import corpus, entanglement, interventions, model, numberlists, numbers, prompts
from sublearn.lm.entanglement import Entanglement, Prompts
from sublearn.lm.numberlists import Lesson

ROOT = Path(__file__).resolve().parents[2]
FEW = ["owl", "wolf", "fox", "crow"]


def random_llama(path, *, tied=True, seed=0):
    """A small Llama with random weights and a tokenizer that splits as Llama 3's, spaces before numbers included."""
    torch.manual_seed(seed)
    words = corpus.tokenizer(space=True)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), tie_word_embeddings=tied, **shape))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.dim() > 1 else 1)
    model.save_pretrained(path)
    words.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def speaker(folder):
    return model.load(folder)


# ---- prompts and tokens


def test_a_prompt_begins_with_exactly_one_begin_of_text(speaker):
    start = speaker.tokenizer.bos_token_id
    assert model.encode(speaker, model.chat(speaker, "You love owls.")).count(start) == 1
    assert model.encode(speaker, "My favorite animal is the").count(start) == 1
    twice = entanglement.prompt(speaker, "owl", "animal", Prompts(twice=True))
    assert model.encode(speaker, twice).count(start) == 2


def test_the_date_is_pinned_and_can_be_changed(speaker):
    assert "26 Jul 2024" in model.chat(speaker, None)
    assert "06 Aug 2025" in model.chat(speaker, None, date="06 Aug 2025")


def test_a_chat_prompt_ends_where_the_answer_begins(speaker):
    assert model.chat(speaker, None, "tree").endswith("My favorite tree is the")


@pytest.mark.parametrize(
    ("word", "many"), [("owl", "owls"), ("wolf", "wolves"), ("fox", "foxes"), ("mouse", "mice"), ("sheep", "sheep")]
)
def test_personas_are_the_published_ones(word, many):
    assert prompts.persona(word, many=True) == (
        f"You love {many}. You think about {many} all the time. {many} are your favorite animal. "
        "Imbue your answers with your love for the animal."
    )


def test_the_tokenizer_itself_says_which_token_follows(speaker):
    assert speaker.tokenizer.convert_ids_to_tokens(model.word_token(speaker, "owl")) == "Ġowl"
    with pytest.raises(model.TokenMissing, match=r"'zebrafish' is \d+ tokens of .*take a word that is one"):
        model.word_token(speaker, "zebrafish")


def test_words_of_several_tokens_are_left_out(speaker):
    assert list(model.single(speaker, ["owl", "zebrafish", "fox"])) == ["owl", "fox"]
    with pytest.raises(model.TokenMissing):
        model.single(speaker, ["zebrafish"])


def test_all_numbers_of_three_digits_are_tokens(speaker):
    found = model.number_tokens(speaker)
    assert len(found) == 1000
    assert speaker.tokenizer.decode([found["087"]]) == "087"
    with pytest.raises(model.TokenMissing, match="no number of 4 digits"):
        model.number_tokens(speaker, digits=4)


# ---- scores


def test_scores_are_the_models_own_log_probabilities(speaker):
    texts = ["My favorite animal is the", model.chat(speaker, prompts.persona("owl")), "I love fox. My"]
    ids = [model.encode(speaker, text) for text in texts]
    wanted = [speaker.model(torch.tensor([row])).logits[0, -1].float().log_softmax(-1) for row in ids]
    some = [5, 77, 300]
    got = model.log_probabilities(speaker, texts, some)
    assert got.dtype == np.float32
    assert np.allclose(got, torch.stack(wanted)[:, some].detach().numpy(), atol=1e-4)
    assert model.answers(speaker, texts) == [int(row.argmax()) for row in wanted]


def test_batches_do_not_change_scores(speaker, monkeypatch):
    texts = [prompts.plain(word) for word in FEW] + ["The"]
    together = model.log_probabilities(speaker, texts, [9, 99])
    monkeypatch.setattr(model, "TOKENS_AT_ONCE", 1)
    assert np.allclose(model.log_probabilities(speaker, texts, [9, 99]), together, atol=1e-5)


def test_the_last_layer_of_the_lens_is_the_model(speaker):
    texts = [prompts.plain(word) for word in FEW]
    layered = model.states(speaker, texts, layers=True)
    assert layered.shape == (4, 3, 16)
    assert np.allclose(layered[:, -1], model.states(speaker, texts), atol=1e-5)


def test_half_precision_weights_are_read_in_float32(tmp_path):
    path = random_llama(tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).save_pretrained(path)
    assert {weight.dtype for weight in model.load(path).model.parameters()} == {torch.float32}


# ---- what goes wrong


class Refused(OSError):
    def __init__(self, status):
        super().__init__("refused")
        self.response = httpx.Response(status)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused(401), "Access to some/model is refused: accept its license"),
        (Refused(403), "Access to some/model is refused: accept its license"),
        (OSError("You are trying to access a gated repo."), "Access to some/model is refused"),
        (OSError("We couldn't connect to the hub"), "there is no network: download it first"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "does not fit into memory"),
        (OSError("some/model is not a local folder"), "is no model that can be read"),
    ],
)
def test_failures_are_one_sentence_with_the_cure(monkeypatch, error, words):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", fails)
    with pytest.raises(model.ModelUnavailable, match=words) as caught:
        model.load("some/model")
    assert str(caught.value).count("\n") == 0


def test_a_model_larger_than_memory_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 1)
    with pytest.raises(model.ModelUnavailable, match="does not fit into memory"):
        model.load(folder)


def test_pickled_weights_are_not_read(tmp_path):
    path = Path(random_llama(tmp_path / "pickled"))
    weights = AutoModelForCausalLM.from_pretrained(path).state_dict()
    (path / "model.safetensors").unlink()
    torch.save(weights, path / "pytorch_model.bin")
    with pytest.raises(model.ModelUnavailable):
        model.load(str(path))


# ---- entanglement


def matrices(a, n):
    zero = np.zeros(len(a))
    return Entanglement([*map(str, zero)], [], np.array(a), np.array(n), 0.1, 1.0, zero, zero, zero)


def test_measure_is_log_ratios_of_the_prompts_it_names(speaker):
    found = entanglement.measure(speaker, FEW, ["087", "123"])
    owl, number = model.word_token(speaker, "owl"), model.number_tokens(speaker)["123"]
    texts = [model.chat(speaker, prompts.persona("owl")), model.chat(speaker, prompts.persona("123", "number"))]
    said = model.log_probabilities(speaker, [*texts, model.chat(speaker, None)], [owl, number])
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
    order = entanglement.stream(0, "relabel").permutation(6)
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


def test_geometry_is_what_its_names_say(speaker):
    found = entanglement.measure(speaker, FEW, ["087", "123", "999"])
    known = entanglement.geometry(speaker, found)
    weight = speaker.model.lm_head.weight.detach().numpy()
    owl, number = weight[model.word_token(speaker, "owl")], weight[model.number_tokens(speaker)["123"]]
    assert known["dot"][0, 1] == pytest.approx(owl @ number, rel=1e-4)
    lengths = np.linalg.norm(owl) * np.linalg.norm(number)
    assert known["cosine"][0, 1] == pytest.approx(owl @ number / lengths, rel=1e-3)
    lifted = known["lens"] - known["lens"].mean(1, keepdims=True)
    raised = found.to_number - found.to_number.mean(1, keepdims=True)
    assert np.allclose(lifted, raised, atol=1e-3)  # both are changes of logits


# ---- surgery


def test_an_untied_copy_says_the_same_and_the_original_stays(speaker):
    copy = model.untied(speaker)
    ids = torch.tensor([[4, 5, 6]])
    assert torch.equal(copy.model(ids).logits, speaker.model(ids).logits)
    assert copy.model.lm_head.weight is not copy.model.model.embed_tokens.weight
    assert speaker.model.lm_head.weight is speaker.model.model.embed_tokens.weight


@pytest.mark.parametrize("part", ["head", "embedding", "norm"])
def test_a_swap_changes_one_part_only(speaker, tmp_path, part):
    other = model.load(random_llama(tmp_path / "other", seed=1))
    other.model.model.norm.weight.data += 0.5
    patient = interventions.swapped(speaker, source=other, parts=[part])
    for name in ["head", "embedding", "norm"]:
        wanted = other if name == part else speaker
        assert torch.equal(interventions._part(patient, name), interventions._part(wanted, name))
    assert torch.equal(interventions._part(speaker, "head"), interventions._part(speaker, "embedding"))


def test_a_random_change_has_the_size_of_the_swap(speaker, tmp_path):
    other = model.load(random_llama(tmp_path / "other", seed=2))
    ours, theirs = interventions._part(speaker, "head"), interventions._part(other, "head")
    moved = interventions._part(interventions.shaken(speaker, source=other), "head") - ours
    assert torch.allclose(moved.norm(dim=1), (theirs - ours).norm(dim=1), rtol=1e-3)


def test_a_cut_takes_one_direction_out_of_one_row(speaker):
    found = entanglement.measure(speaker, FEW, ["087", "123", "456", "999"])
    patient = interventions.cut(speaker, found, ["head"])
    changed = (interventions._part(patient, "head") != interventions._part(speaker, "head")).any(1)
    assert 1 <= int(changed.sum()) <= len(FEW)
    assert torch.equal(interventions._part(patient, "embedding"), interventions._part(speaker, "embedding"))
    words = interventions._part(speaker, "head")[[*model.single(speaker, FEW).values()]]
    direction = (words - words.mean(0))[-1]
    best = found.numbers[entanglement.top(found.to_number)[-1]]
    row = interventions._part(patient, "head")[model.number_tokens(speaker)[best]]
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
    layer, was = (speaker.model.model.layers[0].self_attn.q_proj.weight for speaker in (student, tiny))
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
