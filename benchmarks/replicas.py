"""A large BigEarthNet v2 download from a small one: hard links to its patches under other names.

What is replicated are the files, so that a set of any size has the official layout and real
content and costs no space. Reading it finds the files in the page cache: the cost of reading the
download from a disk is not in figures that rest on it; the cost of the shards is.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq

PATCHES_A_PRODUCT = 3000  # real products hold up to 4,600
LINKS = 60_000  # of one file; ext4 allows 65,000
SPLITS = (("train", 0.9), ("validation", 0.05), ("test", 0.05))


def origin(folder: str, scratch: pathlib.Path) -> tuple[pathlib.Path, str]:
    """A download to replicate, and what to call it: `folder`, or a simulated one in `scratch`."""
    if folder:
        return pathlib.Path(folder), "real patches, replicated"
    from rsjax.datasets.simulate import simulate

    download = scratch / "simulated"
    if not download.exists():
        simulate("bigearthnet", str(download), 16, seed=0)
    return download, "simulated patches, replicated"


def replicate(source: pathlib.Path, target: pathlib.Path, count: int) -> None:
    """Writes a Sentinel-2 download of `count` patches whose files are links to those of `source`.

    Args:
        source: a BigEarthNet v2 download, on the file system of `target`; else it is copied first.
        target: folder to make.
        count: number of patches; 90 % train, 5 % validation, 5 % test.
    """
    folders = sorted(p for p in (source / "BigEarthNet-S2").glob("*/*") if p.is_dir())
    chosen = [("patch_id", "in", [folder.name for folder in folders])]
    table = pq.read_table(source / "metadata.parquet", filters=chosen)
    known = {row["patch_id"]: row for row in table.to_pylist()}
    folders = [f for f in folders if f.name in known]
    rows, copies = [], itertools.cycle(range(len(folders)))
    contents: dict[int, list[tuple[str, pathlib.Path]]] = {}
    splits = [name for name, share in SPLITS for _ in range(round(share * count))]
    splits += [SPLITS[0][0]] * (count - len(splits))
    own = target / "originals"
    for i, which in zip(range(count), copies, strict=False):
        folder = folders[which]
        if i // len(folders) % LINKS == 0:  # a fresh copy, within the limit of links
            contents[which] = _copied(folder, own / f"{which}_{i // len(folders) // LINKS}")
        number, place = divmod(i, PATCHES_A_PRODUCT)
        tile = f"33{number:03d}"
        product = f"S2A_MSIL2A_20170613T101031_N9999_R022_T{tile}"
        name = f"{product}_{place // 100:02d}_{place % 100:02d}"
        to = target / "BigEarthNet-S2" / product / name
        to.mkdir(parents=True)
        for ending, path in contents[which]:
            os.link(path, to / f"{name}{ending}")
        radar = f"S1A_IW_GRDH_1SDV_20170613T165043_{tile}_{place // 100}_{place % 100}"
        rows.append({**known[folder.name], "patch_id": name, "split": splits[i], "s1_name": radar})
    rows.sort(key=lambda row: row["patch_id"])
    schema = pq.read_schema(source / "metadata.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema), target / "metadata.parquet")


def _copied(folder: pathlib.Path, to: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
    to.mkdir(parents=True)
    found = []
    for path in sorted(folder.iterdir()):
        ending = path.name.removeprefix(folder.name)
        (to / path.name).write_bytes(path.read_bytes())
        found.append((ending, to / path.name))
    return found


if __name__ == "__main__":
    replicate(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))
