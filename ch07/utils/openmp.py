"""Threads that wait for each other: a short spin, then sleep. Must be set before PyTorch is loaded.

PyTorch divides a matrix product among threads, and the first to finish waits for the others. By
default a thread waits by trying again and again, for milliseconds, and so keeps its core from
whatever else has work. Beside one busy process (a browser, a second test process) that stops the
very thread that is being waited for. With a spin of some microseconds, training beside such a
process was 1.5 times as fast; on a quiet machine it was as fast as before (AMD), or up to 8 %
slower (Intel; two cores, Linux: `python -m benchmarks.machine`). A spin of 16 times that length
gains 7 % there, but halves the speed beside a busy process.
"""

import os
import sys

SHORT_SPIN = "1000"  # tries of GNU's OpenMP, which PyTorch brings on Linux; its default is 300,000
# The same for LLVM's and Intel's OpenMP (macOS, Windows): milliseconds; their default is 200.
# This follows their manuals; it was not measured.
SHORT_BLOCK_TIME = "1"
SET_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def shorten_waiting() -> bool:
    """Let waiting threads sleep soon, here and in processes started from here.

    Returns False, and changes nothing, if PyTorch is loaded already or if the user has decided how
    threads wait.
    """
    if "torch" in sys.modules or any(name in os.environ for name in SET_BY_USER):
        return False
    os.environ["GOMP_SPINCOUNT"] = SHORT_SPIN
    os.environ["KMP_BLOCKTIME"] = SHORT_BLOCK_TIME
    return True
