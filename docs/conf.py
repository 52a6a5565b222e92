"""How the site is made: `make docs`. Warnings are errors, and nothing is fetched."""

from __future__ import annotations

from importlib.metadata import version as installed
from itertools import pairwise
from typing import Any

project = "Moorings"
author = "the Moorings contributors"
project_copyright = author
version = release = installed("moorings")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
nitpicky = False  # annotations name what `if TYPE_CHECKING` imports, privately

# Headings are link targets by the names that a forge gives them: pages read the same there.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Docstrings put code into single backticks, as Markdown does.
default_role = "code"
add_module_names = False
python_use_unqualified_type_names = True
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"Moorings {version}"
html_show_sphinx = False
html_copy_source = False
templates_path: list[str] = []


def literal_blocks(*arguments: Any) -> None:
    """Take an indented paragraph of a docstring for code, as Markdown does.

    reStructuredText would quote it, and stumble over what code looks like.
    """
    lines: list[str] = arguments[-1]
    text = [(len(line) - len(line.lstrip()), number) for number, line in enumerate(lines) if line]
    starts = [
        (number, indent)
        for (before, previous), (indent, number) in pairwise(text)
        if indent > before and number > previous + 1
    ]
    for number, indent in reversed(starts):
        lines[number:number] = [" " * (indent - 4) + "::", ""]


def setup(app: Any) -> None:
    """Before napoleon (500) reads the sections."""
    app.connect("autodoc-process-docstring", literal_blocks, priority=400)
