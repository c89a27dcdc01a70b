import dataclasses
import inspect
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from rsjax import config as configs
from rsjax import datasets, landcover
from rsjax.datasets import defects, describe
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.errors import ConfigError, DiskError
from rsjax.input import build, card, pages
from rsjax.input.source import ShardSource

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ROOT / "docs" / "datasets"
AGAIN = "run `python -m rsjax.cards --output=docs/datasets`"


@pytest.fixture(scope="module")
def written():
    return pages.everything(ROOT / "configs")


def rows(text, head):
    """The rows of the table whose head begins with these cells, as lists of cells."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {' | '.join(head)}"))
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[start:end]]


def section(text, title):
    return re.split(r"^## ", text.split(f"## {title}", 1)[1], flags=re.M)[0]


@pytest.mark.parametrize("name", datasets.names())
def test_the_committed_page_is_current(name, written):
    page = PAGES / f"{name}.md"
    assert page.is_file(), AGAIN
    assert page.read_text() == written[f"{name}.md"], AGAIN


def test_the_committed_table_is_current_and_there_are_no_other_pages(written):
    assert (PAGES / "index.md").read_text() == written["index.md"], AGAIN
    assert {path.name for path in PAGES.iterdir()} == set(written)


@pytest.mark.parametrize("name", [name for name in datasets.names() if pages.info_of(name)])
def test_a_page_says_what_the_dataset_says(name, written, tmp_path):
    text, info = written[f"{name}.md"], datasets.get(name)(tmp_path).info
    facts = dict(rows(text, ["", ""])[2:])
    assert facts["name in rsjax"] == f"`{name}`"
    expected = {"licence": info.licence, "page": info.page, "citation": info.citation}
    for what, value in expected.items():
        assert facts[what] == (value or "not stated")
    images = {row[0]: row for row in rows(text, ["entry"])[2:]}
    assert list(images) == [f"`{entry}`" for entry in info.images]
    for entry, spec in info.images.items():
        cells = images[f"`{entry}`"]
        assert cells[2].split(", ") == list(spec.bands)
        assert f"`{spec.sensor}`" in cells[1]
        assert cells[4:6] == [spec.dtype, f"`{spec.unit}`"]
        assert str(spec.height or "varying") in cells[3]
        assert float(cells[6]) == spec.gsd_m
    wanted = {"Labels": info.nomenclature} if info.label else {}
    wanted |= {"Mask": info.mask_nomenclature} if info.mask else {}
    if info.label and info.nomenclature == info.mask_nomenclature:
        wanted = {"Labels and mask": info.nomenclature}
    for title, nomenclature in wanted.items():
        found = landcover.load(nomenclature)
        listed = rows(section(text, title), ["index", "code", "class", "colour"])[2:]
        assert [int(row[1]) for row in listed] == list(found.codes)
        assert [row[2].replace(r"\|", "|") for row in listed] == list(found.names)
        assert [row[3].strip("`") for row in listed] == list(found.colours)
    published = {(s, b): v for s, bands in info.published_statistics.items()
                 for b, v in bands.items()}  # fmt: skip
    if published:
        table = rows(text, ["sensor", "band", "mean, published"])[2:]
        assert {(r[0], r[1]): (float(r[2]), float(r[3])) for r in table if r[2][-1].isdigit()} == (
            published
        )
    for what, source in defects.of(name):
        joined = " ".join(section(text, "Known defects").split())
        assert f"{what} ({source})" in joined


def test_the_table_of_defects_is_of_datasets_that_are_there():
    assert set(defects.names()) <= set(datasets.names())
    for name in defects.names():
        assert all(what.endswith(".") and source for what, source in defects.of(name))


@pytest.mark.parametrize("name", datasets.names())
def test_every_option_has_its_default_and_a_meaning(name, written):
    parameters = list(inspect.signature(datasets.get(name)).parameters.values())[1:]
    options = section(written[f"{name}.md"], "Options")
    listed = {r[0]: r[1:] for r in rows(options, ["name"])[2:]} if parameters else {}
    assert list(listed) == [f"`{p.name}`" for p in parameters]
    for p in parameters:
        default, meaning = listed[f"`{p.name}`"]
        assert default == f"`{p.default!r}`"
        assert meaning != "not stated", f"say in the docstring what {p.name} is"


def test_what_is_not_known_is_not_stated(monkeypatch):
    class Bare:
        """Bare.

        Args:
            source: a folder.
            one, other: both of
                these.
        """

        def __init__(self, source, *, secret=3, one=1, other="|"):
            images = {"rgb": ImageSpec("rgb", ("red", "green", "blue"), 0, 0, "uint8", "dn8", 1.0)}
            self.info = DatasetInfo("bare", "1.0.0", "", "", "", "", images, "index", "eurosat",
                                    None, None, (), {"train": 0, "test": 5},
                                    ("rgb", ("red", "green", "blue")), (0.0, 255.0))  # fmt: skip

    monkeypatch.setattr(datasets, "get", lambda name: Bare)
    info = pages.info_of("bare")
    text = pages.page("bare", info, {})
    facts = dict(rows(text, ["", ""])[2:])
    assert [facts[k] for k in ("page", "licence", "citation")] == ["not stated"] * 3
    assert text.startswith("# not stated")
    assert rows(section(text, "Splits"), ["split"])[2:] == [["train", "not stated"], ["test", "5"]]
    assert rows(section(text, "Options"), ["name"])[2:] == [
        ["`secret`", "`3`", "not stated"],
        ["`one`", "`1`", "both of these."],
        ["`other`", r"`'\|'`", "both of these."],
    ]
    assert "Published: not stated. They are computed" in text
    assert "None is known to us." in text
    only = pages.index({"bare": info}).splitlines()
    assert next(line for line in only if "bare.md" in line).count("not stated") == 4
    compile(card.run_sheet(info), "sheet", "exec")


@pytest.mark.parametrize("name", [name for name in datasets.names() if pages.info_of(name)])
def test_the_run_sheet_of_a_card_is_valid(name):
    scope = {}
    exec(card.run_sheet(pages.info_of(name)), scope)
    config = scope["get_config"]()
    configs.validate(config)
    assert config.is_locked
    assert config.data.dataset == name


@pytest.mark.parametrize(("steps", "bands"), [(2, 6), (0, 12), (None, 3)])
def test_series_and_change_are_said_and_can_be_trained_on(steps, bands):
    spec = ImageSpec("rgb", ("red", "green", "blue"), 0, 0, "uint8", "dn8", 1.0, steps=steps)
    change = {"mask": (64, 64), "mask_nomenclature": "change"} if steps == 2 else {}
    info = dataclasses.replace(pages.info_of("ucmerced"), images={"rgb": spec}, **change)
    words = {2: "2 steps of varying", 0: "varying steps of varying", None: "varying"}[steps]
    assert f" | {words} | uint8" in describe.images(info)
    tasks = {2: "change detection, one label", 0: "one label, time series", None: "one label"}
    assert describe.task(info) == tasks[steps]
    scope = {}
    exec(card.run_sheet(info), scope)
    config = scope["get_config"]()
    configs.validate(config)
    assert len(config.data.bands) == bands
    assert config.data.fit_steps == (4 if steps == 0 else 0)
    assert config.data.fit_px == (64 if change else 256)


def test_run_sheets_are_found_by_what_they_train_on(written):
    text = written["bigearthnet.md"]
    assert "python -m rsjax.main --config=configs/bigearthnet_unet.py --workdir=" in text
    assert "bigearthnet_unet" not in written["bigearthnet_v1.md"]
    with pytest.raises(ConfigError, match="no run sheets"):
        pages.everything(ROOT / "docs")


def test_a_file_that_is_no_run_sheet_is_named(tmp_path):
    (tmp_path / "x.py").write_text("raise RuntimeError('oh')")
    with pytest.raises(ConfigError, match=r"x\.py: no run sheet \(RuntimeError\('oh'\)\)"):
        pages.everything(tmp_path)


@pytest.fixture(scope="module")
def prepared(downloads, tmp_path_factory):
    """Shards of a download with one damaged patch, which was skipped."""
    import shutil

    folder = tmp_path_factory.mktemp("card")
    source = shutil.copytree(downloads("bigearthnet", 24), folder / "source")
    key = datasets.get("bigearthnet")(source).keys("train")[1]
    next(source.glob(f"BigEarthNet-S2/*/{key}/*_B03.tif")).write_bytes(b"II*\0")
    made = build.build(
        "bigearthnet", source, folder / "my data", {"sensors": ("s2",)}, 1, "skip", 0.5
    )
    return made, key


def test_what_the_card_says_to_run_works_once_the_place_is_filled_in(prepared):
    made, _ = prepared
    data_dir = str(made.root.parents[1])
    text = (made.root / "README.md").read_text()
    assert data_dir not in text  # equal shards have equal cards
    text = text.replace("--data_dir=DATA_DIR", f"'--data_dir={data_dir}'")
    text = text.replace("DATA_DIR", data_dir)
    sheet, read = re.findall(r"```python\n(.*?)```", text, re.S)
    scope = {}
    exec(sheet, scope)
    config = scope["get_config"]()
    configs.validate(config)
    assert config.data.data_dir == data_dir
    command = shlex.split(next(x for x in text.splitlines() if "rsjax.prepare --dataset" in x))
    assert command[:3] == ["python", "-m", "rsjax.prepare"]
    assert f"--data_dir={data_dir}" in command
    assert f'builder_from_directory("{made.root}")' in read


def test_the_card_beside_shards_says_what_is_in_them(prepared):
    made, damaged = prepared
    text = (made.root / "README.md").read_text()
    assert "SIMULATED" in text
    splits = {row[0]: row[1:] for row in rows(section(text, "Splits"), ["split"])[2:]}
    labels = rows(section(text, "Labels"), ["index"])
    mask = rows(section(text, "Mask"), ["index"])
    for column, split in enumerate(made.splits, 4):
        source = ShardSource(made.root, split)
        batch = source.read(np.arange(len(source)))
        assert splits[split][0] == str(len(source))
        assert splits[split][2] == str(int(split == "train"))
        assert labels[0][column] == mask[0][column] == split
        assert [int(row[column]) for row in labels[2:]] == batch["label"].sum(0).tolist()
        pixels = [int(row[column].replace(",", "")) for row in mask[2:]]
        values, counts = np.unique(batch["mask"], return_counts=True)
        assert sum(pixels) == batch["mask"].size
        indices = [int(row[0]) for row in mask[2:]]
        assert {i: n for i, n in zip(indices, pixels, strict=True) if n} == dict(
            zip(values.tolist(), counts.tolist(), strict=True)
        )
    assert splits["train"][1] == "237,871"
    assert f"- `{damaged}`: " in text
    train = ShardSource(made.root, "train").read(np.arange(made.splits["train"]["records"]))
    row = next(r for r in rows(text, ["sensor", "band"]) if r[:2] == ["sentinel2_l2a", "B8A"])
    values = train["s2_20m"][..., made.info.images["s2_20m"].bands.index("B8A")].astype(float)
    assert [float(row[2]), float(row[3])] == [2235.5566, 1356.5441]
    assert float(row[4]) == pytest.approx(values.mean(), rel=1e-5)
    assert float(row[5]) == pytest.approx(values.std(), rel=1e-5)
    assert [int(v.replace(",", "")) for v in row[6:9]] == [values.min(), values.max(), values.size]
    for part in (made.source_fingerprint, made.fingerprint(), "--option=sensors=s2",
                 made.info.licence, made.info.citation):  # fmt: skip
        assert part in text


def test_the_shards_are_read_as_the_card_says(prepared):
    made, _ = prepared
    text = (made.root / "README.md").read_text()
    text = text.replace("DATA_DIR", str(made.root.parents[1]))
    lines = re.findall(r"```python\n(.*?)```", text, re.S)[-1].strip().splitlines()
    code = "\n".join([*lines[:-1], f"first = {lines[-1]}", "import sys",
                      "assert not {'rsjax', 'tensorflow'} & set(sys.modules)",
                      "print(first['id'].decode(), first['s2_60m'].sum())"])  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], text=True,
                           capture_output=True, check=False)  # fmt: skip
    assert found.returncode == 0, found.stderr
    source = ShardSource(made.root, "train")
    expected = [source.ids([0])[0], str(source.read(np.arange(1))["s2_60m"].sum())]
    assert found.stdout.split() == expected


def test_the_card_is_written_whole_or_not_at_all(downloads, tmp_path):
    blocked = tmp_path / "ucmerced" / "1.0.0" / "README.md"
    (blocked / "in the way").mkdir(parents=True)
    with pytest.raises(DiskError, match=r"README\.md"):
        build.build("ucmerced", downloads("ucmerced", 21), tmp_path, workers=1)
    assert not (blocked.parent / "manifest.json").exists()
    assert not list(blocked.parent.glob(".*.tmp*"))
    blocked.joinpath("in the way").rmdir()
    blocked.rmdir()
    build.build("ucmerced", downloads("ucmerced", 21), tmp_path, workers=1)
    first = blocked.read_bytes()
    blocked.write_text("changed by hand")
    build.build("ucmerced", downloads("ucmerced", 21), tmp_path, workers=1)
    assert blocked.read_bytes() == first


def test_the_card_of_shards_on_an_object_store(downloads):
    import fsspec

    memory = fsspec.filesystem("memory")
    try:
        made = build.build("ucmerced", downloads("ucmerced", 21), "memory://cards", workers=1)
        assert memory.cat("/cards/ucmerced/1.0.0/README.md").decode() == card.beside(made)
    finally:
        memory.rm("/cards", recursive=True)


def test_the_command_writes_the_committed_pages(tmp_path):
    command = [sys.executable, "-m", "rsjax.cards"]
    found = subprocess.run([*command, f"--output={tmp_path}"], cwd=ROOT, capture_output=True,
                           text=True, check=False)  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        p.name: p.read_text() for p in PAGES.iterdir()
    }
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "--output is missing" in found.stderr
