"""Projects of OSF from a server of our own: listed whole, pinned, checked."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from tests.osf_server import osf
from tests.serving import Reply, warnings_of
from versa.fmri.published.osf import (
    LOCK_NAME,
    OsfFile,
    _may_see_token,
    api_address,
    fetch_files,
    files_table,
    list_files,
    project_id,
)

__all__ = ["osf"]  # fixture

pytestmark = pytest.mark.usefixtures("heard")

BETAS = bytes(range(256)) * 1200  # some chunks of the transfer
PROJECT = {
    "readme.txt": b"betas of all subjects",
    "betas/OO/sub-01.mat": BETAS,
    "betas/OO/sub-02.mat": BETAS[::-1],
    "betas/empty.txt": b"",
    "page.html": b"<!doctype html><title>Figures</title>",
}
PATHS = sorted(PROJECT)


@pytest.fixture
def project(osf):
    osf.components = {"trne8": dict(PROJECT)}
    return osf


def lying(folder):
    """Relative paths of the files in a folder, but for the lock of processes."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in found]
    return sorted(name for name in names if not name.endswith(".lock"))


def sha(content):
    return hashlib.sha256(content).hexdigest()


def first_file(project):
    """What is known of the first file of the project."""
    return {
        "path": "betas/OO/sub-01.mat",
        "size": len(BETAS),
        "md5": hashlib.md5(BETAS).hexdigest(),
        "sha256": sha(BETAS),
        "version": "1",
        "url": f"{project.url}/download/trne8/1/?version=1",
        "node": "trne8",
        "modified": "2021-03-01T10:00:00.000000Z",
    }


# Listing


@pytest.mark.parametrize(
    ("kind", "meta"), [("nodes", "links"), ("registrations", "top")]
)
def test_a_project_is_listed_with_all_that_is_known(project, kind, meta):
    project.kinds, project.meta = {"trne8": kind}, meta
    files = list_files("https://osf.io/trne8/")
    assert [file.path for file in files] == PATHS
    (file,) = [file for file in files if file.path == "betas/OO/sub-01.mat"]
    assert asdict(file) == first_file(project)
    assert all(f"/{kind}/" in path for path in project.requests[1:])


@pytest.mark.parametrize("page_size", [10, 3, 100])
def test_pages_are_followed_to_the_end(osf, page_size):
    osf.page_size = page_size
    names = {f"deep/er/{number:03}.mat": b"%d" % number for number in range(37)}
    osf.components = {"trne8": names}
    assert [file.path for file in list_files("trne8")] == sorted(names)
    listed = [path for path in osf.requests if "/er/" in path]
    assert len(listed) == -(-37 // page_size)


def test_files_of_components_lie_in_folders_of_their_own(osf):
    osf.components = {
        "trne8": {"a.txt": b"a", "Code/b.txt": b"b"},
        "cmp01": {"c.txt": b"c"},
        "cmp02": {"c.txt": b"c"},
        "cmp03": {"c.txt": b"c", "x/y.txt": b"y"},
        "cmp04": {"c.txt": b"c"},
        "cmp05": {"c.txt": b"c"},
    }
    osf.parents = {"cmp03": "cmp02"}
    osf.titles = {
        "cmp01": "code",
        "cmp02": "Data: 1/2",
        "cmp03": "Raw",
        "cmp04": "..",
        "cmp05": "code",
    }
    files = list_files("trne8")
    assert [(file.path, file.node) for file in files] == [
        ("Code/b.txt", "trne8"),
        ("Data: 1_2/Raw/c.txt", "cmp03"),
        ("Data: 1_2/Raw/x/y.txt", "cmp03"),
        ("Data: 1_2/c.txt", "cmp02"),
        ("a.txt", "trne8"),
        ("cmp01/c.txt", "cmp01"),
        ("cmp04/c.txt", "cmp04"),
        ("cmp05/c.txt", "cmp05"),
    ]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"repeats": True}, "a page again after 24 items"),
        ({"same_page": True}, "a page again after 10 items"),
        ({"lost": 2}, "22 different items where it counts 24"),
    ],
)
def test_a_listing_that_repeats_or_loses_items_is_refused(osf, settings, found):
    osf.components = {"trne8": {f"{number:02}.mat": b"x" for number in range(24)}}
    osf.page_size = 10 if "same_page" in settings or "lost" in settings else 20
    for name, value in settings.items():
        setattr(osf, name, value)
    with pytest.raises(ConnectionError, match=found) as caught:
        list_files("trne8")
    assert "OSF project trne8 could not be listed whole: http" in str(caught.value)
    assert str(caught.value).endswith("may have changed while it was listed.")
    assert len(osf.requests) < 12


