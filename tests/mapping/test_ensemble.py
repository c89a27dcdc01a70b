"""Several models on one scene: the mean of their probabilities, whatever bands each takes."""

import json

import identity
import numpy as np
import pytest
import rasterio

from rsjax import bundle
from rsjax.datasets.info import ImageSpec
from rsjax.errors import BundleError
from rsjax.mapping import ensemble, mapper
from rsjax.mapping.mapper import Options

L2A = "sentinel2_l2a"


def member(folder, monkeypatch, bands, seed, **more):
    """A model whose logits are the given bands, in that order."""
    fine = tuple(band for band in bands if band != "B05")
    specs = {"s2": ImageSpec(L2A, fine, 8, 8, "uint16", "reflectance", 10.0)}
    if "B05" in bands:
        specs["s2_20m"] = ImageSpec(L2A, ("B05",), 4, 4, "uint16", "reflectance", 20.0)
    names = tuple(f"{L2A}/{band}" for band in bands)
    return identity.save(folder, monkeypatch, specs, names, temperature=seed, **more)


def test_an_ensemble_averages_probabilities_of_models_with_other_bands(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pixels = identity.values(rng, (14, 18), 5)
    pixels[4] = pixels[4, ::2, ::2].repeat(2, 0).repeat(2, 1)
    pixels[:, 4:6, 4:10] = -9999
    scene = identity.write(tmp_path / "a.tif", pixels[:4], identity.BANDS, nodata=-9999)
    low = identity.write(tmp_path / "b.tif", pixels[4:, ::2, ::2], None, nodata=-9999, side=20.0)
    first = member(tmp_path / "one", monkeypatch, ("B02", "B03", "B04", "B08"), 1.0)
    second = member(tmp_path / "two", monkeypatch, ("B08", "B05", "B02", "B03"), 2.0, grid=16)
    options = Options(overlap=4, probabilities=True, batch=4)
    made = mapper.write_map(
        [first, second], [scene, f"B05={low}"], tmp_path / "map.tif", (), ["reflectance"], options
    )
    missing = pixels[0] == -9999
    taken = (([0, 1, 2, 3], 0.1), ([3, 4, 0, 1], 0.2))
    each = [identity.softmax(pixels[order] / scale) for order, scale in taken]
    expected = np.mean(each, axis=0)
    with rasterio.open(tmp_path / "map_probabilities.tif") as raster:
        found = raster.read()
    np.testing.assert_array_equal((found == 255).all(axis=0), missing)
    np.testing.assert_allclose(found[:, ~missing] * 0.004, expected[:, ~missing], atol=0.0021)
    assert np.abs(each[0] - expected)[:, ~missing].max() > 0.1
    with rasterio.open(made.files[0]) as raster:
        about = json.loads(raster.tags()["RSJAX_PROVENANCE"])
    assert [one["bundle"] for one in about["models"]] == [str(first), str(second)]
    assert [one["temperature"] for one in about["models"]] == [1.0, 2.0]
    assert about["models"][1]["bands"] == [f"{L2A}/{b}" for b in ("B08", "B05", "B02", "B03")]
    # As the models one by one, on a window without missing pixels; the second answers at 5 m.
    fine = np.moveaxis(pixels[:4, 6:14, 10:18], 0, -1)[None]
    coarse = np.moveaxis(pixels[4:, 6:14:2, 10:18:2], 0, -1)[None]
    one = bundle.load(first).predict({"s2": fine}).probabilities
    images = {"s2": fine[..., [3, 0, 1]], "s2_20m": coarse}
    two = bundle.load(second).predict(images).probabilities
    two = two.reshape(1, 8, 2, 8, 2, 4).mean(axis=(2, 4))
    mean = np.moveaxis((one + two)[0] / 2, -1, 0)
    np.testing.assert_allclose(found[:, 6:14, 10:18] * 0.004, mean, atol=0.0021)


def test_each_model_of_an_ensemble_sees_pixels_of_its_own_size(tmp_path, monkeypatch):
    low = ("B05", "B06", "B07", "B8A")
    rng = np.random.default_rng(1)
    scene = [
        identity.write(tmp_path / "fine.tif", identity.values(rng, (32, 32))),
        identity.write(tmp_path / "low.tif", identity.values(rng, (16, 16)), low, side=20.0),
    ]
    spec = ImageSpec(L2A, low, 8, 8, "uint16", "reflectance", 20.0)
    fine, coarse = (
        ensemble.load(identity.save(tmp_path / name, monkeypatch, specs))
        for name, specs in (("fine", None), ("low", {"s2_20m": spec}))
    )

    def seen(members):
        """Of each model: pixels of a window, of the model's grid, and what the user is told."""
        planned = mapper.plan_map(members, scene, tmp_path / "map.tif", (), ["reflectance"])
        each = members.members(planned.opened, planned.plan.window)
        return planned.plan.window, [
            (*(image.height for image in inputs.images.values()), inputs.grid[0])
            for _, inputs in each
        ], members.factors(planned.opened)  # fmt: skip

    assert seen(fine) == (8, [(8, 8)], [1])
    assert seen(coarse) == (8, [(8, 8)], [1])  # alone, the scene has its pixels
    both = ensemble.load([fine.folders[0], coarse.folders[0]])
    assert seen(both) == (8, [(8, 8), (4, 4)], [1, 2])
    both = ensemble.load([coarse.folders[0], fine.folders[0]])  # the first one's patches
    assert seen(both) == (16, [(8, 8), (16, 16)], [2, 1])
    made = mapper.write_map(both.folders, scene, tmp_path / "map.tif", (), ["reflectance"],
                            Options(batch=4))  # fmt: skip
    assert made.warnings == ()  # nothing looks larger to either than in training


def test_entries_that_models_share_are_read_once(tmp_path, monkeypatch):
    first = member(tmp_path / "one", monkeypatch, ("B02", "B03", "B04", "B08"), 1.0)
    second = member(tmp_path / "two", monkeypatch, ("B08", "B05", "B02", "B03"), 1.0)
    found = ensemble.load([first, second])
    assert {name: spec.bands for name, spec in found.inputs.images.items()} == {
        "s2": ("B02", "B03", "B04", "B08"), "s2_20m": ("B05",)
    }  # fmt: skip
    assert found.groups == ({"s2"}, {"s2", "s2_20m"})
    other = ImageSpec(L2A, ("B02",), 8, 8, "uint16", "reflectance_1e4", 10.0)
    inputs = bundle.load(first).inputs
    mixed = identity.Inputs({"s2": other}, (f"{L2A}/B02",), (0.0,), (1.0,), (8, 8))
    made, groups = ensemble.union([inputs, mixed])  # in units of their own
    assert [spec.unit for spec in made.images.values()] == ["reflectance", "reflectance_1e4"]
    assert groups == ({"s2"}, {"s2x"})


def test_models_of_other_classes_or_tasks_are_refused(tmp_path, monkeypatch):
    first = identity.save(tmp_path / "one", monkeypatch)
    other = identity.save(tmp_path / "two", monkeypatch, codes=(1, 2, 3, 4))
    task = identity.save(tmp_path / "three", monkeypatch, task="multilabel")
    with pytest.raises(BundleError, match="same classes in the same order"):
        ensemble.load([first, other])
    with pytest.raises(BundleError, match="multilabel of 4 classes"):
        ensemble.load([first, task])
    with pytest.raises(BundleError, match="no models"):
        ensemble.load([])
