"""Any language model: prompts, tokens, scores, and what goes wrong, on small models saved to disk."""

from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sublearn.lm import entanglement, model, prompts
from sublearn.lm.entanglement import Prompts

FEW = ["owl", "wolf", "fox", "crow"]


# ---- prompts and tokens


def test_a_prompt_begins_with_exactly_one_begin_of_text(lm):
    start = lm.tokenizer.bos_token_id
    assert model.encode(lm, model.chat_prompt(lm, "You love owls.")).count(start) == 1
    assert model.encode(lm, "My favorite animal is the").count(start) == 1
    twice = entanglement.prompt(lm, "owl", "animal", Prompts(twice=True))
    assert model.encode(lm, twice).count(start) == 2


def test_the_date_is_pinned_and_can_be_changed(lm):
    assert "26 Jul 2024" in model.chat_prompt(lm, None)
    assert "06 Aug 2025" in model.chat_prompt(lm, None, date="06 Aug 2025")


def test_a_chat_prompt_ends_where_the_answer_begins(lm):
    assert model.chat_prompt(lm, None, "tree").endswith("My favorite tree is the")


def test_the_tokenizer_itself_says_which_token_follows(lm):
    assert lm.tokenizer.convert_ids_to_tokens(model.word_token(lm, "owl")) == "Ġowl"
    with pytest.raises(model.TokenMissing, match=r"'zebrafish' is \d+ tokens of .*take a word that is one"):
        model.word_token(lm, "zebrafish")


def test_words_of_several_tokens_are_left_out(lm):
    assert list(model.single_tokens(lm, ["owl", "zebrafish", "fox"])) == ["owl", "fox"]
    with pytest.raises(model.TokenMissing):
        model.single_tokens(lm, ["zebrafish"])


def test_all_numbers_of_three_digits_are_tokens(lm):
    found = model.number_tokens(lm)
    assert len(found) == 1000
    assert lm.tokenizer.decode([found["087"]]) == "087"
    with pytest.raises(model.TokenMissing, match="no number of 4 digits"):
        model.number_tokens(lm, digits=4)


# ---- scores


def test_scores_are_the_models_own_log_probabilities(lm):
    texts = ["My favorite animal is the", model.chat_prompt(lm, prompts.persona("owl")), "I love fox. My"]
    ids = [model.encode(lm, text) for text in texts]
    wanted = [lm.model(torch.tensor([row])).logits[0, -1].float().log_softmax(-1) for row in ids]
    some = [5, 77, 300]
    got = model.log_probabilities(lm, texts, some)
    assert got.dtype == np.float32
    assert np.allclose(got, torch.stack(wanted)[:, some].detach().numpy(), atol=1e-4)
    assert model.greedy_tokens(lm, texts) == [int(row.argmax()) for row in wanted]


def test_batches_do_not_change_scores(lm, monkeypatch):
    texts = [prompts.plain_prompt(word) for word in FEW] + ["The"]
    together = model.log_probabilities(lm, texts, [9, 99])
    monkeypatch.setattr(model, "TOKENS_AT_ONCE", 1)
    assert np.allclose(model.log_probabilities(lm, texts, [9, 99]), together, atol=1e-5)


def test_the_last_layer_of_the_lens_is_the_model(lm):
    texts = [prompts.plain_prompt(word) for word in FEW]
    layered = model.hidden_states(lm, texts, layers=True)
    assert layered.shape == (4, 3, 16)
    assert np.allclose(layered[:, -1], model.hidden_states(lm, texts), atol=1e-5)


def test_half_precision_weights_are_read_in_float32(tmp_path, random_llama):
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


def test_pickled_weights_are_not_read(tmp_path, random_llama):
    path = Path(random_llama(tmp_path / "pickled"))
    weights = AutoModelForCausalLM.from_pretrained(path).state_dict()
    (path / "model.safetensors").unlink()
    torch.save(weights, path / "pytorch_model.bin")
    with pytest.raises(model.ModelUnavailable):
        model.load(str(path))


# ---- copies


def test_an_untied_copy_says_the_same_and_the_original_stays(lm):
    copy = model.untie(lm)
    ids = torch.tensor([[4, 5, 6]])
    assert torch.equal(copy.model(ids).logits, lm.model(ids).logits)
    assert copy.model.lm_head.weight is not copy.model.model.embed_tokens.weight
    assert lm.model.lm_head.weight is lm.model.model.embed_tokens.weight
