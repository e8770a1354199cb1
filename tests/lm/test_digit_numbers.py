"""Numbers of three digits: the cached tree gives what whole prompts give, and costs what it says."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sublearn.core.store import Store
from sublearn.lm import corpus, digit_lists, digit_numbers, entanglement, model
from sublearn.lm.interventions import part_weight

ANIMALS = ["owl", "fox", "crow", "wolf"]


def byte_tokenizer():
    """Every digit is a token, as in SmolLM2; some animals are one, after a space."""
    vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in ANIMALS:
        for end in range(1, len(word) + 1):
            merges.append(("Ġ" + word[: end - 1], word[end - 1]))
            vocabulary.append("Ġ" + word[:end])
    vocabulary = list(dict.fromkeys([*corpus.SPECIAL_TOKENS, *vocabulary]))
    numbered = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(numbered, list(dict.fromkeys(merges))))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin_of_text|>")
    fast.add_special_tokens({"additional_special_tokens": corpus.SPECIAL_TOKENS})
    fast.chat_template = corpus.CHAT_TEMPLATE
    return fast


def random_model(tokenizer):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **shape))
    with torch.no_grad():
        for weight in llama.parameters():
            weight.mul_(8 if weight.dim() > 1 else 1)
    llama.eval().requires_grad_(False)
    return model.LanguageModel(llama, tokenizer, "random")


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")


@pytest.fixture(scope="module")
def digits_lm():
    return random_model(byte_tokenizer())


@pytest.fixture(scope="module")
def tokens_lm():
    return random_model(corpus.build_tokenizer())


def whole_prompt(lm, prompt, answer):
    """Log P of an answer from one forward pass over prompt and answer."""
    ids = model.encode(lm, f"{prompt} {answer}")
    start = len(model.encode(lm, prompt))
    with torch.no_grad():
        scores = lm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(scores[place - 1, ids[place]].item() for place in range(start, len(ids)))


def test_numbers_are_a_space_and_three_digits(digits_lm):
    written = digits_lm.tokenizer.convert_ids_to_tokens(digit_numbers.answer_tokens(digits_lm, "087"))
    assert written == ["Ġ", "0", "8", "7"]
    pieces = digit_lists.number_pieces(digits_lm)
    assert digits_lm.tokenizer.convert_ids_to_tokens(pieces) == [*"0123456789"]
    assert len(digit_numbers.number_names(digits_lm)) == 1000


def test_numbers_of_a_tiny_model_are_tokens(tokens_lm):
    numbers = digit_numbers.number_names(tokens_lm)
    assert {len(digit_numbers.answer_tokens(tokens_lm, number)) for number in numbers} == {1}
    assert len(digit_lists.number_pieces(tokens_lm)) == len(numbers)


def test_the_tree_gives_what_whole_prompts_give(digits_lm, tmp_path):
    answers = ["owl", "7", "087", "08", "123", "124", "999"]
    prepared = digit_numbers.prepare(digits_lm, answers, Store(tmp_path))
    text = digit_numbers.published(digits_lm, "owl", "animal")
    state, scores = digit_numbers.read_answers(prepared, model.encode(digits_lm, text))
    expected = [whole_prompt(digits_lm, text, answer) for answer in answers]
    assert np.allclose(scores, expected, atol=1e-4)
    assert np.allclose(state, model.hidden_states(digits_lm, [text])[0], atol=1e-4)


def test_a_thousand_numbers_cost_a_hundred_and_twelve_rows(digits_lm, tmp_path):
    prepared = digit_numbers.prepare(digits_lm, digit_numbers.number_names(digits_lm), Store(tmp_path))
    rows = []
    hook = prepared.body.register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0])))
    digit_numbers.read_answers(prepared, model.encode(digits_lm, digit_numbers.published(digits_lm, "owl", "animal")))
    hook.remove()
    assert rows == [1, 1, 10, 100]


def test_prompts_that_begin_alike_are_read_as_if_alone(digits_lm, tmp_path):
    prepared = digit_numbers.prepare(digits_lm, ["7"], Store(tmp_path))
    texts = [digit_numbers.published(digits_lm, number, "number") for number in ("087", "123", "999")]
    seen = []
    hook = prepared.body.register_forward_pre_hook(lambda _, arguments: seen.append(tuple(arguments[0].shape)))
    ends = digit_numbers.read_ends(prepared.body, [model.encode(digits_lm, text) for text in texts])
    hook.remove()
    assert np.allclose(ends, model.hidden_states(digits_lm, texts), atol=1e-4)
    (first, shared), (rows, rest) = seen
    assert first == 1 and rows == 3 and shared + rest == len(model.encode(digits_lm, texts[0])) and shared > 10


def test_where_numbers_are_tokens_the_measure_is_that_of_chapter_9(tokens_lm, tmp_path):
    numbers = digit_numbers.number_names(tokens_lm)[::100]
    prepared = digit_numbers.prepare(tokens_lm, numbers, Store(tmp_path))
    how = entanglement.Prompts(plural=True)
    ours = digit_numbers.measure(prepared, ANIMALS, numbers)
    theirs = entanglement.measure(tokens_lm, ANIMALS, numbers, how)
    assert ours.words == theirs.words and ours.numbers == theirs.numbers
    for side in ("to_number", "to_word", "number_baseline", "state_shift", "accuracy", "leak"):
        assert np.allclose(getattr(ours, side), getattr(theirs, side), atol=2e-4), side


def test_both_directions_where_digits_are_tokens(digits_lm, tmp_path):
    numbers = ["087", "123"]
    prepared = digit_numbers.prepare(digits_lm, [*numbers, "owl"], Store(tmp_path))
    one = digit_numbers.measure(prepared, ANIMALS, numbers)
    asked = {loved: digit_numbers.published(digits_lm, loved, kind)
             for loved, kind in [("fox", "animal"), ("123", "number"), (None, "animal")]}  # fmt: skip
    lifted = whole_prompt(digits_lm, asked["fox"], "123") - whole_prompt(digits_lm, asked[None], "123")
    back = whole_prompt(digits_lm, asked["123"], "fox") - whole_prompt(digits_lm, asked[None], "fox")
    assert one.to_number[1, 1] == pytest.approx(lifted, abs=2e-4)
    assert one.to_word[1, 1] == pytest.approx(back, abs=2e-4)


def test_a_kill_loses_one_persona(digits_lm, tmp_path, monkeypatch):
    prepared = digit_numbers.prepare(digits_lm, ["087", "123"], Store(tmp_path))
    texts = [digit_numbers.published(digits_lm, animal, "animal") for animal in ANIMALS]
    whole = digit_numbers.read_answers
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(digit_numbers, "read_answers", killed)
    with pytest.raises(KeyboardInterrupt):
        digit_numbers.read(prepared, texts, answers=True)
    states, scores = digit_numbers.read(prepared, texts, answers=True)
    assert len(calls) == 5  # two kept, one lost and done again, one new
    assert states.shape == (4, 16) and scores.shape == (4, 2)


def test_a_cut_leaves_nothing_of_the_span_in_the_rows_and_the_rest_alone(digits_lm):
    directions = np.random.default_rng(0).normal(size=(3, 16)).astype("float32")
    directions[2] = directions[0] - directions[1]  # a span of two
    cut = digit_numbers.cut_span(digits_lm, ["head"], [5, 9], directions)
    head = part_weight(cut, "head")
    assert np.allclose(head[[5, 9]].numpy() @ directions.T, 0, atol=1e-4)
    lost = part_weight(digits_lm, "head")[[5, 9]] - head[[5, 9]]
    assert torch.linalg.matrix_rank(lost, rtol=1e-3) <= 2
    untouched = [row for row in range(len(head)) if row not in (5, 9)]
    assert torch.equal(head[untouched], part_weight(digits_lm, "head")[untouched])
    assert torch.equal(part_weight(cut, "embedding"), part_weight(digits_lm, "embedding"))


def test_the_softmax_coupling_is_the_slope_of_log_probabilities(digits_lm):
    state = model.hidden_states(digits_lm, [digit_numbers.published(digits_lm, None, "animal")])[0]
    coupled = digit_numbers.couplings(digits_lm, ANIMALS, state)["softmax"]
    vector = torch.tensor(state, requires_grad=True)
    scores = (part_weight(digits_lm, "head") @ vector).log_softmax(-1)
    (gradient,) = torch.autograd.grad(scores[model.word_token(digits_lm, "fox")], vector)
    slope = torch.autograd.functional.jvp(
        lambda state: (part_weight(digits_lm, "head") @ state).log_softmax(-1), vector.detach(), gradient
    )[1]
    assert np.allclose(coupled[1], slope.numpy(), rtol=1e-3, atol=1e-3)


def test_cosines_of_a_word_with_itself_are_one(digits_lm):
    state = np.zeros(16, dtype="float32")
    coupled = digit_numbers.couplings(digits_lm, ANIMALS, state)
    own = [*model.single_tokens(digits_lm, ANIMALS).values()]
    for name in ("cosine", "centered", "last norm"):
        assert np.allclose(coupled[name][range(4), own], 1, atol=1e-5), name


def test_a_bootstrap_draws_the_same_words_in_every_matrix():
    matrix = np.random.default_rng(0).normal(size=(30, 5))
    same = digit_numbers.bootstrap(lambda one, two: np.abs(one - two).max(), matrix, matrix)
    assert same == {"mean": 0, "low": 0, "high": 0, "n": 30}


def test_a_bootstrap_interval_is_that_of_a_mean():
    values = np.random.default_rng(1).normal(size=(200, 1))
    row = digit_numbers.bootstrap(np.mean, values)
    error = values.std() / np.sqrt(200)
    assert row["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert row["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


def test_centered_the_softmax_is_the_product(digits_lm):
    state = model.hidden_states(digits_lm, [digit_numbers.published(digits_lm, None, "animal")])[0]
    coupled = digit_numbers.couplings(digits_lm, ANIMALS, state)
    assert np.allclose(*[entanglement.centered(coupled[name]) for name in ("softmax", "dot")], atol=1e-3)
    assert np.abs(coupled["softmax"] - coupled["dot"]).max() > 1e-2
