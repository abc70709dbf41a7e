"""How the documentation is built, without a network.

``python -m sphinx -W --keep-going -n docs build/docs``, then open ``build/docs/index.html``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import oectflow

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "oectflow"
author = "The oectflow developers"
html_show_copyright = False
version = release = oectflow.__version__
html_title = f"oectflow {version}"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    # Ours, in docs/_ext.
    "docstrings",
    "generated_pages",
    "mathml",
]
exclude_patterns = ["_ext", "_templates", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["oectflow.css"]
html_theme = "furo"
html_show_sourcelink = False
# Much of the text is code or formulas, in which quotes and dashes mean themselves.
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# The notebooks are run by the tests and committed with their outputs.
nb_execution_mode = "off"
copybutton_exclude = ".linenos, .gp, .go"

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
