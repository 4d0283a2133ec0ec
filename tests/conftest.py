"""What every test needs before JAX is imported, so that plain `pytest` works."""

import os

# Simulated devices that run ahead on few cores can deadlock XLA's rendezvous: give it
# threads for all of them, and end the process soon if it hangs all the same.
os.environ["NPROC"] = "16"
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=8",
        "--xla_cpu_collective_call_terminate_timeout_seconds=15",
        os.environ.get("XLA_FLAGS", ""),
    ]
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["KERAS_BACKEND"] = "jax"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
