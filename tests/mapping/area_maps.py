"""Small maps for the tests: codes on a grid, as GeoTIFF."""

import json
import warnings

import numpy as np
import rasterio
from rasterio import Affine

from rsjax.landcover import nomenclature
from rsjax.mapping.landmap import NOMENCLATURE_TAG

UTM = Affine(30.0, 0.0, 440_000.0, 0.0, -30.0, 5_300_000.0)
DEGREES = Affine(0.01, 0.0, 10.0, 0.0, -0.01, 60.0)
CODES = np.array([10, 20, 30, 40, 80], np.uint8)  # of WorldCover


def write(path, codes, *, crs="EPSG:32632", transform=UTM, tag="worldcover", nodata=0, **options):
    """A map with its nomenclature in its tags, unless `tag` is ''."""
    codes = np.asarray(codes)
    bands = codes if codes.ndim == 3 else codes[None]
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1],
               "width": bands.shape[2], "dtype": codes.dtype, "crs": crs, "transform": transform,
               "nodata": nodata, **options}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as raster:
            raster.write(bands)
            if tag:
                text = json.dumps(nomenclature.load(tag).to_json())
                raster.update_tags(**{NOMENCLATURE_TAG: text})
    return path


def random_codes(shape, seed=0, share=(0.3, 0.25, 0.2, 0.15, 0.1)):
    """Codes of five WorldCover classes, each pixel drawn for itself."""
    return np.random.default_rng(seed).choice(CODES, shape, p=share)
