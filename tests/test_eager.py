"""Calls outside of `jax.jit`: compiled as a whole, and with the same results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmetrics as jm
from jaxmetrics import eager
from jaxmetrics.eager import compiled, operation_by_operation

ROWS = {
    "y_true": np.array([0, 1, 1, 0, 1]),
    "y_pred": np.float32([0.2, 0.9, 0.4, 0.6, 0.7]),
}


@pytest.mark.parametrize(
    "metric", [jm.Recall(), jm.AUROC(num_cells=255), jm.Recall().map(jnp.sqrt)]
)
def test_an_eager_call_gives_what_a_jitted_one_gives(metric):
    """Of arrays, lists and numbers of 64 bits."""
    jitted = jax.jit(metric.update)(metric.init(), **ROWS)
    lists = {name: x.tolist() for name, x in ROWS.items()}
    wide = {
        name: x.astype("f8" if x.dtype.kind == "f" else "i8")
        for name, x in ROWS.items()
    }
    for rows in (ROWS, lists, wide):
        state = metric.update(metric.init(), **rows)
        for mine, other in zip(
            jax.tree.leaves(state), jax.tree.leaves(jitted), strict=True
        ):
            np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(
        metric.compute(jitted), jax.jit(metric.compute)(jitted)
    )


def test_a_function_is_traced_once_for_equal_values_and_never_inside_another():
    """The cache is that of `jit`: by value, shapes and dtypes."""
    traced = []

    @compiled
    def twice(metric, x, more):
        traced.append(isinstance(x, jax.core.Tracer))
        return 2 * x + more

    for _ in range(3):
        assert twice(jm.Recall(), jnp.float32(2), np.float32(1)) == 5
    assert traced == [True]
    twice(jm.Recall(0.7), jnp.float32(2), np.float32(1))
    assert traced == [True, True]
    with operation_by_operation():
        twice(jm.Recall(), jnp.float32(2), np.float32(1))
    twice(jm.Recall(), jnp.float32(2), 2)  # of no dtype
    assert traced == [True, True, False, False]
    jax.jit(lambda x: twice(jm.Recall(), x, x))(jnp.float32(2))
    assert len(traced) == 5


@pytest.mark.parametrize("name", ["data", "metric", "owner", "args"])
def test_inputs_may_have_any_name_but_that_of_the_state(name):
    """Outside of `jit` and inside."""
    mean = jm.Mean().with_inputs(values=name)
    assert mean(**{name: [1.0, 3.0]}) == 2
    assert jax.jit(mean)(**{name: [1.0, 3.0]}) == 2
    with pytest.raises(ValueError, match="no input can be called 'state'"):
        jm.Mean().with_inputs(values="state")
    with pytest.raises(ValueError, match="no input can be called 'state'"):
        jm.Mean().of(lambda state: state)


def test_metrics_that_take_batches_alike_share_one_update():
    """A function of the value, made anew, compiles no update."""
    for metric in (jm.Recall(), jm.Recall().map(lambda x: x), jm.Precision()):
        assert metric.entrance == jm.ConfusionCounts()
    auroc = jm.Bootstrap(jm.AUROC()).map(lambda x: x.value)
    assert auroc.entrance == jm.Bootstrap(jm.AUROC())


def test_a_host_array_may_be_filled_again_right_after_the_call():
    """The compiled function runs later, and a CPU would read the array itself."""
    mean, buffer = jm.Mean(), np.empty(2**18, np.float32)
    state = mean.init()
    for i in range(20):
        buffer[:] = i
        state = mean.update(state, values=buffer)
    assert mean.compute(state) == 9.5


def test_programs_are_not_kept_for_ever(monkeypatch):
    """Of a metric made of a new function in every turn there are only so many."""
    monkeypatch.setattr(eager, "MOST_PROGRAMS", 3)
    traced = []

    @compiled
    def once(number, x):
        traced.append(number)
        return x

    for number in (0, 1, 2, 0, 1, 2):
        once(number, jnp.float32(1))
    assert traced == [0, 1, 2, 0, 1, 2]
    once(2, jnp.float32(1))
    assert traced == [0, 1, 2, 0, 1, 2, 2]
    once(2, jnp.float32(1))
    assert len(traced) == 7


def test_functions_of_the_user_get_what_is_computed_in_the_order_of_the_members():
    """Outside of `jit` a mapped function may look at numbers, and dicts keep order."""
    seen = []

    def look(value):
        seen.append(float(value))
        return value

    metrics = jm.Collection(recall=jm.Recall().map(look), accuracy=jm.BinaryAccuracy())
    found = metrics.compute(metrics.update(metrics.init(), **ROWS))
    assert list(found) == ["recall", "accuracy"]
    assert seen == [pytest.approx(2 / 3)]


def test_an_option_of_a_function_stays_one():
    """A boolean or an integer alone, which a function may look at outside of `jit`."""

    def folded(x, rows, flip):
        return -x.reshape(rows, -1) if flip else x

    mean = jm.Mean().of(folded)
    assert mean(x=np.float32([1, 2, 3, 6]), rows=2, flip=True) == -3


def test_states_on_an_explicit_mesh_are_read_outside_of_jit():
    """Where JAX has no eager vmap."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    size = 2 * jax.device_count()
    values = jax.device_put(np.arange(size, dtype=np.float32), rows)
    ids = jax.device_put(np.arange(size) % 2, rows)
    for metric, batch in (
        (jm.Sliced(jm.Mean(), 2), {"slice_ids": ids}),
        (jm.Bootstrap(jm.Mean(), 2), {}),
        (jm.Windowed(jm.Mean(), 2), {}),
    ):
        state = metric.update(metric.init(), values=values, **batch)
        first = jax.tree.leaves(metric.compute(state))[0]
        assert float(first) == (size - 1) / 2
