import base64
import contextlib
import dataclasses
import re
import shutil
import subprocess

import imagecodecs
import numpy as np
import pytest
import reported
from reported import COUNT, Page, undrawn, write_maps, write_shards

from rsjax import landcover
from rsjax.errors import ShardError
from rsjax.landcover import IGNORE
from rsjax.training import figures, maps, report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)  # fmt: skip


@pytest.fixture(scope="module", params=["", "corine_l1"])
def run(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("maps")
    made = write_shards(workdir / "shards", mask=True)
    results, about, reference = write_maps(workdir, workdir / "shards", made, request.param)
    with contextlib.nullcontext() if request.param else undrawn():
        path = report.write(workdir, "test", workdir / "shards")
    return workdir, results, about, reference, path


def slow_miou(reference, predicted):
    """The mean of intersection over union of the classes that occur, pixel by pixel."""
    counted = [(r, p) for r, p in zip(reference.flat, predicted.flat, strict=True) if r != IGNORE]
    each = []
    for k in {k for pair in counted for k in pair}:
        both = sum(r == k and p == k for r, p in counted)
        each.append(both / sum(k in pair for pair in counted))
    return sum(each) / len(each)


def expected_order(results, reference):
    """Ids of the worst, the typical and the best, from the maps alone."""
    samples = results.samples
    shown = {
        int(i): slow_miou(reference[i], one)
        for i, one in zip(samples["shown"], samples["maps"], strict=True)
    }
    order = sorted(shown, key=shown.__getitem__)
    middle = np.median(maps.miou(samples))
    rest = sorted(order[6:-6], key=lambda i: abs(shown[i] - middle))
    name = [f"<i>{number}" for number in samples["index"]]
    groups = {"worst": order[:6], "typical": rest[:6], "best": order[::-1][:6]}
    return shown, {key: [name[i] for i in members] for key, members in groups.items()}


def test_rows_are_the_worst_the_typical_and_the_best(run):
    _, results, _, reference, path = run
    page = Page(path.read_text())
    shown, expected = expected_order(results, reference)
    for i, value in shown.items():
        assert maps.miou(results.samples)[i] == pytest.approx(value)
    values = {f"<i>{results.samples['index'][i]}": value for i, value in shown.items()}
    found = {title.split(":")[0].lower(): group for title, group in page.maps.items()}
    assert list(found) == ["worst", "typical", "best"]
    seen = []
    for name, group in found.items():
        ids = [one["id"] for one in group]
        near = [values[i] for i in expected[name]]
        assert [values[i] for i in ids] == pytest.approx(near)  # records may tie
        seen += ids
        for one in group:
            assert f"mIoU {values[one['id']]:.3f} (rank" in one["caption"]
    assert len(set(seen)) == len(seen) == 18


def test_pictures_are_those_of_the_maps(run):
    workdir, results, about, reference, path = run
    classes = landcover.Nomenclature.from_json(about["nomenclature"])
    samples = results.samples
    place = {f"<i>{number}": i for i, number in enumerate(samples["index"])}
    colours = np.array([list(bytes.fromhex(c[1:])) for c in classes.colours], np.uint8)
    ignored = 0
    for one in (one for group in Page(path.read_text()).maps.values() for one in group):
        i = place[one["id"]]
        at = int(np.flatnonzero(samples["shown"] == i)[0])
        drawn = [imagecodecs.png_decode(base64.b64decode(s.split(",")[1])) for s in one["src"]]
        truth, said = reference[i], samples["maps"][at]
        counted = truth != IGNORE
        np.testing.assert_array_equal(drawn[1][counted], colours[truth[counted]])
        assert set(drawn[1][~counted].ravel()) <= {maps.STRIPE, maps.GROUND}
        np.testing.assert_array_equal(drawn[2], colours[said])
        right = np.where(truth == said, maps.RIGHT, maps.WRONG)
        np.testing.assert_array_equal(drawn[3][counted][:, 0], right[counted])
        assert set(drawn[3][~counted].ravel()) <= {maps.STRIPE, maps.GROUND}
        np.testing.assert_array_equal(drawn[4], samples["confidence"][at])
        ignored += int((~counted).sum())
        wrong = (truth != said)[counted]
        share = f"{100 * wrong.mean():.0f}\N{NO-BREAK SPACE}%"
        if wrong.mean() == 0 or wrong.mean() > 0.1:
            assert f"map of errors: {share} of the pixels wrong" in one["alts"]
    assert ignored > 0
    for group in ("worst", "typical", "best") if about["task"]["nomenclature"] else ():
        sheet = imagecodecs.png_decode(
            (workdir / "figures" / f"test_samples_{group}.png").read_bytes()
        )
        assert sheet.shape[1] == 1600
        assert np.ptp(sheet) == 255


@pytest.mark.parametrize(("steps", "titles"), [(2, ("before", "after")), (6, None)])
def test_each_step_of_a_series_is_a_picture_of_its_own(tmp_path, steps, titles):
    spec = dataclasses.replace(reported.S2, steps=steps)
    made = write_shards(tmp_path / "shards", images={"s2": spec}, mask=True)
    write_maps(tmp_path, tmp_path / "shards", made, "")
    with undrawn(), pytest.MonkeyPatch.context() as patch:
        sheets, draw = [], figures.png
        patch.setattr(figures, "png", lambda figure, dpi=0: sheets.append(figure) or draw(figure))
        text = report.write(tmp_path, "test", tmp_path / "shards").read_text()
    titles = titles or ("step 1", "step 2", "step 3", "step 4")
    columns = len(titles) + 4
    named = "".join(f"<span>{title}<img[^>]*></span>" for title in titles)
    assert re.search(f"<div style=.--columns:{columns}.>{named}<span>reference<", text)
    shown = np.linspace(0, steps - 1, len(titles)).round().astype(int)
    for one in Page(text).maps["Worst: the lowest mIoU"]:
        assert len(one["src"]) == columns
        series = made[int(one["id"][3:])]["s2"][shown][..., ::-1].astype(float)
        for title, image, source, alt in zip(titles, series, one["src"], one["alts"], strict=False):
            drawn = imagecodecs.png_decode(base64.b64decode(source.split(",")[1]))
            np.testing.assert_allclose(drawn, np.clip(image / 3000, 0, 1) * 255, atol=0.51)
            assert alt.endswith(f", {title}")
    assert (", 4 of each, evenly spread." if steps > 4 else "from left to right.") in text
    places = [image.get_extent() for image in sheets[-1].axes[0].images]
    assert len(places) == 6 * columns
    assert {round((right - left) / (top - low), 3) for left, right, low, top in places} == {1}
    assert max(right for _, right, _, _ in places) < 6  # inches: the words are beside them


def test_largest_confusion_is_said_in_words(run):
    _, results, about, reference, path = run
    names = about["nomenclature"]["names"]
    samples = results.samples
    place = {f"<i>{number}": i for i, number in enumerate(samples["index"])}
    found = Page(path.read_text()).maps
    for one in (one for group in found.values() for one in group):
        lines = re.findall("of the pixels: (.+) taken for (.+)", one["caption"])
        assert all(a != b.strip() for a, b in lines)
        right = "100\N{NO-BREAK SPACE}% of the pixels right" in one["caption"]
        assert ("no confusion" in one["caption"]) == (right or not lines)
    for one in found["Worst: the lowest mIoU"]:
        i = place[one["id"]]
        said = samples["maps"][np.flatnonzero(samples["shown"] == i)[0]]
        counted = reference[i] != IGNORE
        pairs = list(zip(reference[i][counted], said[counted], strict=True))
        wrong = [pair for pair in pairs if pair[0] != pair[1]]
        most = max(set(wrong), key=wrong.count)
        share = re.search(r"([0-9.]+)\s% of the pixels: (.+?) taken for", one["caption"])
        assert float(share[1]) == pytest.approx(100 * wrong.count(most) / len(pairs), abs=0.51)
        ties = {names[r] for r, p in wrong if wrong.count((r, p)) == wrong.count(most)}
        assert share[2] in ties


def test_tables_are_of_the_classes_of_the_task(run):
    _, results, about, _, path = run
    page = Page(path.read_text())
    names = about["nomenclature"]["names"]
    assert len(names) == (5 if about["task"]["nomenclature"] else 44)
    columns = [cell["text"] for cell in page.rows["class"]]
    assert columns == ["support", "precision", "recall", "F1", "IoU"]
    for i, name in enumerate(names):
        cells = dict(zip(columns, page.rows[name], strict=True))
        assert cells["support"]["value"] == results.per_class["support"][i]
        iou = results.per_class["iou"][i]
        assert cells["IoU"]["value"] == (None if np.isnan(iou) else iou)
    assert page.rows["samples_counted"][1]["text"] == "pixels evaluated"
    assert "differ there" not in page.all


def test_other_maps_than_those_evaluated_are_said(run, tmp_path):
    workdir, results, about, *_ = run
    if not about["task"]["nomenclature"]:
        return  # 44 classes take longer, and show no more
    samples = dict(results.samples)
    samples["hits"] = np.roll(samples["hits"], 1, axis=1)
    found = type(results)(results.scalars, results.per_class, results.matrix, samples)
    found.save(tmp_path / "eval", "test", about)
    with undrawn():
        path = report.write(tmp_path, "test", workdir / "shards")
    assert "pictures and figures differ there" in path.read_text()
    samples["maps"] = samples["maps"][:, :6]
    found.save(tmp_path / "eval", "test", about)
    with undrawn(), pytest.raises(ShardError, match="reference maps of"):
        report.write(tmp_path, "test", workdir / "shards")


def test_shards_without_masks_are_refused(tmp_path):
    write_shards(tmp_path / "shards")
    with pytest.raises(ShardError, match="no reference maps"):
        maps.references(tmp_path / "shards", "test", np.arange(2), "")


@pytest.mark.parametrize("count", [0, 1, 2, 5, 17, COUNT])
def test_few_records_are_shown_once(count):
    hits = np.arange(1, COUNT + 1)[:, None]
    samples = {"hits": hits, "reference": np.full_like(hits, 50), "predicted": hits,
               "shown": np.arange(count)}  # fmt: skip
    groups = maps.choose(samples)
    every = np.concatenate([*groups.values(), np.zeros(0, int)])
    assert len(set(every)) == len(every) == min(count, 18)
    if count:
        assert groups["worst"][0] == 0
    if count > 1:
        assert groups["best"][0] == count - 1


def test_records_without_a_counted_pixel_are_not_shown():
    hits = np.array([[3], [0], [5]])
    samples = {"hits": hits, "reference": hits, "predicted": hits, "shown": np.arange(3)}
    assert np.isnan(maps.miou(samples)[1])
    assert 1 not in np.concatenate(list(maps.choose(samples).values()))


@pytest.mark.parametrize(("share", "text"), [(0.0, "0"), (1.0, "100"), (0.314, "31"),
                                             (0.0312, "3.1"), (0.0994, "9.9"), (0.0996, "10"),
                                             (0.0002, "below 0.1")])  # fmt: skip
def test_shares_have_the_digits_they_bear(share, text):
    assert maps.percent(share) == f"{text}\N{NO-BREAK SPACE}%"


@pytest.mark.skipif(BROWSER is None, reason="no browser to measure the page with")
def test_page_has_no_sideways_scroll(run, tmp_path):
    _, _, about, _, path = run
    if not about["task"]["nomenclature"]:
        return  # without drawings
    sides = (375, 1280)
    frames = "".join(
        f'<iframe src="{path.as_uri()}" style="width:{side}px;height:900px;border:0"></iframe>'
        for side in sides
    )
    script = (
        "onload = () => { document.title = [...document.querySelectorAll('iframe')].map(f => "
        "f.contentDocument.documentElement).map(e => e.scrollWidth - e.clientWidth).join() }"
    )
    file = tmp_path / "frames.html"
    file.write_text(f"{frames}<script>{script}</script>")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "<title>0,0</title>" in done.stdout
