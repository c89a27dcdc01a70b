"""Downloads that are damaged or mean harm, through the real prepare command."""

from __future__ import annotations

import io
import pathlib
import shutil
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fault.lab import Lab, Result, Row, copy, cut, digests, flip

Mutate = Callable[[pathlib.Path], str]  # damages a download; returns what the message must name


@contextmanager
def _listener() -> Iterator[tuple[int, Callable[[], bool]]]:
    """A local port, and whether anybody called it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)

        def called() -> bool:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield server.getsockname()[1], called


def _refused(lab: Lab, row: Row, ended: Result, data: pathlib.Path, named: str) -> None:
    """Counts a prepare that had to be refused."""
    row.tries += 1
    row.wrong += ended.code == 0
    row.lost += bool(list(data.rglob("manifest.json")))
    row.heard(ended)
    row.unclear += named not in ended.text


def _each(lab: Lab, name: str, mutations: list[Mutate]) -> Row:
    """Each mutation of a fresh copy of the download must be refused, and named."""
    row, outside = Row(name), lab.folder / "outside.txt"
    with _listener() as (port, called):
        for mutate in mutations:
            source, data = copy(lab.download(), lab.folder / "hostile"), lab.fresh("hostile-data")
            _each.port = port  # type: ignore[attr-defined]
            named = mutate(source)
            ended = lab.prepare(source, data).wait(60)
            _refused(lab, row, ended, data, named)
            row.wrong += called() or outside.exists()
            shutil.rmtree(data, ignore_errors=True)
    return row


def _victim(source: pathlib.Path) -> pathlib.Path:
    return sorted((source / "BigEarthNet-S2").rglob("*_B02.tif"))[0]


def vrt_in_tif(lab: Lab, _: int) -> Row:
    """VRT XML under the name of a GeoTIFF: to a local file, to the network."""

    def vrt(target: str) -> Mutate:
        def mutate(source: pathlib.Path) -> str:
            path = _victim(source)
            name = target.format(port=_each.port)  # type: ignore[attr-defined]
            path.write_text(
                '<VRTDataset rasterXSize="120" rasterYSize="120"><VRTRasterBand dataType="UInt16" '
                f'band="1"><SimpleSource><SourceFilename relativeToVRT="0">{name}</SourceFilename>'
                "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
            )
            return path.name

        return mutate

    targets = ("/etc/passwd", "/vsicurl/http://127.0.0.1:{port}/a.tif", "/vsizip//tmp/a.zip/a.tif")
    return _each(lab, "VRT XML in a .tif, to a file or the network", [vrt(t) for t in targets])


def names_in_metadata(lab: Lab, _: int) -> Row:
    """Patch names in metadata.parquet that leave the folder or call the network."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def named(bad: str) -> Mutate:
        def mutate(source: pathlib.Path) -> str:
            path = source / "metadata.parquet"
            table = pq.read_table(path)
            at = table.column_names.index("patch_id")
            ids = table.column(at).to_pylist()
            ids[0] = bad.format(port=_each.port)  # type: ignore[attr-defined]
            pq.write_table(table.set_column(at, "patch_id", pa.array(ids)), path)
            return "metadata.parquet" if "{" not in bad else ""

        return mutate

    bad = ("../../outside", "/etc/passwd", "/vsicurl/http://127.0.0.1:{port}/a", "http://a/b",
           "a\\..\\b", "<VRTDataset>")  # fmt: skip
    return _each(lab, "../, absolute, /vsi and URL names in metadata.parquet",
                 [named(b) for b in bad])  # fmt: skip


def names_as_source(lab: Lab, _: int) -> Row:
    """The same as --source."""
    row = Row("/vsi, URL and XML as --source")
    with _listener() as (port, called):
        for source in (f"/vsicurl/http://127.0.0.1:{port}/a.tar", "/vsizip//tmp/a.zip",
                       f"WMS:http://127.0.0.1:{port}/", "<VRTDataset/>", "/dev/zero",
                       "/proc/self/mem"):  # fmt: skip
            data = lab.fresh("hostile-data")
            ended = lab.prepare(pathlib.Path(source), data).wait(60)
            _refused(lab, row, ended, data, "")
            row.wrong += called()
    return row


