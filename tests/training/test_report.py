import base64
import dataclasses
import json
import math
import re

import imagecodecs
import numpy as np
import pytest
from reported import (
    COUNT,
    NAMES,
    RGB,
    S1,
    Page,
    undrawn,
    write_metrics,
    write_results,
    write_shards,
)

from rsjax import landcover, sealed
from rsjax.errors import ShardError
from rsjax.input import manifest as manifests
from rsjax.landcover import Nomenclature
from rsjax.training import (
    class_figures,
    numbers_page,
    page,
    report,
    samples_page,
    set_figures,
)


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
    workdir, _, results, _, path = run
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
    drawn = {"curves", "test_per_class", "test_reliability", "test_by_country"}
    if results.matrix is not None:
        drawn |= {"test_confusion_matrix", "test_confusion_counts"}
    sheets = {f"test_samples_{group}" for group in ("worst", "typical", "best", "random")}
    files = {p.stem: p.read_bytes() for p in (workdir / "figures").iterdir()}
    assert files.keys() == drawn | sheets
    for name, data in files.items():
        inside = f"data:image/png;base64,{base64.b64encode(data).decode()}" in page.links
        assert inside == (name in drawn)
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
            text = "1,234" if name == "samples_counted" else f"{value:.4f}"
            text += " [0.890, 0.935]" if name in results.intervals else ""
            assert cell["text"] == text
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
                text = f"{value:,.0f}" if key == "support" else f"{value:.4f}"
                text += f" [{value - 0.1:.3f}, {value + 0.2:.3f}]" if key == "f1" else ""
                assert cell["text"] == text


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
    workdir, _, results, _, path = run
    if results.matrix is None:
        return  # drawing takes long; that of the other task has every kind of figure
    files = [path, *sorted((workdir / "figures").iterdir())]
    before = [file.read_bytes() for file in files]
    report.write(workdir, "test", workdir / "shards")
    assert [file.read_bytes() for file in files] == before


def test_intervals_say_what_they_cover(run):
    page = Page(run[-1].read_text())
    assert "95 % intervals, from 1,000 sets drawn again" in page.all
    assert "(bootstrap, percentiles), single samples." in page.all
    about = json.loads(json.dumps(run[3]))
    about["config"]["eval"] |= {"blocks": "tile", "level": 0.9, "bootstrap": 200}
    said = numbers_page.covering(about)
    assert "90 % intervals, from 200 sets" in said
    assert "all samples of one tile together" in said


@pytest.mark.parametrize(("task", "text"), [
    ({}, "0.0075 of the image's diagonal."),
    ({"boundary_tolerance": 20.0, "boundary_unit": "m"}, "20 m on the ground."),
])  # fmt: skip
def test_tolerance_of_boundaries_has_its_unit(task, text):
    assert numbers_page.tolerance(task) == f"Tolerance of the boundaries: {text}"


def test_groups_are_sorted_and_read_as_the_file(run):
    _, _, results, about, path = run
    rows = Page(path.read_text()).rows
    names = [name for name in rows if name in results.groups["country"]]
    assert names == ["Austria", "Cyprus", "Malta <m>"]
    columns = [cell["text"] for cell in rows["country"]]
    assert columns == ["samples", about["headline"], "f1_macro"]
    for name in names:
        found = results.groups["country"][name]
        for column, cell in zip(columns, rows[name], strict=True):
            value = found[column]
            assert cell["value"] == (None if math.isnan(value) else value)


def test_reliability_is_in_the_alternative_text(run):
    task, text = run[3]["task"]["name"], run[-1].read_text()
    what = "labels that apply" if task == "multilabel" else "samples that are right"
    assert re.search(f'alt="share of the {what} against[^"]*: 0.50 at 0.75"', text)


def test_typical_samples_lie_nearest_the_median(run):
    _, _, results, _, path = run
    loss, index = results.samples["loss"], results.samples["index"]
    away = sorted(range(COUNT), key=lambda i: abs(loss[i] - np.median(loss)))
    cards = Page(path.read_text()).cards["Typical: the loss nearest the median"]
    assert {card["id"] for card in cards} == {f"<i>{index[i]}" for i in away[:12]}


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (999, "999"), (1000, "1.0k"), (9949, "9.9k"),
                                         (9950, "10k"), (999_499, "999k"), (999_500, "1.0M"),
                                         (34_000_000, "34M"), (10**13, "10T")])  # fmt: skip
def test_counts_in_cells_are_short(count, text):
    assert class_figures.short(count) == text


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_matrix_has_shares_or_counts_and_grey_rows():
    classes = Nomenclature(
        "toy", "Toy", "none", (0, 1, 2, 3), NAMES, ("#ffff00", "#022c00", "#0000ff", "#ffffff"),
        (None,) * 4,
    )  # fmt: skip
    matrix = np.array([[1500, 0, 3, 0], [1, 1, 0, 0], [0, 0, 12, 0], [0, 0, 0, 0]])
    shares = class_figures.confusion(matrix, classes).axes[0]
    assert texts(shares) == ["1.0", ".00", ".50", ".50", "1.0"]
    assert np.isnan(shares.images[0].get_array()[3].filled(math.nan)).all()
    counts = class_figures.confusion(matrix, classes, shares=False).axes[0]
    assert texts(counts) == ["1.5k", "3", "1", "1", "12"]


