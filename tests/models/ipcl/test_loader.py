"""Chunks made ahead of time: the same with any number of threads, and never short."""

import csv
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.ipcl.test_sources import encoded, picture, write_tree
from versa.models.ipcl.decoding import decode
from versa.models.ipcl.loader import (
    BadImages,
    ChunkLoader,
    TooManyBadImages,
    stack_canvases,
)

BLOCKS = ([3, 1, 2, 7, 8], [11, 0, 4, 5, 6], [9])


def collected(loader, blocks=BLOCKS, **options):
    options = {"seed": 0, "epoch": 0, **options}
    return [
        (c.indices, c.canvases.clone(), c.sizes, c.labels, c.n_replaced)
        for c in loader.chunks(blocks, **options)
    ]


def same(a, b):
    pairs = zip(a, b, strict=True)
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
        for one, two in pairs
        for x, y in zip(one, two, strict=True)
    )


def test_chunks_hold_the_images_that_were_asked_for(tmp_path):
    tree = write_tree(tmp_path)
    made = collected(ChunkLoader(tree, short_side=48, workers=2))
    for block, (indices, canvases, sizes, labels, n_replaced) in zip(
        BLOCKS, made, strict=True
    ):
        assert indices.tolist() == block
        assert n_replaced == 0
        assert labels.tolist() == tree.labels[block].tolist()
        assert canvases.dtype == torch.uint8
        for k, index in enumerate(block):
            pixels, _ = decode(tree.read(index), short_side=48)
            height, width = sizes[k].tolist()
            assert pixels.shape == (height, width, 3)
            inside = canvases[k, :, :height, :width].permute(1, 2, 0)
            assert np.array_equal(inside.numpy(), pixels)
            assert canvases[k].sum() == inside.sum()  # 0 around it


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (2, 3), (5, 2)])
def test_chunks_do_not_depend_on_workers(tmp_path, workers, prefetch):
    tree = write_tree(tmp_path)
    for index in (2, 5):
        (tmp_path / tree.files[index]).write_bytes(b"broken")
    bad = {"bad": BadImages(12, limit=1)}
    expected = collected(ChunkLoader(tree, workers=3, **bad))
    loader = ChunkLoader(tree, workers=workers, prefetch=prefetch, **bad)
    assert same(expected, collected(loader))
    assert same(expected, collected(loader))  # memory is used again
    chunk = next(loader.chunks(BLOCKS, seed=0, epoch=0))
    assert chunk.canvases.permute(0, 2, 3, 1).is_contiguous()
    assert chunk.wait_seconds >= 0


