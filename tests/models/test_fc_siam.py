import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import (
    assert_same_names,
    equals_torch,
    evaluate,
    images,
    parameters,
    quick_jit,
    randomised,
    relative_error,
    shapes_of,
)

from rsjax import bundle, models
from rsjax import config as configs
from rsjax.errors import ConfigError
from rsjax.models.pretrained.convert import convert
from rsjax.models.pretrained.torch_names import to_torch
from rsjax.training import data

pytestmark = pytest.mark.once

BANDS = 2
SIAM_UNET = {
    "num_classes": 2,
    "encoder_name": "resnet18",
    "encoder_fields": {"stage_sizes": (1,), "width": 4},
    "decoder_channels": (8, 6),
}
CONVOLUTIONS = (2, 2, 3, 3)


def torch_peer(bands, classes, join, width=16, convolutions=CONVOLUTIONS):
    """The authors' three networks; 'early' has the bands of both dates in its first layer."""
    torch = pytest.importorskip("torch")
    from torch import nn
    from torch.nn import functional as F

    levels = [
        [f"{level}{number + 1}" for number in range(count)]
        for level, count in enumerate(convolutions, 1)
    ]
    up = functools.partial(nn.ConvTranspose2d, kernel_size=3, padding=1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            before = bands * (2 if join == "early" else 1)
            for level, names in enumerate(levels):
                for name in names:
                    self.add(name, nn.Conv2d(before, width << level, 3, padding=1))
                    before = width << level
            for level in reversed(range(len(levels))):
                here, finer = width << level, (width << level) // 2
                up2 = up(here, here, stride=2, output_padding=1)
                setattr(self, f"upconv{level + 1}", up2)
                before = here * (3 if join == "conc" else 2)
                for name in levels[level][:0:-1]:
                    self.add(name + "d", up(before, here))
                    before = here
                if level:
                    self.add(levels[level][0] + "d", up(here, finer))
            self.conv11d = up(width, classes)

        def add(self, name, conv):
            setattr(self, f"conv{name}", conv)
            setattr(self, f"bn{name}", nn.BatchNorm2d(conv.out_channels))

        def unit(self, name, x):
            return F.relu(getattr(self, f"bn{name}")(getattr(self, f"conv{name}")(x)))

        def encode(self, x):
            maps = []
            for names in levels:
                for name in names:
                    x = self.unit(name, x)
                maps.append(x)
                x = F.max_pool2d(x, 2)
            return maps, x

        def forward(self, x):
            if join == "early":
                maps, x = self.encode(x)
                skips = [[one] for one in maps]
            else:
                first, _ = self.encode(x[:, :bands])
                second, x = self.encode(x[:, bands:])
                both = list(zip(first, second, strict=True))
                skips = both if join == "conc" else [[(a - b).abs()] for a, b in both]
            for level in reversed(range(len(levels))):
                x = getattr(self, f"upconv{level + 1}")(x)
                high, wide = skips[level][0].shape[2:]
                x = F.pad(x, (0, wide - x.shape[3], 0, high - x.shape[2]), mode="replicate")
                x = torch.cat([x, *skips[level]], 1)
                for name in levels[level][:0:-1]:
                    x = self.unit(name + "d", x)
                x = self.unit(levels[level][0] + "d", x) if level else self.conv11d(x)
            return x

    return Net()


NAMES = {"early": "fc_ef", "conc": "fc_siam_conc", "diff": "fc_siam_diff"}


def test_siamese_network_equals_torch():
    fields = {"width": 4, "convolutions": (2, 3)}  # two levels: of the others alike
    model = models.get("fc_siam_diff", num_classes=2, dropout_rate=0.0, **fields)
    peer = torch_peer(BANDS, 2, "diff", **fields)

    def calls(name):  # an encoder of two dates normalises twice in a step
        return 1 if name.endswith("d") else 2

    equals_torch(model, peer, images(2, 37, 34, 2 * BANDS), calls=calls)


@pytest.mark.parametrize("join", ["early", "conc", "diff"])
def test_logits_equal_torch(join):
    torch = pytest.importorskip("torch")
    model, x = models.get(NAMES[join], num_classes=2, width=4), images(2, 37, 34, 2 * BANDS)
    variables = randomised(model, x)
    peer = torch_peer(BANDS, 2, join, width=4).eval()
    peer.load_state_dict({k: torch.tensor(v) for k, v in to_torch(variables).items()})
    with torch.no_grad():
        wanted = peer(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert relative_error(evaluate(model, variables, x), wanted.numpy()) < 1e-4
    if join == "early":
        low = evaluate(model.clone(dtype=jnp.bfloat16), variables, x)
        assert low.dtype == jnp.float32
        assert 1e-4 < relative_error(low, wanted.numpy()) < 0.05


# Published with millions: 1.35, 1.55 and 1.35.
@pytest.mark.parametrize(
    ("join", "rgb", "all_bands"),
    [
        ("early", 1_350_578, 1_353_458),
        ("conc", 1_545_986, 1_547_426),
        ("diff", 1_350_146, 1_351_586),
    ],
)
def test_parameter_counts(join, rgb, all_bands):
    torch = pytest.importorskip("torch")
    for bands, count in ((3, rgb), (13, all_bands)):
        with torch.device("meta"):
            peer = torch_peer(bands, 2, join)
        assert sum(p.numel() for p in peer.parameters()) == count
        assert parameters(models.get(NAMES[join], num_classes=2), bands=2 * bands) == count


def swapped(x):
    return jnp.roll(x, x.shape[-1] // 2, axis=-1)


@pytest.mark.parametrize(
    ("name", "fields", "symmetric"),
    [
        ("fc_siam_diff", {"num_classes": 2, "width": 4, "bottom": "diff"}, True),
        ("fc_siam_diff", {"num_classes": 2, "width": 4}, False),  # as published
        ("siam_unet", SIAM_UNET, True),
    ],
)
def test_whether_the_order_of_the_dates_matters(name, fields, symmetric):
    model, x = models.get(name, **fields), images(1, 32, 32, 2 * BANDS)
    variables = randomised(model, x)
    call = quick_jit(lambda x: model.apply(variables, x, False))
    error = relative_error(call(swapped(x)), call(x))
    assert error < 1e-6 if symmetric else error > 1e-5
    if symmetric:  # no change looks alike wherever it is
        same = [jnp.concatenate([one, one], -1) for one in jnp.split(x, 2, axis=-1)]
        assert relative_error(*map(call, same)) < 1e-6


def test_siam_unet_is_the_encoder_of_both_dates_and_the_decoder():
    x, plain = images(1, 37, 45, 2 * BANDS), models.get("unet", **SIAM_UNET)

    def encode(module, x):
        return {s: module.encoder.features(x, False)[n] for s, n in module.stages.items()}

    def decode(module, maps):
        return module.segmentation_head_0(module.decoder(maps, 37, 45, False))

    step = quick_jit(lambda v, x: plain.apply(v, x, method=encode))
    join = {
        "diff": lambda a, b: np.abs(a - b),
        "conc": lambda a, b: np.concatenate([a, b], axis=-1),
    }
    for name, joined in join.items():
        model = models.get("siam_unet", **SIAM_UNET, join=name)
        variables = randomised(model, x)
        before, after = step(variables, x[..., :BANDS]), step(variables, x[..., BANDS:])
        maps = {s: joined(before[s], after[s]) for s in before}
        wanted = quick_jit(lambda v, maps: plain.apply(v, maps, method=decode))(variables, maps)
        assert relative_error(evaluate(model, variables, x), wanted) < 1e-5
        if name == "diff":  # the weights of a U-Net of one date fit
            assert_same_names(randomised(plain, x[..., :BANDS]), variables)


def test_dropout_takes_whole_channels(monkeypatch):
    drawn, bernoulli = [], jax.random.bernoulli

    def record(key, p, shape):
        drawn.append((p, shape))
        return bernoulli(key, p, shape)

    monkeypatch.setattr(jax.random, "bernoulli", record)
    for name, count in (("fc_ef", 10 + 9), ("fc_siam_diff", 2 * 10 + 9)):
        drawn.clear()
        shapes_of(models.get(name, num_classes=2, width=4), jnp.zeros((2, 32, 32, 4)), train=True)
        assert len(drawn) == count  # after each convolution but those that enlarge and the last
        assert {(p, *shape[:3]) for p, shape in drawn} == {(0.8, 2, 1, 1)}


def test_errors_name_the_remedy():
    x = jnp.zeros((1, 32, 32, 5))
    for name, fields in (("fc_siam_diff", {"num_classes": 2}), ("siam_unet", SIAM_UNET)):
        with pytest.raises(ConfigError, match=r"5 channels and steps=2 are not those of two.*'@0'"):
            shapes_of(models.get(name, **fields), x)
        with pytest.raises(ConfigError, match="4 channels and steps=4"):
            shapes_of(models.get(name, **fields, steps=4), x[..., :4])
    with pytest.raises(ConfigError, match=r"join='sum', expected one of \['conc', 'diff'\]"):
        shapes_of(models.get("siam_unet", **SIAM_UNET, join="sum"), x[..., :4])
    with pytest.raises(ConfigError, match=r"bottom='diff', expected one of \['after'\]"):
        shapes_of(models.get("fc_ef", num_classes=2, bottom="diff"), x[..., :4])


def test_bands_of_siamese_models_stand_date_by_date():
    config = configs.base().unlock()
    found = {}
    for name in ("fc_ef", "fc_siam_conc", "fc_siam_diff", "siam_unet", "unet"):
        config.model.name = name
        found[name] = data._steps(config)
    assert found == dict.fromkeys(found, 2) | {"unet": 1}
    config.model.name, config.model.fields.steps = "temporal_unet", 3
    assert data._steps(config) == 3


def test_the_authors_weights_become_a_bundle(tmp_path):
    torch = pytest.importorskip("torch")
    peer = torch_peer(BANDS, 2, "diff", width=4)
    torch.save(peer.state_dict(), tmp_path / "net.pth")
    image = {"sensor": "rgb", "bands": ["red", "green"], "height": 32, "width": 32,
             "dtype": "uint8", "unit": "dn8", "gsd_m": 0.5, "steps": 2}  # fmt: skip
    bands = [f"rgb/{band}@{date}" for date in (0, 1) for band in ("red", "green")]
    source = {"title": "Own", "page": "none", "licence": "none", "images": {"rgb": image},
              "bands": bands, "grid_px": 32, "task": "segmentation", "nomenclature": "change",
              "statistics": {"own": {"rgb": {"red": [90, 50], "green": [80, 40]}}}}  # fmt: skip
    (tmp_path / "source.json").write_text(json.dumps(source))
    convert(tmp_path / "net.pth", tmp_path / "bundle", model="fc_siam_diff",
            source=str(tmp_path / "source.json"), fields={"width": 4})  # fmt: skip
    made = bundle.load(tmp_path / "bundle")
    assert made.inputs.bands == tuple(bands)
    state = to_torch(made.variables)
    for name, wanted in peer.state_dict().items():
        np.testing.assert_array_equal(state[name], wanted.numpy())
