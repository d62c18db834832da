"""The cards are found from a wheel, an editable install and the source tree."""

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CARDS = sorted(path.stem for path in (ROOT / "model_zoo").glob("*.toml"))
SHOW = (
    "import json, versa;"
    "print(json.dumps([versa.__file__, sorted(versa.list_models()['name'])]))"
)

FIT = """
import numpy as np, torch, versa
from PIL import Image
rng = np.random.default_rng(0)
for k in range(8):
    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(f"image{k}.png")
brain = versa.BrainDataset(
    name="arrays",
    stimuli=versa.StimulusSet.from_folder("."),
    subjects=["a", "b", "c", "d"],
    responses={"V1": [rng.normal(size=(8, 5)) for _ in range(4)]},
)
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
preprocess = versa.Preprocess(16, 16, (0.5,) * 3, (0.5,) * 3)
result = versa.fit(network, ["0", "1"], brain, preprocess=preprocess, cache=False)
versa.report.write_report(versa.compare([result]), "report.html")
print(len(result.layers()), versa.__file__)
"""

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.cfg").is_file(), reason="needs the source tree"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the sources, so that building leaves nothing behind."""
    copy = tmp_path_factory.mktemp("source") / "versa-source"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "versa-env", "_build")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments):
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


def found(python, tmp_path, path=None):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    home, names = json.loads(run(python, "-c", SHOW, cwd=tmp_path, env=environment))
    return Path(home), names


def test_wheel(source, tmp_path):
    pip("wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source)
    (wheel,) = tmp_path.glob("versa_fmri-*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    recipes = {path.name for path in (ROOT / "model_zoo" / "recipes").iterdir()}
    assert {f"versa/model_zoo/recipes/{name}" for name in recipes} <= set(packed)
    assert {"ipcl_ref01.yaml", "slurm.sbatch"} <= recipes
    assert {f"versa/model_zoo/{name}.toml" for name in CARDS} <= set(packed)
    assert "versa/py.typed" in packed
    page = {path.name for path in (ROOT / "versa" / "report").glob("page.[hcj]*")}
    assert page == {"page.html.j2", "page.css", "page.js"}
    assert {f"versa/report/{name}" for name in page} <= set(packed)
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "versa").rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    }
    assert modules <= set(packed)
    assert not [name for name in packed if name.startswith(("tests", "model_zoo"))]
    target = tmp_path / "installed"
    pip("install", "--no-deps", "-q", "--target", target, wheel)
    home, names = found(sys.executable, tmp_path, target)
    assert home.is_relative_to(target)
    assert names == CARDS
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(target)}
    listed = run(
        sys.executable, target / "bin" / "versa-compare", "--list-models",
        cwd=elsewhere, env=environment,
    )  # fmt: skip
    assert "alexnet_gn_untrained" in listed
    rows, place = run(sys.executable, "-c", FIT, cwd=elsewhere, env=environment).split()
    assert int(rows) == 2 * 3  # layers x methods
    assert Path(place).is_relative_to(target)
    assert (elsewhere / "report.html").stat().st_size > 10_000


def test_editable(source, tmp_path):
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = folder / scripts / Path(sys.executable).name
    # the new environment borrows all that is installed in this one
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
    )
    borrowed = "\n".join({sysconfig.get_path("purelib"), *site.getsitepackages()})
    (Path(purelib.strip()) / "borrowed.pth").write_text(borrowed + "\n")
    pip(
        "--python", python, "install", "--no-deps", "--no-build-isolation", "-q",
        "--force-reinstall", "--editable", source,
    )  # fmt: skip
    home, names = found(python, tmp_path)
    assert home.is_relative_to(source)
    assert names == CARDS


def test_source_tree(source, tmp_path):
    home, names = found(sys.executable, tmp_path, source)
    assert home.is_relative_to(source)
    assert names == CARDS
