"""The rules of the house: who may import whom, and what an import may load."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import versa

PACKAGE = Path(versa.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
EVERYWHERE = {
    "versa",
    "versa.cache",
    "versa.download",
    "versa.parallel",
    "versa.records",
    "versa.wording",
}
# Room -> what of ours it may import, beside itself and EVERYWHERE.
ALLOWED = {
    "stats": (),
    "fmri": ("versa.stats",),
    "models": (),
    "result": ("versa.stats",),
    "comparison": ("versa.stats", "versa.result"),
    "plotting": ("versa.stats", "versa.fmri", "versa.result", "versa.comparison"),
    "report": (
        "versa.stats",
        "versa.fmri",
        "versa.result",
        "versa.comparison",
        "versa.plotting",
    ),
    "simulated": ("versa.stats", "versa.fmri", "versa.models"),
    "api": (
        "versa.stats",
        "versa.fmri",
        "versa.models",
        "versa.result",
        "versa.fmri.scoring",
    ),
    "cache": (),
    "download": (),
    "records": (),
    "wording": (),
}
TYPING_ONLY = {("fmri", "versa.models")}
HEAVY = {"torch", "torchvision", "timm", "nilearn", "matplotlib"}


def room_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(tree):
    """(module, names from it, whether at the top level, whether for typing only)."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    deep = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found = [(node.module or "", [alias.name for alias in node.names])]
        for name, taken in found:
            yield name, taken, id(node) not in deep, id(node) in typing_only


def dotted(path):
    """Name of a module, or of a room for its __init__.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_import_directions(path):
    room = room_of(path)
    for name, _, top, typing_only in imports(ast.parse(path.read_text())):
        if name.split(".")[0] == "versa" and room not in ("cli", "__init__"):
            own = room in ALLOWED and name.startswith(f"versa.{room}")
            allowed = any(name.startswith(prefix) for prefix in ALLOWED[room])
            excused = typing_only and any(
                room == r and name.startswith(prefix) for r, prefix in TYPING_ONLY
            )
            assert own or allowed or excused or name in EVERYWHERE, (room, name)
        heavy = name.split(".")[0] in HEAVY and not typing_only
        if heavy and room != "models":
            assert name.split(".")[0] in ("nilearn", "matplotlib"), (room, name)
            assert not top, f"{name} belongs inside the function that needs it"


def test_there_are_no_circles_of_modules():
    """Imports inside functions count, and none goes through the list of a room."""
    paths = {dotted(path): path for path in MODULES}
    arrows = {}
    for module, path in paths.items():
        arrows[module] = set()
        for name, taken, _, typing_only in imports(ast.parse(path.read_text())):
            if typing_only or name not in paths:
                continue
            files = {f"{name}.{item}" for item in taken} & set(paths)
            if paths[name].name == "__init__.py":
                assert len(files) == len(taken), (module, name, taken)
            arrows[module] |= files or {name}
    tuple(graphlib.TopologicalSorter(arrows).static_order())


def fresh(code):
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


def test_import_is_light():
    loaded = fresh(
        "import sys, json, versa; versa.__all__; print(json.dumps(list(sys.modules)))"
    )
    heavy = {"torch", "numpy", "pandas", "xarray", "scipy", "nibabel", "PIL"}
    assert not (HEAVY | heavy) & {name.split(".")[0] for name in loaded}


def test_listing_and_comparing_need_no_torch():
    loaded = fresh(
        "import sys, json, versa; versa.list_models(); versa.list_datasets();"
        "versa.compare; versa.load_result; print(json.dumps(list(sys.modules)))"
    )
    assert not HEAVY & {name.split(".")[0] for name in loaded}


def test_public_names():
    assert set(versa.__all__) == set(dir(versa))
    for name in versa.__all__:
        value = getattr(versa, name)
        assert value.__doc__, name
    assert versa.plotting.plot_layers.__doc__
    assert versa.report.write_report.__doc__
    with pytest.raises(AttributeError, match="attribute nothing"):
        versa.nothing  # noqa: B018
