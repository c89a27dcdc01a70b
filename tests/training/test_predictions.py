"""Predictions of a bundle as a page: which records, what is said of them, and the filter."""

import base64
import re
import shutil
import subprocess

import imagecodecs
import jax
import numpy as np
import pytest
import toy
from reported import COUNT, Page, about_of, undrawn, write_results, write_shards

import rsjax
from rsjax import bundle, models, tasks
from rsjax.errors import BundleError, ConfigError, ShardError
from rsjax.input import manifest as manifests
from rsjax.input.source import ShardSource
from rsjax.training import data, describe, predictions, predictions_page

pytestmark = pytest.mark.once

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)  # fmt: skip
CHANGES = {"task.name": "segmentation", "model.name": "unet2015", "eval.blocks": "country",
           "model.fields": {"width": 4, "depth": 1}, "data.simulate_samples": 96}  # fmt: skip
SHOWN = 9


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A bundle of random weights, and the page of what it gets most wrong."""
    workdir = tmp_path_factory.mktemp("run")
    root = toy.write(workdir / "elsewhere", maps=True)
    made, inputs = data.read_inputs(toy.config(workdir / "elsewhere", **CHANGES), root)
    config = toy.config("gone", **CHANGES)
    classes = data.read_classes(config.task, made)
    options = {**config.task.to_dict(), **classes.options}
    task = tasks.make("segmentation", options, len(classes.nomenclature))
    module = models.get("unet2015", num_classes=task.outputs, width=4, depth=1)
    variables = module.init(jax.random.key(1), np.zeros((1, 8, 8, 5), np.float32), False)
    about = describe.describe(config, made, inputs, task, classes.nomenclature)
    about |= {"step": 3, "validation": {}, "temperature": 2.5}
    del about["inputs"], about["nomenclature"]
    bundle.save(bundle.Model(dict(variables), inputs, classes.nomenclature, about),
                workdir / "bundle")  # fmt: skip
    path = predictions.write(workdir, workdir / "out", count=SHOWN,
                             data_dir=str(workdir / "elsewhere"))  # fmt: skip
    return workdir, path


@pytest.fixture(scope="module")
def by_hand(run):
    """{id: (reference, predicted, confidence, mIoU)} of the test split, from the bundle alone."""
    workdir, _ = run
    source = ShardSource(manifests.find(workdir / "elsewhere", "bigearthnet"), "test")
    every = np.arange(len(source))
    batch = source.read(every)
    found = rsjax.load(workdir).predict({"s2": batch["s2"], "s1": batch["s1"]})
    table = {}
    for name, mask, said, p in zip(source.ids(every), batch["mask"], found.maps,
                                   found.probabilities.max(-1), strict=True):  # fmt: skip
        pairs = [(r, k) for r, k in zip(mask.flat, said.flat, strict=True) if r != 255]
        each = {
            k: sum(r == k == q for r, q in pairs) / sum(k in pair for pair in pairs)
            for k in {int(k) for pair in pairs for k in pair}
        }
        table[name] = mask, said, p, each
    return table


def mean(each):
    return sum(each.values()) / len(each)


def test_the_worst_are_shown_in_the_order_of_their_score(run, by_hand):
    _, path = run
    (group,) = Page(path.read_text()).maps.values()
    values = [mean(by_hand[one["id"]][-1]) for one in group]
    expected = sorted(mean(each) for *_, each in by_hand.values())
    assert values == pytest.approx(expected[:SHOWN])
    for one, value in zip(group, values, strict=True):
        assert f"mIoU {value:.3f} (rank" in one["caption"]
        country = ("Austria", "Finland", "Ireland")[int(one["id"][-4:]) % 3]
        assert f"country {country}" in one["caption"]


def test_pictures_are_what_the_bundle_predicts(run, by_hand):
    workdir, path = run
    colours = rsjax.load(workdir).nomenclature.colours
    colours = np.array([list(bytes.fromhex(c[1:])) for c in colours], np.uint8)
    (group,) = Page(path.read_text()).maps.values()
    for one in group:
        mask, said, probability, _ = by_hand[one["id"]]
        drawn = [imagecodecs.png_decode(base64.b64decode(s.split(",")[1])) for s in one["src"]]
        np.testing.assert_array_equal(drawn[2], colours[said])
        counted = mask != 255
        np.testing.assert_array_equal(drawn[1][counted], colours[mask[counted]])
        wrong = (drawn[3][..., 0] < 128)[counted]
        np.testing.assert_array_equal(wrong, (mask != said)[counted])
        # The temperature is that of the bundle.
        np.testing.assert_allclose(drawn[4] / 255, probability, atol=0.003)
    sheets = sorted(file.name for file in (path.parent / "figures").iterdir())
    assert sheets == ["test_worst_1.png", "test_worst_2.png"]


def test_sheets_of_an_earlier_longer_page_are_removed(run, tmp_path):
    workdir, _ = run
    folder = tmp_path / "out" / "figures"
    folder.mkdir(parents=True)
    others = {"test_best_2.png", "test_worst_2.html", "validation_worst_2.png"}
    for name in {"test_worst_1.png", "test_worst_2.png", "test_worst_13.png", *others}:
        (folder / name).write_bytes(b"old")
    predictions.write(workdir, tmp_path / "out", count=2, data_dir=str(workdir / "elsewhere"))
    assert {one.name for one in folder.iterdir()} == {"test_worst_1.png", *others}
    assert (folder / "test_worst_1.png").read_bytes() != b"old"


def test_without_a_config_or_shards_or_sense_there_is_one_message(run, tmp_path):
    workdir, _ = run
    with pytest.raises(ConfigError, match=r"--count=0: must lie in \[1, 400\]"):
        predictions.write(workdir, tmp_path / "out", count=0)
    with pytest.raises(ConfigError, match="--pick=bset: choose one of worst, best"):
        predictions.write(workdir, tmp_path / "out", pick="bset")
    with pytest.raises(ShardError, match="no prepared shards"):
        predictions.write(workdir, tmp_path / "out")
    assert not (tmp_path / "gone").exists()  # nothing is simulated
    model = rsjax.load(workdir)
    about = {k: v for k, v in model.about.items() if k != "config"}
    bundle.save(bundle.Model(model.variables, model.inputs, model.nomenclature, about),
                tmp_path / "bundle")  # fmt: skip
    with pytest.raises(BundleError, match="does not say on what data it was trained"):
        predictions.write(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_picks_are_by_score_and_the_draw_is_seeded():
    rng = np.random.default_rng(0)
    loss = rng.permutation(50).astype(float)
    loss[3] = np.nan  # no number: the worst
    samples = {"loss": loss}
    assert predictions.choose(samples, 4, "worst")[0] == 3
    rest = np.delete(np.sort(loss), -1)
    np.testing.assert_array_equal(loss[predictions.choose(samples, 4, "worst")[1:]], rest[:-4:-1])
    np.testing.assert_array_equal(loss[predictions.choose(samples, 4, "best")], rest[3::-1])
    near = np.sort(np.abs(loss[predictions.choose(samples, 5, "typical")] - np.nanmedian(loss)))
    np.testing.assert_array_equal(near, np.sort(np.abs(rest - np.median(rest)))[:5])
    drawn = predictions.choose(samples, 20, "random")
    assert len(set(drawn)) == 20
    np.testing.assert_array_equal(drawn, predictions.choose(samples, 20, "random"))
    assert (np.diff(loss[drawn][np.isfinite(loss[drawn])]) < 0).all()
    hits = np.array([[3], [0], [5], [1]])  # the second has no pixel that counts
    counts = {"hits": hits, "reference": np.array([[6], [0], [6], [6]]), "predicted": hits}
    assert predictions.choose(counts, 9, "worst").tolist() == [3, 0, 2]


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_cards_have_labels_colours_and_marks(tmp_path, task):
    label = "index" if task == "classification" else "multihot"
    made = write_shards(tmp_path / "shards", label=label)
    results, about = write_results(tmp_path, tmp_path / "shards", task, made)
    shards = manifests.load(tmp_path / "shards")
    chosen = predictions.choose(results.samples, 14, "best")
    with undrawn():
        text = predictions_page.section(tmp_path, "x", "the best", shards, "test", results, about,
                                        chosen, shards.nomenclature)  # fmt: skip
    assert f"14 of {COUNT} records" in text
    cards = re.findall(r'<figure class="card record ([^"]*)">.*?<code>(.*?)</code>(.*?)</figure>',
                       text)  # fmt: skip
    samples, names = results.samples, shards.nomenclature.names
    place = {f"&lt;i&gt;{number}": i for i, number in enumerate(samples["index"])}
    assert [place[name] for _, name, _ in cards] == chosen.tolist()
    assert (np.diff(samples["loss"][chosen]) < 0).all()
    states = set()
    for marks, name, rest in cards:
        i = place[name]
        truth = samples["labels"][i]
        p = samples["probabilities"][i]
        if task == "classification":
            true, said = {int(truth)}, {int(p.argmax())}
        else:
            true, said = set(np.flatnonzero(truth)), set(np.flatnonzero(p >= 0.5))
        expected = {f"any-{'right' if true == said else 'wrong'}"}
        expected |= {f"c{k}-{'right' if k in true & said else 'wrong'}" for k in true | said}
        assert set(marks.split()) == expected
        states |= expected
        for k in true | said:
            mark = "✓" if k in true & said else "✗" if k in said else "○"
            shown = re.sub("<[^>]*>", "", rest).replace("&lt;", "<").replace("&gt;", ">")
            shown = shown.replace("&quot;", '"').replace("&amp;", "&")
            assert f"{mark} {names[k]} {p[k]:.2f}" in shown
            assert shards.nomenclature.colours[k] in rest
    assert {"any-right", "any-wrong"} <= states
    assert f'<option value="c{len(names)}">' not in text


def test_a_split_without_anything_to_compare_is_refused(tmp_path):
    made = write_shards(tmp_path / "shards")
    results, _ = write_results(tmp_path, tmp_path / "shards", "classification", made)
    shards = manifests.load(tmp_path / "shards")
    with pytest.raises(ShardError, match="no record with a label or a map"):
        predictions_page.section(tmp_path, "x", "the best", shards, "test", results,
                                 about_of(shards.root, "segmentation", "iou_macro"),
                                 np.zeros(0, int), shards.nomenclature)  # fmt: skip


@pytest.mark.skipif(BROWSER is None, reason="no browser to filter the page with")
def test_the_filter_shows_what_it_says_and_the_page_fits_a_telephone(run, by_hand, tmp_path):
    _, path = run
    (group,) = Page(path.read_text()).maps.values()
    tables = [by_hand[one["id"]] for one in group]
    present = sorted({k for *_, each in tables for k in each})
    expected = [f"{SHOWN}"]
    for scope in ("any", *present):
        for state in ("all", "right", "wrong"):
            count = 0
            for mask, said, _, each in tables:
                if scope != "any" and scope not in each:
                    continue
                right = (mask == said)[mask != 255].mean() if scope == "any" else each[scope]
                count += state == "all" or (right >= 0.5) == (state == "right")
            expected.append(str(count))
    assert len(set(expected)) > 3
    script = """
    onload = () => {
      const [wide, narrow] = [...document.querySelectorAll('iframe')].map(f => f.contentDocument)
      const visible = () => [...wide.querySelectorAll('.record')].filter(
        e => wide.defaultView.getComputedStyle(e).display != 'none').length
      const found = [visible()]
      for (const option of wide.querySelectorAll('option'))
        for (const state of wide.querySelectorAll('input')) {
          option.selected = state.checked = true
          found.push(visible())
        }
      const over = [wide, narrow].map(d => d.documentElement).map(e => e.scrollWidth-e.clientWidth)
      document.title = found.join() + ' ' + over.join()
    }"""
    frames = "".join(
        f'<iframe src="{path.as_uri()}" style="width:{side}px;height:900px;border:0"></iframe>'
        for side in (1280, 390)
    )
    file = tmp_path / "frames.html"
    file.write_text(f"{frames}<script>{script}</script>")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert f"<title>{','.join(expected)} 0,0</title>" in done.stdout