def test_a_folder_in_itself_is_no_endless_walk(project, monkeypatch):
    folder = project._folder

    def looping(letters, prefix, here):
        link = project._related(files=f"{here}/files/osfstorage/betas/")
        loop = {"id": "loop", "attributes": {"kind": "folder"}, **link}
        found = folder(letters, "betas/" if prefix else "", here)
        return [*found, loop] if prefix else found

    monkeypatch.setattr(project, "_folder", looping)
    with pytest.raises(ConnectionError, match="gave a folder that is in itself"):
        list_files("trne8")


def test_a_component_in_itself_is_no_endless_walk(osf):
    osf.components = {"trne8": {}, "cmp01": {}}
    osf.parents = {"cmp01": "cmp01"}
    assert list_files("trne8") == ()
    with pytest.raises(ConnectionError, match="component 'cmp01' twice"):
        list_files("cmp01")


def test_other_storage_is_told_not_listed(project, heard):
    project.providers = ("osfstorage", "dropbox", "github")
    assert [file.path for file in list_files("trne8")] == PATHS
    (warning,) = warnings_of(heard)
    assert warning == (
        "OSF project trne8 has files in dropbox, github, too, which are not listed; "
        "only those in osfstorage are."
    )
    project.providers = ("github",)
    assert list_files("trne8") == ()


@pytest.mark.parametrize(
    "path", ["../evil", "a/../../evil", "/etc/passwd", "a//b", ".", "..", "", "a/."]
)
def test_a_path_that_leads_out_is_refused(project, tmp_path, path):
    project.changed["readme.txt"] = {"materialized_path": f"/{path}"}
    with pytest.raises(ValueError, match=r"path of a file on OSF must be .*never wri"):
        list_files("trne8")
    folder = tmp_path / "in" / "here"
    with pytest.raises(ValueError, match="which is never written"):
        fetch_files("trne8", folder)
    assert lying(tmp_path) == []
    with pytest.raises(ValueError, match="which is never written"):
        OsfFile(path, 1, "", "", "1", "https://osf.io/x", "trne8", "")


def test_odd_characters_in_names_are_replaced_and_told(project, heard):
    project.changed["readme.txt"] = {"materialized_path": "/a\\..\\b\0\n\ud800.txt"}
    project.changed["page.html"] = {"materialized_path": "/C:/Figure 1: é.html"}
    paths = [file.path for file in list_files("trne8")]
    assert "a_.._b___.txt" in paths
    assert "C_/Figure 1: é.html" in paths
    assert [text.rpartition(" is called ")[2] for text in warnings_of(heard)] == [
        "'a_.._b___.txt' here.",
        "'C_/Figure 1: é.html' here.",
    ]


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"size": "9"}, "size must be an integer; got '9'"),
        ({"size": True}, "got True"),
        ({"date_modified": 7}, "modified must be text; got 7"),
        ({"extra": {"hashes": {"sha256": 7}}}, "sha256 must be text; got 7"),
    ],
)
def test_odd_facts_of_a_file_are_refused(project, attributes, text):
    project.changed["readme.txt"] = attributes
    with pytest.raises(ValueError, match="readme.txt of OSF .*" + re.escape(text)):
        list_files("trne8")


