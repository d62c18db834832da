"""Damaged and hostile files at every door: how versa answers each of them.

Right answers are the values of the whole file, or a refusal (ValueError or OSError)
that names the file. Each input is read in a process of its own time limit, so that
crashes and hangs are counted. Run: ``python benchmarks/fuzz.py --n 5000 --seed 0``,
with a longer ``--patience`` on a machine that has other work.
"""

import argparse
import bz2
import gzip
import hashlib
import io
import logging
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

PATIENCE = 20.0  # seconds for one input
ROOM = 3 * 10**9  # bytes of memory beyond which a process gets no more
FILLED = 10**9  # bytes of memory that reading one small file may not fill
GOOD = ("right", "refused", "other values")
BAD = ("silent", "nameless", "foreign", "memory", "crash", "hang")
_NUMBERS = (0, 1, 2, 127, 255, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1)
_HUGE = ("1e999", "-1e999", "nan", "inf", "1" * 5000, "-1", "0", "0x7f", "1_000", "")
_ODD = ("\x00", "\x1b[2J", "\u202e", "\ud7ff", "é\u0301", "=1+1", "|", "\\", "'", '"')
_ODD += ("../../etc/passwd", "/etc/passwd", "C:\\a", "~", "*", "%s", "{0}", "\n", "\t")
_OPEN = {"{": "}", "[": "]", "(": ")", "<a>": "</a>", "a: ": "", "- ": "", "a.": "b=1"}
_TEXT = (".tsv", ".csv", ".txt", ".lut", ".xml", ".yaml", ".toml", ".json", ".gii")
_TEXT += (".prt", ".sdm", ".voi", ".con", ".fsf", ".mat")


# ---- damages -------------------------------------------------------------------------


def flipped(rng, data):
    """Some bits turned."""
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
    return data


def cut(rng, data):
    """The end is missing."""
    return data[: rng.randrange(len(data))]


