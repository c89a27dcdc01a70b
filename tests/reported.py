"""Small shards and hand-made results of an evaluation, and a reader of the page made from them."""

import contextlib
import json
import math

import html_page
import imagecodecs
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from rsjax import config as configs
from rsjax import landcover
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.input import manifest as manifests
from rsjax.input import records
from rsjax.input.manifest import digest
from rsjax.landcover import IGNORE, Nomenclature
from rsjax.metrics import confusion
from rsjax.training import figures
from rsjax.training.evaluate import Results

NAMES = ('Crops <b>& "fields"', "Forest $\\frac$", "Water", "Never seen")
S2 = ImageSpec("sentinel2_l2a", ("B02", "B03", "B04"), 12, 12, "uint16", "reflectance_1e4", 10.0, 0)
S1 = ImageSpec("sentinel1", ("VV", "VH"), 12, 12, "float32", "db", 10.0)
RGB = ImageSpec("rgb", ("red", "green", "blue"), 0, 0, "uint8", "dn8", 0.3)
COUNT = 40


class Page(html_page.Page):
    """Also the cards of samples and of maps, by their heading."""

    def begin(self):
        self.cards, self.maps, self.map, self.heading = {}, {}, None, ""

    def handle_starttag(self, tag, attrs):
        inside = self.open[-1:]
        super().handle_starttag(tag, attrs)
        attrs = dict(attrs)
        kind = (attrs.get("class") or " ").split(" ")[0]
        if kind == "card":
            self.card = {"src": "", "id": "", "lines": []}
            self.cards.setdefault(self.heading, []).append(self.card)
        elif tag == "img" and inside == ["figure"]:
            self.card["src"] = attrs["src"]
        elif tag == "h3":
            self.heading = ""
        elif tag == "li" and attrs.get("class"):
            self.card["lines"].append((attrs["class"], ""))
        elif kind == "maps":
            self.map = {"id": "", "src": [], "alts": [], "caption": ""}
            self.maps.setdefault(self.heading, []).append(self.map)
        elif tag == "img" and inside == ["span"]:
            self.map["src"].append(attrs["src"])
            self.map["alts"].append(attrs["alt"])
        if tag == "br" and self.map:
            self.map["caption"] += "\n"

    def handle_data(self, data):
        super().handle_data(data)
        if "style" in self.open:
            return
        if "tr" in self.open:
            pass
        elif "h3" in self.open:
            self.heading += data
        elif self.open[-1:] == ["code"] and "figcaption" in self.open:
            (self.map or self.card)["id"] += data
        elif "figcaption" in self.open and self.map:
            self.map["caption"] += data
        elif self.open[-1:] == ["li"] and "figcaption" in self.open:
            kind, text = self.card["lines"][-1]
            self.card["lines"][-1] = (kind, text + data)


def mask_of(number):
    """A reference map of CORINE's level 3: squares of three classes, some of it ignored."""
    mask = np.full((12, 12), number % 40, np.uint8)
    mask[:6, :6], mask[6:, :4] = 20, 30
    mask[: number % 5, 9:] = IGNORE
    return mask


def examples(images, label, mask):
    rng = np.random.default_rng(3)
    for number in range(COUNT):
        one = {"id": f"<i>{number}"}
        for name, spec in images.items():
            steps = (spec.steps,) if spec.steps else ()
            shape = (*steps, spec.height or 250 + number % 9, spec.width or 256, len(spec.bands))
            values = rng.normal(-12, 4, shape) if spec.dtype == "float32" else rng.integers(
                1, 255 if spec.dtype == "uint8" else 5000, shape)  # fmt: skip
            one[name] = values.astype(spec.dtype)
        hot = np.zeros(len(NAMES), np.uint8)
        hot[rng.permutation(3)[: number % 3]] = 1  # some without any label
        one["label"] = number % 3 if label == "index" else hot
        if mask:
            one["mask"] = mask_of(number)
        yield one


def write_shards(root, label="index", images=None, rgb=("s2", ("B04", "B03", "B02")),
                 rgb_range=(0, 3000), simulated=False, mask=False):  # fmt: skip
    images = images or {"s2": S2}
    classes = Nomenclature(
        "toy", "Toy", "none", (0, 1, 2, 3), NAMES, ("#ffff00", "#022c00", "#0000ff", "#ffffff"),
        (None,) * 4,
    )  # fmt: skip
    info = DatasetInfo(
        name="toy", version="1.0.0", title="Toy & title", page="https://example.org", licence="CC0",
        citation="none", images=images, label=label, nomenclature="toy",
        mask=(12, 12) if mask else None, mask_nomenclature="corine_l3" if mask else None,
        metadata=(), splits={"test": COUNT}, rgb=rgb, rgb_range=rgb_range,
    )  # fmt: skip
    root.mkdir(parents=True)
    features = records.features(info, NAMES)
    path = root / "toy-test.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    made = list(examples(images, label, mask))
    for one in made:
        writer.write(features.serialize_example(one))
    writer.close()
    shard = {"file": path.name, "records": COUNT, "bytes": path.stat().st_size,
             "sha256": digest(path), "ends_sha256": manifests.ends_digest(path)}  # fmt: skip
    split = {"records": COUNT, "class_counts": [1] * 4, "mask_counts": None, "skipped": [],
             "shards": [shard]}  # fmt: skip
    manifests.save(manifests.Manifest(root, info, {}, "toy", simulated, classes,
                                      landcover.load("corine_l3") if mask else None,
                                      {"test": split}, {}, "none"))  # fmt: skip
    return made


