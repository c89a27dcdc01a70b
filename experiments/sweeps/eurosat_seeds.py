"""Three seeds at two learning rates of the small EuroSAT recipe: six runs.

python -m rsjax.sweep --config=configs/eurosat_resnet.py:cpu \
        --sweep=experiments/sweeps/eurosat_seeds.py --workdir=runs/eurosat_seeds
python -m rsjax.compare runs/eurosat_seeds/0*
"""

from typing import Any

from rsjax.training.sweep import grid


def get_sweep() -> list[dict[str, Any]]:
    """Overrides of the config, one a run."""
    return grid(**{"optimizer.learning_rate": (1e-3, 2e-3), "seed": range(3)})
