import dataclasses
import datetime
import hashlib
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import urllib.parse

import pystac
import pytest

from rsjax import sensors
from rsjax.datasets import scene_list, stac_bands, stac_files, stac_items, stac_scenes
from rsjax.datasets.scene_list import Labels
from rsjax.errors import ConfigError, DatasetError, SensorError, StorageError

ROOT = pathlib.Path(__file__).parents[2]
TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
S2 = "sentinel2_l2a"
BOX = [8.0, 50.0, 9.0, 51.0]
REFERENCE = Labels("worldcover", raster=("map.tif",))
CODES = {"sha256": "1220", "sha1": "1114", "md5": "d50110", "sha512": "1340"}


def item(name, assets, **properties):
    """A STAC item of (key -> fields of an asset)."""
    when = datetime.datetime(2020, 6, 1, 10, tzinfo=datetime.UTC)
    corners = [[8, 50], [9, 50], [9, 51], [8, 50]]
    made = pystac.Item(
        name, {"type": "Polygon", "coordinates": [corners]}, BOX, when, dict(properties)
    )
    for key, fields in assets.items():
        fields = {"type": TIFF, **fields}
        made.add_asset(key, pystac.Asset.from_dict(fields))
    return made


def band(name, common=None, **fields):
    described = {"name": name} | ({"common_name": common} if common else {})
    return {"eo:bands": [described], "raster:bands": [{"scale": 1e-4, "offset": 0}], **fields}


def content(name):
    return f"II*\0 {name} ".encode() * 3000


def multihash(data, kind="sha256"):
    return CODES[kind] + hashlib.new(kind, data).hexdigest()


