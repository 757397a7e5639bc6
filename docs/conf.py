"""Sphinx configuration: `make docs` writes docs/_build/html; a warning is an error."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.ext import apidoc

from studytag import __version__

DOCS = Path(__file__).parent

project = "studytag"
author = "The studytag authors"
copyright = "2026, The studytag authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.programoutput",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"studytag {version}"

# Docstrings mark code with single backticks.
default_role = "code"
napoleon_numpy_docstring = False
# Attributes are described once, in the docstring of their class.
napoleon_use_ivar = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
# A word that Sphinx takes for a type, such as `labels` in "Returns: labels: ...", may name several
# attributes. A link that leads nowhere is still an error.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 3

# The command reference prints each command's own help, from the environment that builds the pages.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
os.environ["COLUMNS"] = "88"


def write_module_pages(app: Sphinx) -> None:
    """Give every module of studytag a page; all of it comes from docstrings."""
    pages = DOCS / "reference" / "modules"
    shutil.rmtree(pages, ignore_errors=True)  # pages of modules that are gone
    options = ["-q", "--separate", "--module-first"]
    apidoc.main([*options, "--output-dir", str(pages), str(DOCS.parent / "studytag")])


def skip_reexported(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Describe a name once, on the page of the module that defines it."""
    if what != "module" or not app.env.docname.startswith("reference/modules/"):
        return None
    page = app.env.docname.rpartition("/")[2]
    return True if getattr(obj, "__module__", page) != page else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_module_pages)
    app.connect("autodoc-skip-member", skip_reexported)
