"""The data of `train_flax.py`, and what it shows: a table, a check, a picture."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn import metrics as sk
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxmetrics as jm

SHADES = mpl.colormaps["viridis_r"]
THRESHOLDS = np.asarray(jm.even_thresholds(200), np.float32)
COLUMNS = {
    "loss": "loss",
    "accuracy": "digit/accuracy",
    "macro F1": "digit/macro_f1",
    "precision": "eight/precision",
    "recall": "eight/recall",
    "FNR": "eight/fnr",
    "AUC": "eight/auc",
    "PR AUC": "eight/pr_auc",
}
COUNTS = {
    "true_positives": "tab:green",
    "false_negatives": "tab:red",
    "false_positives": "tab:orange",
    "true_negatives": "tab:blue",
}


def load():
    """Returns the digits as rows to train on and rows to validate on, three to one."""
    images, digits = load_digits(return_X_y=True)
    rows = {"image": images / 16, "digit": np.eye(10)[digits], "is_eight": digits == 8}
    split = train_test_split(*rows.values(), random_state=0, stratify=digits)
    return [dict(zip(rows, part, strict=True)) for part in (split[::2], split[1::2])]


def print_row(epoch, train, valid):
    """Prints the epoch's row of the table, and before the first one its head."""
    if epoch == 1:
        print("        training validation        which digit?         is it an 8?")
        print("epoch       loss", *(f"{name:>9}" for name in COLUMNS))
    row = [train["loss"], *(valid[source] for source in COLUMNS.values())]
    print(f"{epoch:5} ", *(f"{value:9.4f}" for value in row))


# --- the same numbers by scikit-learn -------------------------------------------------


def compare(results, rows, predicted):
    """Prints every result beside scikit-learn's; returns 1 where one is wrong, else 0.

    Counts have to be equal, everything else within 1e-6.
    """
    wrong = 0
    print(f"{'':30}{'jaxmetrics':>12}{'scikit-learn':>14}{'difference':>12}")
    for name, expected in recomputed(rows, predicted).items():
        ours, theirs = np.float64(results[name]), np.asarray(expected)
        digits, allowed = (0, 0) if theirs.dtype.kind == "i" else (7, 1e-6)
        difference = np.max(np.abs(ours - theirs))
        wrong += not difference <= allowed
        shown = f"{f'{ours.size} values':>12}{'':14}"
        if ours.ndim == 0:
            shown = f"{ours:12.{digits}f}{theirs:14.{digits}f}"
        print(f"{name:30}{shown}{difference:12.1e}")
    print(
        f"{wrong} differ." if wrong else "All agree: counts exactly, the rest to 1e-6."
    )
    for name, area in (("auc", sk.roc_auc_score), ("pr_auc", pr_area)):
        exact = area(rows["is_eight"], predicted["eight_score"])
        grid = results[f"eight/{name}"] - exact
        print(f"eight/{name} without a grid: {exact:.7f}. The grid adds {grid:.1e}.")
    return int(wrong > 0)


