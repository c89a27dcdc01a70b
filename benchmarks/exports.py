"""Which models leave in which format at which sizes: a tiny version of each, as a table.

    python benchmarks/exports.py [--models=unet,deeplabv3] [--formats=onnx] [--dtype=bfloat16]

Every figure is the largest difference of a probability from the bundle's, and how far apart the
probabilities of the inputs lie, on random input of 64 pixels and, at open sizes, of another size
too. Weights are drawn at random; the fields are those
of `tests/models/tiny.py`.
"""

import os
import pathlib
import sys
import tempfile

# Compiles in half the time; sizes here are too small for the difference to matter.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    + os.environ.get("XLA_FLAGS", "")
)
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "models"))

import jax
import jax.numpy as jnp
from absl import app, flags
from peers import randomised
from tiny import TINY

from rsjax import bundle, exporting, landcover, models
from rsjax.datasets.info import ImageSpec
from rsjax.errors import ExportError
from rsjax.input.preprocess import Inputs

MODELS = flags.DEFINE_list("models", [], "Names; none: all of tests/models/tiny.py.")
FORMATS = flags.DEFINE_list("formats", ["stablehlo", "onnx"], "Formats.")
STEPS = flags.DEFINE_list("steps", ["0", "32", "1"], "0: one size; 32: multiples of it; 1: all.")
DTYPE = flags.DEFINE_string("dtype", "float32", "Compute type.")
SIDE = 64
S2 = ("sentinel2_l2a", ("B02", "B03", "B04"), SIDE, SIDE, "uint16", "reflectance_1e4", 10.0)
WIDE = ("sentinel2_l2a", ("B05", "B06"), SIDE // 2, SIDE // 2, "uint16", "reflectance_1e4", 20.0)
HEADS = {"0": "one size", "32": "multiples of 32", "1": "any size"}


def make(name):
    """A bundle of a tiny model with random weights, without a trip to the disk."""
    specs = {"s2_10m": ImageSpec(*S2), "s2_20m": ImageSpec(*WIDE)}
    bands = tuple(f"{spec.sensor}/{band}" for spec in specs.values() for band in spec.bands)
    inputs = Inputs(specs, bands, (900.0,) * 5, (400.0,) * 5, (SIDE, SIDE))
    classes = landcover.load("worldcover")
    task = "classification" if name in models.BACKBONES else "segmentation"
    model = {"name": name, "dtype": DTYPE.value, "fields": TINY[name]}
    about = {
        "model": model,
        "outputs": len(classes),
        "task": {"name": task, "label_smoothing": 0.0},
    }
    made = bundle.Model({}, inputs, classes, about)
    variables = randomised(made.module, jnp.zeros((1, SIDE, SIDE, len(bands))))
    # Larger, where the input would hardly show in the output otherwise.
    if "batch_stats" not in variables or name == "inception_v3":
        variables = jax.tree.map(lambda leaf: leaf * 1.5 if leaf.ndim > 1 else leaf, variables)
    return bundle.Model({"batch_stats": {}, **variables}, inputs, classes, about)


def main(_):
    """Prints the table, line by line."""
    print(f"| model | format | {' | '.join(HEADS[step] for step in STEPS.value)} |")
    print("|---|---|" + "---|" * len(STEPS.value))
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS.value or TINY:
            made = make(name)
            for format in FORMATS.value:
                cells = []
                for step in STEPS.value:
                    file = pathlib.Path(folder) / "model"
                    try:
                        about = exporting.export(made, format, file, step=int(step))
                        found = about["verified"]
                        error, spread = found["largest_difference"], found["spread_over_inputs"]
                        cells.append(f"{error:.0e} of {spread:.0e}")
                    except ExportError as error:
                        cells.append("no")
                        print(f"{name}, {format}, {step}: {error}", file=sys.stderr)
                print(f"| {name} | {format} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