def _members() -> dict[str, tarfile.TarInfo]:
    found = {}
    for kind, name, link, code in (
        ("parent", "BigEarthNet-S2/../../outside.txt", "", tarfile.REGTYPE),
        ("absolute", "/tmp/outside.txt", "", tarfile.REGTYPE),
        ("symlink", "BigEarthNet-S2/link", "/etc/passwd", tarfile.SYMTYPE),
        ("hard link", "BigEarthNet-S2/link", "../../etc/passwd", tarfile.LNKTYPE),
        ("device", "BigEarthNet-S2/device", "", tarfile.CHRTYPE),
        ("pipe", "BigEarthNet-S2/pipe", "", tarfile.FIFOTYPE),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = code, link
        found[kind] = info
    return found


def members_of_tar(lab: Lab, _: int) -> Row:
    """Names and kinds of members that must not be in a tar."""

    def with_member(info: tarfile.TarInfo) -> Mutate:
        def mutate(source: pathlib.Path) -> str:
            folder = source / "BigEarthNet-S2"
            with tarfile.open(source / "BigEarthNet-S2.tar", "w") as archive:
                archive.add(folder, "BigEarthNet-S2")
                archive.addfile(info, io.BytesIO())
            shutil.rmtree(folder)
            return "BigEarthNet-S2.tar"

        return mutate

    row = _each(lab, "../, absolute, link, device and pipe members in a tar",
                [with_member(i) for i in _members().values()])  # fmt: skip
    return row


def members_of_zip(lab: Lab, _: int) -> Row:
    """Names, links and bombs in a zip."""
    from rsjax.datasets.simulate import simulate

    row, folder = Row("../, absolute, link members and bombs in a zip"), lab.folder / "eurosat"
    if not folder.exists():
        simulate("eurosat", folder, 40, seed=0)
    top = next(p for p in sorted(folder.rglob("*.jpg")))

    def bomb(archive: zipfile.ZipFile, name: str) -> None:
        with archive.open(name, "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(bytes(2**20))

    relative = str(top.relative_to(folder).parent)
    for kind in ("../outside.txt", "/tmp/outside.txt", "link", "bomb", "a\\..\\..\\b"):
        path, data = lab.folder / "hostile.zip", lab.fresh("hostile-data")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(folder))
            if kind == "link":
                info = zipfile.ZipInfo(f"{relative}/{pathlib.Path(relative).name}_9999.jpg")
                info.external_attr = 0o120777 << 16
                archive.writestr(info, "/etc/passwd")
            elif kind == "bomb":
                bomb(archive, f"{relative}/{pathlib.Path(relative).name}_9999.jpg")
            else:
                archive.writestr(kind, "outside")
        ended = lab.start("rsjax.prepare", "--dataset=eurosat", f"--source={path}",
                          f"--data_dir={data}", "--workers=1").wait(60)  # fmt: skip
        _refused(lab, row, ended, data, path.name)
    return row


def huge_raster(lab: Lab, _: int) -> Row:
    """A TIFF header that says a million pixels a side."""

    def huge(width: int, height: int) -> Mutate:
        def mutate(source: pathlib.Path) -> str:
            path = _victim(source)
            data = bytearray(path.read_bytes())
            order = "<" if data[:2] == b"II" else ">"
            (at,) = struct.unpack_from(f"{order}I", data, 4)
            (count,) = struct.unpack_from(f"{order}H", data, at)
            for i in range(count):
                entry = at + 2 + 12 * i
                (tag,) = struct.unpack_from(f"{order}H", data, entry)
                if tag in (256, 257):
                    struct.pack_into(
                        f"{order}HIi", data, entry + 2, 4, 1, width if tag == 256 else height
                    )
            path.write_bytes(data)
            return path.name

        return mutate

    sizes = ((10**6, 10**6), (10**6, 1), (120, 2**31 - 1), (0, 0))
    return _each(lab, "a raster of 1M x 1M pixels in its header", [huge(*s) for s in sizes])


def _random(lab: Lab, tries: int, name: str, pattern: str, damage: Callable[..., None]) -> Row:
    """Damage to one random file of the download: named, harmless, or unseen by any reader."""
    expected, row, unseen, harmless = lab.prepared(), Row(name), 0, 0
    source = lab.folder / "hostile"
    for _ in range(tries):
        copy(lab.download(), source)
        files = sorted(source.rglob(pattern))
        victim = files[int(lab.rng.integers(0, len(files)))]
        damage(victim)
        data = lab.fresh("hostile-data")
        ended = lab.prepare(source, data).wait(60)
        row.tries += 1
        if ended.code:
            row.heard(ended)
            # Metadata with another letter in a name asks for a file that nobody has.
            row.unclear += victim.name not in ended.text and ": no such file" not in ended.text
        else:
            found = digests(data)
            same = {n: d for n, d in found.items() if n != "manifest.json"} == {
                n: d for n, d in expected.items() if n != "manifest.json"
            }
            harmless += same
            unseen += not same
        shutil.rmtree(data, ignore_errors=True)
    if harmless or unseen:
        row.note = (
            f"{harmless} of {row.tries} changed nothing that is read; {unseen} of {row.tries} "
            "changed values and cannot be noticed by any reader: the format has no checksum"
        )
    return row


def tif_flips(lab: Lab, tries: int) -> Row:
    """One bit of a GeoTIFF."""
    return _random(lab, tries, "bit flip in a GeoTIFF", "*_B*.tif", lambda p: flip(p, lab.rng))


def tif_cuts(lab: Lab, tries: int) -> Row:
    """A GeoTIFF cut short."""
    return _random(lab, tries, "GeoTIFF cut short", "*.tif",
                   lambda p: cut(p, int(lab.rng.integers(0, p.stat().st_size))))  # fmt: skip


def tif_missing(lab: Lab, tries: int) -> Row:
    """A GeoTIFF deleted."""
    return _random(lab, tries, "GeoTIFF missing", "*.tif", lambda p: p.unlink())


def parquet_flips(lab: Lab, tries: int) -> Row:
    """One bit of metadata.parquet."""
    return _random(
        lab, tries, "bit flip in metadata.parquet", "metadata.parquet", lambda p: flip(p, lab.rng)
    )


def parquet_cuts(lab: Lab, tries: int) -> Row:
    """metadata.parquet cut short."""
    return _random(lab, tries, "metadata.parquet cut short", "metadata.parquet",
                   lambda p: cut(p, int(lab.rng.integers(0, p.stat().st_size))))  # fmt: skip


def jpeg(lab: Lab, tries: int) -> Row:
    """One bit, or the end, of a JPEG."""
    from rsjax.datasets.simulate import simulate

    row, folder, unseen = Row("JPEG cut short, or a bit of it flipped"), lab.folder / "eurosat", 0
    if not folder.exists():
        simulate("eurosat", folder, 40, seed=0)
    for number in range(tries):
        source, data = copy(folder, lab.folder / "hostile"), lab.fresh("hostile-data")
        files = sorted(source.rglob("*.jpg"))
        victim = files[int(lab.rng.integers(0, len(files)))]
        if number % 2:
            flip(victim, lab.rng)
        else:
            cut(victim, int(lab.rng.integers(0, victim.stat().st_size - 2)))
        ended = lab.start("rsjax.prepare", "--dataset=eurosat", f"--source={source}",
                          f"--data_dir={data}", "--workers=1").wait(60)  # fmt: skip
        row.tries += 1
        if ended.code:
            row.heard(ended)
            row.unclear += victim.name not in ended.text
        else:
            row.wrong += number % 2 == 0
            unseen += 1
    row.note = (
        f"{unseen} of {row.tries - row.tries // 2} flips cannot be noticed by any reader: JPEG has "
        "no checksum"
    )
    return row


CASES = {
    f.__name__: f
    for f in (
        vrt_in_tif, names_in_metadata, names_as_source, members_of_tar, members_of_zip,
        huge_raster, tif_flips, tif_cuts, tif_missing, parquet_flips, parquet_cuts, jpeg,
    )
}  # fmt: skip