@pytest.fixture
def folder(tmp_path):
    """A folder with a static catalog of two items, keys and order of assets of no help."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in ("blue", "nir", "colour"):
            (tmp_path / name / f"{file}.tif").write_bytes(content(name + file))
    (tmp_path / "map.tif").write_bytes(b"classes")
    catalog = pystac.Catalog("mine", "two scenes")
    colour = {"eo:bands": [{"name": "B04"}, {"name": "B03"}, {"name": "B02"}],
              "raster:bands": [{"scale": 1e-4}] * 3}  # fmt: skip
    blue = content("oneblue")
    catalog.add_item(item("one", {
        "a": band("B8A", href="./colour.tif"),
        "b": band("B08", href="./nir.tif"),
        "c": band("B02", href="./blue.tif") | {
            "file:size": len(blue), "file:checksum": multihash(blue)},
        "d": colour | {"href": "./colour.tif"},
        "e": band("B02", href="./preview.tif", roles=["thumbnail"]),
        "f": band("B02", href="./blue.json", type="application/json"),
    }, license="CC-BY-4.0"))  # fmt: skip
    catalog.add_item(item("two", {
        "0": {"href": "./nir.tif", "bands": [{"name": "x", "eo:common_name": "nir",
              "raster:scale": 1e-4, "raster:offset": -0.1}]},
        "1": {"href": "./blue.tif", "raster:scale": 1e-4, "raster:offset": -0.1,
              "bands": [{"name": "y", "eo:common_name": "blue"}]},
    }, license="CC-BY-4.0"))  # fmt: skip
    catalog.normalize_hrefs(str(tmp_path))
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return tmp_path


def test_a_catalog_on_disk_becomes_scenes_by_the_names_of_bands(folder):
    items = stac_items.read(str(folder))
    stac_scenes.write(items, folder, S2, ("B02", "B08"), labels=REFERENCE)
    made = scene_list.read((folder / "scenes.json").read_bytes(), "scenes.json")
    assert (made.sensor, made.bands, made.labels) == (S2, ("B02", "B08"), REFERENCE)
    assert made.licence == "CC-BY-4.0"
    assert made.citation == "not stated"
    assert [(s.id, s.date, s.unit) for s in made.scenes] == [
        ("one", "2020-06-01", "reflectance_1e4"),
        ("two", "2020-06-01", "reflectance_1e4_offset1000"),
    ]
    for scene in made.scenes:
        assert {(f.path, f.bands) for f in scene.files} == {
            (f"{scene.id}/blue.tif", ("B02",)),
            (f"{scene.id}/nir.tif", ("B08",)),
        }
        for file in scene.files:
            data = (folder / file.path).read_bytes()
            assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert dict(stac_files.verify(folder)) == {
        f.path: len((folder / f.path).read_bytes()) for s in made.scenes for f in s.files
    }


def test_bands_of_one_file_are_named_in_its_order(folder):
    one = stac_items.read(str(folder / "one" / "one.json"))
    made = stac_scenes.write(one, folder, S2, ("B03", "B04"), labels=REFERENCE)
    (file,) = made.scenes[0].files
    assert (file.path, file.bands) == ("one/colour.tif", ("B04", "B03", ""))
    assert made.unit == "reflectance_1e4"
    assert made.scenes[0].unit == ""


def test_running_again_keeps_what_the_owner_wrote(folder):
    items = stac_items.read(str(folder))
    made = stac_scenes.write(items, folder, S2, ("B02",), labels=REFERENCE)
    split = dataclasses.replace(made.split, rule="scene")
    scenes = tuple(dataclasses.replace(s, split="train") for s in made.scenes[:1])
    scenes += tuple(dataclasses.replace(s, split="test") for s in made.scenes[1:])
    mine = dataclasses.replace(made, title="Mine", licence="mine", split=split, scenes=scenes)
    scene_list.write(mine, folder / "scenes.json")
    again = stac_scenes.write(items, folder, S2, ("B02", "B08"))
    assert (again.title, again.licence, again.split) == ("Mine", "mine", split)
    assert [s.split for s in again.scenes] == ["train", "test"]
    assert [len(s.files) for s in again.scenes] == [2, 2]


# Ranges in micrometres: https://github.com/stac-extensions/eo#common-band-names
RANGES = {
    "coastal": (0.40, 0.45), "blue": (0.45, 0.53), "green": (0.51, 0.60), "red": (0.60, 0.70),
    "rededge071": (0.69, 0.73), "rededge075": (0.73, 0.76), "rededge078": (0.76, 0.80),
    "nir": (0.76, 1.00), "nir08": (0.75, 0.90), "nir09": (0.85, 1.05), "cirrus": (1.35, 1.40),
    "swir16": (1.55, 1.75), "swir22": (2.08, 2.35),
}  # fmt: skip


@pytest.mark.parametrize("sensor", ["sentinel2_l1c", S2, "landsat5", "landsat7", "landsat8"])
def test_common_names_mean_bands_of_their_wavelengths(sensor):
    known, seen = sensors.get(sensor), set()
    for common, (low, high) in RANGES.items():
        found = stac_bands._band(known, {"name": "?", "common_name": common})
        if found:
            assert low <= known.band(found).wavelength_nm / 1000 <= high, (common, found)
            seen.add(found)
    assert seen == {b.name for b in known.bands}
    for name in (b.name for b in known.bands):
        for spelled in (name, name.lower(), name.replace("B0", "B")):
            # A band's own name counts more than a common one.
            assert stac_bands._band(known, {"name": spelled, "common_name": "blue"}) == name


def test_a_common_name_of_several_bands_means_none():
    found = item("x", {"a": band("?", "rededge", href="/a.tif")})
    with pytest.raises(DatasetError, match=r"STAC item x: no asset has band B05 .* a: -\. Leave"):
        stac_bands.match(found, S2, ("B05",))


def test_red_edges_of_one_common_name_are_told_apart_by_their_own():
    """As Earth Search has them."""
    found = item("x", {f"rededge{i}": band(f"rededge{i}", "rededge", href=f"/{i}.tif")
                       for i in (3, 1, 2)})  # fmt: skip
    chosen = stac_bands.match(found, S2, ("B05", "B06", "B07"))
    assert {a.href: a.bands for a in chosen} == {
        "/1.tif": ("B05",), "/2.tif": ("B06",), "/3.tif": ("B07",),
    }  # fmt: skip
    # The common name is the standard's, and counts where it says which band.
    (one,) = stac_bands.match(item("x", {"a": band("nir", "nir08", href="/a.tif")}), S2, ("B8A",))
    assert one.bands == ("B8A",)


def test_radar_is_matched_by_polarization_and_else_by_key():
    found = item("x", {"measurement": {"href": "/1.tif", "sar:polarizations": ["VH"]},
                       "vv": {"href": "/2.tif"}})  # fmt: skip
    chosen = stac_bands.match(found, "sentinel1", ("VV", "VH"))
    assert {a.href: a.bands for a in chosen} == {"/1.tif": ("VH",), "/2.tif": ("VV",)}


def test_a_band_in_two_assets_is_refused_until_one_is_chosen():
    found = item("x", {"B02": band("B02", href="/a.tif"), "B02_20m": band("B02", href="/b.tif")})
    with pytest.raises(DatasetError, match=r"band B02 is in the assets B02, B02_20m, .*--assets"):
        stac_bands.match(found, S2, ("B02",))
    (chosen,) = stac_bands.match(found, S2, ("B02",), keys=".*_20m")
    assert chosen.href == "/b.tif"
    with pytest.raises(SensorError, match="'B99'"):
        stac_bands.match(found, S2, ("B99",))


def test_of_equals_a_geotiff_is_taken_before_jpeg_2000():
    """As Earth Search has them: one band in two formats, of one name."""
    jp2 = {"type": "image/jp2", "href": "s3://x/B02.jp2"}
    tiff = band("blue", "blue", href="https://x/B02.tif")
    both = {"blue": tiff, "blue-jp2": band("blue", "blue") | jp2}
    (chosen,) = stac_bands.match(item("x", both), S2, ("B02",))
    assert chosen.href == "https://x/B02.tif"
    (chosen,) = stac_bands.match(item("x", both), S2, ("B02",), keys=".*-jp2")
    assert chosen.href == "s3://x/B02.jp2"
    with pytest.raises(DatasetError, match="in the assets blue, other, expected one"):
        stac_bands.match(item("x", both | {"other": tiff}), S2, ("B02",))


@pytest.mark.parametrize(
    ("scaling", "properties", "found"),
    [
        ([{"scale": 1e-4, "offset": 0}], {}, "reflectance_1e4"),
        ([{"scale": 1e-4, "offset": -0.1}], {}, "reflectance_1e4_offset1000"),
        ([{"scale": 1.0}], {}, "reflectance"),
        ([{"scale": 1e-4}], {"earthsearch:boa_offset_applied": True}, "reflectance_1e4"),
        ([{"scale": 1e-4, "offset": -0.1}], {"earthsearch:boa_offset_applied": True}, None),
        ([{"scale": 3e-4}], {}, None),
        ([{"nodata": 0}], {}, None),
    ],
)
def test_the_unit_is_what_the_item_states(scaling, properties, found):
    one = item("x", {"a": band("B02", href="/a.tif") | {"raster:bands": scaling}}, **properties)
    assets = stac_bands.match(one, S2, ("B02",))
    if found:
        assert stac_bands.unit(one, assets, S2) == found
    else:
        with pytest.raises(DatasetError, match=r"STAC item x: .* Give --unit, one of reflect"):
            stac_bands.unit(one, assets, S2)


def test_landsat_as_usgs_states_it():
    """Names of bands are not the sensor's (OLI_B5), common names are."""
    raster = [{"scale": 2.75e-05, "offset": -0.2, "nodata": 0}]
    one = item("x", {
        "nir08": {"href": "/5.tif", "eo:bands": [{"name": "OLI_B5", "common_name": "nir08"}],
                  "raster:bands": raster},
        "red": {"href": "/4.tif", "eo:bands": [{"name": "OLI_B4", "common_name": "red"}],
                "raster:bands": raster},
        "qa": {"href": "/qa.tif", "roles": ["cloud"]},
    })  # fmt: skip
    assets = stac_bands.match(one, "landsat8", ("B4", "B5"))
    assert {a.href: a.bands for a in assets} == {"/4.tif": ("B4",), "/5.tif": ("B5",)}
    assert stac_bands.unit(one, assets, "landsat8") == "landsat_c2_l2"


