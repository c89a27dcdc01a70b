"""The README's table of architectures: parameters, arithmetic, reference, parity error.

    pip install torch 'keras>=3.9'
    KERAS_BACKEND=jax python benchmarks/model_table.py --write     # puts the table into README.md
    KERAS_BACKEND=jax python benchmarks/model_table.py --models=resnet50,unet

Parameters are counted with three bands and as many classes as the reference's published figure has
(`COUNTS`), and must equal it. GFLOP are those of one forward pass of an image of 120 px and ten
bands with 19 classes, a multiplication and an addition counted as two, as XLA counts the program
before it optimises. The parity error is the largest difference of the logits, as a share of the
largest logit, to the network in plain PyTorch with the same random weights and statistics, in
float32, in evaluation, two images; for the backbones of keras.applications also to these.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import torch
from hardware import hardware
from model_cases import CASES, Case
from peers import draw, parameters, relative_error, shapes_of

from rsjax import models
from rsjax.models.pretrained.convert import convert_keras
from rsjax.models.pretrained.torch_names import from_torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
BANDS, CLASSES, SIZE = 10, 19, 120
START, END = "<!-- models: benchmarks/model_table.py -->", "<!-- end of models -->"

# title: classes, parameters and origin of the published figure, with three bands. Those without
# a published figure are the sum that the tests compute from the paper's table of layers.
COUNTS = {
    "vgg11": (1000, 132_863_336, "torchvision"),
    "vgg11_bn": (1000, 132_868_840, "torchvision"),
    "vgg13": (1000, 133_047_848, "torchvision"),
    "vgg13_bn": (1000, 133_053_736, "torchvision"),
    "vgg16": (1000, 138_357_544, "torchvision"),
    "vgg16_bn": (1000, 138_365_992, "torchvision"),
    "vgg19": (1000, 143_667_240, "torchvision"),
    "vgg19_bn": (1000, 143_678_248, "torchvision"),
    "resnet18": (1000, 11_689_512, "torchvision"),
    "resnet34": (1000, 21_797_672, "torchvision"),
    "resnet50": (1000, 25_557_032, "torchvision"),
    "resnet101": (1000, 44_549_160, "torchvision"),
    "resnet152": (1000, 60_192_808, "torchvision"),
    "resnext50_32x4d": (1000, 25_028_904, "torchvision"),
    "wide_resnet50_2": (1000, 68_883_240, "torchvision"),
    "densenet121": (1000, 7_978_856, "torchvision"),
    "densenet161": (1000, 28_681_000, "torchvision"),
    "densenet169": (1000, 14_149_480, "torchvision"),
    "densenet201": (1000, 20_013_928, "torchvision"),
    "inception_v3": (1000, 27_161_264, "torchvision"),
    "xception": (1000, 22_855_952, "Keras"),
    "xception41": (1000, 26_969_560, "timm: 26.97 M"),
    "xception65": (1000, 39_916_312, "timm: 39.92 M"),
    "xception71": (1000, 42_338_736, "timm: 42.34 M"),
    "unet2015": (1, 31_037_633, "Pytorch-UNet"),
    "unet": (1, 24_436_369, "smp, ResNet-34"),
    "segnet": (12, 29_449_932, "arXiv:1511.00561"),
    "fcn32s": (21, 136_152_917, "arXiv:1605.06211"),
    "fcn16s": (21, 134_815_994, "arXiv:1605.06211"),
    "fcn8s": (21, 134_489_759, "arXiv:1605.06211"),
    "fcn_resnet50": (21, 35_322_218, "torchvision"),
    "fcn_resnet101": (21, 54_314_346, "torchvision"),
    "deeplabv3_resnet50": (21, 42_004_074, "torchvision"),
    "deeplabv3_resnet101": (21, 60_996_202, "torchvision"),
    "deeplabv3plus": (1, 22_437_457, "smp, ResNet-34"),
    "fc_densenet56": (11, 1_376_795, "arXiv:1611.09326: 1.5 M"),
    "fc_densenet67": (11, 3_463_243, "arXiv:1611.09326: 3.5 M"),
    "fc_densenet103": (11, 9_322_091, "arXiv:1611.09326: 9.4 M"),
}
# title: name in keras.applications and side of the image in pixels.
KERAS = {
    "vgg16": ("VGG16", 224),
    "vgg19": ("VGG19", 224),
    "resnet50": ("ResNet50", 120),
    "resnet101": ("ResNet101", 120),
    "resnet152": ("ResNet152", 120),
    "densenet121": ("DenseNet121", 120),
    "densenet169": ("DenseNet169", 120),
    "densenet201": ("DenseNet201", 120),
    "inception_v3": ("InceptionV3", 120),
    "xception": ("Xception", 120),
}


def arithmetic(case: Case) -> float:
    """Floating-point operations of one image, forward."""
    model = models.get(case.name, num_classes=CLASSES, **case.fields)
    x = jax.ShapeDtypeStruct((1, SIZE, SIZE, BANDS), jnp.float32)
    variables = shapes_of(model, jnp.zeros(x.shape))
    lowered = jax.jit(lambda v, x: model.apply(v, x, False)).lower(variables, x)
    return float(lowered.cost_analysis()["flops"])


def torch_error(case: Case) -> float:
    """The parity error to PyTorch."""
    rng = np.random.default_rng(0)
    peer = case.peer(BANDS, CLASSES).eval()
    state = {
        name: value if value.ndim == 0
        else torch.tensor(draw(name.rsplit(".", 1)[-1], tuple(value.shape), rng))
        for name, value in peer.state_dict().items()
    }  # fmt: skip
    peer.load_state_dict(state)
    x = rng.normal(size=(2, SIZE, SIZE, BANDS)).astype(np.float32)
    with torch.no_grad():
        wanted = peer(torch.tensor(x).permute(0, 3, 1, 2))
    wanted = (wanted.permute(0, 2, 3, 1) if wanted.ndim == 4 else wanted).numpy()
    model = models.get(case.name, num_classes=CLASSES, **case.fields)
    variables = from_torch({name: value.numpy() for name, value in state.items()})
    quick = {"xla_backend_optimization_level": 0}
    found = jax.jit(lambda v, x: model.apply(v, x, False), compiler_options=quick)(variables, x)
    return float(relative_error(found, wanted))


def keras_error(case: Case) -> float:
    """The parity error to keras.applications, by way of a file of weights."""
    import keras

    name, size = KERAS[case.title]
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        peer = getattr(keras.applications, name)(
            weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
        )
        rng = np.random.default_rng(0)
        for variable in peer.variables:
            variable.assign(draw(variable.name, tuple(variable.shape), rng))
        x = rng.normal(size=(2, size, size, 3)).astype(np.float32)
        state = [
            [v.value for v in vs] for vs in (peer.trainable_variables, peer.non_trainable_variables)
        ]
        quick = {"xla_backend_optimization_level": 0}
        call = jax.jit(
            lambda t, n, x: peer.stateless_call(t, n, x, training=False)[0], compiler_options=quick
        )
        wanted = call(*state, x)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "peer.weights.h5"
        peer.save_weights(file)
        variables, fields = convert_keras(case.name, file)
    model = models.get(case.name, **fields)
    found = jax.jit(lambda v, x: model.apply(v, x, False), compiler_options=quick)(variables, x)
    return float(relative_error(found, wanted))


def row(case: Case) -> str:
    """One line of the table."""
    classes, count, reference = COUNTS[case.title]
    found = parameters(models.get(case.name, num_classes=classes, **case.fields), 224)
    if found != count:
        raise SystemExit(f"{case.title}: {found} parameters, {reference} has {count}")
    began = time.perf_counter()
    errors = [f"{torch_error(case):.0e}"]
    if case.title in KERAS:
        errors.append(f"{keras_error(case):.0e} (Keras)")
    print(f"{case.title}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return (
        f"| `{case.title}` | {count / 1e6:.2f} M | {arithmetic(case) / 1e9:.1f} | {reference} | "
        f"{', '.join(errors)} |"
    )


def main() -> None:
    """Reads the command line; prints the table, or puts it into the README."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="", help="titles of model_cases, by commas; all")
    parser.add_argument("--write", action="store_true", help="into README.md")
    options = parser.parse_args()
    chosen = options.models.split(",") if options.models else [case.title for case in CASES]
    lines = [
        "| model | parameters | GFLOP | reference | parity error |",
        "|---|---|---|---|---|",
    ]
    for case in (case for case in CASES if case.title in chosen):
        lines.append(row(case))
        print(lines[-1], flush=True)
        jax.clear_caches()
    lines += ["", f"Measured {time.strftime('%Y-%m-%d')}, {hardware()}, torch {torch.__version__}."]
    if options.write:
        readme = ROOT / "README.md"
        before, _, rest = readme.read_text().partition(START)
        _, found, after = rest.partition(END)
        if not found:
            raise SystemExit(f"README.md lost its lines {START} and {END}")
        readme.write_text(f"{before}{START}\n" + "\n".join(lines) + f"\n{END}{after}")


if __name__ == "__main__":
    main()
