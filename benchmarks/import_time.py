"""What `import deeplab2_kmax` costs on top of `import tensorflow`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

_PROGRAM = """
import json, time
begin = time.perf_counter()
import tensorflow
tensorflow_done = time.perf_counter()
import deeplab2_kmax
library_done = time.perf_counter()
for name in deeplab2_kmax.__all__:
    getattr(deeplab2_kmax, name)
everything_done = time.perf_counter()
print(json.dumps([tensorflow_done - begin, library_done - tensorflow_done, everything_done - library_done]))
"""


def run(repeats: int = 10) -> dict:
    """Seconds, medians over fresh processes; the contract is at most 0.3 on top of TensorFlow's import."""
    found = []
    for _ in range(repeats + 1):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", _PROGRAM], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"importing failed:\n{done.stderr[-1500:]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    tensorflow, library, everything = (round(statistics.median(c), 4) for c in zip(*found[1:]))  # the first warms disks
    return {
        "import_target_s": 0.3,
        "import_tensorflow_s": tensorflow,
        "import_deeplab2_kmax_s": library,
        "load_all_public_names_s": everything,
    }
