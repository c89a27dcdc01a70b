import json

import identity
import jax
import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from rsjax import bundle, models
from rsjax.datasets.info import ImageSpec
from rsjax.errors import BundleError, ConfigError, SensorError
from rsjax.input.preprocess import Inputs, preprocess
from rsjax.landcover import Nomenclature
from rsjax.mapping import compute, mapper, tiling, writer
from rsjax.mapping.mapper import Options

pytestmark = pytest.mark.once


def opened(path):
    with rasterio.open(path) as raster:
        return raster.read(), raster.profile, raster.tags()


# size, window, overlap, EPSG code, missing pixels
CASES = [
    ((1, 1), 8, 0, 32633, "none"),
    ((1, 1), 8, 4, 4326, "all"),
    ((1, 19), 8, 4, 3857, "some"),
    ((8, 8), 8, 3, 32633, "one"),
    ((23, 17), 8, 0, 4326, "some"),
    ((23, 17), 8, 6, 32733, "block"),
    ((31, 9), 16, 5, 32633, "edge"),
]


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_returns_its_input_gives_the_expected_map(case, tmp_path, monkeypatch):
    shape, window, overlap, epsg, where = case
    rng = np.random.default_rng(sum(shape))
    pixels = identity.values(rng, shape)
    missing = {
        "none": np.zeros(shape, bool),
        "all": np.ones(shape, bool),
        "one": np.eye(*shape, dtype=bool) & (np.arange(shape[1]) == 3),
        "some": rng.random(shape) < 0.3,
        "edge": np.arange(shape[1])[None].repeat(shape[0], 0) < 4,
        "block": np.outer(np.arange(shape[0]) < 20, np.arange(shape[1]) < 14),
    }[where]
    pixels[:, missing] = -9999
    side = 1e-4 if epsg == 4326 else 10.0
    scene = identity.write(
        tmp_path / "scene.tif", pixels[::-1], identity.BANDS[::-1], epsg, -9999, side, (10.0, 50.0)
    )
    run = identity.save(tmp_path / "run" / "bundle", monkeypatch).parent
    options = Options(window, overlap, probabilities=True, batch=4)
    made = mapper.write_map(
        run, [scene], tmp_path / "out" / "map.tif", (), ["reflectance"], options
    )

    expected = identity.softmax(pixels / 0.1)
    codes, profile, tags = opened(made.files[0])
    with rasterio.open(scene) as raster:
        assert (profile["crs"], profile["transform"]) == (raster.crs, raster.transform)
    assert (profile["dtype"], profile["nodata"]) == ("uint8", 0)
    wanted = np.where(missing, 0, 10 * (1 + expected.argmax(axis=0)))
    np.testing.assert_array_equal(codes[0], wanted)
    assert Nomenclature.from_json(json.loads(tags["RSJAX_NOMENCLATURE"])) == identity.classes()
    assert json.loads(tags["RSJAX_PROVENANCE"])["scene"] == [scene]
    confidence = opened(tmp_path / "out" / "map_confidence.tif")[0][0]
    np.testing.assert_array_equal(confidence == 255, missing)
    np.testing.assert_allclose(
        confidence[~missing] * 0.004, expected.max(axis=0)[~missing], atol=0.0021
    )
    each, profile, _ = opened(tmp_path / "out" / "map_probabilities.tif")
    np.testing.assert_array_equal((each == 255).all(axis=0), missing)
    np.testing.assert_allclose(each[:, ~missing] * 0.004, expected[:, ~missing], atol=0.0021)
    for path in made.files:
        if path.suffix == ".tif":
            assert cog_validate(path, strict=True)[0]
    assert not list((tmp_path / "out").glob(".*"))


