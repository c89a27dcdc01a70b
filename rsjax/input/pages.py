"""The pages of `docs/datasets`: one a dataset, and one table of all."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import pathlib
import re
import sys
import tempfile
import textwrap
from typing import Any

from rsjax import datasets, landcover
from rsjax.datasets import describe
from rsjax.datasets.describe import NOT_STATED, stated, table, wrap
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import ConfigError, RsjaxError
from rsjax.input import card

INDEX = "index.md"
_OWNER = "as their owner states"
_HEAD = """\
# Datasets

This page and those it names are written by `python -m rsjax.cards --output=docs/datasets` from the
code; edit that. Beside shards that were prepared lies a `README.md` with the same and with what was
counted: samples and classes of each split, statistics, skipped samples, fingerprints.
"""
_FOOT = """\
Samples are those of the whole dataset, with the default options. Each dataset is prepared from its
official download by one command, see [preparing](../prepare.md), and `--simulate=N` writes a small
simulated download in the official layout first. Where a dataset has no official splits, its page
says which rule makes them: by class (`rsjax.datasets.splits.stratified`) or by place
(`rsjax.datasets.split_rules.blocks`).
"""


def everything(configs: str) -> dict[str, str]:
    """File name -> content of all pages.

    Args:
        configs: folder of the run sheets.

    Raises:
        ConfigError: a run sheet that cannot be read.
    """
    sheets = run_sheets(pathlib.Path(configs))
    infos = {name: info_of(name) for name in datasets.names()}
    found = {f"{name}.md": page(name, infos[name], sheets.get(name, {})) for name in infos}
    return {**found, INDEX: index(infos)}


def info_of(name: str) -> DatasetInfo | None:
    """What a dataset says of itself without data; None where it is the data that say it.

    Of a class that looks for its splits in the source, they are its `official_splits`.
    """
    made = datasets.get(name)
    with tempfile.TemporaryDirectory() as empty:
        try:
            info: DatasetInfo = made(empty).info
        except RsjaxError:
            return None
        splits = dict(getattr(made, "official_splits", info.splits))
        return dataclasses.replace(info, splits=splits)


def index(infos: dict[str, DatasetInfo | None]) -> str:
    """One table of all datasets."""
    rows = []
    for name, info in infos.items():
        link = f"[`{name}`]({name}.md)"
        if info is None:
            rows.append((link, _first_line(name), *[_OWNER] * 5))
            continue
        classes = []
        if info.label:
            classes.append(f"{len(landcover.load(info.nomenclature))} labels")
        if info.mask:
            mask = info.mask_nomenclature or info.nomenclature
            classes.append(f"{len(landcover.load(mask))} in maps")
        total = describe.samples(info.splits)
        rows.append(
            (
                link,
                _first_line(name),
                describe.task(info),
                f"{total:,}" if total else NOT_STATED,
                ", ".join(classes),
                ", ".join(f"{split} {_size(count)}" for split, count in info.splits.items()),
                stated(info.licence),
            )
        )
    head = ("name", "dataset", "task", "samples", "classes", "splits", "licence")
    return f"{_HEAD}\n{table(head, rows)}\n\n{_FOOT}"


def page(name: str, info: DatasetInfo | None, sheets: dict[str, str]) -> str:
    """The page of one dataset.

    Args:
        name: of the dataset.
        info: what it says of itself, or None where that is known only once its data are there.
        sheets: path -> first line of its run sheets.
    """
    made = datasets.get(name)
    title = stated(info.title) if info else re.split("[:.]", _first_line(name))[0]
    parts = [f"# {title}", _docstring(sys.modules[made.__module__], made)]
    if info:
        sizes = [(split, _size(count)) for split, count in info.splits.items()]
        parts += [
            describe.facts(info),
            f"## Splits\n\n{table(('split', 'samples'), sizes)}",
            f"## Images\n\n{describe.images(info)}",
        ]
        mask = (info.mask_nomenclature or info.nomenclature) if info.mask else None
        titles = {"Labels": info.nomenclature if info.label else None, "Mask": mask}
        if titles["Labels"] == mask:
            titles = {"Labels and mask": mask}
        parts += [describe.classes(t, landcover.load(n)) for t, n in titles.items() if n]
        parts.append(describe.statistics(info, {}, ""))
    else:
        parts.append(
            wrap(
                "Licence, citation, images, classes and splits are stated by whoever made the "
                "data, and are known once these are there."
            )
        )
    parts += [describe.known_defects(name), _options(made), _commands(name, info, sheets)]
    return "\n\n".join(parts) + "\n"


def _first_line(name: str) -> str:
    """What the dataset's module says first."""
    text = inspect.getdoc(sys.modules[datasets.get(name).__module__]) or NOT_STATED
    return text.split("\n")[0].rstrip(".")


