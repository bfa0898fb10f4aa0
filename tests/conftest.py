"""Tests that run side by side (`-n auto`) use one thread of BLAS each: more would only get in each other's way. The
shapes in handgrad's signatures are enforced from its first import on."""

import os
import signal

import threadpoolctl
from jaxtyping import install_import_hook

from .shapes import modules_with_shapes

install_import_hook(modules_with_shapes(), "tests.shapes.once")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under nohup: what tests start would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:
    threadpoolctl.threadpool_limits(1, "blas")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # that of the processes that a test starts
