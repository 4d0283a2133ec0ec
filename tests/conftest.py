"""What every test needs before JAX is imported, so that plain `pytest` works."""

import os
from importlib.metadata import version

# Simulated devices that run ahead on few cores can deadlock XLA's rendezvous: give it
# threads for all of them, and end the process soon if it hangs all the same.
DEVICES = [
    "--xla_force_host_platform_device_count=8",
    "--xla_cpu_collective_call_terminate_timeout_seconds=15",
]
# Thousands of small programs that run once: compiled in half the time. As for users are
# compiled the doctests, the examples, and tests that are marked `optimized`, for which
# `make test` sets OPTIMIZED=1.
QUICKLY = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if version("jaxlib").startswith("0.10."):  # gone since; XLA ends where it knows it not
    QUICKLY += ["--xla_cpu_use_fusion_emitters=false"]
FLAGS = DEVICES if os.environ.get("OPTIMIZED") else DEVICES + QUICKLY

os.environ["NPROC"] = "16"
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")])
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["KERAS_BACKEND"] = "jax"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