def test_what_is_not_published_is_empty(project):
    project.hashes = False
    project.changed = {path: {"size": None, "current_version": None} for path in PATHS}
    table = files_table(list_files("trne8"))
    assert table["path"].tolist() == PATHS
    assert table["size"].isna().all()
    assert set(table["sha256"]) == set(table["md5"]) == set(table["version"]) == {""}
    assert files_table(()).empty


# Whom the API lets in


def test_an_absent_project_is_told(project):
    with pytest.raises(
        ValueError, match=r"OSF project 'abcde' must be there; http.*404"
    ):
        list_files("abcde")
    project.kinds["trne8"] = "users"
    user = b'{"data": {"type": "users", "id": "trne8"}}'
    project.first["/v2/users/trne8/"] = [Reply(user)]
    with pytest.raises(ValueError, match=r"names one of its users. Look at"):
        list_files("trne8")


@pytest.mark.parametrize(
    "project", ["", "abc", "osf.io/", "https://x.org/trne8", "a b"]
)
def test_letters_that_cannot_be_a_project_are_refused(project):
    with pytest.raises(ValueError, match="project must be the five letters of an OSF"):
        project_id(project)


def test_a_private_project_needs_a_token(project, monkeypatch, tmp_path):
    project.private = True
    for token in ("", "wrong"):
        monkeypatch.setenv("OSF_TOKEN", token)
        text = r"must be public .*403.*Set OSF_TOKEN to a personal access token"
        with pytest.raises(ValueError, match=text):
            list_files("trne8")
    monkeypatch.setenv("OSF_TOKEN", "secret")
    assert len(list_files("trne8")) == len(PATHS)
    assert len(fetch_files("trne8", tmp_path)) == len(PATHS)
    assert "secret" not in (tmp_path / LOCK_NAME).read_text()


def test_the_token_does_not_follow_a_redirect_elsewhere(project, monkeypatch, tmp_path):
    monkeypatch.setenv("OSF_TOKEN", "secret")
    elsewhere = project.url.replace("127.0.0.1", "localhost")
    away = {"Location": f"{elsewhere}/store"}
    back = {"Location": f"{project.url}/back"}
    project.first = {
        "/download/trne8/0/": [Reply(status=302, headers=away, etag="")],
        "/store": [Reply(status=302, headers=back, etag="")],
        "/back": [Reply(PROJECT["readme.txt"])],
    }
    fetch_files("trne8", tmp_path, patterns="readme.txt")
    signed = dict(zip(project.asked, project.running.signed, strict=True))
    assert signed["/download/trne8/0/?version=1"] == "Bearer secret"
    assert signed["/store"] is None
    assert signed["/back"] == "Bearer secret"


def test_the_token_is_for_osf_and_the_host_of_the_api_alone(monkeypatch):
    api = "https://mirror.example.org:8443/v2"
    for url in (
        "https://mirror.example.org:8443/x",
        "https://files.osf.io/v1/x",
        "https://osf.io/download/x/",
    ):
        assert _may_see_token(url, api)
    for url in (
        "http://osf.io/x",
        "http://mirror.example.org:8443/x",
        "https://mirror.example.org/x",
        "https://osf.io.example.org/x",
        "https://notosf.io/x",
        "https://osf.io@example.org/x",
        "https://storage.googleapis.com/cos-osf/x?host=osf.io",
    ):
        assert not _may_see_token(url, api)
    monkeypatch.setenv("OSF_TOKEN", "secret")
    monkeypatch.setenv("VERSA_OSF_API", "http://mirror.example.org/v2")
    with pytest.raises(ValueError, match="OSF_TOKEN must be sent over https only"):
        list_files("trne8")


def test_the_address_of_the_api_is_osfs_or_stated(monkeypatch):
    assert api_address() == "https://api.osf.io/v2"
    monkeypatch.setenv("VERSA_OSF_API", "ftp://x.org")
    with pytest.raises(ValueError, match=r"VERSA_OSF_API must be an address that st"):
        api_address()


