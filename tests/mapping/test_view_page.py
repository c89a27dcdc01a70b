import base64
import html
import html.parser
import json
import re
import shutil
import subprocess

import area_maps as maps
import imagecodecs
import numpy as np
import pyproj
import pytest
import rasterio

from rsjax.errors import ConfigError, DatasetError, SceneError
from rsjax.landcover import nomenclature
from rsjax.mapping import area_table, hectares, landmap, view_place, view_write, writer

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)  # fmt: skip
CLASSES = nomenclature.load("worldcover")


class Page(html.parser.HTMLParser):
    """A page's links, layers, data, text and the rows of its legend; tags must be balanced."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.links, self.layers, self.rows, self.text = [], [], {}, {}, ""
        self.feed(text)
        self.close()
        assert self.open == []
        self.data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag == "img":
            name = attrs["id"].removeprefix("layer-")
            self.layers[name] = base64.b64decode(attrs["src"].partition("base64,")[2])
        if tag in ("button", "input") and attrs.get("type") != "radio":
            named = {"aria-label", "id"} & set(attrs) or attrs.get("class") == "name"
            assert named, attrs
        if tag == "tr":
            self.row = []
        elif tag in ("th", "td"):
            self.row.append("")
        if tag not in ("meta", "img", "input", "br", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag == "path"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "tr":
            self.rows[self.row[1]] = self.row[2:]

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data
            if "tr" in self.open:
                self.row[-1] += data


def random_map(path, shape, seed=0, **options):
    codes = maps.random_codes(shape, seed)
    codes[:5, :5] = 0
    maps.write(path, codes, **options)
    return codes


def scene_of(path, shape, **options):
    image = np.random.default_rng(2).integers(0, 255, (3, *shape)).astype(np.uint8)
    with rasterio.open(path, "w", driver="GTiff", count=3, height=shape[0], width=shape[1],
                       dtype="uint8", crs="EPSG:32632", transform=maps.UTM, photometric="RGB",
                       **options) as raster:  # fmt: skip
        raster.write(image)
    return image


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A page with everything: map, older map, confidence, scene."""
    folder = tmp_path_factory.mktemp("view")
    shape = (37, 50)
    codes = random_map(folder / "map.tif", shape)
    before = random_map(folder / "before.tif", shape, 1)
    image = scene_of(folder / "scene.tif", shape)
    sure = np.random.default_rng(3).integers(0, 251, shape).astype(np.uint8)
    maps.write(folder / "map_confidence.tif", sure, tag="", nodata=255)
    with rasterio.open(folder / "map_confidence.tif", "r+") as raster:
        raster.update_tags(**{writer.MEANING_TAG: "probability: probability of the class"})
    path = view_write.write(folder / "map.tif", [str(folder / "scene.tif")],
                            before=folder / "before.tif")  # fmt: skip
    return path, codes, before, sure, image


def test_page_needs_nothing_from_outside(shown):
    text = shown[0].read_text()
    page = Page(text)
    assert shown[0].name == "map.html"
    assert all(link.startswith("data:") for link in page.links)
    assert "default-src 'none'" in text
    without = re.sub(r"base64,[^\"]*", "", text)
    assert not re.search(r"https?://|import\s|fetch\(|XMLHttp", without.split("<dl>")[0])
    assert 'lang="en"' in text


def test_layers_are_the_maps_to_the_pixel(shown):
    path, codes, before, sure, image = shown
    page = Page(path.read_text())
    for name, truth in (("map", codes), ("before", before)):
        found = imagecodecs.png_decode(page.layers[name])
        known = np.array([*CLASSES.codes, 0])
        np.testing.assert_array_equal(known[np.minimum(found, len(CLASSES))], truth)
        counts = {str(v): int(n) for v, n in zip(*np.unique(found, return_counts=True),
                                                 strict=True)}  # fmt: skip
        assert page.data["counts"][name] == counts
    np.testing.assert_array_equal(imagecodecs.png_decode(page.layers["confidence"]), sure)
    drawn = imagecodecs.webp_decode(page.layers["scene"])
    np.testing.assert_array_equal(drawn[..., :3], np.moveaxis(image, 0, -1))