def inserted(rng, data):
    """Bytes that do not belong there."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice((1, 4, 100))) + data[place:]


def _block(rng, data):
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 8, 64, 512)))


def doubled(rng, data):
    """A block stands twice."""
    start, stop = _block(rng, data)
    return data[:stop] + data[start:]


def zeroed(rng, data):
    """A block is zeros."""
    start, stop = _block(rng, data)
    data[start:stop] = bytes(stop - start)
    return data


def removed(rng, data):
    """A block is missing."""
    start, stop = _block(rng, data)
    return data[:start] + data[stop:]


def exchanged(rng, data):
    """Two blocks changed places."""
    size = rng.choice((1, 2, 4, 8, 64))
    one, two = (rng.randrange(max(1, len(data) - size)) for _ in range(2))
    data[one : one + size], data[two : two + size] = (
        data[two : two + size],
        data[one : one + size],
    )
    return data


def miscounted(rng, data):
    """A field, perhaps a length, is extreme; most often one of the head."""
    size = rng.choice((1, 2, 4, 8))
    head = len(data) if rng.random() < 0.4 else min(len(data), 512)
    place = rng.randrange(max(1, head - size)) // size * size
    number = rng.choice(_NUMBERS) % 2 ** (8 * size)
    data[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))
    return data


def worded(rng, data):
    """A word or number of a text is another."""
    text = data.decode("utf-8", "replace")
    words = text.replace("\t", " \t ").replace(",", " , ").split(" ")
    place = rng.randrange(len(words))
    new = rng.choice((*_HUGE, *_ODD, *words, "[]", "{}", "null", "true", "1979-05-27"))
    words[place] = rng.choice((new, words[place] + new, new + words[place]))
    text = " ".join(words).replace(" \t ", "\t").replace(" , ", ",")
    return bytearray(text.encode("utf-8", "replace"))


def lined(rng, data):
    """Lines are lost, doubled, exchanged or ended otherwise."""
    lines = data.split(b"\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.randrange(5)
    if way == 0:
        del lines[one]
    elif way == 1:
        lines.insert(two, lines[one])
    elif way == 2:
        lines[one], lines[two] = lines[two], lines[one]
    elif way == 3:
        lines[one] = lines[one] * rng.choice((2, 1000))
    return bytearray(
        rng.choice((b"\n", b"\r\n", b"\r") if way == 4 else (b"\n",)).join(lines)
    )


def nested(rng, data):
    """Something nested deeply, at a place of its own or in one of the values."""
    opening, closing = rng.choice(list(_OPEN.items()))
    depth = rng.choice((60, 2000, 100_000))
    deep = (opening * depth + rng.choice(("1", "", '"a"')) + closing * depth).encode()
    place = rng.randrange(len(data) + 1)
    return rng.choice(
        (
            bytearray(deep),
            data[:place] + deep + data[place:],
            data + b"\nx = " + deep,
            data + b"\nx: " + deep,
        )
    )


def bombed(rng, data):
    """Aliases of aliases, or entities of entities."""
    yaml = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    yaml += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    xml = ['<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a0 "xxxxxxxxxx">']
    xml += [f'<!ENTITY a{k} "{f"&a{k - 1};" * 10}">' for k in range(1, 10)]
    xml += ["]><atlas>&a9;</atlas>"]
    own = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    texts = ("\n".join(yaml), "\n".join(xml), own + data.decode("utf-8", "replace"))
    return bytearray(rng.choice(texts).encode())


def recoded(rng, data):
    """Another encoding, a byte order mark, or bytes of none."""
    text = data.decode("utf-8", "replace")
    way = rng.randrange(4)
    if way == 3:
        return b"\xef\xbb\xbf" + data
    return bytearray(text.encode(("utf-16", "utf-32", "latin-1")[way], "replace"))


_BYTES = (flipped, cut, inserted, doubled, zeroed, removed, exchanged, miscounted)
_TEXTS = (worded, worded, worded, lined, nested, bombed, recoded)


def inner(rng, data):
    """Damage below a compression, whose check sum is then right."""
    change = rng.choice(_BYTES)
    if data[:2] == b"\x1f\x8b":
        return gzip.compress(bytes(change(rng, bytearray(gzip.decompress(data)))), 1)
    if data[:3] == b"BZh":
        return bz2.compress(bytes(change(rng, bytearray(bz2.decompress(data)))))
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        parts = {info: old.read(info) for info in old.infolist()}
    chosen = rng.choice([info for info in parts if parts[info]])
    parts[chosen] = bytes(change(rng, bytearray(parts[chosen])))
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as new:
        for info, content in parts.items():
            new.writestr(info.filename, content, info.compress_type)
    return memory.getvalue()


def damaged(rng, path):
    """Other content of a file, and whether its check sum was made to fit."""
    data = path.read_bytes()
    packed = data[:2] == b"\x1f\x8b" or data[:3] == b"BZh" or data[:4] == b"PK\x03\x04"
    if packed and rng.random() < 0.4:
        return bytes(inner(rng, data)), "inner", True
    texts = path.suffix in _TEXT and b"\0" not in data
    change = rng.choice(_TEXTS if texts and rng.random() < 0.7 else _BYTES)
    return bytes(change(rng, bytearray(data))), change.__name__, False


# ---- one input -----------------------------------------------------------------------


def digest(value):
    """Hash of values of any kind, so that equal means equal in every bit."""
    hasher = hashlib.sha256()

    def add(item):
        if hasattr(item, "to_json") and hasattr(item, "columns"):
            add(
                [
                    list(map(str, item.columns)),
                    *(item[name].to_numpy() for name in item),
                ]
            )
        elif isinstance(item, np.ndarray) and item.dtype != object:
            hasher.update(f"{item.shape}{item.dtype.kind}".encode())
            hasher.update(np.ascontiguousarray(item).tobytes())
        elif isinstance(item, np.ndarray | list | tuple):
            for part in item:
                add(part)
            hasher.update(b"]")
        elif isinstance(item, dict):
            add(list(item.items()))
        else:
            hasher.update(f"{item!r};".encode("utf-8", "replace"))

    add(value)
    return hasher.hexdigest()


def answer(door, folder, path):
    """How a door answers: the kind, and the values' hash or what was said."""
    try:
        return "read", digest(door.read(folder, path))
    except (ValueError, OSError) as error:
        text, whole = str(error), "".join(traceback.format_exception(error))
        names = {p.name for p in folder.rglob("*.*")} | {folder.name, path.name}
        ours = type(error) in (ValueError, OSError, FileNotFoundError) or (
            type(error).__module__.startswith("versa")
        )
        if not ours or len(text) > 3000:
            return "foreign", whole
        return ("refused" if any(n in text for n in names) else "nameless"), whole
    except Exception as error:
        return "foreign", "".join(traceback.format_exception(error))