@pytest.mark.parametrize(
    ("place", "answer", "text"),
    [
        ("guids/trne8", b"<html><title>Down</title>", "a page, titled 'Down' instead"),
        ("guids/trne8", b"down", "sent something else"),
        ("guids/trne8", b"[]", "gave no JSON object"),
        ("guids/trne8", b'{"data": {"type": "nodes", "id": "trne8"}}', "leads to None"),
        ("nodes/trne8/files", b'{"data": [{}]}', "gave no list of items"),
    ],
)
def test_an_answer_that_is_no_listing_is_refused(project, place, answer, text):
    project.first[f"/v2/{place}/"] = [Reply(answer)]
    with pytest.raises(ConnectionError, match=text.replace("a page", "a web page")):
        list_files("trne8")


# A busy API


def test_a_busy_api_is_asked_again(project, monkeypatch):
    waits = []
    clock = SimpleNamespace(sleep=waits.append, time=time.time)  # not the server's
    monkeypatch.setattr("versa.http.time", clock)
    busy = [Reply(status=429, headers={"Retry-After": "7"}), Reply(status=503)]
    project.first["/v2/guids/trne8/"] = busy
    assert len(list_files("trne8")) == len(PATHS)
    assert waits == [7, 0]


def test_an_api_that_stays_busy_is_left_alone(project, monkeypatch):
    project.first["/v2/guids/trne8/"] = [Reply(status=503)] * 9
    with pytest.raises(ConnectionError, match=r"HTTP 503 .*Run it again later.$"):
        list_files("trne8")
    assert len(project.asked) == 4
    hour = Reply(status=429, headers={"Retry-After": "3600"})
    project.first["/v2/guids/trne8/"] = [hour]
    with pytest.raises(
        ConnectionError, match=r"to wait 3600 seconds. Run it again later"
    ):
        list_files("trne8")
    assert len(project.asked) == 5


def test_offline_forbids_the_listing(project, monkeypatch):
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    with pytest.raises(
        ConnectionError, match=r"because VERSA_OFFLINE forbids it. Unset"
    ):
        list_files("trne8")
    assert project.asked == []


# Downloads


def test_files_come_whole_and_are_pinned(project, tmp_path):
    folder = tmp_path / "osf"
    paths = fetch_files("trne8", folder)
    assert [path.relative_to(folder).as_posix() for path in paths] == PATHS
    assert [path.read_bytes() for path in paths] == [PROJECT[path] for path in PATHS]
    assert lying(folder) == sorted([*PATHS, LOCK_NAME])
    lock = json.loads((folder / LOCK_NAME).read_text())
    assert lock["project"] == "trne8"
    assert lock["files"][0] == first_file(project)


def test_the_second_run_only_checks(project, tmp_path, monkeypatch):
    paths = fetch_files("trne8", tmp_path)
    project.asked.clear()
    assert fetch_files("trne8", tmp_path) == paths
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    assert fetch_files("TRNE8", str(tmp_path)) == paths
    assert project.asked == []


def test_patterns_choose_and_the_rest_comes_later(project, tmp_path):
    (first,) = fetch_files("trne8", tmp_path, patterns="*sub-01*")
    assert first == tmp_path / "betas" / "OO" / "sub-01.mat"
    assert lying(tmp_path) == ["betas/OO/sub-01.mat", LOCK_NAME]
    assert len(fetch_files("trne8", tmp_path, patterns=["*.mat", "*.txt"])) == 4
    assert len(project.downloads) == 4
    with pytest.raises(
        ValueError, match=r"'\*\.nii' matches none of betas/OO/sub-01.*"
    ):
        fetch_files("trne8", tmp_path, patterns=["*.mat", "*.nii"])
    with pytest.raises(ValueError, match="file of OSF project trne8, as listed on 20"):
        fetch_files("trne8", tmp_path, patterns="none")


