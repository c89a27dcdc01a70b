"""A scene of two dates to a map of changes, with a siamese bundle."""

import numpy as np
import pytest
import rasterio
from peers import evaluate, randomised

from rsjax import bundle, landcover, models
from rsjax.datasets.info import ImageSpec
from rsjax.errors import SensorError
from rsjax.input.preprocess import Inputs
from rsjax.mapping import mapper
from rsjax.mapping.mapper import Options

pytestmark = pytest.mark.once

SIDE, NAMES = 32, ("red", "green")
FIELDS = {"encoder_name": "resnet18", "decoder_channels": (4, 4), "join": "diff",
          "encoder_fields": {"stem": "small", "width": 4, "stage_sizes": (1, 1)}}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle, its network, and the scene as files of one date each."""
    folder = tmp_path_factory.mktemp("dates")
    spec = ImageSpec("rgb", NAMES, SIDE, SIDE, "uint8", "dn8", 0.5, steps=2)
    bands = tuple(f"rgb/{name}@{date}" for date in (0, 1) for name in NAMES)
    inputs = Inputs({"rgb": spec}, bands, (100.0,) * 4, (50.0,) * 4, (SIDE, SIDE))
    network = models.get("siam_unet", num_classes=2, **FIELDS)
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (2, 2, SIDE, SIDE), np.uint8)  # date, band, row, column
    x = np.moveaxis(pixels.reshape(4, SIDE, SIDE), 0, -1)[None].astype(np.float32)
    variables = randomised(network, x)
    about = {"model": {"name": "siam_unet", "dtype": "float32", "fields": FIELDS}, "outputs": 2,
             "task": {"name": "segmentation", "label_smoothing": 0.0}}  # fmt: skip
    model = bundle.Model(dict(variables), inputs, landcover.load("change"), about)
    bundle.save(model, folder / "run")
    for date, name in enumerate(("before", "after")):
        profile = {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": 2,
            "height": SIDE,
            "width": SIDE,
            "crs": "EPSG:32633",
            "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6),
        }
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as file:
            file.write(pixels[date])
    return folder, np.asarray(evaluate(network, variables, (x - 100) / 50))[0]


def mapped(folder, first, second, name):
    """The map of both files, as the first and the second date."""
    given = [f"red@0,green@0={folder}/{first}.tif", f"red@1,green@1={folder}/{second}.tif"]
    mapper.write_map(folder / "run", given, folder / f"{name}.tif", (), ["dn8"], Options(SIDE, 0))
    with rasterio.open(folder / f"{name}.tif") as file:
        assert file.nodata == 255
        return file.read(1)


def test_two_dates_are_mapped_and_their_order_does_not_matter(made):
    folder, logits = made
    found = mapped(folder, "before", "after", "changes")
    clear = np.abs(logits[..., 1] - logits[..., 0]) > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], logits.argmax(axis=-1)[clear])
    assert {0, 1} == set(np.unique(found))
    swapped = mapped(folder, "after", "before", "swapped")
    np.testing.assert_array_equal(found[clear], swapped[clear])


def test_a_missing_date_is_named(made):
    with pytest.raises(SensorError, match=r"band rgb/red@1 is missing.*red@1=FILE"):
        mapper.write_map(made[0] / "run", [f"red@0,green@0={made[0]}/before.tif"],
                         made[0] / "none.tif", (), ["dn8"])  # fmt: skip
