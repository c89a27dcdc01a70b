"""The training loop, one page under headings."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rsjax import bundle, lock, models, sealed, tasks
from rsjax.config import flatten, steps_of, to_json
from rsjax.errors import RsjaxError
from rsjax.input import pipeline
from rsjax.training import data, hosts, initial, layout, optimizer, sharding, speed, step
from rsjax.training.calibrate import calibrate
from rsjax.training.checkpoints import Checkpoints
from rsjax.training.describe import describe, save_bundle
from rsjax.training.examine import fail_early, make_examiner, test_best
from rsjax.training.logging import Progress, Writer
from rsjax.training.preemption import watch

log = logging.getLogger("rsjax")

FINISHED = "finished.json"  # in the workdir, once training, test and report are done


def train_and_evaluate(config: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
    """Trains to the end, or on from the newest checkpoint; then evaluates and reports.

    Args:
        config: a validated config.
        workdir: folder of checkpoints, bundle, figures and report; made if absent.

    Returns:
        The figures of the test split (of the validation split if there is none); empty if the
        run was asked to stop before its end.

    Raises:
        RsjaxError: anything that the user can mend; see `rsjax.errors`.
    """
    with contextlib.ExitStack() as stack:
        # -- Workdir and devices -------------------------------------------------------------
        sharding.set_up(config)
        stop_now = stack.enter_context(watch())  # from here on, also while compiling
        # Where the shards lie may differ: each host may have its own copy.
        here = ("data.data_dir", "data.source", "compilation_cache_dir")
        hosts.refuse_differences({k: v for k, v in flatten(config) if k not in here})
        first_process, own = jax.process_index() == 0, workdir / "bundle"
        if first_process:
            stack.enter_context(lock.exclusive(workdir))
            bundle.recover(own)
            sealed.clean(workdir, workdir / "eval")
        mesh = sharding.make_mesh(config.mesh.model)
        parts = config.optimizer.accumulate_steps
        sharding.check_batch("batch_size", config.batch_size, mesh, parts)
        log.info(
            "%d %s device(s) in %d process(es), mesh %s",
            jax.device_count(),
            jax.devices()[0].device_kind,
            jax.process_count(),
            dict(mesh.shape),
        )

        # -- Data ----------------------------------------------------------------------------
        root = data.find_shards(config)
        made, inputs = data.read_inputs(config, root)
        fail_early(config, made)
        classes = data.read_classes(config.task, made)
        train = data.open_split(config, root, config.data.train_split, [inputs], config.task.name)
        for name in filter(None, (config.data.validation_split, config.data.test_split)):
            # To fail now rather than hours later.
            data.open_split(config, root, name, [inputs], config.task.name)
        steps_per_epoch = len(train) / config.batch_size
        total_steps = steps_of(config, "total", steps_per_epoch)
        eval_every = steps_of(config, "eval_every", steps_per_epoch) or total_steps
        weights = data.sampling_weights(config, made, classes.options.get("merge"))
        if made.simulated:
            log.warning("the imagery is SIMULATED: figures say nothing about real scenes")
        log.info(
            "%s, %d train samples, %.1f steps an epoch, %d steps",
            made.info.title,
            len(train),
            steps_per_epoch,
            total_steps,
        )

        # -- Model, optimizer, state ---------------------------------------------------------
        task = tasks.make(
            config.task.name,
            {**config.task.to_dict(), **classes.options, **data.presence(config, made, classes)},
            len(classes.nomenclature),
            classes.counts(config.data.train_split),
        )
        make = functools.partial(
            models.get,
            config.model.name,
            dtype=jnp.dtype(config.model.dtype).type,
            **config.model.fields,
        )
        model = make(num_classes=task.outputs)
        schedule = optimizer.make_schedule(
            config, total_steps, steps_of(config, "schedule.warmup", steps_per_epoch)
        )
        shapes = jax.eval_shape(functools.partial(step.init_state, config, model, inputs, None))
        tx = optimizer.make_optimizer(config, shapes["params"], schedule)
        init = functools.partial(step.init_state, config, model, inputs, tx)
        same, split = sharding.replicated(mesh), sharding.over_data(mesh)
        state_shapes = jax.eval_shape(init)
        placed_params = layout.lay_out_params(state_shapes["params"], mesh, config.mesh.rules)
        placed = layout.lay_out_state(state_shapes, tx, placed_params, mesh)
        about = describe(config, made, inputs, task, classes.nomenclature)
        size = sum(math.prod(p.shape) for p in jax.tree.leaves(shapes["params"]))
        log.info(
            "%s: %d parameters; the state takes %.1f MB on each device",
            config.model.name,
            size,
            layout.bytes_on_device(state_shapes, placed) / 1e6,
        )

        # -- Steps ---------------------------------------------------------------------------
        train_step = jax.jit(
            step.make_train_step(config, model, task, inputs, tx, schedule),
            in_shardings=(placed, split),
            out_shardings=(placed, same),
            donate_argnums=0,
        )
        scored = tasks.make(  # as at the end: weights of the classes are for training
            config.task.name, {**config.task, **classes.options, "class_weights": "none"},
            task.outputs,
        )  # fmt: skip
        members = [(model, inputs, placed_params)]
        examine = make_examiner(config, made, scored, members, classes.counts, mesh)

        # -- Resume, or start ----------------------------------------------------------------
        # The newest sound checkpoint of the workdir, else step 0: of the seed, or given weights.
        checkpoints = stack.enter_context(
            Checkpoints(
                workdir / "checkpoints", task.headline, config.keep_latest, config.keep_best
            )
        )
        fingerprint = data.fingerprint(config, made, inputs)
        target = layout.abstract(state_shapes, placed)
        restored = checkpoints.restore(target)
        if restored:
            state, saved = restored
            position = data.resume_position(config, saved["data"], fingerprint)
            best, since_best = saved["best"], saved["since_best"]
            if best is not None and not hosts.agree(first_process and bundle.is_sound(own)):
                if again := checkpoints.restore_best(target, best):
                    log.warning("the bundle is gone or damaged: step %d writes it anew", again[1])
                    save_bundle(workdir, again[0], inputs, about, *again[1:])
                else:
                    log.warning("the bundle and the best step are gone: another will be the best")
                    best = None
            about["init"] = saved.get("init")
            log.info("resumed from step %d", int(state["step"]))
        else:
            state, position = sharding.run_once(init, placed), 0
            if config.init_from:
                taken, about["init"] = initial.given(config, make, inputs, classes.nomenclature)
                state = initial.start(state, taken)
            best, since_best = None, 0
        first = int(state["step"])
        if first_process:
            sealed.write_json(workdir / "config.json", to_json(config))
            (workdir / FINISHED).unlink(missing_ok=True)

        # -- Train ---------------------------------------------------------------------------
        batches = pipeline.OnMesh(
            pipeline.train_batches(
                train,
                config.batch_size,
                config.seed,
                position,
                max(total_steps - first, 0),
                config.data.threads,
                config.data.buffer,
                *sharding.reader_of(split, config.batch_size),
                stall_s=config.data.stall_s,
                weights=weights,
            ),
            split,
        )
        writer = stack.enter_context(
            Writer(workdir, first, config.tensorboard, config.wandb_project, to_json(config))
        )
        progress = stack.enter_context(
            Progress("train", total_steps, first, config.log_every_steps)
        )
        meter = speed.Meter(config.batch_size, batches, first)
        compiled = None
        now = first
        measured: dict[str, jax.Array] | None = None
        index: Any = None  # of the samples of the step whose figures are `measured`
        stack.callback(speed.stop_profile)

        def is_over() -> bool:
            patience = config.early_stop_evals
            return now >= total_steps or bool(patience and since_best >= patience)

        def save(metrics: dict[str, float] | None = None) -> None:
            # Position and state belong together: both are those after step `now`.
            checkpoints.save(
                now,
                state,
                {
                    **about,
                    "data": {
                        "position": position + (now - first) * config.batch_size,
                        "fingerprint": fingerprint,
                    },
                    "best": best,
                    "since_best": since_best,
                },
                metrics,
            )

        for batch in batches if not is_over() else ():
            if compiled is None:  # ahead of time, to say how much memory a step takes
                compiled = speed.compile_ahead(train_step, state, batch)
                hosts.barrier("compiled")  # the devices would not wait for a slower host
                meter.restart(now)
            speed.profile(workdir, now, config.profile_start_step, config.profile_steps, state)
            previous, previous_index = measured, index
            state, measured = compiled(state, batch)
            index = batch["index"]
            now += 1

            # Figures of the step before are read while this one runs.
            if previous is not None and (now - 1) % config.log_every_steps == 0:
                figures = {k: float(v) for k, v in jax.device_get(previous).items()}
                figures |= meter.read(now - 1)
                writer.scalars(now - 1, {f"train/{k}": v for k, v in figures.items()})
                rate = (
                    f", {figures['images_per_s']:.0f} images/s" if "images_per_s" in figures else ""
                )
                progress.update(now, f"loss {figures['loss']:.4f}{rate}")
            else:
                progress.update(now)
            checkpoints.poll()
            if previous is not None and int(previous["bad_steps"]) >= config.max_bad_steps:
                local = previous_index.addressable_shards[0].data
                ids = train.ids(jax.device_get(local)[:8])
                checkpoints.finish()
                good = checkpoints.manager.latest_step()
                raise RsjaxError(
                    f"{config.max_bad_steps} steps in a row up to step {now - 1} had a non-finite "
                    f"loss or gradient; samples of the batch include {ids}. The last good "
                    f"checkpoint is step {good} in {checkpoints.directory}. Lower "
                    "optimizer.learning_rate, set optimizer.clip_norm, or check those samples"
                )

            # -- Evaluate, save, stop --------------------------------------------------------
            last = now == total_steps
            if config.data.validation_split and (now % eval_every == 0 or last):
                found = examine([state], config.data.validation_split)
                writer.scalars(now, {f"validation/{k}": v for k, v in found.scalars.items()})
                headline = found.scalars[task.headline]
                since_best += 1
                if not math.isnan(headline) and (best is None or headline > best):
                    best, since_best = headline, 0
                    save_bundle(workdir, state, inputs, about, now, found.scalars)
                log.info(
                    "step %d: validation %s %.4f%s",
                    now,
                    task.headline,
                    headline,
                    "" if since_best else ", the best so far",
                )
                save(found.scalars)
                meter.restart(now)
            elif now % config.checkpoint_every_steps == 0 or last:
                save()
            if is_over():
                break
            if stop_now(now):
                save()
                checkpoints.finish()
                log.warning("asked to stop: saved step %d; the same command resumes", now)
                return {}
        checkpoints.finish()
        if not config.data.validation_split or not hosts.agree(first_process and own.exists()):
            save_bundle(workdir, state, inputs, about, now, {})

        # -- Calibrate, test, report ---------------------------------------------------------
        final = config.data.test_split or config.data.validation_split
        calibrate(config, workdir, made, mesh)
        scalars = test_best(config, workdir, made, final, mesh, examine) if final else {}
        writer.scalars(now, {f"{final}/{k}": v for k, v in scalars.items()})
        if first_process:  # for scripts that start the command until it is there
            sealed.write_json(workdir / FINISHED, {"step": now, "split": final, **scalars})
        return scalars