def test_coarser_bands_and_units_and_temperature(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pixels = identity.values(rng, (21, 34))
    coarse = pixels[2:, ::2, ::2]
    specs = {
        "s2_10m": ImageSpec("sentinel2_l2a", ("B02", "B03"), 16, 16, "uint16", "reflectance", 10.0),
        "s2_20m": ImageSpec("sentinel2_l2a", ("B05", "B06"), 8, 8, "uint16", "reflectance", 20.0),
    }
    run = identity.save(tmp_path / "run", monkeypatch, specs, side=16, temperature=2.0, grid=32)
    store = np.round(pixels * 1e4 + 1000).astype(np.uint16)  # of baseline 04.00
    identity.write(tmp_path / "fine.tif", store[:2], ("B02", "B03"))
    low = np.round(coarse * 1e4 + 1000).astype(np.uint16)
    identity.write(tmp_path / "five.tif", low[:1], None, side=20.0)
    identity.write(tmp_path / "six.tif", low[1:], None, side=20.0)
    given = [str(tmp_path / "fine.tif"), f"B05={tmp_path}/five.tif", f"B06={tmp_path}/six.tif"]
    unit = ["reflectance_1e4_offset1000"]
    mapper.write_map(run, given, tmp_path / "map.tif", (), unit, Options(overlap=6, tta="d4"))
    full = np.concatenate([pixels[:2], coarse.repeat(2, 1).repeat(2, 2)[:, :21, :34]])
    expected = identity.softmax(full / 0.1 / 2)
    codes = opened(tmp_path / "map.tif")[0][0]
    clear = np.diff(np.sort(full, axis=0)[-2:], axis=0)[0] > 2e-4  # stored values are rounded
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(codes[clear], 10 * (1 + full.argmax(axis=0))[clear])
    found = opened(tmp_path / "map_confidence.tif")[0][0] * 0.004
    np.testing.assert_allclose(found, expected.max(axis=0), atol=0.003)


def test_a_classifier_maps_a_cell_for_each_window(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    pixels = identity.values(rng, (20, 26))
    pixels[:, :8, :6] = np.nan  # of the first cell more than half
    pixels[:, :8, 8:12] = np.nan  # of the second just half
    specs = {"s2": ImageSpec("sentinel2_l2a", identity.BANDS, 8, 8, "f4", "reflectance", 10.0)}
    run = identity.save(tmp_path / "run", monkeypatch, specs, task="multilabel")
    scene = identity.write(tmp_path / "scene.tif", pixels)
    mapper.write_map(run, [scene], tmp_path / "map.tif", (), ["reflectance"])
    codes, profile, _ = opened(tmp_path / "map.tif")
    assert codes.shape == (1, 3, 4)
    assert profile["transform"] == rasterio.Affine(80, 0, 5e5, 0, -80, 5e6)
    filled = np.nan_to_num(pixels, nan=0.0)  # the mean of training
    padded = np.pad(filled, ((0, 0), (0, 4), (0, 6)), mode="symmetric")
    means = padded.reshape(4, 3, 8, 4, 8).mean(axis=(2, 4))
    wanted = 10 * (1 + means.argmax(axis=0))
    wanted[0, 0] = 0
    np.testing.assert_array_equal(codes[0], wanted)
    found = opened(tmp_path / "map_confidence.tif")[0][0]
    expected = 1 / (1 + np.exp(-means.max(axis=0) / 0.1))
    np.testing.assert_allclose(found[1:] * 0.004, expected[1:], atol=0.0021)


def test_a_unet_in_windows_equals_it_on_the_whole_scene():
    fields = {"encoder_name": "resnet18", "decoder_channels": (4, 4),
              "encoder_fields": {"stem": "small", "width": 4, "stage_sizes": (1, 1)}}  # fmt: skip
    spec = ImageSpec("sentinel2_l2a", ("B02", "B03"), 64, 160, "float32", "reflectance", 10.0)
    bands = ("sentinel2_l2a/B02", "sentinel2_l2a/B03")
    whole = Inputs({"s2": spec}, bands, (0.1, 0.2), (0.1, 0.1), (64, 160))
    module = models.get("unet", num_classes=3, **fields)
    x = np.random.default_rng(0).uniform(0, 0.5, (1, 64, 160, 2)).astype(np.float32)
    variables = module.init(jax.random.key(0), x, False)
    about = {"model": {"name": "unet", "dtype": "float32", "fields": fields}, "outputs": 3,
             "task": {"name": "segmentation", "label_smoothing": 0.0}}  # fmt: skip
    model = bundle.Model(dict(variables), whole, identity.classes((1, 2, 3)), about)
    logits = module.apply(variables, preprocess(whole)({"s2": x}), False)
    expected = np.asarray(jax.nn.softmax(logits))[0]

    spec = ImageSpec("sentinel2_l2a", ("B02", "B03"), 64, 64, "float32", "reflectance", 10.0)
    inputs = Inputs({"s2": spec}, bands, (0.1, 0.2), (0.1, 0.1), (64, 64))
    network = compute.compile_for(
        [(model, inputs)], {"s2": 1}, 64, tta="none", confidence="none", probabilities=False,
        batch=4,
    )  # fmt: skip
    axis = tiling.blended(160, 64, 0, 32)
    weights = np.pad(axis.weights, ((0, 1), (0, 0)))
    columns = np.array([*axis.starts, axis.starts[-1]], np.int32)
    found = np.asarray(
        network.add(
            network.variables, network.temperatures, jax.numpy.zeros((64, 160, 3)),
            {"s2": np.moveaxis(x[0], -1, 0)}, columns, np.ones(64, np.float32), weights,
        )
    )  # fmt: skip
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    # Within this network's reach of an edge of a window the scene beyond it is not seen.
    edges = np.array([64, 96, 128])
    inside = np.abs(np.arange(160)[:, None] + 0.5 - edges).min(axis=1) > 8
    assert inside.sum() > 100
    np.testing.assert_allclose(found[:, inside], expected[:, inside], atol=1e-5)
    assert np.abs(found - expected).max() > 1e-4  # the edges of windows differ, as they must


def test_confidence_is_what_it_says():
    found = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    for kind, wanted in {
        "probability": [0.5, 1, 1 / 3],
        "margin": [0.2, 1, 0],
        "entropy": [1 + (found[0] * np.log(found[0])).sum() / np.log(3), 1, 0],
    }.items():
        answers = compute._answers(found, kind, True)
        np.testing.assert_allclose(np.asarray(answers["confidence"]) * 0.004, wanted, atol=0.002)
        np.testing.assert_array_equal(answers["probabilities"], np.round(found * 250))


def test_what_cannot_work_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    pixels = identity.values(np.random.default_rng(0), (9, 9))
    scene = identity.write(tmp_path / "scene.tif", pixels)
    run = identity.save(tmp_path / "run", monkeypatch)

    def fails(kind, text, output="out/map.tif", given=scene, unit=("reflectance",), **options):
        with pytest.raises(kind, match=text):
            mapper.write_map(run, [given], tmp_path / output, (), unit, Options(**options))
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())

    fails(ConfigError, "tta='d5'", tta="d5")
    fails(ConfigError, "confidence='high'", confidence="high")
    fails(ConfigError, "overlap=8", overlap=8)
    for name, value in (("window", -8), ("overlap", -2), ("batch", -1)):
        fails(ConfigError, rf"--{name}={value}: expected (0|-1) \(", **{name: value})
    fails(ConfigError, "is a file of the scene", output="scene.tif")
    for beside in ("map.png", "map.qml", "map.tif.aux.xml", "map_confidence.tif"):
        with pytest.raises(ConfigError, match=f"{beside} is a file of the scene"):
            writer.check_output(tmp_path / "map.tif", [str(tmp_path / beside)])
    fails(ConfigError, "expected the name of a file", output="map.png")
    other = identity.write(tmp_path / "other.tif", pixels, ("B02", "B03", "B4", "B08"))
    text = "band sentinel2_l2a/B04 is missing.*has B02, B03, B4, B08"
    fails(SensorError, text, given=other)
    identity.save(tmp_path / "run", monkeypatch, temperature=0.0)
    fails(BundleError, "no numbers")