def work(pipe, doors, samples, seed):
    """Read the inputs whose numbers come through the pipe."""
    logging.getLogger("versa").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.stderr = io.StringIO()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scratch = Path(tempfile.mkdtemp(dir=samples))
    while (job := pipe.recv()) is not None:
        number, place = job
        rng = random.Random(f"{seed}-{number}-{doors[place].name}")
        folder = scratch / f"input{number}"
        shutil.copytree(samples / f"door{place}", folder)
        path = folder / rng.choice(list(doors[place].right))
        content, how, fits = damaged(rng, path)
        path.write_bytes(content)
        pipe.send(("begun", f"{path.name} {how}"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kind, what = answer(doors[place], folder, path)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown * 1024 > FILLED:
            kind, what = "memory", f"{grown} kB more"
        if kind == "read":
            same = what == doors[place].right[str(path.relative_to(folder))]
            sealed = doors[place].sealed(path) and not fits
            kind = "right" if same else "silent" if sealed else "other values"
        pipe.send((kind, what))
        shutil.rmtree(folder, ignore_errors=True)


# ---- all inputs ----------------------------------------------------------------------


class Worker:
    """A process that reads one input after the other, and is replaced if it dies."""

    def __init__(self, patience, *options):
        self.patience, self.options = patience, options
        self.begin()

    def begin(self):
        self.pipe, other = multiprocessing.Pipe()
        fork = multiprocessing.get_context("fork")
        self.process = fork.Process(target=work, args=(other, *self.options))
        self.process.start()
        other.close()
        self.job, self.what, self.since = None, "", 0.0

    def give(self, job):
        self.job, self.what, self.since = job, "", time.monotonic()
        self.pipe.send(job)

    def look(self):
        """The end of the job as (kind, what), or None while it goes on."""
        try:
            while self.pipe.poll():
                kind, text = self.pipe.recv()
                if kind != "begun":
                    return kind, text
                self.what = text
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode
            self.begin()
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            return "crash", name
        if time.monotonic() - self.since > self.patience:
            self.process.kill()
            self.process.join()
            self.begin()
            return "hang", f"longer than {self.patience:.0f} s"
        return None

    def end(self):
        self.pipe.send(None)
        self.process.join(5)


def prepared(doors, samples):
    """Make the samples of the doors and read them whole; absent packages are told."""
    kept = []
    for door in doors:
        folder = samples / f"door{len(kept)}"
        folder.mkdir()
        try:
            files = door.make(folder)
            copy = Path(shutil.copytree(folder, samples / "whole"))  # reading may write
            names = [str(path.relative_to(folder)) for path in files]
            right = {name: digest(door.read(copy, copy / name)) for name in names}
        except ImportError as error:
            print(f"{door.name}: left out, {error}", file=sys.stderr)
            shutil.rmtree(folder)
            continue
        shutil.rmtree(copy)
        object.__setattr__(door, "right", right)
        kept.append(door)
    return kept


def run(doors, n, seed, n_workers, samples, patience=PATIENCE):
    """Outcomes {door: Counter}, and [(door, number, what, kind, text)] of bad ones."""
    jobs = [(k, k % len(doors)) for k in range(n)][::-1]
    counts, bad = {door.name: Counter() for door in doors}, []
    workers = [Worker(patience, doors, samples, seed) for _ in range(n_workers)]
    n_open = 0
    while jobs or n_open:
        for worker in workers:
            if worker.job is None and jobs:
                worker.give(jobs.pop())
                n_open += 1
            job, what = worker.job, worker.what
            if job is None or (end := worker.look()) is None:
                continue
            name, what = doors[job[1]].name, worker.what or what
            counts[name][end[0]] += 1
            if end[0] in BAD:
                bad.append((name, job[0], what, *end))
            worker.job = None
            n_open -= 1
        time.sleep(0.0005)
    for worker in workers:
        worker.end()
    return counts, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", action="append", help="names; all by default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds")
    parser.add_argument("--show", type=int, default=5, help="tracebacks to print")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    from fuzz_doors import DOORS

    doors = [d for d in DOORS if options.door is None or d.name in options.door]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        doors = prepared(doors, Path(folder))
        settings = options.n, options.seed, options.workers, Path(folder)
        counts, bad = run(doors, *settings, options.patience)
    kinds = (*GOOD, *BAD)
    print("| door |", " | ".join(kinds), "|")
    print("|---|", "---|" * len(kinds), sep="")
    for name, found in counts.items():
        print(f"| {name} |", " | ".join(str(found[k]) for k in kinds), "|")
    total = sum(counts.values(), Counter())
    print("| **all** |", " | ".join(f"**{total[kind]}**" for kind in kinds), "|")
    print(f"\n{options.n} inputs, {time.perf_counter() - start:.0f} s")
    for name, number, what, kind, text in bad:
        last = text.strip().splitlines()[-1:] or [""]
        print(f"{kind}: {name}, input {number}, {what}: {last[0][:300]}")
    for *_, text in bad[: options.show]:
        print(text)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
