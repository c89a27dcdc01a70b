"""A trained model for other programs: `python -m rsjax.export --checkpoint=DIR --format=F ...`.

`--format=onnx|stablehlo|safetensors --output=FILE`; see docs/export.md. The file is verified
against the bundle before it gets its name.
"""

from collections.abc import Sequence

from absl import flags

from rsjax import doors

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir or bundle of the trained model.")
FORMAT = flags.DEFINE_string("format", None, "stablehlo, onnx or safetensors.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write; an older one is replaced.")
HEIGHT = flags.DEFINE_integer("height", 0, "Rows of the model's grid in pixels; 0: as trained.")
WIDTH = flags.DEFINE_integer("width", 0, "Columns of it; 0: as trained.")
STEP = flags.DEFINE_integer("step", 0, "0: that size only; N: all multiples of N pixels.", 0)


def main(argv: Sequence[str]) -> None:
    """Exports as the flags say."""
    doors.refuse_arguments(argv)
    checkpoint = doors.require("checkpoint", CHECKPOINT.value, "runs/s2")
    format = doors.require("format", FORMAT.value, "onnx")
    output = doors.require("output", OUTPUT.value, f"model.{format}")
    import rsjax
    from rsjax import exporting

    about = exporting.export(
        rsjax.load(checkpoint),
        format,
        output,
        height=HEIGHT.value,
        width=WIDTH.value,
        step=STEP.value,
    )
    print(f"{output}: {about['model']['name']}, {len(about.get('classes', []))} classes")
    for name, value in about["verified"].items():
        print(f"  {name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    doors.run(main)
