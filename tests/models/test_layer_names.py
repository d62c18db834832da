"""Layers that run several times, or return several tensors, against plain PyTorch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from versa.models import Preprocess, extract_grams
from versa.models.zoo import list_layers, load_model

TIMES = 3


class Block(nn.Module):
    """As of CORnet-RT: an output and a state at each time step."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
        self.output = nn.Identity()

    def forward(self, x, state):
        x = torch.relu(self.conv(x)) + (0 if state is None else state)
        return self.output(x), x / 2


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.IT = Block(3, 4)
        self.pair = nn.LSTM(4, 5, batch_first=True)
        self.decoder = nn.Linear(5, 6)

    def forward(self, x):
        state = None
        for _ in range(TIMES):
            out, state = self.IT(x, state)
        rows, _ = self.pair(out.flatten(2).transpose(1, 2))
        return self.decoder(rows[:, -1])


@pytest.fixture
def model():
    torch.manual_seed(0)
    preprocess = Preprocess(16, 16, (0.5,) * 3, (0.2,) * 3)
    return load_model(Recurrent().eval(), preprocess=preprocess)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{k}.png" for k in range(5)]
    for path in paths:
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def test_runs_and_outputs_have_names_of_their_own(model, images):
    returned = {"IT": [], "pair": []}
    module = model.module
    hooks = [
        getattr(module, name).register_forward_hook(
            lambda _, __, output, name=name: returned[name].append(output)
        )
        for name in returned
    ]
    with torch.no_grad():
        module(torch.stack([model.preprocess(Image.open(path)) for path in images]))
    for hook in hooks:
        hook.remove()
    expected = {
        "IT:2[0]": returned["IT"][2][0],
        "IT:0[1]": returned["IT"][0][1],
        "IT[1]:1": returned["IT"][1][1],
        "IT.output:1": returned["IT"][1][0],
        "pair[0]": returned["pair"][0][0],
        "decoder": module.decoder(returned["pair"][0][0][:, -1]),
    }
    found = extract_grams(model, images, list(expected), batch_size=2)
    for name, tensor in expected.items():
        x = tensor.detach().flatten(1).double()
        np.testing.assert_allclose(found[name].gram, x @ x.T, rtol=1e-5, atol=1e-8)


def test_they_are_listed(model):
    table = list_layers(model)
    runs = [f"IT:{run}[{output}]" for run in range(TIMES) for output in (0, 1)]
    lstm = ["pair[0]", "pair[1][0]", "pair[1][1]"]
    assert table["layer"].tolist() == [*runs, *lstm, "decoder"]
    assert table["units"].tolist() == [4 * 8 * 8] * 6 + [64 * 5, 5, 5, 6]
    table = list_layers(model, ["IT.output"])
    assert table["layer"].tolist() == [f"IT.output:{run}" for run in range(TIMES)]
    assert set(table["shape"]) == {"4x8x8"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("IT", r"runs 3 times\. Name one of its runs or outputs, .*: IT:0\[0\], IT:0"),
        ("IT.output", r"runs 3 times\. Name one .*: IT.output:0, IT.output:1, IT.out"),
        ("IT:2", r"returns a tuple\. Name one .*: IT:2\[0\], IT:2\[1\]\."),
        ("IT:3[0]", r"run once per forward pass; it does not run\."),
        ("IT:2[5]", r"output of layer 'IT:2\[5\]' must be among 0, 1; got '5'"),
        ("decoder[0]", r"the layer returns a Tensor\. Name it without \[0\]"),
        ("TI[0]", r"layer of .* must be among .*; got 'TI\[0\]'"),
    ],
)
def test_other_names_are_refused(model, images, name, text):
    with pytest.raises(ValueError, match=text):
        extract_grams(model, images, [name])
