import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
import toy
from reported import undrawn

from rsjax.errors import CheckpointError, ConfigError, RsjaxError
from rsjax.training import checkpoints, data, examine, held_out, loop
from rsjax.training.logging import read

EVERYTHING = {
    "ema_decay": 0.9,
    "model.fields": {**toy.TINY, "dropout_rate": 0.2, "drop_path_rate": 0.2},
    "augment.d4": True,
    "augment.noise_std": 0.1,
    "augment.cutmix_alpha": 1.0,
    "tensorboard": True,
    "profile_start_step": 2,
    "profile_steps": 2,
    "task.temperature": "fitted",
    "task.thresholds": "tuned",
    "eval.bootstrap": 20,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    toy.write(path)
    return path


@pytest.fixture(scope="module")
def unbroken(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    scalars = loop.train_and_evaluate(toy.config(data_dir, **EVERYTHING), workdir)
    return workdir, scalars


def test_temperature_and_thresholds_of_validation_are_in_the_bundle_and_the_test(
    data_dir, unbroken
):
    import scipy.optimize
    from sklearn.metrics import f1_score

    import rsjax
    from rsjax.input import manifest as manifests
    from rsjax.input.source import ShardSource

    workdir, scalars = unbroken
    model = rsjax.load(workdir)
    root = manifests.find(data_dir, "bigearthnet")
    reads = {name: ShardSource(root, name).read(np.arange(40)) for name in ("validation", "test")}
    found = {
        name: model.predict({"s2": batch["s2"], "s1": batch["s1"]}).probabilities.astype(float)
        for name, batch in reads.items()
    }
    labels = {name: batch["label"] for name, batch in reads.items()}

    # The temperature is the one that scipy finds on the logits of the validation split.
    logits = np.log(found["validation"] / (1 - found["validation"])) * model.temperature
    truth = labels["validation"]

    def loss(log_temperature):
        scaled = logits / np.exp(log_temperature)
        return np.mean(np.logaddexp(0, scaled) - truth * scaled)

    best = scipy.optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").x
    assert model.temperature == pytest.approx(np.exp(best), rel=0.02)

    # Thresholds: no single other cut of a label has a larger F1 on the validation split.
    thresholds = np.asarray(model.about["task"]["threshold"], np.float32)
    scores = found["validation"].astype(np.float32)
    for k in np.flatnonzero(truth.any(axis=0)):
        cuts = [f1_score(truth[:, k], scores[:, k] >= cut) for cut in np.unique(scores[:, k])]
        chosen = f1_score(truth[:, k], scores[:, k] >= thresholds[k])
        assert chosen == pytest.approx(max(cuts))
    here = labels["test"].any(axis=0)
    predicted = found["test"].astype(np.float32) >= thresholds
    expected = f1_score(labels["test"][:, here], predicted[:, here], average="macro",
                        zero_division=0)  # fmt: skip
    assert scalars["f1_macro"] == pytest.approx(expected)


def test_an_evaluation_fits_nothing_and_says_what_was_chosen_on_its_split(
    data_dir, unbroken, tmp_path
):
    from rsjax import bundle, sealed
    from rsjax.input import manifest as manifests

    workdir, _ = unbroken
    model = bundle.load(workdir)
    own, made = model.about, manifests.load(manifests.find(data_dir, "bigearthnet"))
    assert own["calibration"]["split"] == "validation"
    files = {path: path.read_bytes() for path in (workdir / "bundle").iterdir()}
    changes = {"mode": "eval", "eval.checkpoint": str(workdir), "eval.split": "validation",
               # What the config asks of a training has no say here.
               "task.threshold": 0.9, "task.temperature": "none"}  # fmt: skip
    with undrawn():
        examine.evaluate_checkpoint(toy.config(data_dir, **EVERYTHING | changes), tmp_path)
    about = sealed.read(tmp_path / "eval" / "validation.json")
    assert about["temperature"] == about["scalars"]["temperature"] == own["temperature"]
    assert about["per_class"]["threshold"] == own["task"]["threshold"]
    assert about["evaluation"]["seen"] == ["step", "temperature", "thresholds"]
    said = "the model's step, temperature and thresholds were fitted to, or chosen on, the split"
    assert said in (tmp_path / "report_validation.html").read_text().replace("&#x27;", "'")
    assert {path: path.read_bytes() for path in (workdir / "bundle").iterdir()} == files
    # The test at the end of the run says nothing, for nothing was chosen there.
    assert sealed.read(workdir / "eval" / "test.json")["evaluation"]["seen"] == []
    assert "No independent test" not in (workdir / "report.html").read_text()
    assert held_out.seen(model, made, "train+test") == ["weights"]
    older = dataclasses.replace(model, about={k: v for k, v in own.items() if k != "calibration"})
    assert held_out.seen(older, made, "validation") == ["step", "temperature", "thresholds"]
    foreign = dataclasses.replace(made.info, title="Another place")
    assert held_out.seen(model, dataclasses.replace(made, info=foreign), "train") == []


def leaves(workdir, step):
    """Every array of a checkpoint, by name."""
    import orbax.checkpoint as ocp

    folder = workdir / "checkpoints" / str(step) / "state"
    tree = ocp.PyTreeCheckpointer().restore(
        folder,
        restore_args=jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
            ocp.PyTreeCheckpointer().metadata(folder).item_metadata.tree,
        ),
    )
    return {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(tree)}


def assert_equal_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_a_run_learns_and_leaves_what_it_promises(unbroken):
    workdir, scalars = unbroken
    assert scalars["mAP_macro"] > scalars["mAP_macro_of_class_frequencies"]
    for name in ("bundle/rsjax.json", "config.json", "metrics.jsonl", "report.html",
                 "eval/test.json", "finished.json"):  # fmt: skip
        assert (workdir / name).is_file(), name
    assert list(workdir.glob("events.out.tfevents*"))
    assert list((workdir / "profile").rglob("*.xplane.pb"))
    rows = read(workdir)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses[-1] < losses[0]
    shares = [row["train/input_wait_share"] for row in rows if "train/input_wait_share" in row]
    assert shares
    assert all(0 <= share <= 1 for share in shares)


def test_resumed_training_equals_unbroken_training_bit_for_bit(
    data_dir, tmp_path, unbroken, monkeypatch
):
    asked = iter([7, 9])

    @contextlib.contextmanager
    def stop_later():
        at = next(asked, None)
        yield lambda step: step == at

    monkeypatch.setattr(loop, "watch", stop_later)
    config = toy.config(data_dir, **EVERYTHING)
    assert loop.train_and_evaluate(config, tmp_path) == {}  # asked to stop at step 7
    assert checkpoints.check(tmp_path / "checkpoints" / "7") == ""
    assert loop.train_and_evaluate(config, tmp_path) == {}  # and at step 9
    scalars = loop.train_and_evaluate(config, tmp_path)
    workdir, expected = unbroken
    assert_equal_bits(leaves(tmp_path, 12), leaves(workdir, 12))
    assert scalars == expected
    losses = [{r["step"]: r["train/loss"] for r in read(w) if "train/loss" in r}
              for w in (tmp_path, workdir)]  # fmt: skip
    assert losses[0].items() <= losses[1].items()
    # Once more: there is nothing left to train.
    assert loop.train_and_evaluate(config, tmp_path) == expected


@pytest.mark.once
def test_killed_training_goes_on_with_the_same_command(data_dir, tmp_path, unbroken):
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(pathlib.Path(__file__).parent.parent)!r})
        import conftest, toy, pathlib
        from rsjax.training import loop, logging
        def update(self, step, note=""):
            if step == 10 and os.environ.get("DIE"):
                os.kill(os.getpid(), signal.SIGKILL)
        logging.Progress.update = update
        config = toy.config({str(data_dir)!r}, **{EVERYTHING!r})
        loop.train_and_evaluate(config, pathlib.Path({str(tmp_path)!r}))
    """)

    def run(**extra):
        return subprocess.run([sys.executable, "-c", script], env={**os.environ, **extra},
                              capture_output=True, text=True, check=False)  # fmt: skip

    killed = run(DIE="1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    again = run()
    assert again.returncode == 0, again.stderr[-2000:]
    assert_equal_bits(leaves(tmp_path, 12), leaves(unbroken[0], 12))


def test_a_checkpoint_of_four_devices_loads_on_one(unbroken):
    workdir, _ = unbroken
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    saved = leaves(workdir, 12)
    with checkpoints.Checkpoints(workdir / "checkpoints", "mAP_macro", 2, 1) as manager:
        tree = manager.manager.item_metadata(12)
        assert tree is not None
        with pytest.raises(CheckpointError, match="not in this run"):
            manager.restore({"step": jax.ShapeDtypeStruct((), np.int32, sharding=one)})
    script = f"""