def test_bars_stand_in_the_order_of_the_classes_with_their_whiskers():
    classes = landcover.load("corine_l1")
    values = np.array([0.5, math.nan, 0.25, 1.0, 0.0])
    ends = np.stack([values - 0.125, np.minimum(values + 0.125, 1)])
    axes = class_figures.bars({"IoU": values}, {"IoU": ends}, np.arange(5), classes).axes[0]
    assert texts(axes) == ["0.500", "not defined", "0.250", "1.000", "0.000"]
    assert [label.get_text() for label in axes.get_yticklabels()][3].endswith("(3)")
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first class on top
    low, high = ends[:, np.isfinite(values)]
    segments = np.array(axes.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], low)
    np.testing.assert_allclose(segments[:, 1, 0], high)


def test_group_dots_are_sorted_against_the_whole():
    axes = set_figures.groups({"a": 0.5, "b": math.nan, "c": 0.25, "d": 0.75}, 0.6, "mIoU").axes[0]
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), [0.25, 0.5, 0.75])
    assert axes.lines[0].get_xdata()[0] == 0.6
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a", "d"]


def test_text_colours_have_the_contrast_of_wcag_aa():
    def luminance(colour):
        parts = np.array(list(bytes.fromhex(colour[1:]))) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", page.CSS))
    for name in ("ink", "soft", "accent", "good", "bad"):
        for ground in ("#ffffff", "#f5f6f7"):
            ratio = (luminance(ground) + 0.05) / (luminance(colours[name]) + 0.05)
            assert ratio >= 4.5, (name, ground, ratio)
    assert set(samples_page.COLOURS.values()) <= set(colours.values())


@pytest.fixture
def fast():
    with undrawn():
        yield


def short(tmp_path, metrics=True, best=0.875, **changes):
    made = write_shards(tmp_path / "shards", **changes)
    results, about = write_results(tmp_path, tmp_path / "shards", "classification", made)
    if metrics:
        write_metrics(tmp_path, about["headline"], best)
    return made, results, about, report.write(tmp_path, "test", tmp_path / "shards")


@pytest.mark.parametrize("simulated", [False, True])
def test_simulated_imagery_has_a_banner(fast, tmp_path, simulated):
    *_, path = short(tmp_path, metrics=False, simulated=simulated)
    assert ('class="banner">SIMULATED imagery' in path.read_text()) == simulated
    assert ("(SIMULATED)" in path.read_text()) == simulated


def test_training_on_simulated_imagery_is_said(fast, tmp_path):
    *_, path = short(tmp_path, metrics=False)
    file = tmp_path / "eval" / "test.json"
    about = sealed.read(file)
    about["trained_on"]["simulated"] = True
    sealed.write(file, about)
    report.write(tmp_path, "test", tmp_path / "shards")
    assert "trained on SIMULATED imagery" in path.read_text()


def test_no_curves_without_metrics(fast, tmp_path):
    *_, path = short(tmp_path, metrics=False)
    assert "<h2>Training</h2>" not in path.read_text()
    assert not (tmp_path / "figures" / "curves.png").exists()


@pytest.mark.parametrize("best", [0.875, 0.874])
def test_only_the_step_of_the_bundle_is_marked(fast, tmp_path, best):
    *_, path = short(tmp_path, best=best)
    assert ("marked by a star" in path.read_text()) == (best == 0.875)
    assert ("of another run than these curves" in path.read_text()) == (best != 0.875)


def test_other_shards_are_refused(fast, tmp_path):
    short(tmp_path, metrics=False)
    made = manifests.load(tmp_path / "shards")
    splits = json.loads(json.dumps(made.splits))
    splits["test"]["shards"][0]["sha256"] = "0" * 64
    manifests.save(dataclasses.replace(made, splits=splits))
    with pytest.raises(ShardError, match=r"test\.json was computed on"):
        report.write(tmp_path, "test", tmp_path / "shards")


def test_radar_alone_is_drawn_in_grey(fast, tmp_path):
    made, *_, path = short(tmp_path, metrics=False, images={"s1": S1})
    page = Page(path.read_text())
    assert "sentinel1 VV in grey" in page.all
    low, high = np.percentile(np.stack([one["s1"][..., 0] for one in made]), (2, 98))
    card = page.cards["Drawn at random"][0]
    drawn = imagecodecs.png_decode(base64.b64decode(card["src"].split(",")[1])).astype(float)
    image = made[int(card["id"][3:])]["s1"][..., :1]
    expected = np.clip((image - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(drawn, np.repeat(expected, 3, -1), atol=0.52)


def test_pictures_of_varying_size_are_small_files(fast, tmp_path):
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


def test_a_loss_that_is_no_number_is_the_worst(fast, tmp_path):
    made = write_shards(tmp_path / "shards")
    results, about = write_results(tmp_path, tmp_path / "shards", "classification", made)
    results.samples["loss"][[4, 9]] = math.nan
    results.save(tmp_path / "eval", "test", about)
    cards = Page(report.write(tmp_path, "test", tmp_path / "shards").read_text()).cards
    worst = [card["id"] for card in cards["Worst: the largest loss"]]
    assert set(worst[:2]) == {f"<i>{results.samples['index'][i]}" for i in (4, 9)}
    assert not {*worst[:2]} & {card["id"] for card in cards["Best: the smallest loss"]}
