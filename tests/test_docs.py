"""The documentation: its links, references, commands and scripts, all offline."""

import argparse
import ast
import importlib
import inspect
import re
import shlex
import textwrap
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import versa
from tests.test_house import loaded, public_names
from versa.cli import compare, data, train
from versa.models.ipcl.config import TrainConfig
from versa.models.ipcl.recipes import read_config

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(
    not (DOCS / "index.md").is_file(), reason="needs the source tree"
)

INCLUDED = {"examples/ipcl_photographs.md"}  # a part of another page
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if path.relative_to(DOCS).parts[0] not in ("_build", "generated")
)
TOP = [ROOT / name for name in ("README.md", "CHANGELOG.md", "benchmarks/README.md")]
SCRIPTS = sorted((DOCS / "gallery").glob("plot_*.py"))
COMMANDS = ("versa-compare", "versa-data", "versa-train-ipcl")

FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+(?:\([^)]*\))?[^()\s]*)\)")
ROLE = re.compile(r"\{py:(\w+)\}`(?:[^`<]*<)?~?([\w.]+)>?`")
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")


def ids(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def read(path):
    return path.read_text(encoding="utf-8")


def blocks(path, language):
    """Fenced blocks of a language, without their indent."""
    return [
        textwrap.dedent(text)
        for _, kind, text in FENCE.findall(read(path))
        if kind == language
    ]


def prose(path):
    return FENCE.sub("", read(path))


def with_included(path):
    """The text of a page, that of the pages it includes in place of the directive."""
    text = read(path)
    for name in re.findall(r"```\{include\} (\S+)", text):
        text += "\n" + with_included((path.parent / name).resolve())
    return text


def anchors(path):
    """Anchors of the headings, as MyST makes them."""
    text = FENCE.sub("", with_included(path))
    titles = re.findall(r"^#{1,3} +(.+?)\s*$", text, re.M)
    plain = [
        re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")) for title in titles
    ]
    return {title.replace(" ", "-") for title in plain}


# ---- pages and links ------------------------------------------------------------


def test_every_page_is_in_one_toctree():
    entries = []
    for page in PAGES:
        for block in blocks(page, "{toctree}"):
            names = [n for n in block.split("\n") if n and not n.startswith(":")]
            entries += [(page.parent / name).resolve() for name in names]
    entries = [path for path in entries if "generated" not in path.parts]
    named = [path.with_name(f"{path.name}.md") for path in entries]
    assert len(set(named)) == len(named)
    expected = {page for page in PAGES if str(page.relative_to(DOCS)) not in INCLUDED}
    assert set(named) == expected - {DOCS / "index.md"}


def test_the_gallery_is_in_the_toctree_and_in_order():
    assert "generated/gallery/index" in read(DOCS / "index.md")
    order = re.findall(r'"(plot_\w+\.py)"', read(DOCS / "gallery_parts.py"))
    assert sorted(order) == [path.name for path in SCRIPTS]


@pytest.mark.parametrize("page", PAGES + TOP, ids=ids(PAGES + TOP))
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"(https?|mailto):", target):
            assert not re.search(r"\s", target)
            continue
        name, _, anchor = unquote(target).partition("#")
        found = (page.parent / name).resolve() if name else page
        if "generated" in found.parts:
            # made by the build, from a script of the gallery
            script = found.stem.removeprefix("sphx_glr_").rsplit("_0", 1)[0]
            assert (DOCS / "gallery" / f"{script}.py").is_file(), target
            continue
        assert found.is_file(), f"{page.name}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_included_files_exist(page):
    for name in re.findall(r"\{(?:literal)?include\} (\S+)", read(page)):
        if not name.startswith("generated/"):
            base = DOCS if page.name == "ipcl_photographs.md" else page.parent
            assert (base / name).is_file(), name


# ---- references to code -----------------------------------------------------------


