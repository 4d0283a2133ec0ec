"""jaxmetrics: functional metrics for JAX.

A metric is a frozen value of options with pure functions over an immutable state:

    >>> import jaxmetrics as jm
    >>> metric = jm.Precision()
    >>> state = metric.init()
    >>> state = metric.update(state, y_true=[0, 1, 1], y_pred=[0.2, 0.8, 0.3])
    >>> print(metric.compute(state))
    1.0

`init`, `update`, `merge`, `all_reduce` and `compute` run inside `jit`, `scan`,
`shard_map` and `pmap`, and the state is a pytree: a scan carry, a field of a train
state, a checkpoint.
"""

# The contract
from jaxmetrics.metric import Accumulator as Accumulator
from jaxmetrics.metric import Metric as Metric
from jaxmetrics.metric import Readout as Readout
from jaxmetrics.metric import Validity as Validity
from jaxmetrics.state import State as State

# isort: split
# Composition
from jaxmetrics.collection import Collection as Collection
from jaxmetrics.numerics import divide as divide

# isort: split
# Means, sums and counts
from jaxmetrics.aggregation import Count as Count
from jaxmetrics.aggregation import Mean as Mean
from jaxmetrics.aggregation import Sum as Sum
from jaxmetrics.aggregation import WeightedSum as WeightedSum

# isort: split
# True and false positives and negatives
from jaxmetrics.confusion import BinaryAccuracy as BinaryAccuracy
from jaxmetrics.confusion import ConfusionMetric as ConfusionMetric
from jaxmetrics.confusion import F1Score as F1Score
from jaxmetrics.confusion import FalseDiscoveryRate as FalseDiscoveryRate
from jaxmetrics.confusion import FalseNegativeRate as FalseNegativeRate
from jaxmetrics.confusion import FalseNegatives as FalseNegatives
from jaxmetrics.confusion import FalseOmissionRate as FalseOmissionRate
from jaxmetrics.confusion import FalsePositiveRate as FalsePositiveRate
from jaxmetrics.confusion import FalsePositives as FalsePositives
from jaxmetrics.confusion import FBetaScore as FBetaScore
from jaxmetrics.confusion import NegativePredictiveValue as NegativePredictiveValue
from jaxmetrics.confusion import Precision as Precision
from jaxmetrics.confusion import Prevalence as Prevalence
from jaxmetrics.confusion import Recall as Recall
from jaxmetrics.confusion import Specificity as Specificity
from jaxmetrics.confusion import TrueNegativeRate as TrueNegativeRate
from jaxmetrics.confusion import TrueNegatives as TrueNegatives
from jaxmetrics.confusion import TruePositives as TruePositives
from jaxmetrics.counts import ConfusionCounts as ConfusionCounts
from jaxmetrics.counts import Counts as Counts
from jaxmetrics.counts import even_thresholds as even_thresholds

# isort: split
# Curves, their areas, and values at a fixed point
from jaxmetrics.curves import AUC as AUC
from jaxmetrics.curves import OperatingThreshold as OperatingThreshold
from jaxmetrics.curves import PrecisionAtRecall as PrecisionAtRecall
from jaxmetrics.curves import PrecisionRecallCurve as PrecisionRecallCurve
from jaxmetrics.curves import PrecisionRecallPoints as PrecisionRecallPoints
from jaxmetrics.curves import RecallAtPrecision as RecallAtPrecision
from jaxmetrics.curves import ROCCurve as ROCCurve
from jaxmetrics.curves import ROCPoints as ROCPoints
from jaxmetrics.curves import SensitivityAtSpecificity as SensitivityAtSpecificity
from jaxmetrics.curves import SpecificityAtSensitivity as SpecificityAtSensitivity

__all__ = sorted(
    name for name, value in globals().items() if getattr(value, "__module__", "").startswith("jaxmetrics.")
)

for _name in __all__:
    globals()[_name].__module__ = "jaxmetrics"
del _name
