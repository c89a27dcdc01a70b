"""Every field of a run, with its unit and meaning: the one list of defaults, and its checks.

A config file (`configs/*.py`) starts from `base()` and sets what its run needs; the command line
overrides single fields (`--config.batch_size=64`); `--print_config` shows all of them. `validate`
finds what cannot work before any data is read, all errors at once.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections
from ml_collections import ConfigDict

from rsjax.errors import ConfigError, NomenclatureError


def base() -> ConfigDict:
    """The fields of a run with their defaults, locked. Empty strings and zeros mean 'none'."""
    c = ml_collections.ConfigDict()
    c.name = ""  # of the run, in logs and in the report
    c.mode = "train"  # train | eval
    c.seed = 0  # root of all random numbers: parameters, order, augmentation, dropout

    c.data = d = ConfigDict()
    d.dataset = ""  # name in rsjax.datasets
    d.data_dir = "data"  # shards lie in data_dir/dataset/version
    d.version = ""  # of the shards; empty: the only one there
    d.source = ""  # official download, named in the error when there are no shards
    d.options = ConfigDict()  # options of the dataset when a simulation is prepared
    d.simulate_samples = 0  # > 0: simulate a download of so many samples if there are no shards
    d.train_split = "train"  # several joined by '+'
    d.validation_split = "validation"  # chooses the best checkpoint; empty: none
    d.test_split = "test"  # evaluated once, at the end; empty: none
    d.bands = ("",)  # 'sensor/band', in the order of the model's channels
    d.grid_px = 0  # side of the model's square input, in pixels
    d.resample = "bilinear"  # bilinear | nearest, for bands on another grid
    d.fit_px = 0  # > 0: crop or reflect images of varying size to this side
    d.fit_steps = 0  # > 0: take so many steps, evenly spread, of series of varying length
    d.statistics = "computed"  # computed (on the train split) | published
    d.sampling = "uniform"  # uniform | inverse_frequency (of the classes), of the train split
    d.sampling_cap = 10.0  # largest expected number of times a sample is drawn in an epoch
    d.threads = 2  # reading threads of each process
    d.buffer = 4  # batches read ahead
    d.stall_s = 600.0  # seconds without a batch after which the run ends and says what it reads

    c.task = t = ConfigDict()
    t.name = "multilabel"  # name in rsjax.tasks
    t.label_smoothing = 0.0  # share of the target spread over all classes
    t.nomenclature = ""  # classes of segmentation, e.g. corine_l2; empty: those of the shards
    t.losses = ()  # ((name, weight), ...), summed; empty: (binary) cross-entropy
    t.loss_options = ConfigDict()  # by name of the loss, e.g. {'focal': {'gamma': 2.0}}
    t.class_weights = "none"  # none | inverse | effective_number | median_frequency (train split)
    t.effective_beta = 0.9999  # of the effective number
    t.threshold = 0.5  # probability from which a label is predicted (multilabel)
    t.thresholds = "fixed"  # fixed | tuned: of each class on the validation split, at the end
    t.temperature = "none"  # none | fitted: of the softmax on the validation split, at the end
    t.boundary_tolerance = 0.0075  # distance up to which boundaries agree (segmentation) ...
    t.boundary_unit = "diagonal"  # ... as a share of the image's diagonal | px | m

    c.model = m = ConfigDict()
    m.name = "resnet50"  # name in rsjax.models
    m.fields = ConfigDict()  # fields of the model, e.g. stem, dropout_rate, drop_path_rate
    m.dtype = "float32"  # float32 | bfloat16, of the computation; parameters stay float32

    c.fit = f = ConfigDict()  # of models that scikit-learn fits at once, see docs/classic.md
    f.per_class = 10000  # pixels (images) drawn of each class of the train split; 0: all
    f.clusters = "majority"  # kmeans: majority (each is the class of most of its pixels) | unnamed
    f.options = ConfigDict()  # of the estimator, e.g. {'n_estimators': 300}
    f.jobs = 0  # threads; 0: all cores of this process

    c.init_from = ""  # bundle or workdir whose weights the run starts from; empty: random ones
    c.init_new = ()  # regexes of parameter names that start random nevertheless, e.g. '^fc/'

    c.batch_size = 256  # samples a step, over all devices and processes
    c.eval_batch_size = 256  # the same in evaluation
    c.total_steps = 0  # length of the run: steps ...
    c.total_epochs = 0.0  # ... or epochs

    c.mesh = ConfigDict()  # how the devices share the work; may change when a run resumes
    c.mesh.model = 1  # devices along 'model'; the others, along 'data', share the batch
    c.mesh.rules = ()  # ((regex, how), ...): replicate | fsdp | model, by parameter name

    c.optimizer = o = ConfigDict()
    o.name = "adamw"  # adamw | sgd | lamb
    o.learning_rate = 1e-3  # peak
    o.weight_decay = 0.0  # decoupled for adamw and lamb, L2 for sgd; kernels only
    o.momentum = 0.9  # sgd
    o.nesterov = True  # sgd
    o.b1 = 0.9  # adamw, lamb
    o.b2 = 0.999  # adamw, lamb
    o.eps = 1e-8  # adamw, lamb
    o.clip_norm = 0.0  # > 0: clip the global norm of the gradient
    o.accumulate_steps = 1  # micro-batches a step, of batch_size in all; losses are averaged
    o.factors = ()  # ((regex, factor), ...): learning-rate factors by parameter name; 0 freezes

    c.schedule = s = ConfigDict()
    s.name = "cosine"  # cosine | linear | constant
    s.warmup_steps = 0  # linear warm-up: steps ...
    s.warmup_epochs = 0.0  # ... or epochs
    s.final_factor = 0.0  # of the peak, at the end

    c.ema_decay = 0.0  # > 0: exponential moving average of the parameters, used in evaluation

    c.augment = a = ConfigDict()
    a.d4 = False  # the eight symmetries of the square
    a.max_zoom = 1.0  # > 1: a random window, enlarged up to so much
    a.brightness_std = 0.0  # in standard deviations of the bands
    a.contrast_std = 0.0  # of the logarithm of the contrast
    a.noise_std = 0.0  # in standard deviations of the bands
    a.band_dropout = 0.0  # probability for each band
    a.sensor_dropout = 0.0  # probability for each sensor
    a.mixup_alpha = 0.0  # of the beta distribution
    a.cutmix_alpha = 0.0  # of the beta distribution

    c.eval_every_steps = 0  # evaluation on the validation split: steps ...
    c.eval_every_epochs = 1.0  # ... or epochs
    c.early_stop_evals = 0  # > 0: stop after so many evaluations without a better one
    c.checkpoint_every_steps = 1000  # steps between checkpoints, besides those of evaluations
    c.keep_latest = 2  # checkpoints
    c.keep_best = 1  # checkpoints
    c.max_bad_steps = 10  # steps in a row with a non-finite loss or gradient, then stop
    c.resume_data = "refuse"  # refuse | restart: what to do if data or batch size changed

    c.log_every_steps = 50  # steps between lines of figures
    c.tensorboard = True  # write TensorBoard files
    c.wandb_project = ""  # Weights & Biases; needs rsjax[wandb]
    c.profile_start_step = 0  # > 0: write a profile of profile_steps steps from here
    c.profile_steps = 10  # length of the profile, in steps
    c.compilation_cache_dir = "~/.cache/rsjax/xla"  # empty: none
    c.deterministic = True  # reproducible kernels on GPU (slower); the CPU always is

    c.eval = e = ConfigDict()
    e.checkpoint = ""  # mode=eval: bundle or workdir; empty: that of --workdir
    e.split = "test"  # mode=eval: split to evaluate
    e.ensemble = ()  # mode=eval: further bundles; probabilities are averaged
    e.tta = "none"  # none | d4: average over the symmetries of the square; at the end and mode=eval
    e.group_by = ()  # text entries, e.g. 'country', 'id:_T(\\w{5})_': figures of each value
    e.bootstrap = 1000  # resampled sets for the intervals of the report; 0: no intervals
    e.blocks = ""  # such an entry whose values are resampled as a whole; empty: single samples
    e.level = 0.95  # coverage of the intervals
    return c.lock()


# field -> choices; field -> (lowest, highest) with bounds allowed
CHOICES = {
    "mode": ("train", "eval"),
    "data.resample": ("bilinear", "nearest"),
    "data.statistics": ("computed", "published"),
    "data.sampling": ("uniform", "inverse_frequency"),
    "task.class_weights": ("none", "inverse", "effective_number", "median_frequency"),
    "task.thresholds": ("fixed", "tuned"),
    "task.temperature": ("none", "fitted"),
    "task.boundary_unit": ("diagonal", "px", "m"),
    "eval.tta": ("none", "d4"),
    "model.dtype": ("float32", "bfloat16"),
    "fit.clusters": ("majority", "unnamed"),
    "optimizer.name": ("adamw", "sgd", "lamb"),
    "schedule.name": ("cosine", "linear", "constant"),
    "resume_data": ("refuse", "restart"),
}
MESH_RULES = ("replicate", "fsdp", "model")
RANGES = {
    "seed": (0, 2**31 - 1),
    "data.simulate_samples": (0, 10**7),
    "data.grid_px": (1, 10**5),
    "data.fit_px": (0, 10**5),
    "data.fit_steps": (0, 10**4),
    "data.threads": (0, 256),
    "data.buffer": (1, 10**4),
    "data.stall_s": (1.0, 1e6),
    "task.label_smoothing": (0.0, 0.99),
    "task.threshold": (0.0, 1.0),
    "task.effective_beta": (0.0, 0.99999999),
    "task.boundary_tolerance": (0.0, 1e6),
    "data.sampling_cap": (1.0, 1e6),
    "eval.bootstrap": (0, 10**6),
    "eval.level": (0.5, 0.9999),
    "fit.per_class": (0, 10**9),
    "fit.jobs": (0, 10**4),
    "batch_size": (1, 10**7),
    "eval_batch_size": (1, 10**7),
    "total_steps": (0, 10**9),
    "total_epochs": (0.0, 1e6),
    "mesh.model": (1, 10**6),
    "optimizer.learning_rate": (0.0, 1e3),
    "optimizer.weight_decay": (0.0, 1e3),
    "optimizer.momentum": (0.0, 1.0),
    "optimizer.clip_norm": (0.0, 1e9),
    "optimizer.accumulate_steps": (1, 10**4),
    "schedule.warmup_steps": (0, 10**9),
    "schedule.warmup_epochs": (0.0, 1e6),
    "schedule.final_factor": (0.0, 1.0),
    "ema_decay": (0.0, 0.999999),
    "augment.max_zoom": (1.0, 16.0),
    "augment.brightness_std": (0.0, 10.0),
    "augment.contrast_std": (0.0, 10.0),
    "augment.noise_std": (0.0, 10.0),
    "augment.band_dropout": (0.0, 0.99),
    "augment.sensor_dropout": (0.0, 0.99),
    "augment.mixup_alpha": (0.0, 100.0),
    "augment.cutmix_alpha": (0.0, 100.0),
    "eval_every_steps": (0, 10**9),
    "eval_every_epochs": (0.0, 1e6),
    "early_stop_evals": (0, 10**6),
    "checkpoint_every_steps": (1, 10**9),
    "keep_latest": (1, 10**6),
    "keep_best": (1, 10**6),
    "max_bad_steps": (1, 10**6),
    "log_every_steps": (1, 10**9),
    "profile_steps": (1, 10**6),
}


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field."""
    for key, value in config.items():
        if isinstance(value, ConfigDict) and len(value):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def validate(config: ConfigDict) -> None:
    """Checks names, choices, ranges and combinations.

    Raises:
        ConfigError: lists everything that is wrong, with the key, the value and what would do.
    """
    from rsjax import datasets, losses, models, tasks

    values = dict(flatten(config))
    problems = []
    for key, known in CHOICES.items():
        if values[key] not in known:
            problems.append(f"{key}={values[key]!r}: choose one of {', '.join(known)}")
    for key, (low, high) in RANGES.items():
        if not low <= values[key] <= high:
            problems.append(f"{key}={values[key]!r}: must lie in [{low}, {high}]")
    for key, names in (
        ("data.dataset", datasets.names()),
        ("task.name", tuple(tasks.TASKS)),
        ("model.name", tuple(models.TABLE)),
    ):
        if values[key] not in names:
            close = difflib.get_close_matches(str(values[key]), names, 1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            problems.append(f"{key}={values[key]!r}: {hint}known: {', '.join(names)}")
    if config.task.name in tasks.TASKS:
        try:
            tasks.check(config.task.name, config.task.to_dict())
        except (ConfigError, NomenclatureError) as error:
            problems.append(f"task: {error}")
    mixed = config.augment.mixup_alpha > 0 or config.augment.cutmix_alpha > 0
    if config.task.name == "multilabel" and mixed:
        problems += [
            f"task.losses: {name!r} takes no mixtures of labels; set augment.mixup_alpha and "
            "cutmix_alpha to 0"
            for name, _ in config.task.losses
            if name in losses.HARD
        ]
    if config.task.thresholds == "tuned" and config.task.name != "multilabel":
        problems.append("task.thresholds='tuned' is for task.name='multilabel'")
    if not config.data.validation_split:
        for key in ("thresholds", "temperature"):
            if config.task[key] in ("tuned", "fitted"):
                problems.append(f"task.{key}={config.task[key]!r} needs data.validation_split")
    if config.model.name in models.CLASSIC:
        problems += _unfit(values)
    elif bool(config.total_steps) == bool(config.total_epochs):
        problems.append("set one of total_steps and total_epochs")
    for pair in ("schedule.warmup", "eval_every"):
        if values[f"{pair}_steps"] and values[f"{pair}_epochs"]:
            problems.append(f"set one of {pair}_steps and {pair}_epochs, and the other to 0")
    if not config.data.bands or not all("/" in band for band in config.data.bands):
        problems.append(f"data.bands={tuple(config.data.bands)}: name them as 'sensor/band'")
    if config.batch_size % config.optimizer.accumulate_steps:
        problems.append(
            f"batch_size={config.batch_size} is no multiple of "
            f"optimizer.accumulate_steps={config.optimizer.accumulate_steps}"
        )
    for entry in config.optimizer.factors:
        if len(entry) != 2 or not isinstance(entry[0], str) or entry[1] < 0:
            problems.append(f"optimizer.factors: {entry!r} is not (regex, factor >= 0)")
    for entry in config.mesh.rules:
        if len(entry) != 2 or not isinstance(entry[0], str) or entry[1] not in MESH_RULES:
            problems.append(f"mesh.rules: {entry!r} is not (regex, {' | '.join(MESH_RULES)})")
    if config.init_new and not config.init_from:
        problems.append("init_new needs init_from")
    if config.early_stop_evals and not config.data.validation_split:
        problems.append("early_stop_evals needs data.validation_split")
    if config.wandb_project and importlib.util.find_spec("wandb") is None:
        problems.append("wandb_project needs Weights & Biases: pip install 'rsjax[wandb]'")
    if problems:
        raise ConfigError("the config cannot work:\n  " + "\n  ".join(problems))


def _unfit(values: dict[str, Any]) -> list[str]:
    """What a model that is fitted at once cannot do, beyond having no steps."""
    name, problems = values["model.name"], []
    if values["task.name"] == "multilabel":
        problems.append(f"model.name={name!r} is for task.name='segmentation' or 'classification'")
    unused = {
        "init_from": "", "task.losses": (), "task.label_smoothing": 0.0,
        "data.sampling": "uniform", "mesh.rules": (),
    }  # fmt: skip
    for key, default in unused.items():
        if values[key] != default:
            problems.append(f"{key}={values[key]!r} has no meaning for model.name={name!r}")
    if values["fit.clusters"] == "unnamed" and name != "kmeans":
        problems.append("fit.clusters='unnamed' is for model.name='kmeans'")
    if importlib.util.find_spec("sklearn") is None and values["mode"] == "train":
        problems.append(f"model.name={name!r} needs scikit-learn: pip install 'rsjax[classic]'")
    return problems


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as plain JSON types (tuples become lists)."""
    import json

    return json.loads(config.to_json_best_effort())


def table(config: ConfigDict, overridden: Iterable[str]) -> str:
    """Every field with its type, its default, its value, and where the value comes from."""
    defaults = dict(flatten(base()))
    rows = [("field", "type", "default", "value", "from")]
    for key, value in flatten(config):
        default = defaults.get(key, "")
        origin = "command line" if key in overridden else "config file"
        changed = key in overridden or value != default
        shown = (repr(value), origin) if changed else ("", "")
        rows.append((key, type(value).__name__, repr(default), *shown))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    )


def steps_of(config: ConfigDict, name: str, steps_per_epoch: float) -> int:
    """The duration `name_steps` or `name_epochs`, in steps."""
    import math

    values = dict(flatten(config))
    if values[f"{name}_steps"]:
        return int(values[f"{name}_steps"])
    return math.ceil(values[f"{name}_epochs"] * steps_per_epoch - 1e-9)
