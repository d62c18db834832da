"""The configuration of a training run, and recipes."""

import math

import pytest
import yaml

from versa.models.ipcl.augmentation import SET_1, SET_2
from versa.models.ipcl.config import TrainConfig
from versa.models.ipcl.recipes import (
    config_text,
    differences,
    parse_config,
    read_config,
)


def test_the_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.epochs, config.n_views, config.group_images) == (100, 5, 128)
    assert config.groups_per_step * config.group_images == 2560
    assert config.augmentation == SET_1
    assert (config.loss.queue_size, config.loss.temperature) == (4096, 0.07)
    assert config.dim == 128


def test_a_written_configuration_is_read_back(tmp_path):
    config = read_config(
        None,
        "data=[a, é b]",
        "weights=[1, 2.5]",
        "options={norm: batch, deep: {er: [1, 2]}}",
        "loss.log_z=-1.5",
        "optimizer.lr=1e-3",
        "monitor.val=null",
        "engine.device=cpu",
        "augmentation.scale=[0.5, 1]",
    )
    assert config.data == ("a", "é b")
    assert config.weights == (1.0, 2.5)
    assert config.optimizer.lr == 1e-3
    assert config.options == {"norm": "batch", "deep": {"er": [1, 2]}}
    (tmp_path / "run.yaml").write_text(config_text(config), encoding="utf-8")
    assert read_config(tmp_path / "run.yaml") == config
    assert read_config(tmp_path / "run.yaml", "seed=3").seed == 3
    assert parse_config({}) == TrainConfig()
    assert SET_2 != SET_1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("epoch=3", "key must be among .*'epoch'. Did you mean epochs"),
        ("optimizer.rate=3", "key must be among .*'optimizer.rate'"),
        ("epochs=three", "epochs must be an integer; got 'three'"),
        ("epochs=1.5", "epochs must be an integer; got 1.5"),
        ("epochs=true", "epochs must be an integer; got True"),
        ("epochs=0", "epochs must be at least 1; got 0"),
        ("optimizer.lr=.nan", "optimizer.lr must be above 0; got nan"),
        ("optimizer.momenta=[0.9]", "optimizer.momenta must be a list of 2 numbers"),
        ("optimizer.momenta=[0.9, 1]", "momenta must be two numbers in"),
        ("loss=3", "loss must be a table of keys; got 3"),
        ("data=[a, 1]", r"data\[1\] must be text; got 1"),
        ("weights=[1, .inf]", "weights must be numbers of at least 0"),
        ("optimizer.lr=" + "9" * 400, "optimizer.lr must be a number; got 999"),
        ("epochs=3\nseed: 5", "a change must set one key; got 'epochs=3"),
        ("options={1: 2}", "keys of options must be text; got 1"),
        ("options={[a]: 2}", "keys must be text; line 1 has another"),
        ("options={a: [1, {b: 2020-01-01}]}", r"options.a\[1\].b must be a number, "),
        ("loss.temperature.x=1", "loss.temperature must be a number; got {'x': 1}"),
        ("augmentation.hue=0.6", r"augmentation.hue must be in \[0, 0.5\]; got 0.6"),
        ("augmentation.mean=[1, 2]", "augmentation.mean must be a list of 3 numbers"),
        ("data=photos", "data must be a list of texts; got 'photos'"),
        ("method=simclr", "method must be among ipcl, supervised; got 'simclr'"),
        ("precision=half", "precision must be among fp32"),
        ("engine.device=tpu", "engine.device must be among cpu, cuda; got 'tpu'"),
        ("weights=[0, 0]", "weights must be numbers of at least 0, not all 0"),
        ("n_views=1", "n_views must be at least 2; got 1"),
        ("engine.max_bad=2", r"engine.max_bad must be in \[0, 1\]; got 2.0"),
        ("epochs", "a change must be written key=value; got 'epochs'"),
        (".=1", "a change must be written key=value"),
        ("epochs=[", "a configuration must be YAML; it is not"),
    ],
)
def test_bad_options_are_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_config(None, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "epochs: 3\nepochs: 4\n",
            "'epochs' is there twice, the second time in line 2",
        ),
        ("- 1\n", "a configuration must be a table of keys; got list"),
        ("seeds: 3\n", "key must be among"),
    ],
)
def test_bad_recipes_are_named(tmp_path, text, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}: .*{sentence}"):
        read_config(path)


@pytest.mark.parametrize("record", ["loss", "optimizer", "monitor", "engine"])
def test_every_number_has_a_range_and_a_type(record):
    for name, now in vars(getattr(TrainConfig(), record)).items():
        if isinstance(now, bool) or not isinstance(now, int | float):
            continue
        with pytest.raises(ValueError, match=f"{record}.{name} must be .*; got -1"):
            parse_config({record: {name: -1}})
        with pytest.raises(ValueError, match=f"{record}.{name} must be .* got 'x'"):
            parse_config({record: {name: "x"}})
        with pytest.raises(ValueError, match=f"{record}.{name} must be .* got None"):
            parse_config({record: {name: None}})
        same = parse_config({record: {name: now}})
        assert same == TrainConfig()


@pytest.mark.parametrize(
    "change",
    [
        "method=supervised",
        "architecture=timm/resnet50",
        "seed=9223372036854775807",
        "images_per_epoch=12",
        "optimizer.lr=1e-300",
        "optimizer.momenta=[0, 0.1]",
        "augmentation.ratio=[0.333333333333333333, 1]",
        "loss.normalize_prototype=true",
        "monitor.gallery=7",
        "engine.save_minutes=.inf",
        'options={"": {}, "on": ["1e-3", 1.0e-5, null, "yes", -0.0]}',
    ],
)
def test_any_configuration_survives_writing(change):
    config = read_config(None, change)
    assert config != TrainConfig()
    written = config_text(config)
    assert parse_config(yaml.safe_load(written)) == config
    assert config_text(parse_config(yaml.safe_load(written))) == written


def test_lists_of_weights_and_folders_belong_together():
    with pytest.raises(ValueError, match="one number per data folder; got 1 for 2"):
        TrainConfig(data=("a", "b"), weights=(1.0,))
    assert TrainConfig(method="supervised", n_views=1).n_views == 1
    with pytest.raises(ValueError, match="which a BatchNorm needs"):
        TrainConfig(method="supervised", n_views=1, group_images=1)


def test_only_what_changes_the_network_differs():
    one = TrainConfig()
    same = read_config(None, "data=[x]", "engine.workers=3", "monitor.k=5")
    assert differences(one, same) == []
    other = read_config(None, "optimizer.lr=0.1", "options={norm: batch}")
    assert differences(one, other) == [
        "optimizer.lr: 0.03 and 0.1",
        "options.norm: not set and batch",
    ]
    none = read_config(None, "options={norm: null}")  # is not the default of norm
    assert differences(one, none) == ["options.norm: not set and None"]
    assert math.isclose(other.optimizer.lr, 0.1)


def test_options_that_other_keys_set_are_refused():
    for name in ("out_dim", "l2norm"):
        with pytest.raises(ValueError, match=f"options must leave out {name}"):
            read_config(None, f"options={{{name}: 3}}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]", "must write out its aliases"),
        ("x: " + "[" * 500 + "]" * 500, "must not be nested so deeply"),
    ],
)
def test_aliases_and_deep_nests_are_refused(tmp_path, text, said):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_config(path)
