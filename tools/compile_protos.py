"""Compiles protos/*.proto into deeplab2_kmax/protos, or with --check says whether the committed modules are fresh.

Needs grpcio-tools 1.62: what newer compilers write does not load on protobuf 4, this one's loads on 4 to 7.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "deeplab2_kmax/protos"


def compile_into(folder: pathlib.Path) -> dict[str, str]:
    """Compiles every source into `folder` and returns file name -> text of what was written."""
    sources = [f"{PACKAGE}/{path.name}" for path in sorted((ROOT / "protos").glob("*.proto"))]
    # "virtual=disk": the sources lie in protos/, but are known by the name of the package that holds the modules.
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PACKAGE}={ROOT / 'protos'}"]
    subprocess.run([*command, f"--python_out={folder}", f"--pyi_out={folder}", *sources], check=True)
    return {path.name: path.read_text() for path in sorted((folder / PACKAGE).glob("*_pb2.py*"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit code 1 when a module is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = compile_into(pathlib.Path(folder))
    target = ROOT / PACKAGE
    stale = [
        name for name, text in fresh.items() if not (target / name).is_file() or (target / name).read_text() != text
    ]
    stale += [path.name for path in target.glob("*_pb2.py*") if path.name not in fresh]
    if check:
        if stale:
            print(f"Stale generated modules: {', '.join(stale)}. Run `make protos` and commit the result.")
        return 1 if stale else 0
    for name in stale:
        if name in fresh:
            (target / name).write_text(fresh[name])
        else:
            (target / name).unlink()
    print(f"{len(fresh)} modules in {PACKAGE}, {len(stale)} changed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
