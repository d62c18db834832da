"""A web server of our own that speaks the API v2 of the Open Science Framework.

    def test(osf):
        osf.components = {"trne8": {"betas/sub-01.mat": b"..."}, "cmp01": {...}}
        fetch_files("trne8", folder)  # the fixture sets VERSA_OSF_API

The first component is the project, the others lie in it, or where `parents` says.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from tests.serving import Handler, Reply

__all__ = ["OsfServer", "SigningHandler", "osf", "serving_osf"]


@dataclass
class OsfServer:
    """What OSF holds, and what it was asked for.

    Parameters
    ----------
    url : str
        Where it is served.
    components : dict
        ``{letters: {path: bytes}}``; the first one is the project. Instead of bytes, a
        list of bytes gives all versions of a file, from the first.
    """

    url: str
    components: dict = field(default_factory=dict)
    parents: dict = field(default_factory=dict)  # component -> component it lies in
    titles: dict = field(default_factory=dict)
    kinds: dict = field(default_factory=dict)  # letters -> "registrations", ...
    providers: tuple = ("osfstorage",)
    private: bool = False  # opened by the token "secret"
    hashes: bool = True
    page_size: int = 10
    repeats: bool = False  # whether the second page comes again and again
    same_page: bool = False  # whether every page holds the same items
    lost: int = 0  # how many items each list counts but does not show
    meta: str = "links"  # where the count stands: "links" or "top"
    first: dict = field(default_factory=dict)  # address -> replies given before
    cuts: dict = field(default_factory=dict)  # path of a file -> lengths of answers
    hosts: dict = field(default_factory=dict)  # path of a file -> host that has it
    changed: dict = field(default_factory=dict)  # path of a file -> attributes
    asked: list = field(default_factory=list)

    @property
    def api(self):
        return f"{self.url}/v2"

    @property
    def downloads(self):
        """Addresses of the files that were asked for."""
        return [path for path in self.asked if path.startswith("/download/")]

    @property
    def requests(self):
        """Addresses of the API that were asked for."""
        return [path for path in self.asked if path.startswith("/v2/")]

    def get(self, address, _=None, *, token=None):
        """Reply to a request, as the handler wants it."""
        self.asked.append(address)
        parts = urlsplit(address)
        waiting = self.first.get(parts.path)
        if waiting:
            return waiting.pop(0)
        steps = [unquote(step) for step in parts.path.strip("/").split("/")]
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if self.private and token != "Bearer secret":
            return Reply(b"{}", 403)
        if steps[0] == "download":
            return self._file(*steps[1:], **query)
        if steps[:2] == ["v2", "guids"] and steps[2] in self.components:
            return self._guid(steps[2])
        if steps[0] == "v2" and len(steps) > 2 and steps[2] in self.components:
            return self._about(steps[2], steps[3:], parts.path, query)
        return Reply(b'{"errors": [{"detail": "Not found."}]}', 404)

    def _guid(self, letters):
        kind = self.kinds.get(letters, "nodes")
        location = f"{self.api}/{kind}/{letters}/"
        return Reply(status=302, headers={"Location": location}, etag="")

    def _about(self, letters, rest, path, query):
        kind = self.kinds.get(letters, "nodes")
        here = f"{self.api}/{kind}/{letters}"
        if not rest:
            return self._json({"data": self._node(letters)})
        if rest == ["children"]:
            project = next(iter(self.components))
            found = [
                name
                for name in self.components
                if name != project and self.parents.get(name, project) == letters
            ]
            return self._page([self._node(name) for name in found], path, query)
        if rest == ["files"]:
            items = [
                {
                    "id": f"{letters}:{name}",
                    "attributes": {"provider": name},
                    **self._related(files=f"{here}/files/{name}/"),
                }
                for name in self.providers
            ]
            return self._page(items, path, query)
        prefix = "/".join([*rest[2:], ""]) if rest[2:] else ""
        return self._page(self._folder(letters, prefix, here), path, query)

    def _node(self, letters):
        kind = self.kinds.get(letters, "nodes")
        here = f"{self.api}/{kind}/{letters}"
        title = self.titles.get(letters, f"Component {letters}")
        return {
            "id": letters,
            "type": kind,
            "attributes": {"title": title},
            **self._related(files=f"{here}/files/", children=f"{here}/children/"),
        }

    def _folder(self, letters, prefix, here):
        items, folders = [], set()
        for number, (path, content) in enumerate(self.components[letters].items()):
            if not path.startswith(prefix):
                continue
            name, slash, _ = path.removeprefix(prefix).partition("/")
            if not slash:
                items.append(self._item(letters, number, path, content))
            elif name not in folders:
                folders.add(name)
                inside = f"{here}/files/osfstorage/{quote(f'{prefix}{name}')}/"
                items.append(
                    {
                        "id": f"{letters}:{prefix}{name}/",
                        "attributes": {"kind": "folder", "name": name},
                        **self._related(files=inside),
                    }
                )
        return items

    def _item(self, letters, number, path, content):
        versions = content if isinstance(content, list) else [content]
        hashes = {
            kind: getattr(hashlib, kind)(versions[-1]).hexdigest()
            if self.hashes
            else None
            for kind in ("md5", "sha256")
        }
        attributes = {
            "kind": "file",
            "name": path.split("/")[-1],
            "provider": "osfstorage",
            "materialized_path": f"/{path}",
            "size": len(versions[-1]),
            "current_version": len(versions),
            "extra": {"hashes": hashes},
            "date_modified": f"2021-03-0{len(versions)}T10:00:00.000000Z",
            **self.changed.get(path, {}),
        }
        host = self.hosts.get(path, self.url)
        link = f"{host}/download/{letters}/{number}/"
        return {
            "id": f"{letters}{number}",
            "attributes": attributes,
            "links": {"download": link},
        }

    def _file(self, letters, number, version=None):
        files = list(self.components[letters].items())
        path, content = files[int(number)]
        versions = content if isinstance(content, list) else [content]
        chosen = len(versions) if version is None else int(version)
        etag = f'"{hashlib.md5(versions[chosen - 1]).hexdigest()}"'
        cuts = self.cuts.setdefault(path, [])
        return Reply(versions[chosen - 1], etag=etag, cuts=cuts)

    def _page(self, items, path, query):
        size = min(int(query.get("page[size]", 10)), self.page_size)
        number = int(query.get("page", 1))
        stored = "/osfstorage/" in path
        shown = items[: len(items) - self.lost] if stored else items
        start = 0 if self.same_page else (number - 1) * size
        following = min(number + 1, 2) if self.repeats else number + 1
        more = (self.repeats and stored) or number * size < len(shown)
        link = f"{self.url}{path}?page={following}&page%5Bsize%5D={size}"
        count = {"total": len(items), "per_page": size}
        page = {
            "data": shown[start : start + size],
            "links": {"next": link if more else None},
        }
        if self.meta == "links":
            page["links"]["meta"] = count
        else:
            page["meta"] = count
        return self._json(page)

    def _related(self, **links):
        return {
            "relationships": {
                name: {"links": {"related": {"href": link}}}
                for name, link in links.items()
            }
        }

    def _json(self, document):
        headers = {"Content-Type": "application/vnd.api+json"}
        return Reply(json.dumps(document).encode(), headers=headers, etag="")


class SigningHandler(Handler):
    """Remembers who signed, and tells it the server that replies."""

    def do_GET(self):  # noqa: N802
        self.server.signed.append(self.headers.get("Authorization"))
        super().do_GET()


class _Told:
    """The replies of an OsfServer to the handler that reads `files`."""

    def __init__(self, served, server):
        self.served, self.server = served, server

    def get(self, address, default=None):
        return self.served.get(address, default, token=self.server.signed[-1])


def serving_osf():
    """Generator of one running OsfServer; the server itself is its `running`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SigningHandler) as running:
        running.asked, running.ranges, running.cookies, running.signed = [], [], [], []
        served = OsfServer(f"http://127.0.0.1:{running.server_port}")
        served.running, running.files = running, _Told(served, running)
        threading.Thread(
            target=running.serve_forever, args=(0.02,), daemon=True
        ).start()
        yield served
        running.shutdown()


@pytest.fixture
def osf(monkeypatch):
    """An OSF on this machine, to which VERSA_OSF_API leads; waits for nothing."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("VERSA_OFFLINE", raising=False)
    monkeypatch.delenv("OSF_TOKEN", raising=False)
    monkeypatch.setattr("versa.http._PAUSE", 0.0)
    for served in serving_osf():
        monkeypatch.setenv("VERSA_OSF_API", served.api)
        yield served
