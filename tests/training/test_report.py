import base64
import dataclasses
import html.parser
import json
import math
import re

import imagecodecs
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from rsjax import config as configs
from rsjax import sealed
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.errors import ShardError
from rsjax.input import manifest as manifests
from rsjax.input import records
from rsjax.input.manifest import digest
from rsjax.landcover import Nomenclature
from rsjax.training import report
from rsjax.training.evaluate import Results

NAMES = ('Crops <b>& "fields"', "Forest $\\frac$", "Water", "Never seen")
S2 = ImageSpec("sentinel2_l2a", ("B02", "B03", "B04"), 12, 12, "uint16", "reflectance_1e4", 10.0, 0)
S1 = ImageSpec("sentinel1", ("VV", "VH"), 12, 12, "float32", "db", 10.0)
RGB = ImageSpec("rgb", ("red", "green", "blue"), 0, 0, "uint8", "dn8", 0.3)
COUNT = 40
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Checks that tags are balanced; collects tables, attributes and the cards by heading."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.links, self.rows, self.text = [], [], {}, []
        self.cards, self.figures = {}, 0
        self.feed(text)
        self.close()
        assert self.open == []
        self.all = " ".join(self.text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]
        assert tag not in ("script", "link")
        if tag == "tr":
            self.row = []
        elif tag in ("th", "td"):
            self.row.append({"text": "", "value": None})
        elif tag == "data" and "tr" in self.open:
            self.row[-1]["value"] = float(attrs["value"])
        elif attrs.get("class") == "card":
            self.card = {"src": "", "id": "", "lines": []}
            self.cards.setdefault(self.heading, []).append(self.card)
        elif tag == "img" and "figcaption" not in self.open and self.open[-1:] == ["figure"]:
            self.figures += 1
            if self.cards:
                self.card["src"] = attrs["src"]
        elif tag == "h3":
            self.heading = ""
        elif tag == "li":
            self.card["lines"].append((attrs["class"], ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "tr":
            self.rows[self.row[0]["text"]] = self.row[1:]

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text.append(data)
        if "tr" in self.open and self.open[-1] != "tr":
            self.row[-1]["text"] += data
        elif "h3" in self.open:
            self.heading += data
        elif self.open[-1:] == ["code"] and "figcaption" in self.open:
            self.card["id"] += data
        elif self.open[-1:] == ["li"]:
            kind, text = self.card["lines"][-1]
            self.card["lines"][-1] = (kind, text + data)


def examples(images, label):
    rng = np.random.default_rng(3)
    for number in range(COUNT):
        one = {"id": f"<i>{number}"}
        for name, spec in images.items():
            shape = (spec.height or 250 + number % 9, spec.width or 256, len(spec.bands))
            values = rng.normal(-12, 4, shape) if spec.dtype == "float32" else rng.integers(
                1, 255 if spec.dtype == "uint8" else 5000, shape)  # fmt: skip
            one[name] = values.astype(spec.dtype)
        hot = np.zeros(len(NAMES), np.uint8)
        hot[rng.permutation(3)[: number % 3]] = 1  # some without any label
        one["label"] = number % 3 if label == "index" else hot
        yield one


def write_shards(root, label="index", images=None, rgb=("s2", ("B04", "B03", "B02")),
                 rgb_range=(0, 3000), simulated=False):  # fmt: skip
    images = images or {"s2": S2}
    classes = Nomenclature(
        "toy", "Toy", "none", (0, 1, 2, 3), NAMES, ("#ffff00", "#022c00", "#0000ff", "#ffffff"),
        (None,) * 4,
    )  # fmt: skip
    info = DatasetInfo(
        name="toy", version="1.0.0", title="Toy & title", page="https://example.org", licence="CC0",
        citation="none", images=images, label=label, nomenclature="toy", mask=None,
        mask_nomenclature=None, metadata=(), splits={"test": COUNT}, rgb=rgb, rgb_range=rgb_range,
    )  # fmt: skip
    root.mkdir(parents=True)
    features = records.features(info, NAMES)
    path = root / "toy-test.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    made = list(examples(images, label))
    for one in made:
        writer.write(features.serialize_example(one))
    writer.close()
    shard = {"file": path.name, "records": COUNT, "bytes": path.stat().st_size,
             "sha256": digest(path), "ends_sha256": manifests.ends_digest(path)}  # fmt: skip
    split = {"records": COUNT, "class_counts": [1] * 4, "mask_counts": None, "skipped": [],
             "shards": [shard]}  # fmt: skip
    manifests.save(manifests.Manifest(root, info, {}, "toy", simulated, classes, None,
                                      {"test": split}, {}, "none"))  # fmt: skip
    return made


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
        "validation": {headline: 0.875},
    }  # fmt: skip
    samples = {"index": order, "labels": labels[order], "probabilities": probabilities,
               "loss": rng.permutation(COUNT).astype(np.float32)}  # fmt: skip
    results = Results(scalars, per_class, matrix, samples)
    results.save(workdir / "eval", "test", about)
    return results, about


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


@pytest.fixture(scope="module", params=["classification", "multilabel"])
def run(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp(request.param)
    label = {"classification": "index", "multilabel": "multihot"}[request.param]
    made = write_shards(workdir / "shards", label)
    results, about = write_results(workdir, workdir / "shards", request.param, made)
    write_metrics(workdir, about["headline"])
    path = report.write(workdir, "test", workdir / "shards")
    return workdir, made, results, about, path


def test_page_is_one_well_formed_file(run):
    workdir, _, results, about, path = run
    assert path == workdir / "report.html"
    text = path.read_text()
    page = Page(text)
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert "url(" not in text
    assert "@import" not in text
    assert "run <1>" in page.all  # escaped, and so read back as it is
    for name in NAMES:
        assert name in page.rows
    for heading in ("By class" if results.matrix is not None else "By label", "Training",
                    "Samples", "How to reproduce"):  # fmt: skip
        assert heading in page.all
    second = {"classification": "test_confusion_matrix", "multilabel": "test_average_precision"}
    figures = sorted(p.name for p in (workdir / "figures").iterdir())
    assert figures == ["curves.png", f"{second[about['task']['name']]}.png"]
    for name in figures:
        data = (workdir / "figures" / name).read_bytes()
        assert f"data:image/png;base64,{base64.b64encode(data).decode()}" in page.links
        assert np.ptp(imagecodecs.png_decode(data)) == 255


def test_figures_are_those_of_the_file(run):
    _, _, results, about, path = run
    page = Page(path.read_text())
    for name, value in results.scalars.items():
        cell = page.rows[name][0]
        if math.isnan(value):
            assert cell == {"text": "–", "value": None}
        else:
            assert cell["value"] == value
            assert cell["text"] == ("1,234" if name == "samples_counted" else f"{value:.4f}")
    columns = [cell["text"] for cell in page.rows["class" if "iou" in results.per_class else
                                                  "label"]]  # fmt: skip
    keys = [column.lower().replace(" ", "_") for column in columns]
    expected = dict(results.per_class)
    if about["task"]["name"] == "multilabel":
        expected["prevalence"] = results.per_class["support"] / COUNT
    assert set(keys) == set(expected)
    for i, name in enumerate(NAMES):
        for key, cell in zip(keys, page.rows[name], strict=True):
            value = expected[key][i]
            if np.isnan(value):
                assert cell == {"text": "–", "value": None}
            else:
                assert cell["value"] == value
                assert cell["text"] == (f"{value:,.0f}" if key == "support" else f"{value:.4f}")


def test_headline_stands_beside_that_of_the_class_frequencies(run):
    *_, path = run
    big = re.search(r'<div class="big">(.*?)</div></div>', path.read_text(), re.S).group(1)
    assert re.findall(r'value="([0-9.]+)"', big) == ["0.9129876", "0.33335", "0.875"]


def test_samples_are_the_worst_and_the_best_with_their_labels(run):
    _, made, results, about, path = run
    cards = Page(path.read_text()).cards
    loss, index = results.samples["loss"], results.samples["index"]
    by_loss = sorted(range(COUNT), key=lambda i: loss[i])
    ids = {title.split(":")[0]: [card["id"] for card in group] for title, group in cards.items()}
    assert ids["Worst"] == [f"<i>{index[i]}" for i in by_loss[::-1][:12]]
    assert ids["Best"] == [f"<i>{index[i]}" for i in by_loss[:12]]
    assert len(set(ids["Drawn at random"])) == 12
    place = {f"<i>{number}": i for i, number in enumerate(index)}
    marks = set()
    for card in (card for group in cards.values() for card in group):
        row = results.samples["probabilities"][place[card["id"]]]
        label = made[int(card["id"][3:])]["label"]
        if about["task"]["name"] == "multilabel":
            true, said = set(np.flatnonzero(label)), set(np.flatnonzero(row >= 0.5))
        else:
            true, said = {label}, {int(row.argmax())}
        expected = {("good", f"✓ {NAMES[k]} {row[k]:.2f}") for k in true & said}
        expected |= {("bad", f"✗ {NAMES[k]} {row[k]:.2f}") for k in said - true}
        expected |= {("bad", f"○ {NAMES[k]} {row[k]:.2f}") for k in true - said}
        expected |= set() if said else {("soft", "nothing predicted")}
        assert set(card["lines"]) == expected
        marks |= {kind for kind, _ in expected}
    assert {"good", "bad"} <= marks


def test_pictures_have_one_linear_stretch(run):
    _, made, *_, path = run
    page = Page(path.read_text())
    assert "B04, B03, B02 as red, green, blue, linear from 0 (black) to 3000" in page.all
    for card in page.cards["Drawn at random"]:
        image = made[int(card["id"][3:])]["s2"][..., ::-1].astype(float)
        kind, data = card["src"].split(";base64,")
        assert kind == "data:image/png"
        drawn = imagecodecs.png_decode(base64.b64decode(data)).astype(float)
        np.testing.assert_allclose(drawn, np.clip(image / 3000, 0, 1) * 255, atol=0.51)


def test_writing_again_changes_nothing(run):
    workdir, *_, path = run
    before = path.read_bytes()
    report.write(workdir, "test", workdir / "shards")
    assert path.read_bytes() == before


def short(tmp_path, metrics=True, best=0.875, **changes):
    made = write_shards(tmp_path / "shards", **changes)
    results, about = write_results(tmp_path, tmp_path / "shards", "classification", made)
    if metrics:
        write_metrics(tmp_path, about["headline"], best)
    return made, results, about, report.write(tmp_path, "test", tmp_path / "shards")


@pytest.mark.parametrize("simulated", [False, True])
def test_simulated_imagery_has_a_banner(tmp_path, simulated):
    *_, path = short(tmp_path, metrics=False, simulated=simulated)
    assert ('class="banner">SIMULATED imagery' in path.read_text()) == simulated
    assert ("(SIMULATED)" in path.read_text()) == simulated


def test_training_on_simulated_imagery_is_said(tmp_path):
    *_, path = short(tmp_path, metrics=False)
    file = tmp_path / "eval" / "test.json"
    about = sealed.read(file)
    about["trained_on"]["simulated"] = True
    sealed.write(file, about)
    report.write(tmp_path, "test", tmp_path / "shards")
    assert "trained on SIMULATED imagery" in path.read_text()


def test_no_curves_without_metrics(tmp_path):
    *_, path = short(tmp_path, metrics=False)
    assert "<h2>Training</h2>" not in path.read_text()
    assert not (tmp_path / "figures" / "curves.png").exists()


@pytest.mark.parametrize("best", [0.875, 0.874])
def test_only_the_step_of_the_bundle_is_marked(tmp_path, best):
    *_, path = short(tmp_path, best=best)
    assert ("marked by a star" in path.read_text()) == (best == 0.875)
    assert ("of another run than these curves" in path.read_text()) == (best != 0.875)


def test_other_shards_are_refused(tmp_path):
    short(tmp_path, metrics=False)
    made = manifests.load(tmp_path / "shards")
    splits = json.loads(json.dumps(made.splits))
    splits["test"]["shards"][0]["sha256"] = "0" * 64
    manifests.save(dataclasses.replace(made, splits=splits))
    with pytest.raises(ShardError, match=r"test\.json was computed on"):
        report.write(tmp_path, "test", tmp_path / "shards")


def test_radar_alone_is_drawn_in_grey(tmp_path):
    made, *_, path = short(tmp_path, metrics=False, images={"s1": S1})
    page = Page(path.read_text())
    assert "sentinel1 VV in grey" in page.all
    low, high = np.percentile(np.stack([one["s1"][..., 0] for one in made]), (2, 98))
    card = page.cards["Drawn at random"][0]
    drawn = imagecodecs.png_decode(base64.b64decode(card["src"].split(",")[1])).astype(float)
    image = made[int(card["id"][3:])]["s1"][..., :1]
    expected = np.clip((image - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(drawn, np.repeat(expected, 3, -1), atol=0.52)


def test_pictures_of_varying_size_are_small_files(tmp_path):
    made, *_, path = short(tmp_path, metrics=False, images={"rgb": RGB},
                           rgb=("rgb", ("red", "green", "blue")), rgb_range=(0, 255))  # fmt: skip
    page = Page(path.read_text())
    assert "Cropped or padded by reflection to 256 × 256 pixels" in page.all
    card = page.cards["Drawn at random"][0]
    kind, data = card["src"].split(";base64,")
    assert kind == "data:image/jpeg"
    image = made[int(card["id"][3:])]["rgb"]
    drawn = imagecodecs.jpeg8_decode(base64.b64decode(data)).astype(float)
    assert drawn.shape == (256, 256, 3)
    top = max(0, (image.shape[0] - 256) // 2)
    below = max(0, (256 - image.shape[0]) // 2)
    rows = min(image.shape[0], 256)
    same = drawn[below : below + rows].mean((0, 1)), image[top : top + rows].mean((0, 1))
    np.testing.assert_allclose(*same, atol=3)
    assert path.stat().st_size < 4.5e6  # of pure noise, which no codec makes small


def test_a_loss_that_is_no_number_is_the_worst(tmp_path):
    made = write_shards(tmp_path / "shards")
    results, about = write_results(tmp_path, tmp_path / "shards", "classification", made)
    results.samples["loss"][[4, 9]] = math.nan
    results.save(tmp_path / "eval", "test", about)
    cards = Page(report.write(tmp_path, "test", tmp_path / "shards").read_text()).cards
    worst = [card["id"] for card in cards["Worst: the largest loss"]]
    assert set(worst[:2]) == {f"<i>{results.samples['index'][i]}" for i in (4, 9)}
    assert not {*worst[:2]} & {card["id"] for card in cards["Best: the smallest loss"]}
