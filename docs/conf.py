"""Configuration of the documentation."""

import os
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

import versa  # noqa: E402

project = "versa"
author = "The versa developers"
version = release = versa.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "examples/ipcl_photographs.md"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False

html_show_copyright = False
html_theme = "alabaster"
html_title = f"versa {version}"
html_theme_options = {"description": "Does this network see like the brain does?"}

# the reference shows what the command lines themselves say
DATA_COMMANDS = ("betas", "images", "sectors", "check", "fetch", "convert", "weights")
COMMANDS = {
    "versa-compare": ("versa.cli.compare", "compare_command", ["-h"]),
    **{
        f"versa-data-{name}": ("versa.cli.data", "data_command", [name, "-h"])
        for name in DATA_COMMANDS
    },
    "versa-train-ipcl": ("versa.cli.train", "train_command", ["-h"]),
}
(DOCS / "generated").mkdir(exist_ok=True)
for command, (module, function, arguments) in COMMANDS.items():
    help_text = subprocess.run(
        [sys.executable, "-c", f"import {module} as m; m.{function}({arguments})"],
        cwd=DOCS.parent,
        env={**os.environ, "COLUMNS": "88"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (DOCS / "generated" / f"{command}.txt").write_text(help_text, encoding="utf-8")


def setup(app):
    """Leave out the fields of named tuples, which their docstrings describe."""

    def skip(app, what, name, obj, skipped, options):
        if str(getattr(obj, "__doc__", "")).startswith("Alias for field number"):
            return True
        return None

    app.connect("autodoc-skip-member", skip)
