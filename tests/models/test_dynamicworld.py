"""Dynamic World: against torch and the published graph, and its checkpoint read as written here."""

import dataclasses
import functools
import json
import struct
import zipfile

import google_crc32c
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from peers import images, quick_jit, randomised, relative_error

import rsjax
from rsjax import config as configs
from rsjax import models
from rsjax.errors import ConfigError, WeightsError
from rsjax.input.preprocess import preprocess
from rsjax.models.dynamicworld import squash, unit_length
from rsjax.models.pretrained import dynamicworld, fit, read, sources, tf_checkpoint
from rsjax.models.pretrained.convert import convert, to_variables
from rsjax.training.data import as_reflectance
from rsjax.training.initial import given

WIDTH = 4
# Number of the first array of each convolution and of its norm, counted along the graph by hand.
PLACES = {
    "stem": (0, 2), "skip_pw": (78, 80), "skip_dw": (96, 98),
    "block1/pw1": (6, 8), "block1/dw1": (12, 14), "block1/pw2": (18, 20), "block1/dw2": (24, 26),
    "block1/pw3": (30, 32), "block1/dw3": (36, 40), "block1/shortcut": (38, 44),
    "block2/pw1": (48, 50), "block2/dw1": (54, 56), "block2/pw2": (60, 62), "block2/dw2": (66, 68),
    "block2/pw3": (72, 74), "block2/dw3": (84, 88), "block2/shortcut": (86, 92),
    "block3/pw1": (102, 104), "block3/dw1": (108, 110), "block3/pw2": (114, 116),
    "block3/dw2": (120, 122), "block3/pw3": (126, 128), "block3/dw3": (132, 136),
    "block3/shortcut": (134, 140),
}  # fmt: skip
CLASSIFIER = (144, 145)
KEY = "variables/{}/.ATTRIBUTES/VARIABLE_VALUE"


def published(width=WIDTH, seed=0):
    """Arrays in the graph's order, with random numbers."""
    rng = np.random.default_rng(seed)
    skip, stem = round(1.5 * width), 2 * width
    mid, wide = round(3 * width), round(4.5 * width)
    sizes = {"stem": (9, stem), "skip_pw": (stem, skip), "skip_dw": (skip, skip)}
    for name, start, size in (("1", stem, mid), ("2", mid, wide), ("3", wide + skip, wide)):
        sizes |= {f"block{name}/{layer}{i}": (size, size) for layer in ("pw", "dw") for i in "123"}
        sizes |= {f"block{name}/{layer}": (start, size) for layer in ("pw1", "shortcut")}
    found = [np.zeros(0)] * 146
    for layer, (conv, norm) in PLACES.items():
        channels, features = sizes[layer]
        taps = 3 if layer == "stem" or "dw" in layer else 1
        shape = (taps, taps, channels, 1 if "dw" in layer else features)
        fan = taps**2 * (1 if "dw" in layer else channels)
        found[conv] = rng.normal(0, fan**-0.5, shape)
        found[conv + 1] = rng.normal(0, 0.2, features)
        found[norm] = rng.uniform(0.5, 1.5, features)
        found[norm + 1], found[norm + 2] = rng.normal(0, 0.2, (2, features))
        found[norm + 3] = rng.uniform(0.5, 1.5, features)
    found[144], found[145] = rng.normal(0, 2, (1, 1, wide, 9)), rng.normal(0, 0.2, 9)
    return [value.astype(np.float32) for value in found]