def _docstring(module: Any, made: type) -> str:
    """What module and class say, without the sections that the page has in other words."""
    texts = [inspect.getdoc(module) or "", inspect.getdoc(made) or ""]
    kept = [re.split(r"\n(?=(?:Args|Raises|Attributes):\n)", text)[0].strip() for text in texts]
    return "\n\n".join(text for text in kept if text)


def _options(made: type) -> str:
    found = options(made)
    if not found:
        return "## Options\n\nThere are none."
    rows = [(f"`{name}`", f"`{default!r}`", text) for name, (default, text) in found.items()]
    return "## Options\n\nWith `--option=name=value`.\n\n" + table(("name", "default", ""), rows)


def options(made: type) -> dict[str, tuple[Any, str]]:
    """Option -> (default, meaning) of a dataset, from its signature and docstring.

    Where a class says "as another", the meaning is that of the other classes of its module.
    """
    others = [
        one
        for one in vars(sys.modules[made.__module__]).values()
        if inspect.isclass(one) and one.__module__ == made.__module__ and one is not made
    ]
    meant: dict[str, str] = {}
    for one in [*others, made]:
        meant |= _arguments(inspect.getdoc(one) or "")
    parameters = list(inspect.signature(made).parameters.values())[1:]  # the first is the source
    return {p.name: (p.default, stated(_here(meant.get(p.name, "")))) for p in parameters}


def _arguments(text: str) -> dict[str, str]:
    """Name -> meaning in the section `Args:` of a docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, re.M)
    if not section:
        return {}
    body = textwrap.dedent(section[1])
    return {
        name: " ".join(meaning.split())
        for names, meaning in re.findall(r"^(\w+(?:, \w+)*): (.*(?:\n[ \t]+.*)*)", body, re.M)
        for name in names.split(", ")
    }


def _here(text: str) -> str:
    """A meaning as it reads on a page that has the text of module and class."""
    return re.sub("see the (module|class)", "see above", text)


def run_sheets(folder: pathlib.Path) -> dict[str, dict[str, str]]:
    """Dataset -> path -> first line of the run sheets in a folder.

    Raises:
        ConfigError: there are none, or one cannot be read.
    """
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"rsjax_sheet_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            name = module.get_config().data.dataset
        except Exception as error:
            raise ConfigError(f"{path}: no run sheet ({error!r}); mend it or move it") from error
        about = (inspect.getdoc(module) or NOT_STATED).split("\n")[0]
        found.setdefault(name, {})[f"configs/{path.name}"] = about
    if not found:
        raise ConfigError(f"{folder}: no run sheets, expected configs/*.py; give --configs=DIR")
    return found


def _commands(name: str, info: DatasetInfo | None, sheets: dict[str, str]) -> str:
    prepare = f"python -m rsjax.prepare --dataset={name} --source=DIR --data_dir=data"
    train = "python -m rsjax.main --config={} --workdir=runs/{}"
    lines = ["## Prepare and train", "", "```", prepare]
    for path in sheets:
        lines.append(train.format(path, pathlib.Path(path).stem))
    if not sheets and info:
        lines.append(train.format(f"{name}.py", name))
    lines.append("```")
    for path, about in sheets.items():
        lines += ["", f"`{path}`: {about}"]
    if not sheets and info:
        about = (
            f"There is no run sheet of its own yet. One to start from, not a recipe, `{name}.py`:"
        )
        lines += ["", wrap(about), "", "```python", card.run_sheet(info), "```"]
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{count:,}" if count else NOT_STATED
