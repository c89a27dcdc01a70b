"""rsjax: deep learning for land use and land cover from satellite imagery, in JAX.

`rsjax.load(path)` opens a trained model; the rest is reached through its modules. Importing rsjax
imports neither JAX nor anything else that is slow, and starts no device.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: Any) -> Any:
    """Opens the trained model of a workdir or bundle: see `rsjax.bundle.load`."""
    from rsjax import bundle

    return bundle.load(path)
