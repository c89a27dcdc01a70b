"""Known defects of the datasets, for their cards: what a user of our readers should know.

Defects are of the data as published; bugs of other readers are named where figures made with them
are compared with ours.
"""

from __future__ import annotations

from typing import NamedTuple


class Defect(NamedTuple):
    """One defect, and where it is reported or was seen."""

    what: str
    source: str


_TORCHGEO = "https://github.com/torchgeo/torchgeo"

# By name in `rsjax.datasets`.
_DEFECTS: dict[str, tuple[Defect, ...]] = {
    "bigearthnet": (
        Defect(
            "Folders of the 69,450 patches with snow, cloud or shadow lie among the others: there "
            "are 549,488 folders, and 480,038 patches in the official splits.",
            "the two metadata files of the release",
        ),
        Defect(
            "Classes are here in the order of the paper, by CORINE code. ConfigILM and the models "
            "published with the dataset sort them by name: outputs differ in order.",
            f"{_TORCHGEO}/pull/1127, https://github.com/lhackel-tub/ConfigILM",
        ),
        Defect(
            "0 marks missing Sentinel-2 pixels and can be a dark pixel; it is no cloud mask.",
            "nodata tag of the files",
        ),
        Defect(
            "Some reference maps have pixels of code 999; they are ignored, as in the mapping to "
            "19 classes are those whose class was dropped (e.g. 122, 331).",
            "the maps; paper, table of classes",
        ),
        Defect(
            "TorchGeo reads Sentinel-1 through an integer type, so its values are whole decibels, "
            "and puts VH before VV.",
            f"{_TORCHGEO}, datasets/bigearthnet.py",
        ),
    ),
    "bigearthnet_v1": (
        Defect(
            "The official splits cut the same scenes on a grid: scores on them are optimistic.",
            "https://arxiv.org/abs/2407.03653",
        ),
        Defect(
            "Patches with snow, cloud or shadow are in the archives and not in the official "
            "splits.",
            "https://zenodo.org/records/12687186",
        ),
        Defect(
            "The order of the classes differs between the official table, TFDS and ConfigILM.",
            "code of the three",
        ),
        Defect(
            "Names of patches write hours without a leading zero (T93020 is 9:30:20).",
            "names in the archives",
        ),
    ),
    "eurosat": (
        Defect(
            "Patches are neighbours: a split at random puts places of the training set beside "
            "those of the test set.",
            f"{_TORCHGEO}, spatial lists of datasets/eurosat.py",
        ),
        Defect(
            "The JPEGs are bands 4, 3 and 2 stretched from 0-2750 to 1-255: no reflectances.",
            "https://github.com/phelber/EuroSAT",
        ),
    ),
    "eurosat_allbands": (
        Defect(
            "Patches are neighbours: a split at random puts places of the training set beside "
            "those of the test set.",
            f"{_TORCHGEO}, spatial lists of datasets/eurosat.py",
        ),
        Defect(
            "B8A is the last band of the files, not the ninth. Readers and benchmarks that took "
            "the usual order mixed up five bands.",
            f"{_TORCHGEO}/issues/2458, https://github.com/ServiceNow/geo-bench issue 28",
        ),
        Defect(
            "Pixels were resampled; they are not exactly 10 m.",
            "transforms of the files",
        ),
    ),
    "ucmerced": (
        Defect(
            "44 of the 2,100 images are not exactly 256 x 256 pixels.",
            "the files; counts differ between sources",
        ),
        Defect(
            "A test set of 420 images: one image is 0.24 points of accuracy.",
            "its size",
        ),
    ),
    "seasonet": (
        Defect(
            "The two grids overlap by half a patch: a split at random across them trains on what "
            "is tested.",
            "https://arxiv.org/abs/2207.09507",
        ),
        Defect(
            "The split files hold row numbers of `meta.csv`, not values of its column `Index`.",
            f"{_TORCHGEO}, datasets/seasonet.py",
        ),
        Defect("No code for missing labels is documented.", "documentation of the release"),
    ),
    "forty": (
        Defect(
            "The integer codes of the classes are not documented; the order of the list in the "
            "README and that of the colour bar of its figure differ.",
            "https://github.com/google-deepmind/forest_typology",
        ),
        Defect(
            "The order of the Sentinel-2 bands, of the seasons and of the climate variables is "
            "not documented.",
            "https://github.com/google-deepmind/forest_typology",
        ),
        Defect(
            "Of the training pixels and seasons 69.1 % have ascending and 84.1 % descending "
            "Sentinel-1 data.",
            "statistics published beside the records",
        ),
    ),
    "planted": (
        Defect(
            "The public set is smaller than that of the paper, so the paper's scores are not "
            "comparable.",
            "https://github.com/gastruc/AnySat",
        ),
    ),
    "multisenge": (
        Defect("There are no official splits and no published statistics.", "its documentation"),
        Defect(
            "Tiles overlap, also across UTM zones: the same ground is in patches of several tiles. "
            "A split must go by coordinates, not by tile.",
            "projections and offsets in the JSON files",
        ),
        Defect(
            "Offsets of patches are multiples of 257 pixels: between neighbours one row or column "
            "is missing.",
            "names of the files",
        ),
    ),
    "sen12ms": (
        Defect(
            "Labels are MODIS classes of 500 m, resampled to 10 m by nearest neighbour: blocky, "
            "and often wrong at 10 m.",
            "https://arxiv.org/abs/1906.07789",
        ),
        Defect(
            "The radar patch ROIs1868_summer_s1_146_p202 is damaged (NaN); the official lists "
            "leave the triplet out.",
            "https://github.com/schmitt-muc/SEN12MS, README",
        ),
        Defect(
            "The order of bands differs from EuroSAT's: B8A is the ninth.",
            "order stated by the authors",
        ),
    ),
    "sen2lulc": (
        Defect(
            "Patches of 64 pixels were cut from few scenes: splits are spatially correlated.",
            "https://data.mendeley.com/datasets/f4ky6ks248",
        ),
        Defect("The meaning of code 0 in the masks is not documented.", "its documentation"),
    ),
    "openearthmap": (
        Defect(
            "The lists name images of xBD that the archive must not redistribute; they have to be "
            "added from xBD.",
            "https://zenodo.org/records/7223446",
        ),
        Defect("Labels of the test images are withheld.", "https://open-earth-map.org"),
        Defect(
            "Sizes, coordinate systems and ground sampling distances vary from region to region.",
            "the files",
        ),
    ),
    "spacenet2": (
        Defect(
            "Chips at the edge of an area have black borders; some have no building at all, and "
            "an empty GeoJSON.",
            "the files",
        ),
        Defect(
            "Multispectral chips have 163 pixels and pan-sharpened ones 650: no whole ratio.",
            "the files",
        ),
        Defect("The test chips have no labels.", "https://spacenet.ai"),
    ),
    "inria": (
        Defect("The masks of the five test cities are withheld.", "page of the dataset"),
        Defect("No licence is stated.", "page of the dataset"),
    ),
    "massachusetts_buildings": (
        Defect(
            "Where 1,171 images are named as its size, those of the roads dataset are meant; this "
            "one has 151.",
            "https://github.com/biasvariancelabs/aitlas, docstring of its reader",
        ),
    ),
    "levir_cd": (
        Defect("No licence is stated.", "page of the dataset"),
        Defect(
            "TorchGeo expects the files in another layout than the official one.",
            f"{_TORCHGEO}, datasets/levircd.py",
        ),
    ),
    "oscd": (
        Defect(
            "Bands in `imgs_1` and `imgs_2` lie at their own resolutions and are not registered "
            "to each other; those in `imgs_1_rect` and `imgs_2_rect` are.",
            "https://rcdaudt.github.io/oscd",
        ),
        Defect(
            "Few pixels changed, and patches of one city are alike: a split of patches at random "
            "trains on what is tested.",
            "the files",
        ),
    ),
    "pastis": (
        Defect("Class 19 is void and must not be counted.", "https://github.com/VSainteuf/pastis-benchmark"),
        Defect(
            "Panoptic scores before 27 June 2022 were made with a faulty metric.",
            "https://github.com/VSainteuf/pastis-benchmark, README",
        ),
    ),
}  # fmt: skip


def of(name: str) -> tuple[Defect, ...]:
    """The known defects of a dataset; none where we know of none."""
    return _DEFECTS.get(name, ())


def names() -> tuple[str, ...]:
    """The datasets that defects are known of."""
    return tuple(_DEFECTS)
