"""Configuration of the documentation."""

import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

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
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "gallery",  # the scripts; their pages are made in generated/gallery
    "examples/ipcl_photographs.md",
    "generated/gallery/*.py",
    "generated/gallery/*.ipynb",
    "generated/gallery/*.json",
]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False

# every reference must lead somewhere; bare backticks also mark parameters and values
nitpicky = True
nitpick_ignore_regex = [("py:obj", r"(?!versa\.).*"), ("py:obj", r".*\.[A-Z_]+")]

html_show_copyright = False
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["versa.css"]
html_title = f"versa {version}"
html_theme_options = {"navigation_with_keys": True}

# The scripts of the gallery run with every build, on simulated data, without a network.
os.environ["VERSA_OFFLINE"] = "1"
logging.getLogger("versa").setLevel(logging.WARNING)
sphinx_gallery_conf = {
    "examples_dirs": ["gallery"],
    "gallery_dirs": ["generated/gallery"],
    "filename_pattern": r"/plot_",
    "within_subsection_order": "gallery_parts.ScriptOrder",
    "image_scrapers": ("gallery_parts.figures",),
    "capture_repr": ("_repr_html_",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
    "reset_modules": (),
}

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


# Where a public name is defined -> what users call it, for the names that api.md lists.
PUBLIC = {}
for line in (DOCS / "api.md").read_text(encoding="utf-8").splitlines():
    if line.startswith("   versa."):
        room, _, item = line.strip().rpartition(".")
        found = getattr(importlib.import_module(room), item)
        at = f"{found.__module__}.{found.__qualname__}" if callable(found) else ""
        PUBLIC[at or line.strip()] = line.strip()


def setup(app):
    """Leave out the fields of named tuples; follow a name to its public place."""

    def skip(app, what, name, obj, skipped, options):
        if str(getattr(obj, "__doc__", "")).startswith("Alias for field number"):
            return True  # the docstring of the tuple describes them
        return None

    def public(app, env, node, content):
        """`fit`, `versa.fit` and `versa.api.fit` all lead to `versa.fit`."""
        if node.get("refdomain") != "py":
            return None
        place = public_name(node["reftarget"], node.get("py:module"))
        return place and env.get_domain("py").resolve_xref(
            env, node["refdoc"], app.builder, "obj", place, node, content
        )

    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", public)


def public_name(name, module):
    """What users call that which a page or docstring calls by a dotted name."""
    for place in filter(None, (module, "versa", *sorted(set(ROOMS)))):
        found = importlib.import_module(place)
        for part in name.removeprefix("versa.").split("."):
            found = getattr(found, part, None)
        if f"{place}.{name}" in PUBLIC:  # a constant
            return f"{place}.{name}"
        if not getattr(found, "__qualname__", None):
            continue
        home, rest = f"{found.__module__}.{found.__qualname__}", ""
        while home and home not in PUBLIC:  # a method of a public class
            home, _, last = home.rpartition(".")
            rest = f".{last}{rest}"
        if home:
            return PUBLIC[home] + rest
    return None


ROOMS = {name.rpartition(".")[0] for name in PUBLIC.values()}
