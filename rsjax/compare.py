"""Runs side by side: `python -m rsjax.compare WORKDIR [WORKDIR ...] [--output=compare.html]`.

A page with tables and figures, a CSV file beside it, and the table as Markdown on stdout. Runs that
differ in their seed only are joined as mean and standard deviation. See docs/look.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {"allow_override": True}  # names of other doors' flags
SPLIT = flags.DEFINE_string("split", "test", "The split that the runs were evaluated on.", **SHARED)
OUTPUT = flags.DEFINE_string(
    "output", "compare.html", "The page; an older one is replaced.", **SHARED
)


def main(argv: Sequence[str]) -> None:
    """Compares the workdirs that are named."""
    from rsjax.training import compare

    output = doors.require("output", OUTPUT.value, "compare.html")
    path, table = compare.write(argv[1:], SPLIT.value, output)
    print(f"{table}\n\n{path}")


if __name__ == "__main__":
    doors.run(main)