def about_of(root, task, headline, classes=None):
    """What an evaluation says about its run."""
    config = configs.base().unlock()
    config.name, config.task.name, config.model.name = "run <1>", task, "resnet18"
    config = configs.to_json(config)
    shards = manifests.load(root)
    source = {"title": "Toy", "version": "1.0.0", "simulated": shards.simulated,
              "fingerprint": shards.fingerprint()}  # fmt: skip
    about = {
        "rsjax": "0.1.0", "versions": {"jax": "0.10.2"}, "model": config["model"], "outputs": 4,
        "task": config["task"], "headline": headline, "config": config, "step": 20,
        "trained_on": {**source, "split": "train"}, "evaluated_on": source,
        "validation": {headline: 0.875}, "nomenclature": (classes or shards.nomenclature).to_json(),
    }  # fmt: skip
    return about


def write_results(workdir, root, task, made):
    """An evaluation with figures that no metric made, so that each must come from the file."""
    rng = np.random.default_rng(7)
    labels = np.stack([np.asarray(one["label"]) for one in made])
    order = rng.permutation(COUNT)  # records need not be in order
    probabilities = rng.random((COUNT, 4)).astype(np.float32)
    headline = {"classification": "overall_accuracy", "multilabel": "mAP_macro"}[task]
    scalars = {"loss": 0.123456789, headline: 0.9129876, "f1_macro": math.nan,
               "samples_counted": 1234.0, f"{headline}_of_class_frequencies": 0.33335}  # fmt: skip
    per_class = {"precision": np.array([0.5, 0.25, 1 / 3, math.nan]),
                 "recall": np.array([0.1, 0.2, 0.7, math.nan]), "f1": rng.random(4),
                 "support": np.array([1500, 13, 12, 0])}  # fmt: skip
    matrix = None
    if task == "classification":
        per_class["iou"] = rng.random(4)
        matrix = np.diag([1500, 13, 12, 0])
    else:
        per_class["average_precision"] = np.array([0.9, 0.4, 0.6, math.nan])
    about = about_of(root, task, headline)
    samples = {"index": order, "labels": labels[order], "probabilities": probabilities,
               "loss": rng.permutation(COUNT).astype(np.float32)}  # fmt: skip
    ends = {headline: (0.89, 0.934567)}
    spread = {"f1": np.stack([per_class["f1"] - 0.1, per_class["f1"] + 0.2])}
    groups = {"country": {
        "Malta <m>": {"samples": 9, headline: 0.7, "f1_macro": 0.6},
        "Austria": {"samples": 30, headline: 0.95, "f1_macro": math.nan},
        "Cyprus": {"samples": 1, headline: 0.25, "f1_macro": 0.125},
    }}  # fmt: skip
    bins = {"lower": [0.0, 0.5], "upper": [0.5, 1.0], "confidence": [None, 0.75],
            "accuracy": [None, 0.5], "count": [0, 40]}  # fmt: skip
    results = Results(scalars, per_class, matrix, samples, intervals=ends, groups=groups,
                      per_class_intervals=spread, reliability=bins)  # fmt: skip
    results.save(workdir / "eval", "test", about)
    return results, about


BLANK = bytes(imagecodecs.png_encode(np.zeros((1, 1, 3), np.uint8)))


@contextlib.contextmanager
def undrawn():
    """Figures are made, but not drawn: that takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "png", lambda figure, dpi=0: BLANK)
        yield


def write_metrics(workdir, headline, best=0.875):
    rows = [
        {"step": 10, "train/loss": 2.0, "train/learning_rate": 0.1, "train/grad_norm": None,
         "train/images_per_s": 50.0, "train/input_wait_share": 0.1},
        {"step": 10, "validation/loss": 1.0, f"validation/{headline}": 0.5},
        {"step": 20, "train/loss": 1.0, "train/learning_rate": 0.0, "train/grad_norm": 1.0,
         "train/images_per_s": 60.0, "train/input_wait_share": 0.2},
        {"step": 20, "validation/loss": 0.5, f"validation/{headline}": best},
    ]  # fmt: skip
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_maps(workdir, root, made, nomenclature):
    """An evaluation of maps: predictions are the reference, with more and more of it wrong."""
    shards = manifests.load(root)
    classes = landcover.load(nomenclature) if nomenclature else shards.mask_nomenclature
    table = shards.mask_nomenclature.crosswalk(classes)
    reference = np.stack([table[one["mask"]] for one in made])
    rng = np.random.default_rng(5)
    predicted = np.where(reference == IGNORE, 0, reference)
    for number, one in enumerate(predicted):
        rows = (7 * number) % 12
        one[:rows] = (one[:rows] + 1) % len(classes)
    order = rng.permutation(COUNT)[:-1]  # not all, and not in order
    reference, predicted = reference[order], predicted[order]
    counted = reference != IGNORE
    each = np.arange(len(classes))

    def count(values, where):
        return ((values[..., None] == each) & where[..., None]).sum((1, 2)).astype(np.int32)

    matrix = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(matrix, (reference[counted], predicted[counted]), 1)
    shown = np.sort(rng.permutation(len(order))[:30])
    samples = {
        "index": order, "loss": rng.random(len(order)).astype(np.float32),
        "hits": count(predicted, counted & (reference == predicted)),
        "reference": count(reference, counted), "predicted": count(predicted, counted),
        "shown": shown, "maps": predicted[shown],
        "confidence": rng.integers(0, 256, (30, 12, 12)).astype(np.uint8),
    }  # fmt: skip
    scalars = {**confusion.summary(matrix), "loss": 0.5, "iou_macro_of_class_frequencies": 0.1}
    about = about_of(root, "segmentation", "iou_macro", classes)
    about["task"]["nomenclature"] = nomenclature
    results = Results(scalars, confusion.class_table(matrix), matrix, samples)
    results.save(workdir / "eval", "test", about)
    return results, about, reference
