"""Pages of all datasets, without data: `python -m rsjax.cards --output=docs/datasets`.

One page a dataset and `index.md` with one table of all, made from the datasets' own cards, the
signatures and docstrings of their classes, their nomenclatures and the run sheets in `configs/`.
Beside prepared shards lies a card with what was counted: see docs/datasets/index.md.
"""

from collections.abc import Sequence

from absl import flags

from rsjax import doors

OUTPUT = flags.DEFINE_string(
    "output", "", "Folder of the pages, e.g. docs/datasets.", allow_override=True
)
CONFIGS = flags.DEFINE_string("configs", "configs", "Folder of the run sheets that are named.")


def main(argv: Sequence[str]) -> None:
    """Writes the pages."""
    doors.refuse_arguments(argv)
    import pathlib

    from rsjax import sealed
    from rsjax.input import pages

    output = pathlib.Path(doors.require("output", OUTPUT.value, "docs/datasets"))
    for name, text in pages.everything(CONFIGS.value).items():
        sealed.replace(output / name, text.encode())
    print(output / pages.INDEX)


if __name__ == "__main__":
    doors.run(main)