def test_legend_has_the_hectares_of_the_area_command(shown, tmp_path, capsys):
    path = shown[0]
    page = Page(path.read_text())
    both = [
        hectares.measure(path.parent / name, output=str(tmp_path / name))["areas"]
        for name in ("map.tif", "before.tif")
    ]
    capsys.readouterr()
    for now, was in zip(*both, strict=True):
        cells = page.rows.get(f"{now['code'] or ''}{now['class']}")
        if now["class"] == area_table.NO_CLASS:
            assert cells == ["", f"{now['hectares']:,.1f}{was['hectares']:,.1f}"]
        elif not now["pixels"] + was["pixels"]:
            assert cells is None
            assert now["class"] in page.text.split("Without any pixel:")[1]
        else:
            assert cells == [
                f"{now['share']:.2%}{was['share']:.2%}",
                f"{now['hectares']:,.1f}{was['hectares']:,.1f}",
            ]
    assert f"{both[0][0]['share']:.1%}" in page.text.split("ha with a class:")[1]


def test_a_thinned_map_says_so_and_counts_all(tmp_path, capsys):
    codes = random_map(tmp_path / "map.tif", (600, 400))
    path = view_write.write(tmp_path / "map.tif", max_px=256, output=tmp_path / "deep/page.html")
    page, said = Page(path.read_text()), capsys.readouterr().out
    for text in (page.text, said):
        assert "600 x 400 pixels are drawn thinned by a factor of 3" in text
        assert "Shares and hectares are those of all pixels" in text
    found = imagecodecs.png_decode(page.layers["map"])
    assert found.shape == (200, 134)
    known = np.array([*CLASSES.codes, 0])
    drawn = known[np.minimum(found, len(CLASSES))]
    np.testing.assert_array_equal(drawn[:, :-1], codes[1::3, 1::3][:, :133])
    trees = (codes == 10).sum() / (codes > 0).sum()
    assert page.rows["10Tree cover"][0] == f"{trees:.2%}"


def test_names_cannot_break_the_page(tmp_path):
    table = tmp_path / "odd.csv"
    table.write_text("# source: <i>me</i>\ncode,name,colour,parent,ignore\n"
                     '10,"</script><script>alert(1)</script>",#ff0000,,\n'
                     '20,"a ""b"" & $c",#00ff00,,\n'
                     "30,c,#0000ff,,\n40,d,#0000ff,,\n80,e,#0000ff,,\n")  # fmt: skip
    random_map(tmp_path / "map.tif", (20, 20), tag="")
    text = view_write.write(tmp_path / "map.tif", nomenclature=str(table)).read_text()
    page = Page(text)
    assert text.count("<script") == 2
    assert page.data["classes"][0]["name"] == "</script><script>alert(1)</script>"
    assert '20a "b" & $c' in page.rows
    assert "<i>me</i>" in page.text


