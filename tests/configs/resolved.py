"""The resolved text of every shipped config, committed so that a review sees what a changed base changes.

`python -m tests.configs.resolved`, run in the checkout, writes them anew.
"""

import pathlib

from deeplab2_kmax import config

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
GOLDEN = pathlib.Path(__file__).with_name("golden")


def shipped() -> list[str]:
    """The configs to run, as paths below configs/ without suffix; bases are no experiments."""
    files = (path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.textproto"))
    return sorted(str(path) for path in files if path.parts[0] != "_base_")


def text_of(name: str) -> str:
    """The resolved text of a shipped config."""
    return config.to_text(config.load(CONFIGS / f"{name}.textproto"))


def golden_path(name: str) -> pathlib.Path:
    """Where the committed text lies."""
    return GOLDEN / f"{name}.textproto"


if __name__ == "__main__":
    for name in shipped():
        golden_path(name).parent.mkdir(parents=True, exist_ok=True)
        golden_path(name).write_text(text_of(name))
    for path in GOLDEN.rglob("*.textproto"):
        if str(path.relative_to(GOLDEN).with_suffix("")) not in shipped():
            path.unlink()
