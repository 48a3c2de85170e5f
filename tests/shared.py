"""Where the shared parity cases and sample data lie: `../shared` beside the checkout, or $DEEPLAB2_KMAX_SHARED."""

import json
import os
import pathlib
import re
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("DEEPLAB2_KMAX_SHARED", ROOT.parent / "shared"))


def path(*parts: str) -> pathlib.Path:
    """The path of a shared file or folder; skips the calling test where it is absent."""
    found = SHARED.joinpath(*parts)
    if not found.exists():
        pytest.skip(f"needs {found}: put the shared parity cases and data beside the checkout")
    return found


def case(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The manifest and the arrays of a parity case."""
    folder = path("parity", name)
    with np.load(folder / "io.npz", allow_pickle=False) as arrays:
        named = {re.sub(r"^(inputs|outputs)/", "", name): array for name, array in arrays.items()}
    return json.loads((folder / "manifest.json").read_text()), named


def write_checkpoint(name: str, prefix: pathlib.Path, *, live: bool = False) -> str:
    """Rebuilds the reference checkpoint of a parity case and returns its prefix."""
    folder = path("parity")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    import checkpoint

    return checkpoint.write_checkpoint(str(folder / name), str(prefix), live=live)
