"""Classic models on pixels: random forest, gradient boosting, K-means; the baseline of a deep one.

Fitted from the same shards with scikit-learn, at once instead of in steps; what comes out is a
bundle like any other, evaluated in JAX. See docs/classic.md.
"""

from rsjax.classic.run import fit_and_evaluate

__all__ = ["fit_and_evaluate"]
