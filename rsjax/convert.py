"""Published weights to a bundle: `python -m rsjax.convert --weights=FILE --source=S --model=M ...`.

The bundle predicts at once where its source has classes of land cover, and training starts from it
with `--config.init_from=DIR`. See docs/weights.md.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from rsjax import doors

SHARED: dict[str, Any] = {
    "allow_override": True
}  # names of other doors' flags; a process may import them all
WEIGHTS = flags.DEFINE_string("weights", None, "File of weights; see docs/weights.md.")
SOURCE = flags.DEFINE_string(
    "source", None, "Name in rsjax.models.pretrained.sources; or JSON.", **SHARED
)
MODEL = flags.DEFINE_string("model", None, "Name in rsjax.models.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the bundle.", **SHARED)
TASK = flags.DEFINE_string("task", "", "Name in rsjax.tasks; default: that of the source.")
FIELD = flags.DEFINE_multi_string("field", [], "name=value: a field of the model.")
STATISTICS = flags.DEFINE_string("statistics", "", "Which of the source's; default: its first.")
PREFIX = flags.DEFINE_string("prefix", "", "Start of the names to take, e.g. 'backbone.'.")
IGNORE = flags.DEFINE_multi_string("ignore", [], "Regex of arrays that the model does not have.")
BANDS = flags.DEFINE_list("bands", [], "sensor/band,...: other bands than those of the weights.")
STEM = flags.DEFINE_string("stem", "strict", "strict, by_name, mean or repeat: their kernels.")
FILL = flags.DEFINE_string("fill", "", "mean or zero: by_name's kernels of bands without one.")


def main(argv: Sequence[str]) -> None:
    """Converts, and says what was done."""
    doors.refuse_arguments(argv)
    weights = doors.require("weights", WEIGHTS.value, "model.safetensors")
    source = doors.require("source", SOURCE.value, "bigearthnet_v2")
    model = doors.require("model", MODEL.value, "resnet50")
    output = doors.require("output", OUTPUT.value, "weights/resnet50")
    from rsjax.models.pretrained import convert

    report = convert.convert(
        weights,
        output,
        model=model,
        source=source,
        task=TASK.value,
        fields=doors.options(FIELD.value),
        statistics=STATISTICS.value,
        prefix=PREFIX.value,
        ignore=IGNORE.value,
        bands=BANDS.value,
        rule=STEM.value,
        fill=FILL.value,
    )
    for name, value in report.items():
        if isinstance(value, list):
            print("\n  ".join([f"{name}: {len(value)}", *value]))
        else:
            print(f"{name}: {value}")
    print(f"bundle: {output}")


if __name__ == "__main__":
    doors.run(main)