def test_damaged_images_are_replaced_counted_and_named(tmp_path, caplog):
    tree = write_tree(tmp_path)
    one_pixel = encoded(Image.new("RGB", (1, 1)), "PNG")
    (tmp_path / tree.files[4]).write_bytes(tree.read(4)[:300])
    (tmp_path / tree.files[8]).write_bytes(one_pixel)
    (tmp_path / tree.files[9]).write_bytes(encoded(picture().convert("CMYK")))
    bad = BadImages(12, limit=0.5, log=tmp_path / "logs" / "bad.csv")
    loader = ChunkLoader(tree, bad=bad, workers=2)
    order = [np.arange(12)]
    indices, _, _, labels, n_replaced = collected(loader, order)[0]
    changed = np.flatnonzero(indices.numpy() != np.arange(12))
    assert changed.tolist() == [4, 8]
    assert n_replaced == 2
    assert labels.tolist() == tree.labels[indices].tolist()
    assert not {4, 8} & set(indices.tolist())
    assert (bad.n_skipped, bad.n_converted) == (2, 1)
    assert torch.equal(collected(loader, order)[0][0], indices)
    others = [collected(loader, order, epoch=e)[0][0][4].item() for e in range(20)]
    assert len(set(others)) > 4  # not the same substitute in each epoch
    with open(tmp_path / "logs" / "bad.csv", newline="") as file:
        rows = {row["index"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"4", "8", "9"}  # one row each, however often they came
    assert rows["4"]["image"] == tree.name(4)
    assert "truncated" in rows["4"]["reason"].lower()
    assert rows["8"]["what"] == "skipped"
    assert (rows["9"]["what"], rows["9"]["reason"]) == (
        "converted",
        "the mode was CMYK",
    )
    assert sum("is skipped" in message for message in caplog.messages) == 2
    again = BadImages(12, limit=0.5, log=tmp_path / "logs" / "bad.csv")
    assert (again.n_skipped, again.n_converted) == (2, 1)


def test_too_many_damaged_images_stop_it(tmp_path):
    tree = write_tree(tmp_path)
    for index in (1, 2):
        (tmp_path / tree.files[index]).write_bytes(b"")
    loader = ChunkLoader(tree, workers=2)  # one of twelve is allowed
    with pytest.raises(TooManyBadImages, match="at most 1 of 12 images may be damaged"):
        collected(loader)
    assert not decoding_threads()


def test_a_tree_of_nothing_but_damage_stops(tmp_path):
    tree = write_tree(tmp_path)
    for file in tree.files:
        (tmp_path / file).write_bytes(b"")
    loader = ChunkLoader(tree, workers=1, bad=BadImages(12, limit=1))
    with pytest.raises(TooManyBadImages, match="images in a row are damaged"):
        collected(loader)


def test_a_log_that_cannot_be_written_does_not_stop_it(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    bad = BadImages(10, limit=0.5, log=tmp_path / "file" / "bad.csv")
    bad.skip(1, "a.jpg", "reason")
    assert bad.n_skipped == 1
    assert "cannot be written" in caplog.text
    with pytest.raises(ValueError, match="limit of bad images"):
        BadImages(10, limit=2)


def decoding_threads():
    return [t for t in threading.enumerate() if t.name.startswith("versa-decode")]


def test_leaving_early_leaves_no_thread_behind(tmp_path):
    loader = ChunkLoader(write_tree(tmp_path), workers=3)
    for _ in loader.chunks([np.arange(12)] * 50, seed=0, epoch=0):
        assert decoding_threads()
        break
    assert not decoding_threads()
    assert len(collected(loader)) == 3


def test_errors_of_threads_reach_the_caller(tmp_path):
    tree = write_tree(tmp_path)
    loader = ChunkLoader(tree, workers=2)
    with pytest.raises(IndexError):
        collected(loader, [[0, 1], [2, 99]])
    assert not decoding_threads()
    with pytest.raises(ValueError, match="prefetch and workers must be at least 1"):
        ChunkLoader(tree, prefetch=0)


def test_two_passes_at_once_do_not_share_memory(tmp_path):
    loader = ChunkLoader(write_tree(tmp_path), workers=2)
    first = loader.chunks(BLOCKS, seed=0, epoch=0)
    kept = next(first)
    before = kept.canvases.clone()
    collected(loader, [[11, 10, 9, 8, 7, 6]] * 4)
    assert torch.equal(kept.canvases, before)
    first.close()


def test_no_blocks_and_empty_blocks(tmp_path):
    loader = ChunkLoader(write_tree(tmp_path), workers=1)
    assert collected(loader, []) == []
    (chunk,) = loader.chunks([[]], seed=0, epoch=0)
    assert chunk.canvases.shape == (0, 3, 0, 0)
    assert chunk.sizes.shape == (0, 2)


def test_stacked_canvases():
    images = [np.full((2, 3, 3), 7, np.uint8), np.full((4, 1, 3), 9, np.uint8)]
    canvases, sizes = stack_canvases(images)
    assert canvases.shape == (2, 3, 4, 3)
    assert sizes.tolist() == [[2, 3], [4, 1]]
    assert canvases[0].sum() == 7 * 18
    assert canvases[1, :, :, 0].eq(9).all()
