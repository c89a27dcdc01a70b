"""The temperature that mends over- or underconfident probabilities, in one pass over a split.

Logits are divided by it before the softmax or sigmoid, see `rsjax.metrics.calibration`. It is
fitted on a validation split; it changes no single-label prediction.

Source: Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks.
"""

from __future__ import annotations

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from rsjax.metrics import base
from rsjax.metrics.calibration import known_kind, reference

# Inverse temperatures 1/20 ... 20, evenly spaced in the logarithm, with 1 in the middle.
LOG_BETAS = np.arange(-24, 25) * (np.log(20.0) / 24)
UNITY = 24  # the place of inverse temperature 1


@flax.struct.dataclass
class TemperatureFit(base.Scored):
    """The temperature of least log-loss; make it with `TemperatureFit.for_classes(C, kind)`.

    The log-loss is summed for a grid of inverse temperatures at once, so one pass is enough.
    It is convex in the inverse temperature, so the lowest three neighbours hold the minimum.

    Attributes:
        losses: (49,) sums of the log-loss at `LOG_BETAS`: float32 of a batch, float64 merged.
        cases: positions (softmax) or pairs of position and class (sigmoid) in the sums.
    """

    kind: ClassVar[str]

    losses: Any
    cases: Any

    @classmethod
    def for_classes(cls, num_classes: int, kind: str = "softmax") -> Any:
        """The metric class for `num_classes` classes.

        Raises:
            ConfigError: an unknown kind.
        """
        return base.specialise(cls, num_classes=num_classes, kind=known_kind(kind))

    @classmethod
    def empty(cls) -> Any:
        """Nothing summed, on the host."""
        zero = np.zeros((), np.int64)
        return cls(zero, zero, np.zeros(len(LOG_BETAS)), zero)

    @classmethod
    def from_model_output(  # type: ignore[override]
        cls, *, labels: jax.Array, mask: jax.Array, logits: jax.Array, **_: Any
    ) -> Any:
        """The sums of one batch.

        Args:
            labels: class indices (...,) for softmax; multi-hot (..., C) for sigmoid.
            mask: (...,), true where a position counts.
            logits: (..., C).

        Raises:
            ValueError: shapes that do not fit.
        """
        truth, known, finite = reference(cls, labels, mask, logits)
        counted = mask.astype(bool) & known & finite
        logits = jnp.where(counted[..., None], logits.astype(jnp.float32), 0.0)
        if cls.kind == "softmax":
            # Behind the largest: the exponentials of any multiple stay in range.
            behind = logits - jnp.max(logits, axis=-1, keepdims=True)
            own = truth[..., None] == jnp.arange(cls.num_classes, dtype=jnp.int32).reshape(
                (1,) * truth.ndim + (-1,)
            )
            loss_of = jnp.sum(jnp.where(own, behind, 0.0), axis=-1)

            def losses(beta: jax.Array) -> jax.Array:
                return jnp.log(jnp.sum(jnp.exp(beta * behind), axis=-1)) - beta * loss_of

        else:
            wrong = jnp.where(truth, -logits, logits)
            counted = jnp.broadcast_to(counted[..., None], wrong.shape)

            def losses(beta: jax.Array) -> jax.Array:
                return jax.nn.softplus(beta * wrong)

        # One inverse temperature after the other: the memory of one map of losses.
        betas = jnp.asarray(np.exp(LOG_BETAS), jnp.float32)
        sums = jax.lax.map(lambda beta: _total(jnp.where(counted, losses(beta), 0.0)), betas)
        return cls(
            base.count(mask.astype(bool) & ~known),
            base.count(mask.astype(bool) & ~finite),
            losses=sums,
            cases=base.count(counted),
        )

    def compute(self) -> dict[str, float]:
        """The temperature and what it gains; NaN where nothing was summed.

        Returns:
            `temperature`, to divide logits by; `nll_before` and `nll_after`, the mean log-loss at
            temperature 1 and at this one (by a parabola in the logarithm through the lowest three
            points); `temperature_at_edge`, 1 where the log-loss falls up to the end of the grid,
            1/20 ... 20, or to 0 in float32, so that the temperature is that bound and no minimum:
            a set whose every case is right is best at temperature 0. Otherwise 0.

        Raises:
            DatasetError, RsjaxError: see `Scored.check`.
        """
        self.check()
        names = ("temperature", "nll_before", "nll_after", "temperature_at_edge")
        if not int(self.cases):
            return dict.fromkeys(names, float("nan"))
        nll = np.asarray(self.losses, np.float64) / int(self.cases)
        # Logits that say nothing give one loss at every temperature: stay next to 1.
        low = np.flatnonzero(nll <= nll.min() * (1 + 1e-6))
        place = int(low[np.argmin(np.abs(low - UNITY))])
        edge = place in (0, len(nll) - 1) or nll[place] == 0.0
        offset, after = (0.0, nll[place]) if edge else _vertex(*nll[place - 1 : place + 2])
        log_beta = LOG_BETAS[place] + offset * (LOG_BETAS[1] - LOG_BETAS[0])
        values = (np.exp(-log_beta), nll[UNITY], after, edge)
        return {name: float(value) for name, value in zip(names, values, strict=True)}

    def per_class(self) -> dict[str, np.ndarray]:
        """Nothing: one temperature serves all classes."""
        self.check()
        return {}


def _total(values: jax.Array) -> jax.Array:
    """The sum, axis by axis: one long float32 sum would lose digits as it grows."""
    for _ in range(values.ndim):
        # Else the compiler makes one sum of them again.
        values = jax.lax.optimization_barrier(jnp.sum(values, axis=-1))
    return values


def _vertex(left: float, middle: float, right: float) -> tuple[float, float]:
    """Place and value of the minimum of the parabola through values at -1, 0 and 1."""
    slope, curvature = (right - left) / 2, left - 2 * middle + right
    if curvature <= 0:
        return 0.0, middle
    place = float(np.clip(-slope / curvature, -1, 1))
    return place, middle + slope * place + curvature * place**2 / 2
