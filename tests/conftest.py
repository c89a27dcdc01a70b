"""Settings of every test: several fake devices, strict arithmetic, warnings as errors."""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("RSJAX_TEST_CACHE", str(ROOT / ".cache" / "xla")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="session")
def samples() -> pathlib.Path:
    """The folder of real imagery (RSJAX_SAMPLES); skips where there is none."""
    path = pathlib.Path(os.environ.get("RSJAX_SAMPLES", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real imagery: {path} does not exist; set RSJAX_SAMPLES")
    return path
