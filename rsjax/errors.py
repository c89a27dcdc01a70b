"""Every error that rsjax raises on purpose: bad input, named file, stated remedy.

A message says what was found, where, what was expected and what to do about it. The doors
(`rsjax.main`, `rsjax.prepare`, ...) print an `RsjaxError` as one message without a traceback;
anything else is a bug and keeps its traceback.
"""


class RsjaxError(Exception):
    """Base of the errors that a user can mend."""


class ConfigError(RsjaxError):
    """A configuration or command line that cannot work."""


class NomenclatureError(RsjaxError):
    """A class code, class name or nomenclature that is not in the tables."""


class SensorError(RsjaxError):
    """A sensor, band or unit that is unknown, missing or does not fit."""


class DatasetError(RsjaxError):
    """A download that is missing, damaged or not in its official layout."""


class ShardError(RsjaxError):
    """Prepared shards that are missing, damaged, incomplete or of another origin."""


class StorageError(RsjaxError):
    """An object store that does not answer, or refuses; never a reason to skip a sample."""


class CheckpointError(RsjaxError):
    """A training checkpoint that is damaged or does not fit the run."""


class DiskError(RsjaxError):
    """A file that could not be written: no space left, a quota, a read-only or failing disk."""


class BundleError(RsjaxError):
    """A trained model that cannot be loaded, or input that it cannot take."""


class WeightsError(RsjaxError):
    """Published weights that cannot be read or do not fit the model."""


class ExportError(RsjaxError):
    """A model that cannot leave in the format asked for, or did and computes something else."""


class SceneError(RsjaxError):
    """A scene, map or vector file that cannot be read, or does not fit the others."""
