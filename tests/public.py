"""The public names: what the rooms list in their stubs, and the open modules."""

import ast
import importlib
import pkgutil
from pathlib import Path

import versa

PACKAGE = Path(versa.__file__).parent


def rooms():
    """Folders with a list of public names, as dotted names."""
    for stub in sorted(PACKAGE.rglob("__init__.pyi")):
        parts = stub.parent.relative_to(PACKAGE.parent).parts
        yield ".".join(parts)


def public_names():
    """Dotted public name -> object; a class or function has one name only."""
    listed = {}  # dotted name -> object
    for room in rooms():
        module = importlib.import_module(room)
        listed |= {f"{room}.{name}": getattr(module, name) for name in module.__all__}
    for found in pkgutil.walk_packages(versa.__path__, "versa."):
        module = importlib.import_module(found.name)
        if not found.ispkg and "__all__" in vars(module):
            names = ast.literal_eval(repr(list(module.__all__)))
            listed |= {f"{found.name}.{n}": getattr(module, n) for n in names}
    shortest = {}
    for name in sorted(listed, key=lambda name: (name.count("."), name)):
        item = listed[name]
        if not isinstance(item, type(ast)):  # a module is a room, not a name
            shortest.setdefault(id(item), name)
    return {name: listed[name] for name in shortest.values()}
