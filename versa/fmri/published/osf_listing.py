"""What files a project of the Open Science Framework (OSF) holds, by its API v2."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from versa.cache import offline
from versa.fmri.published.osf_files import OsfFile, folded, is_plain, plain_name
from versa.transfer import AddressError, open_session, read_json
from versa.wording import listing

if TYPE_CHECKING:
    from requests import Session

__all__ = [
    "OSF_PROJECT",
    "api_address",
    "list_files",
    "project_files",
    "project_id",
    "token_header",
]

logger = logging.getLogger("versa")

OSF_PROJECT = "trne8"  # Konkle & Alvarez (2022), https://osf.io/trne8/
_API = "https://api.osf.io/v2"
_PAGE_SIZE = 100  # the most that is granted; 10 if nothing is asked
_STORAGE = "osfstorage"


def list_files(
    project: str = OSF_PROJECT, *, api: str | None = None
) -> tuple[OsfFile, ...]:
    """List all files of an OSF project and of its components.

    Only OSF's own storage is listed; a message tells if a project has others. A private
    project needs a personal access token in the environment variable ``OSF_TOKEN``.

    Parameters
    ----------
    project : str
        Five letters, or the address, of a project, component or registration; the
        project of Konkle & Alvarez (2022) if not given.
    api : str, optional
        Address of the API; by default the environment variable ``VERSA_OSF_API``, else
        ``https://api.osf.io/v2``.

    Returns
    -------
    files : tuple of OsfFile
        The current versions, in the order of their paths.

    Raises
    ------
    ValueError
        If there is no such project, or it is private, or a path is not safe.
    ConnectionError
        If the listing does not come, or not whole, or ``VERSA_OFFLINE`` forbids it.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4
    """
    name, address = project_id(project), api_address(api)
    try:
        return project_files(name, address)
    except AddressError as error:
        raise error.kind(f"{error.reason}. {error.advice}") from error.__cause__


def project_files(project: str, api: str) -> tuple[OsfFile, ...]:
    """List a project as `list_files` does; for those who hold a lock on a folder.

    Parameters
    ----------
    project : str
        From `project_id`.
    api : str
        From `api_address`.

    Returns
    -------
    files : tuple of OsfFile

    Raises
    ------
    AddressError
        With the kind that `list_files` raises.
    """
    if offline():
        raise AddressError(
            f"files of OSF project {project} cannot be listed, because VERSA_OFFLINE "
            "forbids it",
            "Unset it.",
        )
    with open_session(token_header(api)) as session:
        asking = _Api(session, api, project)
        node = asking.document(f"{api}/guids/{project}/").get("data")
        kind = _at(node, "type")
        if kind == "guids":  # a mirror that does not lead on to what the letters name
            kind = _at(node, "relationships", "referent", "data", "type")
            node = asking.document(f"{api}/{kind}/{project}/").get("data")
        if kind not in ("nodes", "registrations"):
            raise AddressError(
                f"{project!r} must name a project, component or registration of OSF; "
                f"it names one of its {kind}",
                f"Look at https://osf.io/{project}/ for the project.",
                ValueError,
            )
        files = sorted(_files_below(asking, node), key=lambda file: file.path)
    logger.info("OSF project %s has %d files.", project, len(files))
    return tuple(files)


def project_id(project: str) -> str:
    """Five letters of a project, from them or from its address.

    Parameters
    ----------
    project : str

    Returns
    -------
    project : str

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> project_id("https://osf.io/trne8/")
    'trne8'
    """
    pattern = r"(?:(?:https?://)?(?:www\.)?osf\.io/)?([0-9A-Za-z]{5,})(?:/.*)?"
    found = re.fullmatch(pattern, project.strip())
    if found is None:
        raise ValueError(
            "project must be the five letters of an OSF project or its address, such "
            f"as {OSF_PROJECT} or https://osf.io/{OSF_PROJECT}/; got {project!r}."
        )
    return found[1].lower()


def api_address(api: str | None) -> str:
    """Address of the API: as given, or of ``VERSA_OSF_API``, or that of OSF.

    Parameters
    ----------
    api : str or None

    Returns
    -------
    api : str
        Without a slash at its end.

    Raises
    ------
    ValueError
        If it is no HTTP or HTTPS address.

    Examples
    --------
    >>> api_address("https://osf.example.org/v2/")
    'https://osf.example.org/v2'
    """
    address = (api or os.environ.get("VERSA_OSF_API", "") or _API).rstrip("/")
    if not re.match(r"https?://[^/]", address):
        raise ValueError(
            "api (or VERSA_OSF_API) must be an address that starts with https:// or "
            f"http://; got {address!r}."
        )
    return address


def token_header(api: str) -> Callable[[str], Mapping[str, str]] | None:
    """Who may see the token of ``OSF_TOKEN``: the API's host, and OSF over HTTPS.

    Parameters
    ----------
    api : str
        From `api_address`.

    Returns
    -------
    sign : callable or None
        Headers for an address, as `versa.transfer.open_session` wants; None if there
        is no token.

    Raises
    ------
    ValueError
        If the token would travel in clear over a network.
    """
    token = os.environ.get("OSF_TOKEN", "").strip()
    if not token:
        return None
    home = urlsplit(api)
    if home.scheme != "https" and home.hostname not in (
        "127.0.0.1",
        "::1",
        "localhost",
    ):
        raise ValueError(
            "OSF_TOKEN must be sent over https only; the API's address is "
            f"{api!r}. Unset OSF_TOKEN, or use the API's https address."
        )

    def sign(url: str) -> Mapping[str, str]:
        target = urlsplit(url)
        host = target.hostname or ""
        osf = target.scheme == "https" and f".{host}".endswith(".osf.io")
        trusted = osf or target[:2] == home[:2]
        return {"Authorization": f"Bearer {token}"} if trusted else {}

    return sign


@dataclass(frozen=True)
class _Api:
    """The API, and for which project it is asked."""

    session: "Session"
    address: str
    project: str

    def link(self, url: object) -> str:
        """An address that the API told."""
        if not isinstance(url, str) or not re.match(r"https?://[^/]", url):
            raise self.odd(self.address, f"a link that leads to {url!r}")
        if self.address.startswith("https:") and not url.startswith("https:"):
            raise self.odd(self.address, f"a link to {url}, which is not secure")
        return url

    def document(self, link: object) -> dict[str, Any]:
        """One answer, which must be a JSON object."""
        url = self.link(link)
        try:
            found = read_json(self.session, url)
        except AddressError as error:
            raise _refused(self.project, url, error) from error
        if not isinstance(found, dict):
            raise self.odd(url, "no JSON object")
        return found

    def items(self, url: object) -> Iterator[Mapping[str, Any]]:
        """All items of a list that comes in pages, each once, or a refusal."""
        first = self.link(url)
        url = _in_long_pages(first)
        ids: set[str] = set()
        asked: set[object] = set()
        total: object = None
        while url is not None:
            asked.add(url)
            page = self.document(url)
            data = page.get("data")
            if not isinstance(data, list) or not all(_at(item, "id") for item in data):
                raise self.odd(url, "no list of items")
            new = [item for item in data if item["id"] not in ids]
            yield from {item["id"]: item for item in new}.values()
            ids.update(item["id"] for item in new)
            told = _at(page, "links", "meta", "total"), _at(page, "meta", "total")
            total = next((count for count in told if count is not None), total)
            url = _at(page, "links", "next")
            if url in asked or (url is not None and not new):
                raise self.odd(first, f"a page again after {len(ids)} items")
        if total is not None and total != len(ids):
            raise self.odd(first, f"{len(ids)} different items where it counts {total}")

    def odd(self, url: object, found: str) -> AddressError:
        """An answer that would make the listing wrong."""
        return AddressError(
            f"files of OSF project {self.project} could not be listed whole: {url} "
            f"gave {found}",
            "Run it again: the project may have changed while it was listed.",
        )


def _refused(project: str, url: str, error: AddressError) -> AddressError:
    """What a refusal of the API means to the user."""
    if error.status in (404, 410):
        return AddressError(
            f"OSF project {project!r} must be there; {url} answers {error}",
            f"Check its letters: https://osf.io/{project}/ must show it.",
            ValueError,
        )
    if error.status in (401, 403):
        advice = "Set OSF_TOKEN to a personal access token of someone who may read it."
        if os.environ.get("OSF_TOKEN", "").strip():
            advice = "OSF_TOKEN must be a valid token of someone who may read it."
        return AddressError(
            f"OSF project {project!r} must be public or opened by a token; {url} "
            f"answers {error}",
            advice,
            ValueError,
        )
    return AddressError(
        f"files of OSF project {project} could not be listed: {url}: {error}",
        error.advice
        or "Run it again later."
        + (" OSF_TOKEN would raise the limit." if error.status == 429 else ""),
    )


def _files_below(api: _Api, node: object) -> Iterator[OsfFile]:
    """Files of a node, then those of its components, each in a folder of its own."""
    waiting: list[tuple[object, str]] = [(node, "")]
    seen: set[object] = set()
    while waiting:
        node, prefix = waiting.pop(0)
        name = _at(node, "id")
        if not isinstance(name, str) or name in seen:
            raise api.odd(api.address, f"component {name!r} twice or without a name")
        seen.add(name)
        taken = set()
        for item in _stored_items(api, node, name):
            file = _file(api, item, prefix, name)
            taken.add(folded(file.path.removeprefix(prefix).split("/")[0]))
            yield file
        children = api.items(_related(node, "children"))
        for child in sorted(children, key=lambda item: str(item["id"])):
            label = plain_name(str(_at(child, "attributes", "title")))
            if not is_plain(label):
                label = str(child["id"])
            if folded(label) in taken:
                label = f"{label} ({child['id']})"
            taken.add(folded(label))
            waiting.append((child, f"{prefix}{label}/"))


def _stored_items(api: _Api, node: object, name: str) -> Iterator[Mapping[str, Any]]:
    """Items of the files in OSF's own storage of one node, through all its folders."""
    places = {
        str(_at(item, "attributes", "provider")): item
        for item in api.items(_related(node, "files"))
    }
    others = sorted(set(places) - {_STORAGE})
    if others:
        logger.warning(
            "OSF project %s has files in %s, too, which are not listed; only those in "
            "%s are.",
            *(name, listing(others), _STORAGE),
        )
    folders = [_related(places[_STORAGE], "files")] if _STORAGE in places else []
    entered: set[object] = set()
    while folders:
        folder = folders.pop()
        if folder in entered:
            raise api.odd(folder, "a folder that lies in itself")
        entered.add(folder)
        for item in api.items(folder):
            if _at(item, "attributes", "kind") == "folder":
                folders.append(_related(item, "files"))
            else:
                yield item


