"""Tests that run side by side (`-n auto`) use one thread of BLAS each: more would only get in each other's way."""

import os
import signal

import threadpoolctl

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under nohup: what tests start would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:
    threadpoolctl.threadpool_limits(1, "blas")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # that of the processes that a test starts