@pytest.mark.parametrize("damage", ["other", "short", "gone"])
def test_a_damaged_file_is_told_and_brought_again(project, tmp_path, heard, damage):
    fetch_files("trne8", tmp_path)
    path = tmp_path / "betas" / "OO" / "sub-01.mat"
    path.unlink()
    if damage != "gone":
        path.write_bytes(BETAS[::-1] if damage == "other" else BETAS[:-1])
    project.asked.clear()
    fetch_files("trne8", tmp_path)
    assert path.read_bytes() == BETAS
    assert project.downloads == ["/download/trne8/1/?version=1"]
    why = {
        "other": [f"the SHA-256 {sha(BETAS)}; it has {sha(BETAS[::-1])}"],
        "short": [f"{len(BETAS)} bytes; it has {len(BETAS) - 1}"],
        "gone": [],
    }
    assert warnings_of(heard) == [
        f"{path} is damaged (it must have {reason}); it is downloaded again."
        for reason in why[damage]
    ]


def test_offline_a_missing_file_is_told(project, tmp_path, monkeypatch):
    monkeypatch.setenv("VERSA_OFFLINE", "1")
    with pytest.raises(
        FileNotFoundError, match=r"are not all in .*VERSA_OFFLINE forbids"
    ):
        fetch_files("trne8", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert project.asked == []


def test_the_pinned_version_is_brought_though_the_project_changed(
    project, tmp_path, heard
):
    (path,) = fetch_files("trne8", tmp_path, patterns="*sub-01*")
    files = project.components["trne8"]
    files["betas/OO/sub-01.mat"] = [BETAS, b"better"]
    files["betas/OO/sub-02.mat"] = [BETAS[::-1], b"better, too"]
    files["new.txt"] = b"new"
    path.unlink()
    assert len(fetch_files("trne8", tmp_path)) == len(PATHS)
    assert path.read_bytes() == BETAS
    (warning,) = warnings_of(heard)
    assert "OSF project trne8 has changed since 20" in warning
    assert warning.endswith(
        ": betas/OO/sub-01.mat has version 2, not 1, betas/OO/sub-02.mat has version "
        "2, not 1, new.txt is new. The pinned versions are used; update=True takes the "
        "present ones."
    )
    heard.clear()
    updated = fetch_files("trne8", tmp_path, update=True)
    assert [file.relative_to(tmp_path).as_posix() for file in updated] == [
        *PATHS[:3],
        "new.txt",
        *PATHS[3:],
    ]
    assert path.read_bytes() == b"better"
    assert (tmp_path / "new.txt").read_bytes() == b"new"
    assert warnings_of(heard) == []
    assert f"{path} is replaced by version 2." in heard.text
    assert path.with_name("sub-02.mat").read_bytes() == b"better, too"


def test_a_hash_that_changed_without_a_version_is_told(project, tmp_path, heard):
    fetch_files("trne8", tmp_path)
    project.components["trne8"]["readme.txt"] = b"other bytes, as lon"[:21].ljust(21)
    (tmp_path / "readme.txt").unlink()
    with pytest.raises(ValueError, match=r"must have the SHA-256 .*update=True takes"):
        fetch_files("trne8", tmp_path)
    assert "readme.txt has other content" in warnings_of(heard)[0]
    assert not (tmp_path / "readme.txt").exists()


def test_an_update_tells_which_files_are_gone(project, tmp_path, heard):
    fetch_files("trne8", tmp_path)
    del project.components["trne8"]["readme.txt"]
    paths = fetch_files("trne8", tmp_path, update=True)
    assert len(paths) == len(PATHS) - 1
    assert (tmp_path / "readme.txt").is_file()
    (warning,) = warnings_of(heard)
    assert warning.startswith("OSF project trne8 has these files no more: readme.txt. ")
    assert warning.endswith("read as part of the archive unless you remove them.")
    assert "readme.txt is gone" in heard.text


def test_folders_and_files_with_blanks_and_umlauts(osf, tmp_path):
    names = ["Süd Pol/a b/ü.mat", "50% #1/what?.txt", "ä & ö.txt"]
    osf.components = {"trne8": {name: name.encode() for name in names}}
    found = fetch_files("trne8", tmp_path)
    assert {p.relative_to(tmp_path).as_posix(): p.read_text() for p in found} == {
        name: name for name in names
    }


def test_if_the_listing_fails_the_pinned_files_come(project, tmp_path, heard):
    paths = fetch_files("trne8", tmp_path)
    paths[0].unlink()
    project.first["/v2/guids/trne8/"] = [Reply(status=503)] * 4
    assert fetch_files("trne8", tmp_path)[0].read_bytes() == PROJECT[PATHS[0]]
    (warning,) = warnings_of(heard)
    assert warning.startswith("whether OSF project trne8 has changed since 20")
    project.first["/v2/guids/trne8/"] = [Reply(status=503)] * 4
    with pytest.raises(ConnectionError, match="HTTP 503"):
        fetch_files("trne8", tmp_path, update=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 20},
        {"extra": {"hashes": {"md5": "0" * 32}}},
        {"extra": {"hashes": {"sha256": "0" * 64}}},
    ],
)
def test_what_is_not_the_listed_file_is_thrown_away(project, tmp_path, wrong):
    project.changed["readme.txt"] = wrong
    with pytest.raises(
        ValueError,
        match=r"readme.txt of OSF project trne8 could not be "
        r"downloaded from http.*: it must have (20|the (MD5|SHA-256))",
    ):
        fetch_files("trne8", tmp_path)
    assert "readme.txt" not in lying(tmp_path)
    assert not any(".part" in name for name in lying(tmp_path))