def _file(api: _Api, item: Mapping[str, Any], prefix: str, node: str) -> OsfFile:
    """One file of a listing."""
    told = str(_at(item, "attributes", "materialized_path")).removeprefix("/")
    path = "/".join(map(plain_name, told.split("/")))
    if path != told:
        logger.warning("%r on OSF is called %r here.", told, path)
    version = _at(item, "attributes", "current_version")
    url = api.link(_at(item, "links", "download"))
    hashes = _at(item, "attributes", "extra", "hashes") or {}
    try:
        return OsfFile(
            path=prefix + path,
            size=_at(item, "attributes", "size"),
            md5=(_at(hashes, "md5") or "").lower(),
            sha256=(_at(hashes, "sha256") or "").lower(),
            version="" if version is None else str(version),
            url=_with_query(url, {} if version is None else {"version": str(version)}),
            node=node,
            modified=_at(item, "attributes", "date_modified") or "",
        )
    except (ValueError, AttributeError) as error:
        raise AddressError(
            f"files of OSF project {node} could not be listed: "
            f"{str(error).rstrip('.')}",
            "Nothing was written.",
            ValueError,
        ) from error


def _related(item: object, relationship: str) -> object:
    return _at(item, "relationships", relationship, "links", "related", "href")


def _at(item: object, *keys: str) -> Any:
    """What lies in nested mappings; None if nothing does."""
    for key in keys:
        item = item.get(key) if isinstance(item, Mapping) else None
    return item


def _in_long_pages(url: str) -> str:
    return _with_query(url, {"page[size]": str(_PAGE_SIZE)})


def _with_query(url: str, query: Mapping[str, str]) -> str:
    """An address with something more asked for."""
    parts = urlsplit(url)
    asked = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **query}
    return parts._replace(query=urlencode(asked)).geturl()
