"""The book. CONTRIBUTING.md says how it is built."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "extensions"))

import handgrad  # noqa: E402

project = "handgrad"
author = "the authors of handgrad"
copyright = "the authors of handgrad, MIT licence"  # noqa: A001
release = version = handgrad.__version__

extensions = [
    "myst_nb",  # MyST's Markdown, and pages that run
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    # our own, each in a file of extensions/
    "commands",
    "constants",
    "docstrings",
    "layers",
    "mathml",
    "mutants",
    "shell",
]

# The course: the scripts of core/, each with the name that it has there, as pages that the build runs.
COURSE = HERE / "course"
COURSE.mkdir(exist_ok=True)
scripts = {path.name: path.read_bytes() for path in (ROOT / "core").glob("0*.py")}
for path in COURSE.glob("*.py"):
    if scripts.get(path.name) == path.read_bytes():
        del scripts[path.name]  # as it is: a new date would have it run again
    else:
        path.unlink()
for name, content in scripts.items():
    (COURSE / name).write_bytes(content)
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

exclude_patterns = ["_build", "conf.py", "extensions"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

smartquotes = False  # -- is an option's beginning

html_theme = "furo"
html_title = "handgrad"
html_static_path = ["static"]
html_css_files = ["handgrad.css"]
html_show_sourcelink = False
html_copy_source = False
copybutton_selector = "div.highlight:not(.shell) pre"  # what a command printed is not for pasting
copybutton_prompt_text = "$ "

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
