"""Fixtures of the tests of read-outs."""

import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from versa.models.preprocess import IMAGENET, Preprocess
from versa.models.vision import VisionModel
from versa.models.zoo.networks import build_seeded

VALIDATION = Preprocess(20, 16, *IMAGENET)


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(6 * 16, 8),
        nn.Dropout(0.5),
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for a busy core take longer than these networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture
def model():
    module = build_seeded(small_network, 0)
    return VisionModel("small", module, VALIDATION, ("2", "4"), None, VALIDATION)
