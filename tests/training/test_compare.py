import csv
import json
import math

import numpy as np
import pytest
from html_page import Page
from safetensors.numpy import save_file

from rsjax import config as configs
from rsjax import sealed
from rsjax.errors import ConfigError, RsjaxError
from rsjax.training import compare, compare_figures, recipes, runs

NAMES = ("Forest", "Water <&>", "Never seen")
VALUES = {("a", 0): 0.9, ("a", 1): 0.92, ("a", 2): 0.91, ("b", 0): 0.8}


def write_run(workdir, value, seed=0, task="classification", data="1" * 64, names=NAMES,
              bundle=True, metrics=True, intervals=True, **changes):  # fmt: skip
    """A workdir as a run leaves it, with figures that no model made."""
    config = configs.base().unlock()
    config.seed, config.name, config.task.name = seed, "recipe | one", task
    config.data.data_dir = str(workdir)  # where it ran does not count
    for key, other in changes.items():
        part, last = config, key
        if "." in key:
            name, last = key.split(".")
            part = config[name]
        part[last] = other
    config = configs.to_json(config)
    headline = {"classification": "overall_accuracy", "multilabel": "mAP_macro"}[task]
    about = {
        "model": {"name": "resnet18"}, "task": config["task"], "headline": headline, "step": 7,
        "config": config, "nomenclature": {"names": list(names)},
        "evaluated_on": {"title": "Toy", "version": "1", "fingerprint": data, "simulated": False},
        "scalars": {"loss": 0.25, headline: value, "kappa": math.nan, "samples_counted": 40.0},
        "per_class": {"f1": [value, value / 2, math.nan], "average_precision": [value, 0.5, 0.1],
                      "support": [30, 10, 0]},
        "intervals": {headline: [value - 0.02, value + 0.01], "kappa": [math.nan, math.nan],
                      "samples_counted": [40.0, 40.0]} if intervals else {},
    }  # fmt: skip
    sealed.write(workdir / "eval" / "test.json", about)
    if metrics:
        rows = [{"step": 10 * i, "train/loss": 1 / i, "validation/loss": 2 / i,
                 f"validation/{headline}": value * i / 3} for i in (1, 2, 3)]  # fmt: skip
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if bundle:
        (workdir / "bundle").mkdir()
        weights = {"params/fc/kernel": np.zeros((4, 3), np.float32),
                   "params/fc/bias": np.zeros(3, np.float32),
                   "batch_stats/bn/mean": np.zeros(1000, np.float32)}  # fmt: skip
        save_file(weights, workdir / "bundle" / "weights.safetensors")
    return workdir


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Three seeds of one recipe and one run of another, as they were compared."""
    root = tmp_path_factory.mktemp("runs")
    dirs = [
        write_run(root / f"{name}{seed}", value, seed, batch_size=64 if name == "a" else 32)
        for (name, seed), value in VALUES.items()
    ]
    path, markdown = compare.write(dirs, "test", root / "compare.html")
    return dirs, path, markdown


def test_every_run_has_a_row_and_seeds_are_joined(four):
    _, path, markdown = four
    page = Page(path.read_text())
    assert all(link.startswith("data:image/png") for link in page.links)
    head = [cell["text"] for cell in page.rows["run"]]
    place = head.index("overall accuracy")
    for (name, seed), value in VALUES.items():
        row = page.rows[f"{name}{seed}"]
        assert row[place]["value"] == value
        assert row[place]["text"] == f"{value:.4f}[{value - 0.02:.4f},\u00a0{value + 0.01:.4f}]"
        assert row[head.index("parameters")]["text"] == "15"
        assert row[head.index("seed")]["text"] == str(seed)
        assert row[head.index("kappa")]["text"] == "–"
    spread = page.rows["mean ± standard deviation over 3 seeds"]
    expected = f"{np.mean([0.9, 0.92, 0.91]):.4f} ± {np.std([0.9, 0.92, 0.91], ddof=1):.4f}"
    assert spread[place]["text"].replace("\u00a0", " ") == expected
    assert spread[head.index("samples counted")]["text"] == "40"
    assert spread[head.index("kappa")]["text"] == "–"
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in line.replace("\\|", "/").strip("|").split("|")] for line in lines]
    assert len({len(row) for row in cells}) == 1
    assert [row[0] for row in cells[2:]] == [
        "a0", "a1", "a2", "mean ± standard deviation over 3 seeds", "b0"
    ]  # fmt: skip
    column = cells[0].index("overall accuracy")
    assert cells[5][column] == expected
    assert cells[2][column] == "0.9000 [0.8800, 0.9100]"


def test_only_what_differs_of_the_configs_is_shown(four):
    _, path, _ = four
    rows = Page(path.read_text()).rows
    assert [cell["text"] for cell in rows["batch_size"]] == ["64", "64", "64", "32"]
    assert [cell["text"] for cell in rows["seed"]] == ["0", "1", "2", "0"]
    for same in ("data.data_dir", "optimizer.learning_rate", "name"):
        assert same not in rows


def test_the_csv_has_every_figure_in_full(four):
    _, path, _ = four
    with path.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], float(row["overall_accuracy"])) for row in rows] == [
        (f"{name}{seed}", value) for (name, seed), value in VALUES.items()
    ]
    assert float(rows[0]["overall_accuracy_low"]) == 0.9 - 0.02
    assert math.isnan(float(rows[0]["kappa"]))
    assert "samples_counted_low" not in rows[0]  # an interval that says nothing
    assert "kappa_low" not in rows[0]
    assert {row["parameters"] for row in rows} == {"15"}


def test_classes_are_drawn_with_the_mean_over_the_seeds(four):
    dirs, path, _ = four
    assert {file.name for file in (path.parent / "compare_figures").iterdir()} == {
        "headline.png", "classes.png", "curves.png"
    }  # fmt: skip
    found = runs.read(dirs, "test")
    together = compare.compare_table.grouped(found)
    assert [(group.members, group.said) for group in together] == [([0, 1, 2], "3 seeds"),
                                                                   ([3], "1 seed")]  # fmt: skip
    tables = {group.label: np.array([found[i].per_class["f1"] for i in group.members])
              for group in together}  # fmt: skip
    axes = compare_figures.classes("f1", NAMES, tables, [30, 10, 0]).axes[0]
    dots = {line.get_label(): line for line in axes.lines if line.get_marker() != "None"}
    assert set(dots) == {"a0 and 2 more (3 seeds)", "b0"}
    np.testing.assert_allclose(dots["b0"].get_xdata(), [0.8, 0.4, np.nan])
    joined = dots["a0 and 2 more (3 seeds)"]
    np.testing.assert_allclose(joined.get_xdata(), [0.91, 0.455, np.nan])
    assert len({line.get_marker() for line in dots.values()}) == 2  # readable without colour
    assert axes.get_yticklabels()[0].get_text() == "Forest (30)"


def test_curves_have_a_style_for_each_recipe(four):
    dirs, _, _ = four
    found = runs.read(dirs, "test")
    rows = {"a": [run.rows for run in found[:3]], "b": [found[3].rows]}
    figure = compare_figures.curves(rows, "overall_accuracy")
    assert [axes.get_title() for axes in figure.axes] == [
        "train loss", "validation loss", "validation overall_accuracy"
    ]  # fmt: skip
    lines = figure.axes[2].lines
    assert [line.get_linestyle() for line in lines] == ["-", "-", "-", "--"]
    np.testing.assert_allclose(lines[3].get_ydata(), 0.8 * np.array([1, 2, 3]) / 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "2" * 64}, "different data"),
        ({"task": "multilabel"}, "different tasks"),
        ({"names": ("Forest", "Water", "Urban")}, "different classes"),
    ],
)
def test_what_cannot_be_compared_is_only_stated(tmp_path, changes, said):
    dirs = [write_run(tmp_path / "one", 0.5), write_run(tmp_path / "two", 0.6, seed=1, **changes)]
    path, markdown = compare.write(dirs, "test", tmp_path / "compare.html")
    page = Page(path.read_text())
    assert said in page.all
    assert said in markdown
    assert "Not drawn" in page.all
    assert {"one", "two"} <= set(page.rows)
    assert [file.name for file in (tmp_path / "compare_figures").iterdir()] == ["curves.png"]
    if "data" in changes:  # two seeds of one recipe, and yet no mean of two different things
        assert "mean ±" not in markdown


def test_runs_from_elsewhere_lack_curves_and_parameters(tmp_path):
    one = write_run(tmp_path / "x" / "run", 0.5, bundle=False, metrics=False, intervals=False)
    two = write_run(tmp_path / "y" / "run", 0.5, metrics=False)
    page = Page(compare.write([one, two], "test", tmp_path / "c.html")[0].read_text())
    assert page.rows["x/run"][2]["text"] == "–"
    assert page.rows["y/run"][2]["text"] == "15"
    assert "No metrics.jsonl" in page.all
    assert "2 runs of 1 seed" in page.all  # a repetition is no second seed
    assert "Nothing but where the runs took place" in page.all


def test_more_recipes_than_markers_are_said(tmp_path):
    count = compare_figures.MOST + 2
    dirs = [write_run(tmp_path / f"r{i}", i / count, batch_size=2**i) for i in range(count)]
    page = Page(compare.write(dirs, "test", tmp_path / "c.html")[0].read_text())
    assert f"Of {count} recipes the {count - 2} with the best headline are drawn" in page.all
    assert "r0" in page.rows


def test_mistakes_are_one_message(tmp_path):
    with pytest.raises(ConfigError, match="no workdir"):
        runs.read([], "test")
    run = write_run(tmp_path / "run", 0.5)
    with pytest.raises(ConfigError, match="given twice"):
        runs.read([run, str(run)], "test")
    with pytest.raises(RsjaxError, match=r"validation.json.*splits: test.*--config.mode=eval "
                       r"--config.eval.split=validation"):  # fmt: skip
        runs.read([run], "validation")
    with pytest.raises(RsjaxError, match=r"no such folder.*evaluated splits: none"):
        runs.read([tmp_path / "nowhere"], "test")
    file = run / "eval" / "test.json"
    file.write_text(file.read_text().replace("0.25", "0.26"))
    with pytest.raises(RsjaxError, match=r"checksum.*Evaluate again"):
        runs.read([run], "test")
    weights = write_run(tmp_path / "other", 0.5) / "bundle" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(RsjaxError, match=r"weights.safetensors: damaged"):
        runs.read([tmp_path / "other"], "test")


def test_one_name_for_several_runs():
    join = compare.compare_table._together
    assert join(["run_0", "run_1", "run_2"]) == "run_{0, 1, 2}"
    assert join(["000-seed_0", "001-seed_1"]) == "000-seed_0 and 1 more"


def test_mean_and_deviation():
    rng = np.random.default_rng(0)
    values = rng.normal(size=7)
    mean, deviation = recipes.mean_and_deviation(values.tolist())
    assert mean == pytest.approx(values.mean())
    assert deviation == pytest.approx(values.std(ddof=1))
    assert recipes.spread([0.5]) == "0.5000"
    for undefined in ([], [math.nan], [0.5, math.nan], [0.5, None]):
        assert recipes.spread(undefined) == "–"


def test_differences_of_free_fields():
    one = {"model": {"fields": {}}, "seed": 1, "data": {"data_dir": "x"}}
    two = {"model": {"fields": {"width": 4}}, "seed": 1, "data": {"data_dir": "y"}}
    assert recipes.differences([one, two]) == {"model.fields.width": ["–", 4]}
    assert recipes.recipe(one) != recipes.recipe(two)
    assert recipes.recipe(one) == recipes.recipe({**one, "seed": 2, "data": {"data_dir": "z"}})
    assert recipes.groups("abca") == [[0, 3], [1], [2]]