def test_a_page_in_place_of_a_file_says_what_it_is(project, tmp_path):
    page = Reply(b"<html><title>OSF | Sign In</title>", etag="")
    project.first["/download/trne8/0/"] = [page]
    with pytest.raises(
        ValueError, match=r"it is a web page, titled 'OSF \| Sign In'. R"
    ):
        fetch_files("trne8", tmp_path, patterns="readme.txt")


# Connections that break, and runs that end


def test_the_next_run_goes_on_where_the_last_one_ended(project, tmp_path):
    project.cuts["betas/OO/sub-02.mat"] = [150_000, 0, 0, 0]
    with pytest.raises(
        ConnectionError, match=r"131072 bytes are kept in .*Run it again to"
    ):
        fetch_files("trne8", tmp_path)
    assert [name for name in lying(tmp_path) if ".part" not in name] == [
        "betas/OO/sub-01.mat",
        LOCK_NAME,
    ]
    project.asked.clear()
    fetch_files("trne8", tmp_path)
    assert lying(tmp_path) == sorted([*PATHS, LOCK_NAME])
    assert project.running.ranges[-4] == "bytes=131072-"
    assert "/download/trne8/1/?version=1" not in project.asked


SCRIPT = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from versa.fmri.published.osf import fetch_files
print(len(fetch_files("trne8", sys.argv[1])), flush=True)
"""


@pytest.mark.slow
def test_two_processes_bring_each_file_once(project, tmp_path):
    gate = threading.Event()
    served = project.get

    def slowly(address, default=None, *, token=None):
        if address.startswith("/download/"):
            gate.wait(20)
        return served(address, default, token=token)

    project.get = slowly
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    first, second = (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    said = {}
    for name, process in (("first", first), ("second", second)):
        reader = threading.Thread(
            target=lambda name=name, process=process: said.update(
                {name: process.stdout.readlines()}
            )
        )
        reader.start()
        process.reader = reader
    gate.set()
    for process in (first, second):
        process.wait(30)
        process.reader.join(10)
    assert (first.returncode, second.returncode) == (0, 0)
    assert {lines[-1] for lines in said.values()} == {f"{len(PATHS)}\n"}
    assert sorted(project.downloads) == sorted(set(project.downloads))
    assert sum("/v2/guids/" in path for path in project.asked) == 1


@pytest.mark.slow
def test_a_killed_run_is_continued(project, tmp_path):
    started, gate = threading.Event(), threading.Event()
    served = project.get

    def hanging(address, default=None, *, token=None):
        if address.startswith("/download/trne8/2/"):
            started.set()
            gate.wait(20)
        return served(address, default, token=token)

    project.get = hanging
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    assert started.wait(20)
    process.kill()
    process.wait(10)
    gate.set()
    assert "betas/OO/sub-01.mat" in lying(tmp_path)
    assert "betas/OO/sub-02.mat" not in lying(tmp_path)
    project.asked.clear()
    assert len(fetch_files("trne8", tmp_path)) == len(PATHS)
    assert "/download/trne8/1/?version=1" not in project.asked


# What a folder may be


def test_a_folder_of_another_project_is_refused(project, tmp_path):
    fetch_files("trne8", tmp_path, patterns="readme.txt")
    with pytest.raises(
        ValueError, match=r"must hold .* abcde; it holds those of trne8"
    ):
        fetch_files("abcde", tmp_path)
    lock = tmp_path / LOCK_NAME
    good = json.loads(lock.read_text())
    evil = {**good["files"][0], "path": "../../evil"}
    for text in ("{", "[]", "{}", json.dumps({**good, "files": [evil]})):
        lock.write_text(text)
        with pytest.raises(ValueError, match="must be as versa wrote it; it cannot be"):
            fetch_files("trne8", tmp_path)


def test_files_that_versa_did_not_bring_are_not_replaced(project, tmp_path):
    mine = tmp_path / "readme.txt"
    mine.write_text("my own notes")
    with pytest.raises(
        ValueError, match=r"or not be there: it must have 21 bytes.*Move"
    ):
        fetch_files("trne8", tmp_path)
    assert mine.read_text() == "my own notes"
    assert lying(tmp_path) == ["readme.txt"]
    assert project.downloads == []


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a.mat", "A.mat"], "names that differ in more than case; there would be 'A"),
        (["\u00e9.mat", "e\u0301.mat"], "names that differ in more than case"),
        (["OSF.lock.json"], "would be 'osf.lock.json' and 'OSF.lock.json'. Choose"),
    ],
)
def test_names_that_cannot_lie_side_by_side_are_refused(osf, tmp_path, names, text):
    osf.components = {"trne8": dict.fromkeys([*names, "fine.txt"], b"x")}
    with pytest.raises(ValueError, match=re.escape(text)):
        fetch_files("trne8", tmp_path)
    assert lying(tmp_path) == []
    assert len(fetch_files("trne8", tmp_path, patterns="fine.txt")) == 1


def test_nothing_is_written_through_a_link_out_of_the_folder(project, tmp_path):
    folder, outside = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    outside.mkdir()
    (folder / "betas").symlink_to(outside, target_is_directory=True)
    with pytest.raises(ValueError, match=r"must be in .*; a link leads from it to"):
        fetch_files("trne8", folder)
    assert lying(outside) == []


def test_a_disk_that_is_too_small_is_told_before(project, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=400_000)
    monkeypatch.setattr("versa.fmri.published.osf.shutil.disk_usage", lambda _: usage)
    with pytest.raises(
        OSError, match=r"\(0\.00 GB do not fit: 0\.00 GB free\)\. Make room .*choose an"
    ):
        fetch_files("trne8", tmp_path)
    assert project.downloads == []
    assert len(fetch_files("trne8", tmp_path, patterns=["*-01.mat", "*.txt"])) == 3


def test_a_folder_that_cannot_be_written_is_told(project, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"OSF project trne8 cannot be written to .*choose an"
    ):
        fetch_files("trne8", tmp_path / "file" / "in")
