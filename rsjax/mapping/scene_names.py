"""Which scenes a list or folder has, and what each is called; see docs/many_scenes.md."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from rsjax.datasets import products, scene_list, stac_items
from rsjax.datasets.scene_list import Labels
from rsjax.errors import ConfigError, SceneError
from rsjax.mapping import scene_files, scene_stac, writer
from rsjax.mapping.scene_stac import safe


def find(listed: str) -> list[tuple[str, str]]:
    """The scenes of a list, in its order.

    Args:
        listed: a `scenes.json` or its folder, a STAC collection of items, or a folder of products.

    Returns:
        (name, the scene as `scene_files.layers` takes it); the name is that of its map.

    Raises:
        SceneError: there are none, or two whose maps would have one name.
        DatasetError: a list that is damaged.
    """
    listed = _file(listed)
    if os.path.isdir(listed):
        found = [(os.path.basename(path).removesuffix(".SAFE"), path) for path in _products(listed)]
    elif not os.path.isfile(listed):
        raise SceneError(f"{listed}: no such file or folder; correct --scenes")
    elif scene_files.is_list(listed):
        scenes = scene_files.read_list(listed).scenes
        found = [(scene.id, f"{listed}#{scene.id}") for scene in scenes]
    else:
        found = [(safe(one.id), f"{listed}#{one.id}") for one in stac_items.read(listed)]
    if not found:
        raise SceneError(
            f"{listed}: no {scene_list.FILE} and no product (S2?_MSIL..., L?0?_L...), expected at "
            "least one scene; name a list of scenes, or the folder that has the products' folders"
        )
    names = [name for name, _ in found]
    beside = {f"{name}_{what}" for name in names for what in ("confidence", "probabilities")}
    clash = sorted({name for name in names if names.count(name) > 1 or name in beside})
    if clash:
        raise SceneError(
            f"{listed}: the maps of several scenes would be {clash[0]}.tif, expected one each; "
            "rename scenes, or map them one by one with --scene"
        )
    return found


def _file(listed: str) -> str:
    """The list of a folder that has one."""
    inside = os.path.join(listed, scene_list.FILE)
    return inside if os.path.isfile(inside) else listed


def _products(folder: str) -> list[str]:
    there = sorted(one.name for one in os.scandir(folder) if one.is_dir())
    return [os.path.join(folder, name) for name in there if products.is_name(name)]


def check_outputs(listed: str, folder: pathlib.Path, names: Sequence[str]) -> None:
    """Refuses maps that would replace a file of any scene of a list, or labels of the list.

    Args:
        listed: as of `find`.
        folder: of the maps.
        names: of the scenes.

    Raises:
        ConfigError: names the file.
        DatasetError: a list that is damaged.
    """
    taken = {os.path.realpath(path) for path in _inputs(_file(listed))}
    for name in names:
        for path in writer.files_of(folder / f"{name}.tif"):
            if os.path.realpath(path) in taken:
                raise ConfigError(
                    f"output={folder}: the map of scene {name} would replace {path}, which is an "
                    f"input of {listed}; choose another folder"
                )


def _inputs(listed: str) -> Iterator[str]:
    """Paths of all files that the scenes of a list are made of, and of their labels."""
    root = os.path.dirname(listed)
    if os.path.isdir(listed):
        for folder in _products(listed):
            yield from _within(folder)
    elif not scene_files.is_list(listed):
        yield from scene_stac.local_files(listed)
    else:
        given = scene_files.read_list(listed)
        for labels in (given.labels, *(scene.labels for scene in given.scenes)):
            for path in _of_labels(labels):
                yield os.path.join(root, path)
        for scene in given.scenes:
            for file in scene.files:
                yield os.path.join(root, file.path)
            if scene.product:
                yield from _within(os.path.join(root, scene.product))


def _of_labels(labels: Labels | None) -> Sequence[str]:
    return () if labels is None else [*labels.raster, *filter(None, [labels.vector])]


def _within(folder: str) -> Iterator[str]:
    for path, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(path, name)


def shard(scenes: Sequence[tuple[str, str]], text: str) -> list[tuple[str, str]]:
    """Every n-th scene from the i-th on.

    Args:
        scenes: all.
        text: 'i/n' with i from 0 to n - 1; '' is all.

    Raises:
        ConfigError: another text.
    """
    if not text:
        return list(scenes)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise ConfigError(f"--shard={text}: expected i/n with i from 0 to n - 1, e.g. 0/4")
    return list(scenes[int(match[1]) :: int(match[2])])
