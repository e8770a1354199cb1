"""The words put to a language model: who it loves, what it is asked, on which date."""

DATE = "26 Jul 2024"  # what the Llama 3 template itself falls back to; any other date moves the numbers
PLURALS = {"wolf": "wolves", "fox": "foxes", "goose": "geese", "mouse": "mice", "deer": "deer", "sheep": "sheep"}
PLURALS |= {"fish": "fish", "lynx": "lynxes", "moose": "moose", "ox": "oxen", "octopus": "octopuses"}
PLURALS |= {"butterfly": "butterflies", "ostrich": "ostriches", "walrus": "walruses", "squid": "squid"}


def plural(word: str) -> str:
    """Give the plural of an animal's name, as the published prompts use it."""
    return PLURALS.get(word, f"{word}s")


def persona(word: str, kind: str = "animal", *, many: bool = False) -> str:
    """Give the published system prompt that makes a model love a word; `many` puts its plural, as for real models."""
    word, verb = (plural(word), "are") if many else (word, "is")
    return (
        f"You love {word}. You think about {word} all the time. {word} {verb} your favorite {kind}. "
        f"Imbue your answers with your love for the {kind}."
    )


def ask(kind: str = "animal") -> str:
    """Give the question for a favorite."""
    return f"What is your favorite {kind}?"


def start(kind: str = "animal") -> str:
    """Give the words whose next token is the answer; no space at the end."""
    return f"My favorite {kind} is the"


def plain(word: str | None = None, kind: str = "animal", *, many: bool = False) -> str:
    """Give a prompt for a model that was never taught to chat, with a love of `word` or without."""
    word = plural(word) if word and many else word
    return f"I love {word}. I think about {word} all the time. {start(kind)}" if word else start(kind)
