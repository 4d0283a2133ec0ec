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
from jaxmetrics.accumulator import Accumulator as Accumulator

# Means, sums and counts
from jaxmetrics.aggregation import (
    Count as Count,
    Mean as Mean,
    Sum as Sum,
    WeightedSum as WeightedSum,
)

# Functions of several metrics
from jaxmetrics.algebra import (
    apply as apply,
    harmonic_mean as harmonic_mean,
    where as where,
)

# Areas under curves of all scores, with their error bounds
from jaxmetrics.areas import (
    AUROC as AUROC,
    AveragePrecision as AveragePrecision,
    PartialAUROC as PartialAUROC,
)

# Areas under curves at a few thresholds
from jaxmetrics.auc import AUC as AUC

# Best and equal points of curves
from jaxmetrics.best_points import (
    BestFBetaScore as BestFBetaScore,
    EqualErrorRate as EqualErrorRate,
    Gain as Gain,
    KolmogorovSmirnov as KolmogorovSmirnov,
    Lift as Lift,
    YoudenIndex as YoudenIndex,
)

# The best of updates
from jaxmetrics.best_so_far import Best as Best, BestSoFar as BestSoFar

# Standard errors and intervals by resampling
from jaxmetrics.bootstrap import (
    Bootstrap as Bootstrap,
    Bootstrapped as Bootstrapped,
    Bounds as Bounds,
)

# What counts by slice, and the record of slices
from jaxmetrics.by_slice import RowsBySlice as RowsBySlice, Slices as Slices

# Several metrics as one
from jaxmetrics.collection import Collection as Collection

# True and false positives and negatives
from jaxmetrics.confusion import (
    BinaryAccuracy as BinaryAccuracy,
    FalseDiscoveryRate as FalseDiscoveryRate,
    FalseNegativeRate as FalseNegativeRate,
    FalseNegatives as FalseNegatives,
    FalseOmissionRate as FalseOmissionRate,
    FalsePositiveRate as FalsePositiveRate,
    FalsePositives as FalsePositives,
    NegativePredictiveValue as NegativePredictiveValue,
    Precision as Precision,
    PredictedPositiveRate as PredictedPositiveRate,
    Prevalence as Prevalence,
    Recall as Recall,
    Specificity as Specificity,
    TrueNegativeRate as TrueNegativeRate,
    TrueNegatives as TrueNegatives,
    TruePositives as TruePositives,
)

# Their accumulator
from jaxmetrics.counts import (
    ConfusionCounts as ConfusionCounts,
)

# Curves
from jaxmetrics.curves import (
    DETCurve as DETCurve,
    DETPoints as DETPoints,
    PrecisionRecallCurve as PrecisionRecallCurve,
    PrecisionRecallPoints as PrecisionRecallPoints,
    ROCCurve as ROCCurve,
    ROCPoints as ROCPoints,
)

# The evaluation loop
from jaxmetrics.evaluation import Evaluation as Evaluation, evaluate as evaluate

# Exact areas, of arrays and of a sample that is kept
from jaxmetrics.exact import (
    ExactAUROC as ExactAUROC,
    ExactAveragePrecision as ExactAveragePrecision,
    auroc as auroc,
    average_precision as average_precision,
)

# Their harmonic means
from jaxmetrics.f_scores import F1Score as F1Score, FBetaScore as FBetaScore

# The threshold of the best of a statistic
from jaxmetrics.grids import OperatingThreshold as OperatingThreshold

# Batches of a fixed size, and several processes
from jaxmetrics.hosts import merge_processes as merge_processes, pad_batch as pad_batch

# Confidence intervals
from jaxmetrics.intervals import Interval as Interval

# The contract
from jaxmetrics.metric import (
    Metric as Metric,
    Readout as Readout,
    Validity as Validity,
)

# Ratios
from jaxmetrics.numerics import divide as divide

# The best of one statistic where another is at least a target
from jaxmetrics.operating_points import (
    PrecisionAtRecall as PrecisionAtRecall,
    RecallAtPrecision as RecallAtPrecision,
    SensitivityAtSpecificity as SensitivityAtSpecificity,
    SpecificityAtSensitivity as SpecificityAtSensitivity,
)

# The sums by cell that formulas over scores see
from jaxmetrics.ranks import Ranks as Ranks

# The base of ratio metrics of one's own
from jaxmetrics.ratios import ConfusionMetric as ConfusionMetric

# One metric side by side
from jaxmetrics.repeating import Repeated as Repeated

# Some updates at a time
from jaxmetrics.restarts import Every as Every

# The accumulator of scores
from jaxmetrics.scores import ScoreHistogram as ScoreHistogram

# States as bytes
from jaxmetrics.serialization import from_bytes as from_bytes, to_bytes as to_bytes

# Slices
from jaxmetrics.slicing import Sliced as Sliced

# The state record
from jaxmetrics.state import State as State

# Thresholds
from jaxmetrics.thresholds import even_thresholds as even_thresholds

# The four counts
from jaxmetrics.totals import Counts as Counts

# Recent updates
from jaxmetrics.windowing import (
    ExponentialMovingAverage as ExponentialMovingAverage,
    Windowed as Windowed,
)

__version__ = "0.1.0"

__all__ = [
    "AUC",
    "AUROC",
    "Accumulator",
    "AveragePrecision",
    "Best",
    "BestFBetaScore",
    "BestSoFar",
    "BinaryAccuracy",
    "Bootstrap",
    "Bootstrapped",
    "Bounds",
    "Collection",
    "ConfusionCounts",
    "ConfusionMetric",
    "Count",
    "Counts",
    "DETCurve",
    "DETPoints",
    "EqualErrorRate",
    "Evaluation",
    "Every",
    "ExactAUROC",
    "ExactAveragePrecision",
    "ExponentialMovingAverage",
    "F1Score",
    "FBetaScore",
    "FalseDiscoveryRate",
    "FalseNegativeRate",
    "FalseNegatives",
    "FalseOmissionRate",
    "FalsePositiveRate",
    "FalsePositives",
    "Gain",
    "Interval",
    "KolmogorovSmirnov",
    "Lift",
    "Mean",
    "Metric",
    "NegativePredictiveValue",
    "OperatingThreshold",
    "PartialAUROC",
    "Precision",
    "PrecisionAtRecall",
    "PrecisionRecallCurve",
    "PrecisionRecallPoints",
    "PredictedPositiveRate",
    "Prevalence",
    "ROCCurve",
    "ROCPoints",
    "Ranks",
    "Readout",
    "Recall",
    "RecallAtPrecision",
    "Repeated",
    "RowsBySlice",
    "ScoreHistogram",
    "SensitivityAtSpecificity",
    "Sliced",
    "Slices",
    "Specificity",
    "SpecificityAtSensitivity",
    "State",
    "Sum",
    "TrueNegativeRate",
    "TrueNegatives",
    "TruePositives",
    "Validity",
    "WeightedSum",
    "Windowed",
    "YoudenIndex",
    "apply",
    "auroc",
    "average_precision",
    "divide",
    "evaluate",
    "even_thresholds",
    "from_bytes",
    "harmonic_mean",
    "merge_processes",
    "pad_batch",
    "to_bytes",
    "where",
]

# Reprs, errors and pickles name the door, not the room.
for _name in __all__:
    globals()[_name].__module__ = "jaxmetrics"
del _name
