"""Published weights and what their files do not say: bands, units, statistics, classes, origin.

A source is a row of `SOURCES`, or a JSON file with the fields of `Source` for weights of one's own.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from rsjax import landcover, sensors
from rsjax.datasets import bigearthnet
from rsjax.datasets.info import ImageSpec
from rsjax.errors import WeightsError
from rsjax.input.preprocess import Inputs, make_inputs
from rsjax.landcover import Nomenclature

Statistics = Mapping[str, Mapping[str, tuple[float, float]]]


@dataclasses.dataclass(frozen=True)
class Source:
    """What a set of published weights expects and gives.

    Attributes:
        title: what they were trained on, and by whom.
        page: where they are.
        licence: of the weights, as their page states it.
        images: entries that the bands come from, as in a dataset.
        bands: 'sensor/band', in the order of the model's channels.
        grid_px: side of the images that they were trained on, in pixels.
        statistics: name: {sensor: {band: (mean, std)}} in the unit of the entry; the first is the
            default.
        resample: how bands on another grid were brought to the model's.
        task: name in `rsjax.tasks`; empty: none of land cover, so that only the backbone is used.
        nomenclature: name in `rsjax.landcover`; empty with no task.
        classes: names of the classes, in the order of the logits; empty: the nomenclature's.
        variants: module of `rsjax.models` -> fields that are others for its models.
    """

    title: str
    page: str
    licence: str
    images: Mapping[str, ImageSpec]
    bands: tuple[str, ...]
    grid_px: int
    statistics: Mapping[str, Statistics]
    resample: str = "bilinear"
    task: str = ""
    nomenclature: str = ""
    classes: tuple[str, ...] = ()
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def inputs(self, statistics: str = "") -> tuple[Inputs, str]:
        """The model's input, and the name of the statistics that standardise it.

        Args:
            statistics: name in `statistics`; empty: the default.

        Raises:
            WeightsError: no such statistics.
            SensorError: a band is unknown.
        """
        name = statistics or next(iter(self.statistics))
        if name not in self.statistics:
            raise WeightsError(
                f"no statistics '{name}' for these weights; known: {', '.join(self.statistics)}"
            )
        table = {
            sensor: {band: {"mean": m, "std": s} for band, (m, s) in bands.items()}
            for sensor, bands in self.statistics[name].items()
        }
        grid = (self.grid_px, self.grid_px)
        return make_inputs(self.images, self.bands, table, grid, self.resample), name

    def order(self) -> tuple[Nomenclature, list[int]] | None:
        """The classes, and for each the index of its logit in the file; None without a task.

        Raises:
            WeightsError: the classes are not those of the nomenclature.
        """
        if not self.task:
            return None
        known = landcover.load(self.nomenclature)
        names = self.classes or known.names
        if sorted(names) != sorted(known.names):
            strange = sorted(set(names) ^ set(known.names))
            raise WeightsError(
                f"the classes of the weights are not those of '{known.name}': {'; '.join(strange)}"
            )
        return known, [names.index(name) for name in known.names]


# The order of bands and classes and the statistics are those of ConfigILM, which made the weights:
# https://github.com/lhackel-tub/ConfigILM. The second are of bands interpolated bilinearly.
_BEN = bigearthnet.BigEarthNet("").info
_NEAREST = _BEN.published_statistics
_BILINEAR = {
    **_NEAREST,
    "sentinel2_l2a": {
        **_NEAREST["sentinel2_l2a"],
        "B05": (942.7477, 727.5784), "B06": (1769.8486, 1087.4288), "B07": (2049.4758, 1261.4303),
        "B8A": (2235.4868, 1342.4905), "B11": (1568.2115, 1063.9198), "B12": (997.7151, 806.8846),
    },
}  # fmt: skip


def _bigearthnet(bands: str, version: str) -> Source:
    """Classifiers of the makers of BigEarthNet v2; bands as 'VV VH B02 ...'."""
    return Source(
        title=f"BigEarthNet v2.0 classifiers {version} (Clasen et al., arXiv:2407.03653)",
        page="https://huggingface.co/BIFOLD-BigEarthNetv2-0",
        licence="see the card of each model",
        images=_BEN.images,
        bands=tuple(
            f"{'sentinel1' if band.startswith('V') else 'sentinel2_l2a'}/{band}"
            for band in bands.split()
        ),
        grid_px=120,
        statistics={"nearest": _NEAREST, "bilinear": _BILINEAR},
        resample="nearest",
        task="multilabel",
        nomenclature="bigearthnet19",
        classes=tuple(sorted(landcover.load("bigearthnet19").names)),
    )


_RGB = ("red", "green", "blue")
_BGR = {"bands": ("rgb/blue", "rgb/green", "rgb/red")}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of values from 0 to 255. 'half' takes them to -1 ... 1, 'caffe' only subtracts the mean colour.
_UNIT: Statistics = {
    "rgb": {c: (255 * m, 255 * s) for c, m, s in zip(_RGB, _MEAN, _STD, strict=True)}
}
_HALF: Statistics = {"rgb": dict.fromkeys(_RGB, (127.5, 127.5))}
_CAFFE: Statistics = {
    "rgb": {"red": (123.68, 1.0), "green": (116.779, 1.0), "blue": (103.939, 1.0)}
}
# torchvision's and timm's weights of these two came from TensorFlow and Keras.
_TENSORFLOW = {
    module: {"statistics": {"half": _HALF, "unit": _UNIT}}
    for module in ("inception", "xception", "aligned_xception")
}


def _imagenet(title: str, page: str, variants: Mapping[str, Mapping[str, Any]]) -> Source:
    return Source(
        title=f"ImageNet-1k, {title}",
        page=page,
        licence="see the page of each model",
        images={"rgb": ImageSpec("rgb", _RGB, 0, 0, "uint8", "dn8", 0.3)},
        bands=tuple(f"rgb/{colour}" for colour in _RGB),
        grid_px=224,
        statistics={"unit": _UNIT, "half": _HALF},
        variants=variants,
    )


# Of TorchGeo's SSL4EO-S12 transforms; SoftCon's weights want these, all others of Sentinel-2 the
# reflectances divided by 10000.
_SOFTCON = {
    "B01": (1612.9, 791.0), "B02": (1397.6, 854.3), "B03": (1322.3, 878.7),
    "B04": (1373.1, 1144.9), "B05": (1561.0, 1127.5), "B06": (2108.4, 1164.2),
    "B07": (2390.7, 1276.0), "B08": (2318.7, 1249.5), "B8A": (2581.0, 1345.9),
    "B09": (837.7, 577.5), "B10": (22.0, 47.5), "B11": (2195.2, 1340.0), "B12": (1537.4, 1142.9),
}  # fmt: skip
_S1 = {"VV": (-12.59, 5.26), "VH": (-20.26, 5.91)}


def _ssl4eo(sensor: str, bands: str) -> Source:
    """TorchGeo's backbones of SSL4EO-S12, without classifiers."""
    names = tuple(bands.split())
    s1 = sensor == "sentinel1"
    unit, dtype = ("db", "float32") if s1 else ("reflectance_1e4", "uint16")
    statistics: dict[str, Statistics] = {
        "scaled": {sensor: dict.fromkeys(names, (0.0, 10000.0))},
        "softcon": {sensor: {name: _SOFTCON[name] for name in names if name in _SOFTCON}},
    }
    return Source(
        title=f"SSL4EO-S12, {sensor} (Wang et al., arXiv:2211.07044), TorchGeo",
        page="https://torchgeo.readthedocs.io/en/stable/api/models.html",
        licence="see the page",
        images={sensor: ImageSpec(sensor, names, 224, 224, dtype, unit, 10.0)},
        bands=tuple(f"{sensor}/{name}" for name in names),
        grid_px=224,
        statistics={"published": {sensor: _S1}} if s1 else statistics,
    )


