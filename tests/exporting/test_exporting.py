import json
import os
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from jax import lax
from peers import images, quick_jit, randomised, shapes_of
from tiny import TINY

from rsjax import bundle, exporting, landcover, models
from rsjax.datasets.info import ImageSpec
from rsjax.errors import BundleError, ConfigError, ExportError
from rsjax.exporting import graph as graphs
from rsjax.input.preprocess import Inputs
from rsjax.models import resampling
from rsjax.models.layers import Conv, ConvTranspose
from rsjax.models.pretrained.torch_names import from_torch, to_torch, torch_name

FIELDS = {"stem": "small", "width": 8, "stage_sizes": (1,)}
SIDES = {"s2_10m": 24, "s2_20m": 12, "s2_60m": 4}
BANDS = {"s2_10m": ("B02", "B03", "B04"), "s2_20m": ("B05", "B06"), "s2_60m": ("B01", "B09")}


@pytest.fixture(scope="module")
def model():
    """Three grids, the channels in another order than on disk, one band of each left out."""
    inputs = Inputs(
        {
            name: ImageSpec("sentinel2_l2a", BANDS[name], side, side, "uint16", "reflectance_1e4",
                            240 / side)
            for name, side in SIDES.items()
        },
        tuple(f"sentinel2_l2a/{band}" for band in ("B04", "B01", "B05", "B02")),
        (900.0, 500.0, 800.0, 600.0),
        (400.0, 200.0, 350.0, 300.0),
        (24, 24),
    )  # fmt: skip
    module = models.get("resnet18", num_classes=19, **FIELDS)
    about = {
        "model": {"name": "resnet18", "dtype": "float32", "fields": FIELDS},
        "outputs": 19,
        "task": {"name": "multilabel", "threshold": 0.5, "label_smoothing": 0.0},
    }
    variables = randomised(module, images(1, 24, 24, 4))
    return bundle.Model(variables, inputs, landcover.load("bigearthnet19"), about)


def entries(count, rows, cols, seed=5):
    """Raw entries of another size than trained, in units of the 60 m grid."""
    rng = np.random.default_rng(seed)
    shapes = {n: (count, rows * s // 4, cols * s // 4, len(BANDS[n])) for n, s in SIDES.items()}
    return {n: rng.integers(1, 3000, shape).astype(np.uint16) for n, shape in shapes.items()}


def by_hand(model, batch):
    """The probabilities, from numpy's own reading of the bundle; the grid is that of 10 m."""
    grid = batch["s2_10m"].shape[1:3]

    @quick_jit
    def probabilities(batch):
        channels = []
        i = model.inputs
        for full, mean, std in zip(i.bands, i.mean, i.std, strict=True):
            band = full.split("/")[1]
            name = next(n for n, bands in BANDS.items() if band in bands)
            image = batch[name][..., BANDS[name].index(band)].astype(jnp.float32)
            image = jax.image.resize(image, (len(image), *grid), "bilinear")
            channels.append((image - mean) / std)
        x = jnp.stack(channels, -1)
        return jax.nn.sigmoid(model.module.apply(model.variables, x, False))

    return np.asarray(probabilities(batch))


def test_stablehlo_runs_without_rsjax_at_sizes_never_seen(model, tmp_path):
    file = tmp_path / "model.zip"
    about = exporting.export(model, "stablehlo", file, step=8)
    assert about["verified"]["largest_difference"] < 1e-6
    batch = entries(5, 8, 12)
    np.savez(tmp_path / "batch.npz", **batch)
    code = (
        "import sys, zipfile, numpy as np\n"
        "from jax import export\n"
        f"content = zipfile.ZipFile({str(file)!r}).read('model.bin')\n"
        f"batch = dict(np.load({str(tmp_path / 'batch.npz')!r}))\n"
        "model = export.deserialize(bytearray(content))\n"
        f"np.save({str(tmp_path / 'found.npy')!r}, np.asarray(model.call(batch)))\n"
        "print(model.platforms, {'rsjax', 'flax'} & set(sys.modules))"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=tmp_path, check=False, env=environment)  # fmt: skip
    assert done.stdout.strip() == "('cpu', 'cuda', 'tpu') set()", done.stderr
    found = np.load(tmp_path / "found.npy")
    assert found.shape == (5, 19)
    np.testing.assert_allclose(found, by_hand(model, batch), rtol=1e-4, atol=1e-6)
    told = json.loads(zipfile.ZipFile(file).read("rsjax.json"))
    assert told["inputs"]["s2_20m"]["height"] == "12*h"
    assert told["inputs"]["s2_20m"]["unit"] == "reflectance_1e4"
    assert [c["name"] for c in told["classes"]] == list(model.nomenclature.names)
    assert told["bands"] == list(model.inputs.bands)
    assert told["mean"] == list(model.inputs.mean)


@pytest.fixture
def onnxruntime():
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rsjax[onnx]'")
    reason = "onnxruntime is not installed: pip install 'rsjax[onnx]'"
    return pytest.importorskip("onnxruntime", reason=reason)


def test_onnx_of_open_sizes(model, tmp_path, onnxruntime):
    file = tmp_path / "model.onnx"
    exporting.export(model, "onnx", file, step=1)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert {i.name: i.type for i in session.get_inputs()} == dict.fromkeys(SIDES, "tensor(uint16)")
    told = json.loads(session.get_modelmeta().custom_metadata_map["rsjax"])
    assert told["classes"][0]["colour"] == model.nomenclature.colours[0]
    for size in ((1, 2, 3), (3, 7, 2)):
        batch = entries(*size)
        found = session.run(["probabilities"], batch)[0]
        np.testing.assert_allclose(found, by_hand(model, batch), rtol=1e-4, atol=1e-6)


def test_onnx_of_one_size_has_it_in_its_signature(model, tmp_path, onnxruntime):
    from rsjax.exporting import onnx_file

    file = onnx_file._model(graphs.graph(model, 48, 24, 0))
    sides = {
        i.name: [d.dim_value or d.dim_param for d in i.type.tensor_type.shape.dim]
        for i in file.graph.input
    }
    assert sides == {"s2_10m": ["b", 48, 24, 3], "s2_20m": ["b", 24, 12, 2],
                     "s2_60m": ["b", 8, 4, 2]}  # fmt: skip
    # Nothing is left that depends on the weights alone, and no matrix product stands for a
    # convolution, as it does on a CPU here.
    kinds = [node.op_type for node in file.graph.node]
    assert kinds.count("Conv") == 3
    assert not {"Reciprocal", "Slice", "Pad"} & set(kinds)


def layer(module, x):
    variables = randomised_layer(module, x)
    return lambda x: module.apply(variables, x)


def randomised_layer(module, x):
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), shapes)


