"""The rules of the house: who may import whom, and what an import may load."""

import ast
import graphlib
import importlib
import inspect
import json
import re
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
    "versa.checksums",
    "versa.download",
    "versa.http",
    "versa.parallel",
    "versa.progress",
    "versa.records",
    "versa.untrusted",
    "versa.wording",
}
# Room -> what of ours it may import, beside itself and EVERYWHERE.
ALLOWED = {
    "stats": (),
    "fmri": ("versa.stats",),
    "models": (),
    "answer": (),
    "result": (
        "versa.answer",
        "versa.stats",
        "versa.fmri.kept",
        "versa.fmri.voxel_maps",
    ),
    "comparison": ("versa.answer", "versa.stats", "versa.result"),
    "inference": ("versa.stats", "versa.fmri", "versa.result", "versa.comparison"),
    "plotting": (
        "versa.stats",
        "versa.fmri",
        "versa.result",
        "versa.comparison",
        "versa.inference",
    ),
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
    "checksums": (),
    "download": (),
    "http": (),
    "records": (),
    "wording": (),
}
# Modules whose __all__ is a public list, as that of a room is its __init__.pyi.
OPEN = ("fmri/*.py", "stats/*.py", "api.py", "result.py", "comparison.py")
HEADING = re.compile(r"^(\w[\w ]*)\n-+$", re.MULTILINE)
LONGEST_BODY = 70  # lines of a function, without its docstring
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


def test_functions_can_be_seen_at_once():
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            body = node.body[1:] if ast.get_docstring(node) else node.body
            n_lines = node.end_lineno - body[0].lineno + 1 if body else 0
            if n_lines > LONGEST_BODY:
                found.append((dotted(path), node.name, n_lines))
    assert not found


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


def public_names():
    """Dotted names of all public lists, found without importing anything."""
    for stub in sorted(PACKAGE.rglob("__init__.pyi")):
        for node in ast.walk(ast.parse(stub.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:  # else it is a room
                for alias in node.names:
                    yield f"{dotted(stub)}.{alias.name}"
    for path in sorted(path for pattern in OPEN for path in PACKAGE.glob(pattern)):
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "__all__"
            ):
                for name in ast.literal_eval(node.value):
                    yield f"{dotted(path)}.{name}"


def loaded(name):
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def described(section):
    """Names that a section of parameters or attributes describes."""
    heads = re.findall(r"^(\S.*?)(?: :.*)?$", section, re.MULTILINE)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")} - {
        ""
    }


def gaps(value, name):
    """Sentences about what the docstring of a function or class leaves out."""
    text = inspect.getdoc(value) or ""
    headed = HEADING.split(text)
    sections = dict(zip(headed[1::2], headed[2::2], strict=True))
    lines = [*text.splitlines(), "", ""]
    if not lines[0].endswith(".") or lines[1]:
        yield f"{name}: begins with one sentence and an empty line"
    signature = inspect.signature(value)
    parameters = set(signature.parameters) - {"self", "cls"}
    known = described(sections.get("Parameters", ""))
    if extra := sorted(known - parameters):
        yield f"{name}: has no parameter {', '.join(extra)}"
    returns = signature.return_annotation not in (None, "None", signature.empty)
    if inspect.isclass(value):
        known |= described(sections.get("Attributes", ""))
    elif returns and not {"Returns", "Yields"} & set(sections):
        yield f"{name}: says what it returns"
    if missing := sorted(parameters - known):
        yield f"{name}: describes {', '.join(missing)}"


def own_methods(cls):
    """Public methods that a class does not inherit, and its properties."""
    for name, member in vars(cls).items():
        inherited = any(hasattr(base, name) for base in cls.__bases__)
        if not name.startswith("_") and not inherited:
            yield name, getattr(member, "__func__", member)


@pytest.mark.parametrize("name", sorted(public_names()))
def test_public_names_have_their_docstring(name):
    value = loaded(name)
    if not callable(value):
        return
    missing = list(gaps(value, name))
    for key, member in own_methods(value) if inspect.isclass(value) else ():
        if inspect.isfunction(member):
            missing += gaps(member, f"{name}.{key}")
        elif isinstance(member, property) and not member.__doc__:
            missing.append(f"{name}.{key}: has a docstring")
    assert not missing
