"""Entanglement: what is measured, its statistics, and the notebooks on a model from disk."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from scipy.stats import spearmanr

from sublearn.core.rng import rng
from sublearn.lm import entanglement, model, prompts
from sublearn.lm.entanglement import Entanglement

ROOT = Path(__file__).resolve().parents[2]
FEW = ["owl", "wolf", "fox", "crow"]


def from_matrices(to_number, to_word):
    zeros = np.zeros(len(to_number))
    return Entanglement(
        words=[*map(str, zeros)],
        numbers=[],
        to_number=np.array(to_number),
        to_word=np.array(to_word),
        leak=0.1,
        accuracy=1.0,
        number_baseline=zeros,
        state_shift=zeros,
    )


def test_measure_is_log_ratios_of_the_prompts_it_names(lm):
    measured = entanglement.measure(lm, FEW, ["087", "123"])
    tokens = [model.word_token(lm, "owl"), model.number_tokens(lm)["123"]]
    owl_prompt = model.chat_prompt(lm, prompts.persona("owl"))
    number_prompt = model.chat_prompt(lm, prompts.persona("123", "number"))
    neutral_prompt = model.chat_prompt(lm, None)
    scores = model.log_probabilities(lm, [owl_prompt, number_prompt, neutral_prompt], tokens)
    assert np.isclose(measured.to_number[0, 1], scores[0, 1] - scores[2, 1], atol=1e-4)
    assert np.isclose(measured.to_word[0, 1], scores[1, 0] - scores[2, 0], atol=1e-4)
    assert 0 < measured.leak < 1


def test_what_is_not_one_token_is_left_out(lm):
    measured = entanglement.measure(lm, ["owl", "zebrafish", "fox"], ["087", "8765"])
    assert measured.words == ["owl", "fox"]
    assert measured.numbers == ["087"]
    assert measured.to_number.shape == measured.to_word.shape == (2, 1)


def test_centering_removes_baselines_and_nothing_else():
    matrix = np.random.default_rng(0).normal(size=(5, 7))
    shifted = matrix + np.arange(5)[:, None] * 3 - np.arange(7) ** 2
    assert np.allclose(entanglement.centered(matrix), entanglement.centered(shifted))
    assert np.allclose(entanglement.centered(matrix).mean(0), 0)


def test_rank_correlation_by_row_is_spearmans():
    first, second = np.random.default_rng(1).normal(size=(2, 4, 30)).round(1)
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second)]
    assert np.allclose(entanglement.by_row(first, second), expected)


def test_strong_pairs_are_counted_at_the_top_number():
    measured = from_matrices([[3, 0], [0, 3], [1, 0]], [[1, 9], [9, 0], [1, 9]])
    assert entanglement.strong(measured) == pytest.approx(2 / 3)
    assert entanglement.strong(measured, cutoff=2) == 0


def test_nulls_are_near_zero_without_and_far_below_with_a_relation():
    noise, other = np.random.default_rng(2).normal(size=(2, 30, 200))
    assert abs(entanglement.permuted(noise, other).mean()) < 0.02
    related = noise + other
    centered = entanglement.centered
    observed = entanglement.correlation(centered(noise), centered(related))
    assert observed > np.quantile(entanglement.permuted(noise, related), 0.999) + 0.3


def test_relabeling_is_what_permuted_says():
    first, second = map(entanglement.centered, np.random.default_rng(5).normal(size=(2, 6, 9)))
    order = rng(0, "relabel").permutation(6)
    expected = entanglement.correlation(first[order], second)
    assert np.isclose(entanglement.permuted(first, second, draws=1)[0], expected)


def test_p_of_rows_is_uniform_without_and_small_with_a_relation():
    noise, other = np.random.default_rng(3).normal(size=(2, 40, 300))
    assert 0.3 < entanglement.row_p(noise, other).mean() < 0.7
    assert entanglement.row_p(noise, noise + other).max() < 0.05 / 40


def test_components_sum_to_one_and_find_the_planted_effect():
    word, number = np.random.default_rng(4).normal(size=(2, 6))
    cube = np.zeros((6, 6, 5)) + (word[:, None] * number)[..., None] + 3 * number[None, :, None]
    shares = entanglement.components(cube)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["number"] + shares["word"] + shares["word x number"] == pytest.approx(1)


def test_geometry_is_what_its_names_say(lm):
    measured = entanglement.measure(lm, FEW, ["087", "123", "999"])
    predictors = entanglement.geometry(lm, measured)
    weight = lm.model.lm_head.weight.detach().numpy()
    owl = weight[model.word_token(lm, "owl")]
    number = weight[model.number_tokens(lm)["123"]]
    assert predictors["dot"][0, 1] == pytest.approx(owl @ number, rel=1e-4)
    lengths = np.linalg.norm(owl) * np.linalg.norm(number)
    assert predictors["cosine"][0, 1] == pytest.approx(owl @ number / lengths, rel=1e-3)
    lens = predictors["lens"] - predictors["lens"].mean(1, keepdims=True)
    rises = measured.to_number - measured.to_number.mean(1, keepdims=True)
    assert np.allclose(lens, rises, atol=1e-3)  # both are changes of logits


# ---- the notebooks on a model from disk


@pytest.mark.book
@pytest.mark.parametrize("name", ["09_token_entanglement", "10_geometry_and_training"])
def test_the_notebooks_run_on_a_model_from_disk(name, folder, tmp_path):
    """Random weights and Llama's spaces: the code that a reader with the real model runs."""
    small = {"model": folder, "base": folder, "models": 2, "some_numbers": 5}
    small |= {"width": 16, "layers": 1, "pretrain_steps": 12, "chat_steps": 12}
    small |= {"small_pretrain_steps": 12, "untied_models": 2, "planted_models": 2}
    small |= {"law_models": 2, "law_widths": [16, 32], "law_numbers": [100, 150]}
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    literals = dict(line.split(" = ", 1) for line in cells[0].source.splitlines())
    parameters = {key: small.get(key, json.loads(value)) for key, value in literals.items()}
    first = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    script = "\n".join([first, *(cell.source for cell in cells[1:])])
    environment = {"SUBLIMINAL_CACHE": str(tmp_path / "cache"), "SUBLIMINAL_RESULTS": str(tmp_path)}
    command = [sys.executable, "-c", f"import os; os.environ |= {environment!r}\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"setting": "real"' in (tmp_path / "records.jsonl").read_text()
