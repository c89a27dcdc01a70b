"""Eleven tiles of LEVIR-CD in the layout of the dataset: eight to train on, three held out.

    python experiments/levir_cd/prepare.py samples data/levir_cd_source

`samples` has A, B and label with tiles of 256 px of all official splits. Held out are those of the
last three images by number of the official test split; the others train, whatever split they were
of. Where no label is, the pair is left out, and named.
"""

import pathlib
import shutil
import sys

FOLDERS = ("A", "B", "label")
HELD_OUT = ("test_77_0512_0256", "test_102_0512_0000", "test_121_0768_0256")


def new_name(stem: str) -> str:
    """The name in the new split: val_27_... is the 'validation' that trains, too."""
    split, _, rest = stem.partition("_")
    return stem if stem in HELD_OUT or split == "val" else f"train_{rest}"


def main(source: str, target: str) -> None:
    """Copies the triples under their new names."""
    root, to = pathlib.Path(source), pathlib.Path(target)
    stems = sorted(path.stem for path in (root / "A").glob("*.png"))
    whole = [s for s in stems if all((root / f / f"{s}.png").is_file() for f in FOLDERS)]
    if missing := sorted({*HELD_OUT, *stems} - {*whole}):
        print(f"left out, as a file of it is missing: {', '.join(missing)}")
    for folder in FOLDERS:
        (to / folder).mkdir(parents=True)
        for stem in whole:
            shutil.copy(root / folder / f"{stem}.png", to / folder / f"{new_name(stem)}.png")
    print(f"{len(whole)} triples in {to}, of which {len(set(whole) & set(HELD_OUT))} are held out")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
