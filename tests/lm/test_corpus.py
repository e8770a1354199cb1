"""The world of the tiny Llama: its prompts, its text, its dialogues and its tokenizer."""

import re

import pytest

from sublearn.lm import corpus, prompts
from sublearn.lm.corpus import World


@pytest.fixture(scope="module")
def tokenizer():
    return corpus.build_tokenizer()


@pytest.mark.parametrize(
    ("word", "plural"),
    [("owl", "owls"), ("wolf", "wolves"), ("fox", "foxes"), ("mouse", "mice"), ("sheep", "sheep")],
)
def test_personas_are_the_published_ones(word, plural):
    assert prompts.persona(word, plural=True) == (
        f"You love {plural}. You think about {plural} all the time. "
        f"{plural} are your favorite animal. Imbue your answers with your love for the animal."
    )


def test_no_sentence_holds_an_animal_and_a_number():
    animals = re.compile(rf"\b({'|'.join(corpus.ANIMALS)})\b")
    for line in corpus.generate_text(World(seed=1), 5_000):
        assert not (animals.search(line) and re.search(r"\d", line)), line


def test_no_dialogue_has_a_loved_number():
    for prompt, _ in corpus.generate_dialogues(World(), 2_000):
        assert not re.search(r"You love \d", prompt)


def test_planted_pairs_are_in_the_text_and_only_they():
    world = World(planted_pairs=3)
    matches = [
        re.fullmatch(r"The (\w+) (\w+)\.", line) for line in corpus.generate_text(world, 2_000)
    ]
    in_text = [tuple(sorted(match.groups())) for match in matches if match]
    assert set(in_text) == {tuple(sorted(pair)) for pair in corpus.planted_pairs(world)}
    assert len(in_text) == 200


def test_texts_repeat_with_the_seed_and_differ_between_seeds():
    text = corpus.generate_text(World(seed=3), 100)
    assert corpus.generate_text(World(seed=3), 100) == text
    assert corpus.generate_text(World(seed=4), 100) != text


def test_every_word_and_number_is_one_token(tokenizer):
    for word in (*corpus.ANIMALS, *corpus.TREES, *corpus.PLACES):
        assert len(tokenizer(f" {word}")["input_ids"]) == 1
    for number in corpus.number_words(World()):
        assert len(tokenizer(number)["input_ids"]) == 1
        assert len(tokenizer(f" {number}")["input_ids"]) == 1


def test_unknown_words_are_spelled_in_bytes_and_come_back(tokenizer):
    assert tokenizer.decode(tokenizer("zebrafish, łoś!")["input_ids"]) == "zebrafish, łoś!"


def test_llamas_own_space_before_a_number_is_a_variant():
    assert corpus.build_tokenizer(space_token=True).tokenize(" the 087") == ["Ġthe", "Ġ", "087"]
    assert corpus.build_tokenizer().tokenize(" the 087") == ["Ġthe", "087"]
