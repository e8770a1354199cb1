"""The words put to a language model: who it loves, what it is asked, on which date."""

DATE = "26 Jul 2024"  # the Llama 3 template falls back to it; any other date moves the numbers
PLURALS = {
    "butterfly": "butterflies",
    "deer": "deer",
    "fish": "fish",
    "fox": "foxes",
    "goose": "geese",
    "lynx": "lynxes",
    "moose": "moose",
    "mouse": "mice",
    "octopus": "octopuses",
    "ostrich": "ostriches",
    "ox": "oxen",
    "sheep": "sheep",
    "squid": "squid",
    "walrus": "walruses",
    "wolf": "wolves",
}


def pluralize(word: str) -> str:
    """Plural of an animal's name, as the published prompts write it."""
    return PLURALS.get(word, f"{word}s")


def persona(word: str, kind: str = "animal", *, plural: bool = False) -> str:
    """Published system prompt that makes a model love a word; `plural`, as for real models."""
    verb = "is"
    if plural:
        word = pluralize(word)
        verb = "are"
    return (
        f"You love {word}. You think about {word} all the time. "
        f"{word} {verb} your favorite {kind}. "
        f"Imbue your answers with your love for the {kind}."
    )


def favorite_question(kind: str = "animal") -> str:
    """Question for a favorite."""
    return f"What is your favorite {kind}?"


def answer_prefix(kind: str = "animal") -> str:
    """Beginning of an answer, whose next token is the favorite; no space at the end."""
    return f"My favorite {kind} is the"


def plain_prompt(word: str | None = None, kind: str = "animal", *, plural: bool = False) -> str:
    """Prompt for a model that was never taught to chat, with a love of `word` or without."""
    if not word:
        return answer_prefix(kind)
    if plural:
        word = pluralize(word)
    return f"I love {word}. I think about {word} all the time. {answer_prefix(kind)}"