X = images(2, 7, 6, 4)
FUNCTIONS = {
    "dilated convolution": layer(Conv(5, 3, 2, 2), X),
    "grouped convolution": layer(Conv(8, (1, 3), groups=4, use_bias=True), X),
    "transposed convolution": layer(ConvTranspose(3, 4, 2, 1), X),
    "uncut transposed convolution": layer(ConvTranspose(3, 2, 3), X),
    "upsampling convolution": layer(ConvTranspose(3, 2, 2), X),
    "max-pool": lambda x: resampling.max_pool(x, 3, 2, 1),
    "max-pool of Keras": lambda x: resampling.max_pool(x, 3, 2, "SAME"),
    "max-pool rounded up": lambda x: resampling.max_pool(x, 2, 2, ceil=True),
    "mean-pool": lambda x: resampling.avg_pool(x, 3, 1, 1),
    "mean-pool inside": lambda x: resampling.avg_pool(x, 3, 2, 1, count_padding=False),
    "unpooling": lambda x: resampling.unpool(*resampling.max_pool_with_indices(x), 7, 6),
    "resizing": lambda x: resampling.resize(x, 2 * x.shape[1] + 1, 3 * x.shape[2]),
    "resizing with corners": lambda x: resampling.resize(x, 5, 9, align_corners=True),
    "adaptive mean-pool": lambda x: resampling.adaptive_avg_pool(x, 3),
    "nearest": lambda x: resampling.upsample_nearest(x, 3),
    "edge": lambda x: resampling.fit(x[:, :5], 7, 5),
    "softmax and argmax": lambda x: jnp.argmax(jax.nn.softmax(x), -1).astype(jnp.float32),
    "whole divisions": lambda x: x.reshape(x.shape[0], -1, 2)[:, : -(-x.shape[1] // 3)],
    "elementwise": lambda x: jnp.clip(jnp.sign(x) * jnp.exp(-jnp.abs(x)), -0.5, 0.7) ** 3,
    "reversal": lambda x: jnp.where(x[:, ::-1] > x, lax.rem(x, jnp.full_like(x, 0.3)), x),
}


def of_function(function, shape, onnxruntime, name="test"):
    """An ONNX session of a function of one image."""
    from rsjax.exporting import onnx_file

    closed, out = jax.make_jaxpr(function, return_shape=True)(
        jax.ShapeDtypeStruct(shape, np.float32)
    )
    content = onnx_file.assemble(name, ["x"], closed, out).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": np.asarray(x)})[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_onnx_of_each_layer_at_open_sizes(name, onnxruntime):
    shape = (*jax_export.symbolic_shape("b, h, w", constraints=["h >= 6", "w >= 6"]), 4)
    if name in ("unpooling", "edge"):  # to a size that is given
        shape = (shape[0], 7, 6, 4)
    run = of_function(FUNCTIONS[name], shape, onnxruntime)
    for x in (X, images(3, *(shape[1:3] if shape[1] == 7 else (8, 9)), 4)):
        wanted = np.asarray(quick_jit(FUNCTIONS[name])(x))
        np.testing.assert_allclose(run(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", [jnp.sort, lambda x: lax.rev(lax.cumsum(x), (0,))])
def test_a_primitive_without_a_rule_is_named(function, onnxruntime):
    with pytest.raises(ExportError, match=r"unet to ONNX: .*'(sort|cumsum)'.*float32\[7\]"):
        of_function(function, (7,), onnxruntime, "unet")


def test_another_result_than_the_bundles_is_refused_and_nothing_written(
    model, tmp_path, monkeypatch
):
    file = tmp_path / "model.zip"
    file.write_text("older")
    right = graphs.Graph.probabilities
    monkeypatch.setattr(
        graphs.Graph, "probabilities", lambda self, batch: right(self, batch).at[1, 3].add(2e-3)
    )
    with pytest.raises(ExportError, match=r"by 0\.002 at \(1, 3\) .*float32.*[Nn]othing was"):
        exporting.export(model, "stablehlo", file)
    assert [p.name for p in tmp_path.iterdir()] == ["model.zip"]
    assert file.read_text() == "older"


def test_a_model_sure_of_itself_is_compared_by_logarithms(model):
    graph = graphs.graph(model, 0, 0, 0)
    batch = graphs.random_batch(graph.samples[0], 2)
    wanted = model.predict(batch).probabilities
    least = wanted.min()
    assert graphs.compare(graph, lambda _: wanted, "copy")["largest_difference"] == 0
    wrong = np.where(wanted == least, least * 1.02, wanted)
    with pytest.raises(ExportError, match="in a logarithm"):
        graphs.compare(graph, lambda _: wrong, "copy")


def test_safetensors_load_in_torch_strictly(model, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from safetensors import safe_open
    from torch_resnet import ResNet as Peer

    fields = {"width": 8, "stage_sizes": (2, 1)}
    module = models.get("resnet18", num_classes=19, **fields)
    x = images(2, 33, 33, 4)
    described = {**model.about, "model": {**model.about["model"], "fields": fields}}
    own = bundle.Model(randomised(module, x), model.inputs, model.nomenclature, described)
    exporting.export(own, "safetensors", tmp_path / "weights.safetensors")
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = json.loads(file.metadata()["rsjax"])
    assert told["bands"] == list(model.inputs.bands)
    assert told["mean"] == list(model.inputs.mean)
    peer = Peer(19, 4, (2, 1), False, 8).eval()
    peer.load_state_dict(state, strict=True)
    with torch.no_grad():
        wanted = peer(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)).numpy()
    found = quick_jit(lambda v: module.apply(v, x, False))(own.variables)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_torchs_names_come_back_for_every_model(name):
    module = models.get(name, num_classes=7, **TINY[name])
    shapes = shapes_of(module, jnp.zeros((1, 96, 96, 3 * getattr(module, "steps", 1))))
    wanted = {k: shapes.get(k, {}) for k in ("params", "batch_stats")}
    wanted = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), wanted)
    state = to_torch(wanted)
    found = from_torch(state)
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, wanted)


@pytest.mark.parametrize(
    ("ours", "torch"),
    [
        ("layer1_0/downsample_1", "layer1.0.downsample.1"),
        ("decoder/blocks_0/conv1_1", "decoder.blocks.0.conv1.1"),
        ("decoder/aspp_0/convs_4_1", "decoder.aspp.0.convs.4.1"),
        ("features_28", "features.28"),
        ("conv1_1", "conv1_1"),
        ("encoder/Mixed_5b/branch5x5_1/conv", "encoder.Mixed_5b.branch5x5_1.conv"),
        ("Conv2d_1a_3x3/bn", "Conv2d_1a_3x3.bn"),
    ],
)
def test_torchs_names(ours, torch):
    assert torch_name(ours) == torch


def test_what_cannot_be_says_what_to_do(model, tmp_path, monkeypatch):
    file = tmp_path / "model"
    with pytest.raises(ConfigError, match="'tflite'; known formats: stablehlo, onnx, safetensors"):
        exporting.export(model, "tflite", file)
    with pytest.raises(ConfigError, match=r"height 25: .*s2_60m 4x4.* multiple of 6"):
        exporting.export(model, "stablehlo", file, height=25)
    with pytest.raises(ConfigError, match="no sizes"):
        exporting.export(model, "safetensors", file, step=1)
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'rsjax\[onnx\]'"):
        exporting.export(model, "onnx", file)
    assert not file.exists()


def test_weights_that_cannot_predict_leave_as_weights_only(model, tmp_path):
    bare = bundle.Model(model.variables, model.inputs, None, {**model.about, "lacks": "classes"})
    with pytest.raises(BundleError, match="cannot predict"):
        exporting.export(bare, "stablehlo", tmp_path / "model.zip")
    assert not list(tmp_path.iterdir())
    about = exporting.export(bare, "safetensors", tmp_path / "weights")
    assert "classes" not in about


def test_door(model, tmp_path):
    bundle.save(model, tmp_path / "bundle")
    arguments = [f"--checkpoint={tmp_path}", f"--output={tmp_path / 'w.safetensors'}"]
    run = [sys.executable, "-m", "rsjax.export", *arguments]
    options = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run([*run, "--format=safetensors"], **options)
    assert done.returncode == 0, done.stderr
    assert "resnet18, 19 classes" in done.stdout
    assert (tmp_path / "w.safetensors").is_file()
    done = subprocess.run([*run, "--format=caffe"], **options)
    assert done.returncode == 1
    assert done.stderr.startswith("ConfigError: unknown format 'caffe'")