import os, sys
os.environ["JAX_PLATFORMS"] = "cpu"
import jax, rsjax
assert jax.device_count() == 1
model = rsjax.load({str(workdir)!r})
import numpy as np
flat = jax.tree.leaves(model.variables["params"])
print(sum(float(np.abs(x).sum()) for x in flat))
image = np.stack([np.full((8, 8), v) for v in (900.0, 900.0, 2400.0, -12.0, -12.0)], -1)
print(model.predict(image).probabilities.shape)
"""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    fresh = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                           env=env, check=False)  # fmt: skip
    assert fresh.returncode == 0, fresh.stderr[-2000:]
    assert fresh.stdout.splitlines()[1] == "(1, 19)"
    total = sum(float(np.abs(v).sum()) for k, v in saved.items() if "'ema'" in k)
    assert float(fresh.stdout.split()[0]) == pytest.approx(total, rel=1e-6)


def test_changed_data_is_refused_unless_restarted(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "watch", lambda: contextlib.nullcontext(lambda step: step == 3))
    assert loop.train_and_evaluate(toy.config(data_dir), tmp_path) == {}
    monkeypatch.setattr(loop, "watch", lambda: contextlib.nullcontext(lambda step: step == 4))
    for key, value in (("batch_size", 8), ("seed", 7), ("data.train_split", "train+validation")):
        with pytest.raises(CheckpointError, match=key.split(".")[-1]):
            loop.train_and_evaluate(toy.config(data_dir, **{key: value}), tmp_path)
    with pytest.raises(CheckpointError, match=r"params/conv1/kernel: float32\(3, 3, 5, 4\)"):
        loop.train_and_evaluate(
            toy.config(data_dir, **{"model.fields": {**toy.TINY, "width": 8}}), tmp_path
        )
    restarted = toy.config(data_dir, seed=7, resume_data="restart")
    assert loop.train_and_evaluate(restarted, tmp_path) == {}


@pytest.mark.once
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    data_dir, tmp_path, unbroken, caplog
):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken[0], workdir)
    data_file = max((workdir / "checkpoints" / "12" / "state").rglob("d/*"),
                    key=lambda p: p.stat().st_size)  # fmt: skip
    content = bytearray(data_file.read_bytes())
    content[len(content) // 2] ^= 1
    data_file.write_bytes(content)
    scalars = loop.train_and_evaluate(toy.config(data_dir, **EVERYTHING), workdir)
    assert "step 12 is damaged" in caplog.text
    assert scalars == unbroken[1]
    assert_equal_bits(leaves(workdir, 12), leaves(unbroken[0], 12))


@pytest.mark.once
def test_a_damaged_bundle_is_written_anew_from_the_best_step(data_dir, tmp_path, unbroken, caplog):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken[0], workdir)
    weights = (workdir / "bundle" / "weights.safetensors").read_bytes()
    about = workdir / "bundle" / "rsjax.json"
    content = about.read_text()
    name = json.loads(content)["nomenclature"]["name"]
    about.write_text(content.replace(name, name[::-1]))
    assert about.read_text() != content
    assert loop.train_and_evaluate(toy.config(data_dir, **EVERYTHING), workdir) == unbroken[1]
    assert "writes it anew" in caplog.text
    assert (workdir / "bundle" / "weights.safetensors").read_bytes() == weights
    assert about.read_text() == content


def test_training_that_diverges_stops_and_names_the_last_good_checkpoint(data_dir, tmp_path):
    config = toy.config(
        data_dir, **{"optimizer.name": "sgd", "optimizer.learning_rate": 1e2 ** 8.0,
                     "schedule.warmup_steps": 2, "max_bad_steps": 3, "checkpoint_every_steps": 1,
                     "total_steps": 40, "data.validation_split": ""}
    )  # fmt: skip
    with pytest.raises(RsjaxError, match=r"3 steps in a row.*toy_\d+.*last good checkpoint"):
        loop.train_and_evaluate(config, tmp_path)
    newest = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert all(np.isfinite(v).all() for v in leaves(tmp_path, newest).values())


def test_evaluation_of_a_checkpoint_repeats_the_figures_of_the_run(data_dir, tmp_path, unbroken):
    config = toy.config(data_dir, **{"mode": "eval", "eval.checkpoint": str(unbroken[0])})
    found = examine.evaluate_checkpoint(config, tmp_path)
    for name, value in unbroken[1].items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    saved = json.loads((tmp_path / "eval" / "test.json").read_text())
    assert saved["scalars"]["mAP_macro"] == found["mAP_macro"]
    assert saved["trained_on"]["simulated"] is True


def test_other_bands_or_statistics_are_refused_on_resume(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "watch", lambda: contextlib.nullcontext(lambda step: step == 2))
    config = toy.config(data_dir)
    assert loop.train_and_evaluate(config, tmp_path) == {}
    swapped = (*config.data.bands[1::-1], *config.data.bands[2:])
    restart = {"data.bands": swapped, "resume_data": "restart"}
    for changes in ({"data.bands": swapped}, restart):
        with pytest.raises(CheckpointError, match=r"other inputs\s+bands: "):
            loop.train_and_evaluate(toy.config(data_dir, **changes), tmp_path)


def test_a_missing_split_is_found_before_training(data_dir, tmp_path):
    config = toy.config(data_dir, **{"data.test_split": "tset"})
    with pytest.raises(RsjaxError, match="no split 'tset'"):
        loop.train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_model_is_not_evaluated_on_other_units(data_dir, tmp_path, unbroken):
    import dataclasses

    from rsjax.input import manifest

    other = toy.write(tmp_path / "other")
    info = manifest.load(other).info
    images = {**info.images, "s1": dataclasses.replace(info.images["s1"], unit="linear_power")}
    toy.rewrite(other, info=dataclasses.replace(info, images=images))
    config = toy.config(tmp_path / "other",
                        **{"mode": "eval", "eval.checkpoint": str(unbroken[0])})  # fmt: skip
    with pytest.raises(RsjaxError, match=r"entry 's1'.*linear_power"):
        examine.evaluate_checkpoint(config, tmp_path / "eval")


def test_channels_of_a_series_stand_step_by_step():
    good = [f"s/{b}@{k}" for k in range(2) for b in "ab"]
    data._check_series(2, good)
    data._check_series(1, ["s/b@1", "s/a@0"])
    for bad in (sorted(good), [*good, "s/c"], good[:3]):
        with pytest.raises(ConfigError, match=r"steps=2: data\.bands are not the same bands"):
            data._check_series(2, bad)
