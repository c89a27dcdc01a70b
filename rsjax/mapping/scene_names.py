"""Which scenes a list or folder has, and what each is called; see docs/many_scenes.md."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from rsjax.datasets import products, scene_list, stac_items
from rsjax.errors import ConfigError, SceneError
from rsjax.mapping import scene_files
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
    if os.path.isfile(os.path.join(listed, scene_list.FILE)):
        listed = os.path.join(listed, scene_list.FILE)
    if os.path.isdir(listed):
        there = sorted(one.name for one in os.scandir(listed) if one.is_dir())
        there = [name for name in there if products.is_name(name)]
        found = [(name.removesuffix(".SAFE"), os.path.join(listed, name)) for name in there]
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