def peer(arrays, x):
    """Logits (B, H, W, 9) of the same network in torch, from arrays in the graph's order."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch.nn import functional

    torch.set_num_threads(1)
    weights = [torch.from_numpy(np.array(value, np.float64)) for value in arrays]

    def unit(x, layer):
        conv, norm = PLACES[layer]
        kernel = weights[conv].permute(3, 2, 0, 1)
        groups = 1
        if "dw" in layer:
            kernel, groups = weights[conv].permute(2, 3, 0, 1), kernel.shape[1]
        x = functional.conv2d(x, kernel, weights[conv + 1], padding="same", groups=groups)
        scale, bias, mean, var = weights[norm : norm + 4]
        return functional.mish(functional.batch_norm(x, mean, var, scale, bias, eps=1e-3))

    def block(x, name):
        y = x
        for pair in "123":
            y = unit(unit(y, f"{name}/pw{pair}"), f"{name}/dw{pair}")
        return y + unit(x, f"{name}/shortcut")

    x = torch.from_numpy(np.array(x, np.float64)).permute(0, 3, 1, 2)
    size = x.shape[2:]
    half = [side // 2 for side in size]
    x = functional.interpolate(unit(x, "stem"), half, mode="bilinear", antialias=True)
    skip = unit(unit(x, "skip_pw"), "skip_dw")
    x = block(torch.cat([block(block(x, "block1"), "block2"), skip], 1), "block3")
    x = functional.normalize(functional.interpolate(x, size, mode="bilinear"), dim=1)
    kernel, bias = (weights[at] for at in CLASSIFIER)
    return functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias).permute(0, 2, 3, 1).numpy()


def literally(stored):
    """The notebook's three lines on reflectances times 10000."""
    low, scale = np.array(dynamicworld.PERCENTILES).T
    x = (np.log(np.asarray(stored, np.float64) * 0.005 + 1) - low) / scale
    x = np.exp(x * 5 - 1)
    return x / (x + 1)


def softmax(logits):
    odds = np.exp(logits)
    return odds / odds.sum(-1, keepdims=True)


# A writer of checkpoints, as LevelDB and TensorFlow document them.


def number(value):
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def masked(content):
    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def message(at, content):
    return number(at << 3 | 2) + number(len(content)) + content


def entry(kind, shape, offset, raw):
    dims = b"".join(message(2, b"\x08" + number(side)) for side in shape)
    place = b"\x20" + number(offset) if offset else b""
    head = b"\x08" + number(kind) + message(2, dims) + place + b"\x28" + number(len(raw))
    return head + b"\x35" + struct.pack("<I", masked(raw))


def block_of(pairs):
    """A LevelDB block; keys are told by what differs, every 16th in full."""
    content, restarts, before = b"", [], b""
    for i, (key, value) in enumerate(pairs):
        shared = 0
        if i % 16 == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        own = key[shared:]
        content += number(shared) + number(len(own)) + number(len(value)) + own + value
        before = key
    return content + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def write_checkpoint(folder, arrays, name="variables"):
    """The two files; also an entry of strings, as Keras' object graph is. Returns the index."""
    tensors = {KEY.format(i).encode(): value for i, value in enumerate(arrays)}
    data, pairs = b"", [(b"", b"\x08\x01\x1a\x02\x08\x01")]
    pairs.append((b"_CHECKPOINTABLE_OBJECT_GRAPH", entry(7, (), 0, b"\x03abc")))
    data += b"\x03abc"
    for key, value in sorted(tensors.items()):
        pairs.append((key, entry(1, value.shape, len(data), value.tobytes())))
        data += value.tobytes()
    table, handles = b"", []
    for part in (pairs[:70], pairs[70:]):  # two blocks, as of a table larger than one
        content = block_of(part)
        handles.append((part[-1][0], number(len(table)) + number(len(content))))
        table += content + b"\0" + struct.pack("<I", masked(content + b"\0"))
    places = b""
    for content in (block_of([]), block_of(handles)):
        places += number(len(table)) + number(len(content))
        table += content + b"\0" + struct.pack("<I", masked(content + b"\0"))
    table += places.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / f"{name}.data-00000-of-00001").write_bytes(data)
    (folder / f"{name}.index").write_bytes(table)
    return folder / f"{name}.index"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("variables"), published())


@pytest.fixture(scope="module")
def made(checkpoint):
    """A bundle of a narrow version, and what the conversion reports."""
    folder = checkpoint.parent / "bundle"
    report = convert(
        checkpoint,
        folder,
        model="dynamicworld",
        source="dynamicworld",
        fields={"width": WIDTH},
    )
    return rsjax.load(folder), report


