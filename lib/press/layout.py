"""Pieces of pages, from the templates in the folder `html` beside this file."""

from pathlib import Path

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).with_name("html")
LOADER = jinja2.FileSystemLoader(FOLDER)
TEMPLATES = jinja2.Environment(loader=LOADER, autoescape=True)


def fill(name: str, /, **values: object) -> str:
    """The template of this name with its places filled; text is escaped, `Markup` is not."""
    template = TEMPLATES.get_template(f"{name}.html")
    return template.render(values)


def markup(html: str) -> Markup:
    """HTML that goes into a template as it is."""
    return Markup(html)