def recomputed(rows, predicted):
    """Returns scikit-learn's value of every metric; integers where it counts."""
    digit, guess = rows["digit"].argmax(1), predicted["digit_scores"].argmax(1)
    eight, score = rows["is_eight"], predicted["eight_score"]
    called = score > 0.5
    tn, fp, fn, tp = sk.confusion_matrix(eight, called).ravel()
    tables = [sk.confusion_matrix(eight, score > t).ravel() for t in THRESHOLDS]
    counts = np.array(tables)  # (thresholds, 4)
    binned = np.searchsorted(THRESHOLDS, score)
    precision, recall, _ = sk.precision_recall_curve(eight, binned)
    macro = {"average": "macro", "zero_division": 0}
    loss = sk.log_loss(digit, predicted["digit_scores"]) + sk.log_loss(eight, score)
    return {
        "loss": loss,
        "digit/accuracy": sk.accuracy_score(digit, guess),
        "digit/precision": sk.precision_score(digit, guess, **macro),
        "digit/macro_f1": sk.f1_score(digit, guess, **macro),
        "digit/f1": sk.f1_score(digit, guess, average=None),
        "eight/true_positives": tp,
        "eight/false_positives": fp,
        "eight/true_negatives": tn,
        "eight/false_negatives": fn,
        "eight/precision": sk.precision_score(eight, called, zero_division=0),
        "eight/recall": sk.recall_score(eight, called),
        "eight/fnr": 1 - sk.recall_score(eight, called),
        "eight/f1": sk.f1_score(eight, called),
        "eight/accuracy": sk.accuracy_score(eight, called),
        "eight/auc": sk.roc_auc_score(eight, binned),
        "eight/pr_auc": pr_area(eight, binned),
        "eight/precision_at_recall": precision[recall >= 0.95].max(),
        "eight/counts/true_negatives": counts[:, 0],
        "eight/counts/false_positives": counts[:, 1],
        "eight/counts/false_negatives": counts[:, 2],
        "eight/counts/true_positives": counts[:, 3],
    }


def pr_area(labels, scores):
    """The area under precision where TP grows linearly with FP between two scores.

    Davis and Goadrich's rule, summed in small steps; scikit-learn has no such curve.
    """
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    fine = np.linspace(0, len(tpr) - 1, 1000 * (len(tpr) - 1) + 1)[1:]
    recall = np.interp(fine, np.arange(len(tpr)), tpr)
    tp = recall * np.sum(labels)
    fp = np.interp(fine, np.arange(len(fpr)), fpr) * np.sum(~labels)
    precision = tp / (tp + fp)
    return sk.auc([0, *recall], [precision[0], *precision])


# --- the picture ----------------------------------------------------------------------


def draw(history, folder):
    """Draws every epoch's curves and the last one's counts; returns the PNG's path."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    roc, pr, counts = figure.subplots(1, 3)
    for epoch, results in enumerate(history, 1):
        eight = {name.removeprefix("eight/"): x for name, x in results.items()}
        last = epoch == len(history)
        style = {"color": SHADES(epoch / len(history)), "linewidth": 2.5 if last else 1}
        named = f"epoch {epoch}, area %.4f" if last or epoch == 1 else "_%f"
        x, y = eight["roc/false_positive_rate"], eight["roc/true_positive_rate"]
        roc.plot(x, y, label=named % eight["auc"], **style)
        x, y = eight["pr/recall"], eight["pr/precision"]
        x, y = x[x > 0], y[x > 0]  # where nothing is found, precision says nothing
        pr.plot(x, y, label=named % eight["pr_auc"], **style)
    for name, color in COUNTS.items():
        label = name.replace("_", " ")
        counts.plot(THRESHOLDS, eight[f"counts/{name}"], color=color, label=label)

    fpr = eight["false_positives"] / (
        eight["false_positives"] + eight["true_negatives"]
    )
    mark = {"color": "black", "marker": "o", "linestyle": "", "label": "threshold 0.5"}
    roc.plot(fpr, eight["recall"], **mark)
    pr.plot(eight["recall"], eight["precision"], **mark)
    counts.axvline(0.5, color="black", linestyle=":")
    roc.set(
        title="ROC curve", xlabel="false positive rate", ylabel="true positive rate"
    )
    pr.set(title="Precision-recall curve", xlabel="recall", ylabel="precision")
    counts.set(
        title=f"Counts after epoch {len(history)}", xlabel="threshold", ylabel="rows"
    )
    counts.set_yscale("symlog", linthresh=1)
    counts.set_ylim(0, 2500)
    pr.set_ylim(0, 1.05)
    counts.legend(frameon=False, ncols=2, loc="upper center")
    for axes in (roc, pr, counts):
        axes.spines[["top", "right"]].set_visible(False)
    roc.legend(frameon=False, loc="lower right")
    pr.legend(frameon=False, loc="best")
    figure.suptitle('"Is it an 8?" on the validation rows')
    path = Path(folder, "digits.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path