def test_a_bundle_predicts_as_torch_from_values_with_the_offset_of_2022(made):
    model, report = made
    assert report["ignored"] == ["_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert (report["framework"], report["licence"]) == ("tensorflow", "Apache-2.0")
    spec = dataclasses.replace(model.inputs.images["s2"], height=64, width=64)
    inputs = dataclasses.replace(model.inputs, images={"s2": spec}, grid=(64, 64))
    model = dataclasses.replace(model, inputs=inputs)  # small patches
    reflectance = np.random.default_rng(1).integers(0, 6000, (1, 64, 64, 9))
    order = [*model.inputs.bands][::-1]
    stored = (reflectance[..., ::-1] + 1000).astype(np.uint16)
    found = model.predict(stored, bands=order, unit="reflectance_1e4_offset1000")
    wanted = softmax(peer(published(), literally(reflectance)))
    np.testing.assert_allclose(found.probabilities, wanted, atol=2e-5)
    assert len(np.unique(found.maps)) > 1
    assert found.classes[:2] == ("water", "trees")


@pytest.mark.parametrize(("height", "width"), [(33, 38), (34, 32)])
def test_standardised_bands_of_any_size_as_torch(height, width):
    arrays = published(seed=3)
    given = {KEY.format(i): value for i, value in enumerate(arrays)}
    variables, _ = to_variables(read.Weights("tensorflow", given), "dynamicworld")
    model = models.get("dynamicworld", num_classes=9, width=WIDTH)
    x = images(2, height, width, 9)
    found = quick_jit(lambda x: model.apply(variables, x, False))(x)
    assert relative_error(found, peer(arrays, x)) < 2e-5


def test_the_published_weights_give_what_the_published_graph_gives(samples):
    file = samples / "dynamicworld" / "forward_variables.npz"
    if not file.is_file():
        pytest.skip(f"no published weights: {file}")
    variables, needed = to_variables(read.read(file), "dynamicworld")
    assert len(needed["percentiles"]) == 9
    model = models.get("dynamicworld", num_classes=9)
    # The publishers' graph in TensorFlow, as printed by its port in torch (calebrob6/
    # dynamic_world_pytorch, README.md): mean -4.7081, standard deviation 0.8728.
    x = np.random.RandomState(0).randn(1, 60, 60, 9).astype(np.float32)
    logits = np.asarray(quick_jit(lambda x: model.apply(variables, x, False))(x))
    assert f"{logits.mean():.4f} {logits.std():.4f}" == "-4.7081 0.8728"


def test_squashed_as_in_the_notebook():
    stored = np.random.default_rng(0).integers(0, 20000, (2, 5, 4, 9))
    found = squash(jnp.asarray(stored, jnp.float32), dynamicworld.PERCENTILES)
    np.testing.assert_allclose(found, literally(stored), rtol=2e-5, atol=1e-7)
    below = squash(jnp.full((1, 1, 1, 9), -300.0), dynamicworld.PERCENTILES)
    np.testing.assert_allclose(below[0, 0], literally(np.zeros((1, 9))), rtol=1e-5)
    with pytest.raises(ConfigError, match="2 percentiles for 9 bands"):
        squash(jnp.zeros((1, 1, 1, 9)), dynamicworld.PERCENTILES[:2])


def test_a_vector_of_nothing_has_a_gradient():
    vectors = jnp.asarray([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(unit_length(vectors), [[0, 0], [0.6, 0.8]], rtol=1e-6)
    slopes = jax.jacobian(lambda x: unit_length(x)[:, 0])(vectors)
    np.testing.assert_allclose(slopes[0, 0], [1e6, 0], rtol=1e-5)
    np.testing.assert_allclose(slopes[1, 1], [0.128, -0.096], rtol=1e-5)


def test_a_pixel_is_seen_from_no_further_than_said():
    model = models.get("dynamicworld", num_classes=3, width=2)
    x = images(1, 96, 96, 2)
    variables = randomised(model, x)
    call = quick_jit(lambda x: model.apply(variables, x, False))
    far = 0
    for place in (48, 49):  # both of a pair that half the resolution makes one
        changed = np.abs(call(x.at[0, place, place].add(50.0)) - call(x))[0].max(-1) > 1e-7
        rows = np.flatnonzero(changed.any(1))
        far = max(far, place - rows[0], rows[-1] - place)
    assert far == 22


def test_training_gives_reflectances_whatever_the_unit():
    made, _ = sources.find("dynamicworld", "dynamicworld").inputs()
    stored = np.full((1, *made.grid, 9), 3000, np.float32)
    for unit, factor in (("reflectance", 1e4), ("reflectance_1e4_offset1000", 1.0)):
        spec = dataclasses.replace(made.images["s2"], unit=unit)
        given = dataclasses.replace(made, images={"s2": spec}, mean=(5.0,) * 9, std=(3.0,) * 9)
        found = preprocess(as_reflectance(given))({"s2": stored})
        wanted = stored * factor - (1000 if "offset" in unit else 0)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    radar = dataclasses.replace(spec, unit="db")
    with pytest.raises(ConfigError, match="they are of reflectances"):
        as_reflectance(dataclasses.replace(made, images={"s2": radar}))


def test_training_starts_from_it_with_its_bands_in_its_order_only(made, checkpoint):
    model, _ = made
    fields = {**model.about["model"]["fields"]}
    config = configs.base().unlock()
    config.init_from = str(checkpoint.parent / "bundle")
    config.model.name, config.model.fields = "dynamicworld", ConfigDict(fields)
    make = functools.partial(models.get, "dynamicworld", **fields)
    taken, _ = given(config, make, model.inputs, model.classes())
    assert np.array_equal(
        taken["params"]["classifier"]["kernel"], model.variables["params"]["classifier"]["kernel"]
    )
    turned = dataclasses.replace(model.inputs, bands=model.inputs.bands[::-1])
    with pytest.raises(ConfigError, match=r"Set data\.bands to the same, in that order"):
        given(config, make, turned, model.classes())


def test_npz_and_checkpoint_hold_the_same(checkpoint, tmp_path):
    arrays = published()
    np.savez(tmp_path / "a.npz", **{f"variables_{i}": value for i, value in enumerate(arrays)})
    one, other = (
        fit.flat(to_variables(read.read(path), "dynamicworld")[0])
        for path in (tmp_path / "a.npz", checkpoint)
    )
    assert one.keys() == other.keys()
    assert all(np.array_equal(value, other[name]) for name, value in one.items())
    read_again = read.read(checkpoint).arrays
    assert all(np.array_equal(read_again[KEY.format(i)], value) for i, value in enumerate(arrays))


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_any_changed_byte_of_a_checkpoint_is_found(checkpoint, tmp_path, ending):
    for suffix in ("index", "data-00000-of-00001"):
        source = checkpoint.with_name(f"variables.{suffix}")
        (tmp_path / source.name).write_bytes(source.read_bytes())
    target = tmp_path / f"variables.{ending}"
    content = target.read_bytes()
    end = len(content) - (48 if ending == "index" else 0)  # of the footer some bytes mean nothing
    unread = content.find(b"\x03abc") if ending != "index" else -9  # the entry of strings
    for at in np.linspace(0, end - 1, 60, dtype=int):
        if unread <= at < unread + 4:
            continue
        target.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(WeightsError, match=r"Download the folder again"):
            read.read(tmp_path / "variables.index")
    for size in (0, 20, len(content) // 2, len(content) - 1):
        target.write_bytes(content[:size])
        with pytest.raises(WeightsError, match=r"variables\.index: damaged"):
            read.read(tmp_path / "variables.index")


def table_of(pairs, first=b""):
    """A table of one block; `first` in place of where that block lies."""
    table, places = b"", b""
    content = block_of(pairs)
    handle = first or number(0) + number(len(content))
    for one in (content, block_of([]), block_of([(b"z", handle)])):
        places += number(len(table)) + number(len(one))
        table += one + b"\0" + struct.pack("<I", masked(one + b"\0"))
    places = places[len(number(0) + number(len(content))) :]
    return table + places.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


HEAD = (b"", b"\x08\x01\x1a\x02\x08\x01")
RAW = np.arange(4096, dtype="<f4").tobytes()


@pytest.mark.parametrize(("pairs", "first", "message"), [
    ([(b"", b"\x08" + number(2**50))], b"", "No such file"),
    ([HEAD, *((b"v%03d" % i, entry(1, (4096,), 0, RAW)) for i in range(9))], b"",
     "more than 8 times as large as its files"),
    ([HEAD], number(2**64 - 1) + number(4), "does not lie in it"),
    ([HEAD], number(0) + number(0), "does not lie in it"),
    ([(b"", b"\x08" + b"\xff" * 100_000 + b"\x01")], b"", "an integer of more than 10 bytes"),
    ([HEAD, *((b"k" * 9000 + b"%04d" % i, b"\x08\x07") for i in range(20))], b"",
     "its names are far larger than the file"),
])  # fmt: skip
def test_small_checkpoints_cannot_take_much_memory(tmp_path, monkeypatch, pairs, first, message):
    monkeypatch.setattr(tf_checkpoint, "MOST_KEYS", 2**16)
    (tmp_path / "v.data-00000-of-00001").write_bytes(RAW)
    (tmp_path / "v.index").write_bytes(table_of(pairs, first))
    with pytest.raises(WeightsError, match=rf"v\.index: damaged, .*{message}"):
        read.read(tmp_path / "v.index")
    sound = [HEAD, *((b"v%03d" % i, entry(1, (4096,), 0, RAW)) for i in range(8))]
    (tmp_path / "v.index").write_bytes(table_of(sound))
    assert len(read.read(tmp_path / "v.index").arrays) == 8


def npy(shape, dtype="<f4", content=b""):
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n" + content


@pytest.mark.parametrize(("content", "message"), [
    (npy((10**11,)), r"variables/0\.npy is not as large as its shape \(100000000000,\) says"),
    (npy((3,), content=b"\0" * 16), "is not as large as its shape"),
    (npy((-2, -2), content=b"\0" * 16), "WeightsError|ValueError"),
    (npy((1,), "|O", b"\0" * 8), "holds object, no numbers"),
    (b"no array", "ValueError: the magic string"),
])  # fmt: skip
def test_an_array_that_is_not_what_its_header_says_is_refused(tmp_path, content, message):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("variables/0.npy", content)
    with pytest.raises(WeightsError, match=message):
        read.read(tmp_path / "a.npz")


def test_any_changed_byte_of_an_npz_is_found_or_means_nothing(tmp_path):
    path, value = tmp_path / "a.npz", np.asfortranarray(images(1, 5, 4, 3)[0])
    np.savez_compressed(path, **{"variables/0": value, "variables/1": np.float32(3)})
    content = path.read_bytes()
    refused = 0
    for at in range(0, len(content), 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            found = read.read(path).arrays
        except WeightsError:
            refused += 1
        else:
            assert "variables/0" not in found or np.array_equal(found["variables/0"], value)
    assert refused > len(content) / 6


def test_what_is_none_of_its_arrays_is_refused(checkpoint, made, tmp_path):
    def refused(arrays, words, model="dynamicworld"):
        with pytest.raises(WeightsError, match=words):
            to_variables(read.Weights("tensorflow", arrays), model)

    arrays = read.read(checkpoint).arrays
    refused({**arrays, "optimizer/iter": np.zeros(1)}, "optimizer/iter are none of Dynamic")
    refused(dict(list(arrays.items())[1:]), "145 arrays; Dynamic World's forward model has 146")
    one = {**arrays, KEY.format(1): np.zeros(1, np.float32)}  # the bias of the stem
    refused(one, r"'stem/bn': a mean of float32 \(8,\) and a bias of float32 \(1,\)")
    refused({**arrays, KEY.format(1): np.zeros(8, bool)}, "a bias of bool")
    refused(arrays, "no rules for TensorFlow's weights of models in 'resnet'", "resnet18")
    (tmp_path / "a.npz").write_bytes(b"PK no archive")
    with pytest.raises(WeightsError, match=r"a\.npz: no arrays of NumPy"):
        read.read(tmp_path / "a.npz")
    options = {"model": "dynamicworld", "source": "dynamicworld", "fields": {"width": WIDTH}}
    with pytest.raises(ConfigError, match="percentiles of its own; leave --bands out"):
        convert(checkpoint, tmp_path / "b", bands=["sentinel2_l1c/B02"], **options)
    with pytest.raises(WeightsError, match="shape"):
        convert(checkpoint, tmp_path / "b", **{**options, "fields": {}})
    assert not (tmp_path / "b").exists()
    fields = json.loads((checkpoint.parent / "bundle" / "rsjax.json").read_text())["model"][
        "fields"
    ]
    assert fields["percentiles"][8] == list(dynamicworld.PERCENTILES[8])
