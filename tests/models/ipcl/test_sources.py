"""Training images: trees of them, and several sources as one."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from versa.models.ipcl import image_source
from versa.models.ipcl.image_source import UnreachableImages
from versa.models.ipcl.sources import ImageTree, JoinedImages, open_images


def picture(seed=0, height=60, width=80):
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_tree(root, n=12, n_classes=3):
    for k in range(n):
        file = root / f"class{k % n_classes}" / f"{k:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(picture(k, 40 + k % 20, 60 - k % 20)))
    return ImageTree(root)


# Trees


def test_a_tree_has_sorted_files_and_classes(tmp_path):
    for name in ("b/2.JPG", "b/deep/1.png", "a/x.jpeg", "a/.hidden.jpg", "a/t.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "empty").mkdir()
    tree = ImageTree(tmp_path)
    assert tree.files == ("a/x.jpeg", "b/2.JPG", "b/deep/1.png")
    assert tree.classes == ("a", "b")
    assert tree.labels.tolist() == [0, 1, 1]
    assert tree.counts == (3,)
    assert tree.read(2) == b"b/deep/1.png"
    assert tree.name(0) == str(tmp_path / "a" / "x.jpeg")


def test_images_without_folders_are_one_class(tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    tree = ImageTree(tmp_path)
    assert tree.classes == (tmp_path.name,)


def test_a_digest_notices_changes_but_not_places(tmp_path):
    tree = write_tree(tmp_path / "here")
    assert write_tree(tmp_path / "there").digest == tree.digest
    (tmp_path / "there" / "class0" / "00.jpg").write_bytes(b"other")
    assert ImageTree(tmp_path / "there").digest != tree.digest
    (tmp_path / "here" / "class0" / "00.jpg").rename(tmp_path / "here/class0/z.jpg")
    assert ImageTree(tmp_path / "here").digest != tree.digest


def test_trees_refuse_what_is_none(tmp_path):
    with pytest.raises(ValueError, match="must be in a folder"):
        ImageTree(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"must hold images \(.jpg, .*it holds none"):
        ImageTree(tmp_path)
    write_tree(tmp_path)
    (tmp_path / "stray.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"stray.jpg beside 3 folders.* Move them"):
        ImageTree(tmp_path)


def test_an_outage_is_waited_for(tmp_path, monkeypatch, caplog):
    tree = write_tree(tmp_path / "images")
    content = tree.read(0)
    waited = []

    def pause(seconds):
        waited.append(seconds)
        if len(waited) == 3:  # the drive is back
            (tmp_path / "away").rename(tmp_path / "images")

    monkeypatch.setattr(image_source.time, "sleep", pause)
    (tmp_path / "images").rename(tmp_path / "away")
    assert tree.read(0) == content
    assert waited == [0.5, 1.0, 2.0]
    assert "No such file or directory" in caplog.text
    (tmp_path / "images").rename(tmp_path / "away")
    with pytest.raises(UnreachableImages, match=r"was not, for 30 s .*No such file"):
        tree.read(0)


def test_links_to_nowhere_are_refused(tmp_path):
    write_tree(tmp_path)
    (tmp_path / "class0" / "00.jpg").unlink()
    (tmp_path / "class0" / "00.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(ValueError, match=r"class0/00\.jpg are links to nowhere"):
        ImageTree(tmp_path)


@pytest.mark.parametrize(
    ("folders", "right"),
    [
        (["train", "val"], "train"),
        (["Training", "validation", "test"], "Training"),
        (["train"], "train"),
        (["imagenet/train", "imagenet/val"], "imagenet/train"),
        (["train2017", "val2017"], "train2017"),
    ],
)
def test_the_folder_of_a_dataset_is_refused(tmp_path, folders, right):
    for folder in folders:
        write_tree(tmp_path / folder)
    for number in range(2):
        place = tmp_path / folders[0].split("/")[0] if number else tmp_path
        if place == tmp_path or "/" in folders[0]:
            with pytest.raises(ValueError, match=rf"Give {tmp_path / right}\b"):
                ImageTree(place)
    assert len(ImageTree(tmp_path / right)) == 12


def test_classes_may_be_called_train(tmp_path):
    for name in ("train", "bus"):
        write_tree(tmp_path / name, 1, 1)
    assert ImageTree(tmp_path).classes == ("bus", "train")


def test_joined_images_follow_each_other(tmp_path):
    faces = write_tree(tmp_path / "faces" / "train", 5, 2)
    places = write_tree(tmp_path / "places" / "train", 7, 3)
    joined = open_images([faces.root, places.root])
    assert isinstance(joined, JoinedImages)
    assert len(joined) == 12
    assert joined.counts == (5, 7)
    assert joined.classes[:3] == ("faces/train/class0", "faces/train/class1",
                                  "places/train/class0")  # fmt: skip
    assert joined.labels.tolist() == [*faces.labels, *(places.labels + 2)]
    assert joined.name(4) == faces.name(4)
    assert joined.read(5) == places.read(0)
    assert joined.digest != open_images([places.root, faces.root]).digest
    assert isinstance(open_images([faces.root]), ImageTree)


def test_paths_of_images_are_checked(tmp_path):
    with pytest.raises(ValueError, match="must be a list; got 'here'"):
        open_images("here")
    with pytest.raises(ValueError, match=r"paths of images must be one .*; got none"):
        open_images([])
    with pytest.raises(ValueError, match="paths of images must be unique; repeated"):
        open_images([tmp_path, tmp_path])
    with pytest.raises(ValueError, match="title of its own"):
        JoinedImages([], [])