def _dynamicworld() -> Source:
    """Dynamic World's network, which squashes reflectances itself: mean 0, deviation 1."""
    names = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")
    sensor = "sentinel2_l1c"
    side = 256  # trained on 510; a pixel of its map sees 22 around it
    spec = ImageSpec(sensor, names, side, side, "uint16", "reflectance_1e4", 10.0, 0)
    return Source(
        title="Dynamic World (Brown et al., https://doi.org/10.1038/s41597-022-01307-4)",
        page="https://github.com/google/dynamicworld",
        licence="Apache-2.0",
        images={"s2": spec},
        bands=tuple(f"{sensor}/{name}" for name in names),
        grid_px=side,
        statistics={"none": {sensor: dict.fromkeys(names, (0.0, 1.0))}},
        task="segmentation",
        nomenclature="dynamicworld",
    )


_TEN = "B02 B03 B04 B05 B06 B07 B08 B8A B11 B12"
_OLD_TEN = "B02 B03 B04 B08 B05 B06 B07 B11 B12 B8A"
_ALL = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12"

SOURCES: dict[str, Callable[[], Source]] = {
    "dynamicworld": _dynamicworld,
    "bigearthnet_v2": functools.partial(_bigearthnet, f"VV VH {_TEN}", "0.2.0"),
    "bigearthnet_v2_s1": functools.partial(_bigearthnet, "VV VH", "0.2.0"),
    "bigearthnet_v2_s2": functools.partial(_bigearthnet, _TEN, "0.2.0"),
    "bigearthnet_v2_0.1.1": functools.partial(_bigearthnet, f"{_OLD_TEN} VH VV", "0.1.1"),
    "bigearthnet_v2_s1_0.1.1": functools.partial(_bigearthnet, "VH VV", "0.1.1"),
    "bigearthnet_v2_s2_0.1.1": functools.partial(_bigearthnet, _OLD_TEN, "0.1.1"),
    "imagenet": functools.partial(
        _imagenet,
        "torchvision and timm",
        "https://docs.pytorch.org/vision/stable/models.html",
        _TENSORFLOW,
    ),
    "imagenet_keras": functools.partial(
        _imagenet,
        "keras.applications",
        "https://keras.io/api/applications",
        {
            **_TENSORFLOW,
            **{key: {**_BGR, "statistics": {"caffe": _CAFFE}} for key in ("resnet", "vgg")},
        },
    ),
    "ssl4eo_s12_all": functools.partial(_ssl4eo, "sentinel2_l1c", _ALL),
    "ssl4eo_s12_rgb": functools.partial(_ssl4eo, "sentinel2_l1c", "B04 B03 B02"),
    "ssl4eo_s12_s1": functools.partial(_ssl4eo, "sentinel1", "VV VH"),
}


def find(name: str, module: str) -> Source:
    """The source of this name, or that in a JSON file, for models of a module of `rsjax.models`.

    Raises:
        WeightsError: no such source, or the file has other fields.
        SensorError: the file names an unknown sensor, band or unit.
    """
    if name in SOURCES:
        source = SOURCES[name]()
        return dataclasses.replace(source, **source.variants.get(module, {}))
    if not name.endswith(".json"):
        raise WeightsError(
            f"no source '{name}'; known: {', '.join(SOURCES)}; or give a JSON file with the fields "
            f"{', '.join(f.name for f in dataclasses.fields(Source))}"
        )
    try:
        data = json.loads(pathlib.Path(name).read_text())
        data["images"] = {
            key: ImageSpec(**{**spec, "bands": tuple(spec["bands"])})
            for key, spec in data["images"].items()
        }
        for key in ("bands", "classes"):
            data[key] = tuple(data.get(key, ()))
        found = Source(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{name}: no description of weights ({error}); see docs/weights.md"
        ) from None
    for spec in found.images.values():
        sensors.valid_range(spec.sensor, spec.unit)  # knows sensor and unit, or says so
        for band in spec.bands:
            sensors.get(spec.sensor).band(band)
    return found