def test_a_sensor_of_one_unit_needs_no_statement():
    one = item("x", {"red": {"href": "/a.tif"}})
    assert stac_bands.unit(one, stac_bands.match(one, "rgb", ("red",)), "rgb") == "dn8"


def test_items_come_from_a_file_a_collection_or_a_folder(folder, tmp_path):
    one = pystac.Item.from_file(str(folder / "one" / "one.json"))
    loose = one.to_dict(include_self_link=False)
    loose["links"] = []
    other = tmp_path / "loose"
    other.mkdir()
    (other / "a.json").write_text(json.dumps({"type": "FeatureCollection", "features": [loose]}))
    (other / "b.json").write_text(json.dumps(loose | {"id": "another"}))
    nested = {"type": "FeatureCollection", "features": [loose | {"id": "x/y"}]}
    (other / "c.json").write_text(json.dumps(nested))
    for where, ids in (("a.json", ["one"]), ("c.json", ["x/y"]), ("", ["another", "one", "x/y"])):
        items = stac_items.read(str(other / where))
        assert [one.id for one in items] == ids
        (asset,) = stac_bands.match(items[0], S2, ("B02",))
        assert asset.href == str(other / "blue.tif")  # beside the file that names it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"x\.json: JSONDecodeError"),
        ("[1]", r"x\.json: type None, expected a STAC Feature"),
        ('{"type": "Polygon"}', r"x\.json: type 'Polygon', expected a STAC Feature"),
        ('{"type": "FeatureCollection", "features": []}', "no STAC items"),
        ('{"type": "Feature", "id": "x"}', r"x\.json: \w+: .*expected STAC items as JSON"),
    ],
)
def test_what_is_no_stac_is_named(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    for where in (tmp_path, tmp_path / "x.json"):
        with pytest.raises(DatasetError, match=message):
            stac_items.read(str(where))


def test_missing_and_double_items_are_named(tmp_path, folder):
    with pytest.raises(DatasetError, match=r"nowhere\.json: FileNotFoundError"):
        stac_items.read(str(tmp_path / "nowhere.json"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: no \*\.json"):
        stac_items.read(str(tmp_path / "empty"))
    items = stac_items.read(str(folder))
    with pytest.raises(DatasetError, match="item 'one' is there twice"):
        stac_items.unique([*items, items[0]], "here")


def test_local_files_must_be_there_be_whole_and_lie_in_the_folder(folder, tmp_path):
    items = stac_items.read(str(folder))
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=f"lies outside of .*--output={folder / 'one'}"):
        stac_scenes.write(items, tmp_path / "other", S2, ("B02",), labels=REFERENCE)
    with pytest.raises(ConfigError, match="--labels and --nomenclature are missing"):
        stac_scenes.write(items, folder, S2, ("B02",))
    data = content("oneblue")
    (folder / "one" / "blue.tif").write_bytes(data[:-1] + b"?")
    with pytest.raises(DatasetError, match=r"blue\.tif \(one, c\): sha256 .*, expected"):
        stac_scenes.write(items, folder, S2, ("B02",), labels=REFERENCE)
    (folder / "one" / "blue.tif").write_bytes(data[:-1])
    with pytest.raises(DatasetError, match=f"{len(data) - 1} bytes, expected {len(data)}"):
        stac_scenes.write(items, folder, S2, ("B02",), labels=REFERENCE)
    (folder / "one" / "blue.tif").unlink()
    with pytest.raises(DatasetError, match=r"asset c: .*one/blue\.tif: no such file"):
        stac_scenes.write(items, folder, S2, ("B02",), labels=REFERENCE)
    assert not (folder / "scenes.json").exists()


def test_verify_finds_what_changed_since(folder):
    stac_scenes.write(stac_items.read(str(folder)), folder, S2, ("B02",), labels=REFERENCE)
    assert [name for name, _ in stac_files.verify(folder)] == ["one/blue.tif", "two/blue.tif"]
    two = folder / "two" / "blue.tif"
    data = bytearray(two.read_bytes())
    data[100] ^= 1
    two.write_bytes(data)
    with pytest.raises(DatasetError, match=r"two/blue\.tif \(two, 1\): sha256 .*, expected"):
        list(stac_files.verify(folder))
    two.unlink()
    with pytest.raises(DatasetError, match=r"two/blue\.tif: missing"):
        list(stac_files.verify(folder))
    listed = folder / "stac_files.json"
    listed.write_text(listed.read_text().replace("oneblue", "").replace('"two"', '"TWO"'))
    with pytest.raises(DatasetError, match=r"stac_files\.json: its checksum does not fit"):
        list(stac_files.verify(folder))
    with pytest.raises(DatasetError, match="not there or empty"):
        list(stac_files.verify(folder / "one"))


class Server(http.server.BaseHTTPRequestHandler):
    """Files by path with ranges and ETags; a cut file's connection ends early, once."""

    def do_GET(self):
        state = self.server.state
        path, _, query = self.path.partition("?")
        state["asked"].append((path, self.headers.get("Range")))
        state["query"] = urllib.parse.parse_qs(query)
        data = state["files"].get(path)
        if data is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == tag and not state.get("whole"):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Type", state.get("type", "image/tiff"))
        self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(data[start : start + state["cut"].pop(path, len(data))])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as made:
        made.state = {"files": {}, "cut": {}, "asked": []}
        made.url = f"http://127.0.0.1:{made.server_port}"
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def remote(server, tmp_path):
    """Items whose files lie on the server, as a function that writes their scenes."""
    data = {"/x/blue.tif": content("blue"), "/x/nir.jp2": content("nir")}
    server.state["files"] |= data
    blue = band("B02", href=f"{server.url}/x/blue.tif?token=secret")
    blue |= {"file:checksum": multihash(data["/x/blue.tif"])}
    nir = band("B08", href=f"{server.url}/x/nir.jp2", type="image/jp2")
    nir |= {"file:size": len(data["/x/nir.jp2"])}
    made = item("S2:A", {"blue": blue, "nir": nir})

    def write(download=True, bands=("B02", "B08")):
        return stac_scenes.write([made], tmp_path, S2, bands, labels=REFERENCE, download=download)

    write.item = made
    return write


def test_remote_files_are_got_only_when_asked_and_only_once(remote, server, tmp_path):
    with pytest.raises(ConfigError, match=r"2 of 2 files are not on this machine, the first is "
                       r"\S+/x/blue\.tif\. Add --download"):  # fmt: skip
        remote(download=False)
    assert server.state["asked"] == []
    made = remote()
    assert made.scenes[0].id == "S2_A"
    assert {f.path: f.bands for f in made.scenes[0].files} == {
        "S2_A/blue.tif": ("B02",),
        "S2_A/nir.jp2": ("B08",),
    }
    for name in ("blue.tif", "nir.jp2"):
        assert (tmp_path / "S2_A" / name).read_bytes() == server.state["files"][f"/x/{name}"]
    asked = list(server.state["asked"])
    assert remote(download=False) == made
    assert server.state["asked"] == asked
    assert len(list(stac_files.verify(tmp_path))) == 2
    assert "secret" not in (tmp_path / "stac_files.json").read_text()
    assert sorted(p.name for p in (tmp_path / "S2_A").iterdir()) == ["blue.tif", "nir.jp2"]


def test_a_download_that_was_cut_goes_on_where_it_stopped(remote, server, tmp_path):
    server.state["cut"]["/x/blue.tif"] = 10_000
    with pytest.raises(StorageError, match=r"blue\.tif: ended after 10000 of .*goes on") as caught:
        remote()
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "S2_A" / "blue.tif").exists()
    assert (tmp_path / "S2_A" / ".blue.tif.part").stat().st_size == 10_000
    assert not (tmp_path / "scenes.json").exists()
    remote()
    assert server.state["asked"][1] == ("/x/blue.tif", "bytes=10000-")
    data = (tmp_path / "S2_A" / "blue.tif").read_bytes()
    assert data == server.state["files"]["/x/blue.tif"]
    assert not list((tmp_path / "S2_A").glob(".*"))


@pytest.mark.parametrize("change", ["other file", "no ranges"])
def test_a_part_of_another_file_is_never_continued(remote, server, tmp_path, change):
    server.state["cut"]["/x/nir.jp2"] = 9_000
    with pytest.raises(StorageError):
        remote()
    if change == "other file":  # of the same size, and the item states no checksum
        server.state["files"]["/x/nir.jp2"] = content("NIR")
    else:
        server.state["whole"] = True
    remote()
    assert ("/x/nir.jp2", "bytes=9000-") in server.state["asked"]
    found = (tmp_path / "S2_A" / "nir.jp2").read_bytes()
    assert found == server.state["files"]["/x/nir.jp2"]


def test_a_part_that_was_whole_when_it_was_killed(remote, server, tmp_path):
    data = server.state["files"]["/x/blue.tif"]
    folder = tmp_path / "S2_A"
    folder.mkdir()
    (folder / ".blue.tif.part").write_bytes(data)
    state = [f"{server.url}/x/blue.tif", f'"{hashlib.md5(data).hexdigest()}"']
    (folder / ".blue.tif.part.json").write_text(json.dumps(state))
    remote()
    assert (folder / "blue.tif").read_bytes() == data


def test_what_is_not_as_stated_is_refused_and_not_kept(remote, server, tmp_path):
    good = dict(server.state["files"])
    server.state["files"]["/x/blue.tif"] = good["/x/blue.tif"][:-1] + b"?"
    with pytest.raises(DatasetError, match=r"blue\.tif.* sha256 \w+, expected"):
        remote()
    assert list((tmp_path / "S2_A").iterdir()) == []
    server.state["files"] |= {"/x/nir.jp2": b"short", "/x/blue.tif": good["/x/blue.tif"]}
    with pytest.raises(DatasetError, match=r"nir\.jp2: 5 bytes, but STAC item S2:A states"):
        remote()
    del server.state["files"]["/x/nir.jp2"]
    with pytest.raises(StorageError, match=r"nir\.jp2: HTTP 404"):
        remote()
    assert not (tmp_path / "scenes.json").exists()
    server.shutdown()
    server.server_close()
    with pytest.raises(StorageError, match=r"nir\.jp2: .*Connection refused"):
        remote()


@pytest.mark.parametrize("kind", CODES)
def test_checksums_of_every_kind(tmp_path, kind):
    path = tmp_path / "a.tif"
    path.write_bytes(b"multihash")
    asset = stac_bands.Asset("x", "a", "a", ("B02",), 9, multihash(b"multihash", kind), None)
    expected = "9cbc07c3f991725836a3aa2a581ca2029198aa420b9d99bc0e131d9f3e2cbe47"
    assert stac_files.check(path, asset) == expected
    path.write_bytes(b"multihasH")
    with pytest.raises(DatasetError, match=f"{kind} .*, expected"):
        stac_files.check(path, asset)
    odd = dataclasses.replace(asset, checksum="ff20" + "00" * 32)
    with pytest.raises(DatasetError, match="no multihash of sha1, sha256"):
        stac_files.check(path, odd)


def test_files_on_an_object_store(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/stac/blue.tif", content("blue"))
    made = item("x", {"blue": band("B02", href="memory://stac/blue.tif")})
    try:
        stac_scenes.write([made], tmp_path, S2, ("B02",), labels=REFERENCE, download=True)
        assert (tmp_path / "x" / "blue.tif").read_bytes() == content("blue")
    finally:
        memory.rm("/stac", recursive=True)


def test_an_api_is_searched(server, tmp_path):
    pytest.importorskip("pystac_client", reason="pip install 'rsjax[stac]'")
    link = {"rel": "search", "href": f"{server.url}/search", "type": "application/geo+json"}
    landing = {
        "type": "Catalog", "id": "api", "description": "test", "stac_version": "1.0.0",
        "conformsTo": ["https://api.stacspec.org/v1.0.0/core",
                       "https://api.stacspec.org/v1.0.0/item-search"],
        "links": [link, {"rel": "root", "href": server.url}],
    }  # fmt: skip
    found = [item(n, {"b": band("B02", href=f"{server.url}/b.tif")}).to_dict() for n in "ba"]
    page = {"type": "FeatureCollection", "features": found, "links": []}
    server.state["type"] = "application/json"
    server.state["files"] |= {"/": json.dumps(landing).encode()}
    server.state["files"]["/search"] = json.dumps(page).encode()
    items = stac_items.search(server.url, "s2", BOX, "2020-06-01/2020-06-30")
    assert [one.id for one in items] == ["a", "b"]
    query = server.state["query"]
    assert (query["collections"], query["bbox"]) == (["s2"], ["8.0,50.0,9.0,51.0"])
    assert query["datetime"][0].startswith("2020-06-01T00:00:00Z/2020-06-30")
    del server.state["files"]["/search"]
    with pytest.raises(DatasetError, match=rf"{server.url}: \w+: .*Check the address"):
        stac_items.search(server.url, "s2", BOX, "")


def test_without_the_package_the_extra_is_named(monkeypatch):
    for name in ("pystac", "pystac_client"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'rsjax\[stac\]'"):
        stac_items.read("x.json")
    with pytest.raises(ConfigError, match=r"pip install 'rsjax\[stac\]'"):
        stac_items.search("http://127.0.0.1:1", "s2", (), "")


def test_the_command_writes_and_verifies(folder):
    command = [sys.executable, "-m", "rsjax.stac", f"--items={folder}", f"--sensor={S2}",
               "--bands=B02,B08", f"--output={folder}"]  # fmt: skip
    labels = ["--labels=map.tif", "--nomenclature=worldcover", "--verify"]
    found = subprocess.run([*command, *labels], cwd=ROOT, capture_output=True, text=True,
                           check=False)  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "scenes.json: 2 scenes of sentinel2_l2a" in found.stdout
    assert found.stdout.count(", sound") == 4
    found = subprocess.run([*command, "--labels=no.tif", "--nomenclature=worldcover"], cwd=ROOT,
                           capture_output=True, text=True, check=False)  # fmt: skip
    assert found.returncode == 1
    assert "no.tif is not there; paths are those in --output" in found.stderr
    assert "Traceback" not in found.stderr