def other(folder, **options):
    return maps.write(folder / "other.tif", maps.random_codes((20, 30)), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output": "map.tif"}, ConfigError, "expected the name of a page, e.g. map.html"),
        ({"max_px": 5000}, ConfigError, "--max_px=5000, expected 256 to 4096"),
        ({"before": {"transform": maps.DEGREES}}, SceneError, "expected the same grid"),
        ({"before": {"tag": "corine_l1", "nodata": 255}}, SceneError, "expected the same classes"),
        ({"scene": ["nothing.tif"]}, DatasetError, "no such file"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path, options, error, message):
    random_map(tmp_path / "map.tif", (20, 30))
    if "before" in options:
        options = {"before": other(tmp_path, **options["before"])}
    with pytest.raises(error, match=message):
        view_write.write(tmp_path / "map.tif", **options)
    assert not list(tmp_path.glob("*.html"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("crs", "told"), [("EPSG:4326", True), ("OGC:CRS84", True), ("EPSG:4267", False),
                      ("EPSG:4807", False), ("EPSG:32632", False)]
)  # fmt: skip
def test_only_degrees_of_wgs_84_are_told_as_such(crs, told):
    assert view_place.is_wgs84(rasterio.crs.CRS.from_user_input(crs)) is told


SCRIPT = """
const frames = [...document.querySelectorAll("iframe")].map((f) => f.contentWindow);
const wait = () => new Promise((go) => setTimeout(go, 60));
const classes = async (w, places) => { // as the page tells them, and as it draws them
  const d = w.document, c = d.getElementById("canvas"), b = c.getBoundingClientRect();
  w.HTMLElement.prototype.setPointerCapture = () => {};
  const pen = c.getContext("2d"), found = [], ratio = w.devicePixelRatio;
  const {rows, cols} = JSON.parse(d.getElementById("data").textContent);
  const scale = 0.96 * Math.min(b.width / cols, b.height / rows);
  const at = (row, col) => [(b.width - scale * cols) / 2 + (col + 0.5) * scale,
    (b.height - scale * rows) / 2 + (row + 0.5) * scale];
  const colours = places.map(([row, col]) => {
    const [x, y] = at(row, col);
    return [...pen.getImageData(x * ratio, y * ratio, 1, 1).data];
  });
  places.forEach(([row, col], i) => {
    const [x, y] = at(row, col);
    for (const type of ["pointerdown", "pointerup"]) {
      c.dispatchEvent(new w.PointerEvent(type, {pointerId: 1, clientX: b.left + x,
        clientY: b.top + y}));
    }
    const box = d.getElementById("identify");
    const pairs = {name: box.querySelector("b").lastChild.textContent, colour: colours[i]};
    for (const dt of box.querySelectorAll("dt")) pairs[dt.textContent] = dt.nextSibling.textContent;
    found.push(pairs);
  });
  return found;
};
onload = async () => {
  while (frames.some((w) => w.document.getElementById("stage").ariaBusy !== "false")) await wait();
  const [one, two, three, four] = frames, d = one.document, found = {};
  found.sideways = frames.map((w) => w.document.documentElement).map((e) =>
    e.scrollWidth - e.clientWidth);
  d.getElementById("opacity").value = 100;
  d.getElementById("opacity").dispatchEvent(new Event("input"));
  await wait();
  found.one = await classes(one, PLACES.one);
  found.two = await classes(two, PLACES.two);
  found.four = await classes(four, PLACES.four);
  d.querySelector('#legend tr[data-class="0"] input').click(); // hides it: the scene is seen
  await wait();
  found.hidden = await classes(one, PLACES.one);
  d.querySelector('#legend tr[data-class="0"] button').click(); // shows it, striped
  await wait();
  found.striped = await classes(one, PLACES.one);
  found.said = d.getElementById("shown").textContent;
  d.querySelector('#legend tr[data-class="0"] button').click();
  d.querySelector("input[value=before]").click();
  for (const key of ["End"]) {
    d.getElementById("swipe").dispatchEvent(new one.KeyboardEvent("keydown", {key}));
  }
  await wait();
  found.before = await classes(one, PLACES.one);
  found.swipe = d.getElementById("swipe").getAttribute("aria-valuenow");
  for (const key of ["1", "Escape", "Enter"]) {
    d.getElementById("canvas").dispatchEvent(new one.KeyboardEvent("keydown", {key}));
  }
  found.keyed = d.getElementById("identify").textContent;
  three.document.querySelector('#legend tr:nth-child(2) button').click();
  await wait();
  const c = three.document.getElementById("canvas");
  const seen = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  found.rare = 0;
  for (let i = 0; i < seen.length; i += 4) {
    found.rare += RARE.every((value, j) => seen[i + j] === value);
  }
  document.title = JSON.stringify(found);
};
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser to run the page in")
def test_a_browser_tells_and_draws_what_the_map_has(shown, tmp_path):
    path, codes, before, sure, image = shown
    large = random_map(tmp_path / "large.tif", (600, 400))
    thinned = view_write.write(tmp_path / "large.tif", max_px=256)
    rare = np.full((600, 600), 10, np.uint8)
    rare[100::150, 77::201] = 80  # 4 x 3 pixels, of which a small picture draws every third or so
    dense = view_write.write(maps.write(tmp_path / "rare.tif", rare))
    degrees = {"crs": "EPSG:4267", "transform": rasterio.Affine(0.01, 0, -78.6, 0, -0.01, 35.8)}
    other = view_write.write(maps.write(tmp_path / "nad27.tif", np.full((9, 9), 10, np.uint8),
                                        **degrees))  # fmt: skip
    random = np.random.default_rng(5)
    places = {
        "four": [[2, 3]],
        "one": [[0, 0], [36, 49], *random.integers(0, (37, 50), (40, 2)).tolist()],
        "two": [[0, 0], [599, 399], *random.integers(0, (600, 400), (20, 2)).tolist()],
    }
    frames = "".join(
        f'<iframe src="{page.as_uri()}" style="width:{side}px;height:800px;border:0"></iframe>'
        for page, side in ((path, 1280), (thinned, 390), (dense, 200), (other, 500))
    )
    file = tmp_path / "frames.html"
    given = f"const PLACES = {json.dumps(places)}, RARE = [0, 100, 200];"
    file.write_text(f"{frames}<script>{given}{SCRIPT}</script>")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
         file.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search("<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr[-2000:]
    found = json.loads(html.unescape(title[1]))
    assert found["sideways"] == [0, 0, 0, 0]
    assert found["rare"] == 12
    named = {code: name for code, name in zip(CLASSES.codes, CLASSES.names, strict=True)}
    named[0] = "no class"
    rgb = {code: [*bytes.fromhex(c[1:])] for code, c in zip(CLASSES.codes, CLASSES.colours,
                                                          strict=True)}  # fmt: skip
    to_degrees = pyproj.Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    stripes = set()
    for i, (row, col) in enumerate(places["one"]):
        one, code, under = found["one"][i], int(codes[row, col]), image[:, row, col].tolist()
        assert one["name"] == named[code]
        assert one["row, column"] == f"{row}, {col}"
        x, y = 440_000 + 30 * (col + 0.5), 5_300_000 - 30 * (row + 0.5)
        assert [float(v) for v in one["x, y"].split(",")] == [x, y]
        place = [float(v) for v in one["lon, lat (WGS 84)"].split(",")]
        assert place == pytest.approx(to_degrees.transform(x, y), abs=3e-5)  # a tenth of a pixel
        assert one["confidence"] == f"{sure[row, col] * 0.004:.3f}, probability of the class"
        was = int(before[row, col])
        assert one["before"] == (f"{named[was]} ({was})" if was else "no class")
        assert one["colour"][:3] == (rgb[code] if code else under)
        assert found["hidden"][i]["colour"][:3] == (rgb[code] if code not in (0, 10) else under)
        assert found["before"][i]["colour"][:3] == (rgb[was] if was else under)
        if code == 10:
            stripes.add(tuple(found["striped"][i]["colour"][:3]))
    assert len(stripes) > 1
    assert stripes <= {tuple(rgb[10]), (0, 0, 0), (255, 255, 255)}
    for (row, col), one in zip(places["two"], found["two"], strict=True):
        row, col = min(row // 3 * 3 + 1, 599), min(col // 3 * 3 + 1, 399)
        assert one["row, column"] == f"{row}, {col}"
        assert one["name"] == named[int(large[row, col])]
        assert one["drawn for"] == "3 × 3 pixels around it"
    (one,) = found["four"]
    assert [float(v) for v in one["x, y"].split(",")] == pytest.approx([-78.565, 35.775])
    place = [float(v) for v in one["lon, lat (WGS 84)"].split(",")]
    datum = pyproj.Transformer.from_crs("EPSG:4267", "EPSG:4326", always_xy=True)
    assert place == pytest.approx(datum.transform(-78.565, 35.775), abs=1e-5)
    assert abs(place[0] + 78.565) > 1e-4
    assert found["said"] == "striped: Tree cover (10)"
    assert found["swipe"] == "100"
    assert "row, column18, 25" in found["keyed"]


def test_real_map_and_scene_of_north_carolina(samples, tmp_path):
    """Two names for one projection: refused, and drawn where the user vouches for them."""
    folder = samples / "scenes" / "landsat7_north_carolina"
    table = tmp_path / "landclass96.csv"
    lines = [f"{code},class {code},#0000{code}0,," for code in range(1, 8)]
    head = ["# source: GRASS GIS sample data", "code,name,colour,parent,ignore"]
    table.write_text("\n".join(head + lines))
    scene = [f"landsat7/B{b}={folder / f'lsat7_2000_{b}0.tif'}" for b in (1, 2, 3)]
    given = {"nomenclature": str(table), "output": tmp_path / "nc.html"}
    with pytest.raises(SceneError, match="EPSG:32119, but the map has EPSG:3358"):
        view_write.write(folder / "strata.tif", scene, **given)
    assert not given["output"].exists()
    path = view_write.write(folder / "strata.tif", scene, trust_transform=True, **given)
    page = Page(path.read_text())
    land_map = landmap.read_map(folder / "strata.tif", str(table))
    found = imagecodecs.png_decode(page.layers["map"])
    with rasterio.open(land_map.path) as raster:
        codes = raster.read(1)
    np.testing.assert_array_equal(found[codes > 0] + 1, codes[codes > 0])
    drawn = imagecodecs.webp_decode(page.layers["scene"])
    with rasterio.open(folder / "lsat7_2000_30.tif") as raster:
        red = raster.read(1)
    assert np.array_equal(drawn[..., 3] > 0, red != -99999)  # the three bands have one border
    kept = drawn[..., 3] > 0
    assert np.corrcoef(drawn[..., 0][kept], red[kept])[0, 1] > 0.95
    assert "landsat7/B3 (660 nm), landsat7/B2 (560 nm), landsat7/B1 (485 nm)" in page.text
