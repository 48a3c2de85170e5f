"""The committed protobuf modules are what the compiler makes of protos/*.proto."""

import subprocess
import sys

import pytest

from tests import shared


def test_generated_modules_are_fresh():
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools")
    command = [sys.executable, str(shared.ROOT / "tools/compile_protos.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
