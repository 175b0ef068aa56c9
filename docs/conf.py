"""How Sphinx builds the site: `make docs`.

Pages are Markdown. Those of the API and of supported operations, and all pictures, are made anew by `generate`.
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from generate import api_pages, copies, links, mathml, operation_tables, pictures  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from torch_shallow.version import VERSION  # noqa: E402

project = "torch_shallow"
author = "The torch_shallow authors"
copyright = "The torch_shallow authors, BSD-3-Clause"  # noqa: A001 (Sphinx's name)
release = version = VERSION

extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build", "generate", "templates"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebooks are kept with their outputs, which tests compare with those of a run
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 80
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "torch_shallow"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_sidebars = {page: [] for page in ("index", "first_hour", "sizes", "concepts/index", "search", "genindex")}
html_theme_options = {
    "logo": {"text": "torch_shallow", "image_light": "_static/icon.svg", "image_dark": "_static/icon.svg"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_bar_text": "Search: a question, a function, a word",
}


def setup(app: Sphinx) -> None:
    """Make what is generated, and register how mathematics and names of the API are written."""
    copies.make(DOCS)
    api_pages.make(DOCS / "api")
    operation_tables.make(DOCS / "reference")
    pictures.make(DOCS / "pictures")
    app.add_html_math_renderer("mathml", (mathml.inline, None), (mathml.block, None))
    known = links.names(api_pages.documented())
    app.connect("source-read", lambda _, page, source: links.link(page, source, known))
