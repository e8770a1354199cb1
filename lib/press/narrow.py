"""Code on a page in lines of at most 80 characters, as many as the column has room for.

The notebooks themselves have longer lines, and the downloads keep them.
"""

import json
import re
import subprocess
import sys

COLUMNS = 80
FORMAT = ["-m", "ruff", "format", "--isolated", f"--line-length={COLUMNS}"]
EMPTY = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
UNFORMATTED = re.compile(r" *# fmt: (skip|off|on)$", re.MULTILINE)
TOO_LONG = re.compile(rf"^.{{{COLUMNS + 1},}}$", re.MULTILINE)
COMMENT = re.compile(rf"^(?=.{{{COLUMNS + 1}}})( *)# (.*)$", re.MULTILINE)
QUOTED = re.compile(r'(f?)"([^"\n\\]*)"')
LINE = r'f?"[^"\n\\]*"'
TEXT = re.compile(
    rf"^(?P<indent> *)(?P<keyword>\w+=)?{LINE}(?:\n *{LINE})*(?P<end>[,)]*)$", re.MULTILINE
)


def narrow(notebook: dict) -> None:
    """Break the code of a notebook as ruff would; comments and texts, which it leaves, as well.

    Without ruff, or where it cannot read the code, the code stays as it was written.
    """
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    cells = []
    for cell in code:
        source = "".join(cell["source"])
        source = UNFORMATTED.sub("", source)
        cells.append(cell | {"outputs": [], "source": source})
    bare = EMPTY | {"cells": cells}
    text = json.dumps(bare)
    command = [sys.executable, *FORMAT, "--stdin-filename=chapter.ipynb", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        return
    for cell, formatted in zip(code, json.loads(done.stdout)["cells"], strict=True):
        source = "".join(formatted["source"])
        source = COMMENT.sub(shorter_comment, source)
        cell["source"] = TEXT.sub(shorter_text, source)


def shorter_comment(found: re.Match) -> str:
    """A line that is all comment, as several."""
    indent, text = found.groups()
    begin = f"{indent}# "
    room = COLUMNS - len(begin)
    lines = []
    for piece in pieces(text, room):
        line = begin + piece.rstrip()
        lines.append(line)
    return "\n".join(lines)


def shorter_text(found: re.Match) -> str:
    """Lines that are all text in quotes, which Python joins, filled anew."""
    texts = QUOTED.findall(found[0])
    if not TOO_LONG.search(found[0]) or any(not mark and "{" in text for mark, text in texts):
        return found[0]
    indent, keyword, end = found.group("indent", "keyword", "end")
    begin = indent + (keyword or "")
    whole = "".join(text for _, text in texts)
    lines = []
    for piece in pieces(whole, COLUMNS - len(begin) - len(end) - 3):
        prefix = "f" if "{" in piece else ""
        lines.append(f'{begin}{prefix}"{piece}"')
        begin = indent
    return "\n".join(lines) + end


def pieces(text: str, room: int) -> list[str]:
    """A text cut behind spaces into pieces of at most `room` letters, never between braces."""
    done, line = [], ""
    for word in re.findall(r"(?:\{[^}]*\}|[^ {])+ *| +", text):
        if line and len(line) + len(word) > room:
            done.append(line)
            line = ""
        line += word
    return [*done, line]