def resolve(name):
    """What a dotted name of versa means."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_references_exist(page):
    public = set(public_names())
    rooms = {name.rpartition(".")[0] for name in public}
    for role, name in ROLE.findall(read(page)):
        # a room, a public name, or a method of one: never a file within a room
        assert {name, name.rpartition(".")[0]} & public or name in rooms, name
        found = resolve(name)
        assert role != "class" or isinstance(found, type), name
        assert role not in ("func", "meth") or callable(found), name


def test_the_reference_lists_the_public_names():
    places = {}
    for name in public_names():
        places.setdefault(id(loaded(name)), []).append(name)
    shortest = {
        min(names, key=lambda n: (n.count("."), n)) for names in places.values()
    }
    listed = re.findall(r"^   (versa\.[\w.]+)$", read(DOCS / "api.md"), re.M)
    assert sorted(listed) == sorted(shortest)


def imports_exist(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("versa"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("page", [*PAGES, TOP[0]], ids=ids([*PAGES, TOP[0]]))
def test_python_blocks_parse(page):
    for block in blocks(page, "python"):
        imports_exist(ast.parse(block))


@pytest.mark.parametrize("script", SCRIPTS, ids=ids(SCRIPTS))
def test_scripts_of_the_gallery(script):
    source = read(script)
    tree = ast.parse(source)
    imports_exist(tree)
    title, underline = ast.get_docstring(tree, clean=False).strip("\n").split("\n")[:2]
    assert underline == "=" * len(title)
    assert "simulated-" in source or "rng" in source  # nothing is downloaded


# ---- commands -----------------------------------------------------------------------


@pytest.fixture
def parsed(monkeypatch):
    """Parse a command line by the parser of the real command, and run nothing."""

    def only_parse(parser, action, arguments, interrupted):
        def refuse(message):
            raise ValueError(message)

        everyone = [parser]
        for part in parser._actions:
            if isinstance(part, argparse._SubParsersAction):
                everyone += part.choices.values()
        for one in everyone:
            monkeypatch.setattr(one, "error", refuse)
        return parser.parse_args(arguments)

    for module in (compare, data, train):
        monkeypatch.setattr(module, "run_command", only_parse)
    runs = {
        "versa-compare": compare.compare_command,
        "versa-data": data.data_command,
        "versa-train-ipcl": train.train_command,
    }

    def parse(words):
        return runs[Path(words[0]).name](words[1:])

    return parse


def command_lines(script):
    """Calls of versa's commands in a shell script, as lists of words."""
    joined = re.sub(r"\\\n\s*", " ", script)
    for line in joined.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words = list(lexer)
        for number, word in enumerate(words):
            if Path(word).name in COMMANDS and word not in words[:number]:
                rest = words[number:]
                ends = [k for k, w in enumerate(rest) if set(w) <= set("&|;<>")]
                yield rest[: ends[0]] if ends else rest


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=ids([*PAGES, *TOP]))
def test_commands_parse(page, parsed):
    for block in blocks(page, "bash"):
        for words in command_lines(block):
            check(words, parsed(words))
    for text in INLINE.findall(prose(page)):
        words = [word for word in text.split() if word not in ("...", "\\")]
        if words[:1] and words[0] in COMMANDS and not {"-h", "--version"} & set(words):
            refused = refusal(parsed, words)
            # a mention need not be complete, but what it names must exist
            assert refused is None or "required" in refused, (text, refused)


def refusal(parsed, words):
    """What a parser says against a command line, if anything."""
    try:
        parsed(words)
    except ValueError as error:
        return str(error)
    return None


def check(words, options):
    """What a parser cannot know: recipes and keys of the training."""
    if Path(words[0]).name == "versa-train-ipcl" and hasattr(options, "changes"):
        read_config(options.config or "ipcl_ref01", *options.changes)
    if Path(words[0]).name == "versa-data":
        assert callable(options.action)


def test_a_wrong_command_would_be_found(parsed):
    with pytest.raises(ValueError, match="unrecognized arguments: --datset"):
        parsed(["versa-compare", "alexnet_gn_untrained", "--datset", "x"])
    with pytest.raises(ValueError, match="invalid choice"):
        parsed(["versa-data", "fetsch", "orientation"])
    lines = command_lines("A=1 versa-compare a \\\n  --out b && versa-data check c # d")
    expected = [["versa-compare", "a", "--out", "b"], ["versa-data", "check", "c"]]
    assert list(lines) == expected


NAMES = r"(alexnet_(?:gn|bn|lrn)_\w+|mocov2_\w+|swav_\w+|tc_\w+)"


@pytest.mark.parametrize(
    "page", [*PAGES, *TOP, *SCRIPTS], ids=ids([*PAGES, *TOP, *SCRIPTS])
)
def test_networks_of_examples_are_in_the_zoo(page):
    known = set(versa.list_models()["name"])
    known |= {"mocov2_rn50", "alexnet_gn_untrained_ref16"}  # aliases
    text = re.sub(r"\{n:02d\}", "01", read(page))
    for name in re.findall(rf"[\"` ]{NAMES}(?=[\s\"`:,])", text):
        assert name in known or f"{name}_" in text, name


# ---- pages that must keep up --------------------------------------------------------


def test_every_dataset_has_a_page():
    names = set(versa.list_datasets()["name"])
    assert names == {path.stem for path in (DOCS / "datasets").glob("*.md")}


def test_options_of_the_ambiguities_exist():
    arguments = {
        *inspect.signature(versa.fit).parameters,
        *inspect.signature(versa.compare).parameters,
        *inspect.signature(versa.BrainDataset.select).parameters,
    }
    flags = set()
    generated = [compare._parser(), data._parser(), *train._commands().values()]
    while generated:
        parser = generated.pop()
        for part in parser._actions:
            flags |= set(part.option_strings)
            if isinstance(part, argparse._SubParsersAction):
                generated += part.choices.values()
    text = read(DOCS / "ambiguities.md")
    found = 0
    for section in text.split("\n## ")[1:]:
        training = section.startswith("Training")
        for row in re.findall(r"^\|[^|]*\|[^|]*\|([^|]*)\|$", section, re.M)[2:]:
            for option in re.findall(r"`([^`]+)`", row):
                found += 1
                if option.startswith("--"):
                    assert option in flags, option
                elif training:
                    part = TrainConfig()
                    for key in option.split("."):
                        if isinstance(part, dict) or key == "norm":
                            break
                        part = getattr(part, key)
                elif "=" in option and ":" not in option:
                    assert option.split("=")[0] in arguments, option
    assert found > 30


def test_citation_file():
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    assert citation["version"] == versa.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= set(citation)
    dois = {citation["preferred-citation"]["doi"]}
    dois |= {entry["doi"] for entry in citation["references"]}
    page = read(DOCS / "citation.md")
    assert all(doi in page for doi in dois)


def test_rivals_are_dated_and_marked():
    page = read(DOCS / "rivals.md")
    assert re.search(r"Written in \w+ 20\d\d", page)
    for mark in ("**read**", "**measured**", "**published**"):
        assert mark in page
