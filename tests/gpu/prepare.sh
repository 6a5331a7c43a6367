#!/usr/bin/env bash
# Fetches what a bare machine with torch lacks, to be carried there: build/gpu-wheels, under 32 MiB.
#   tests/gpu/prepare.sh [PYTHON_VERSION]
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:-3.12}
target=build/gpu-wheels
mkdir -p "$target"
python3 -m pip download -q --no-deps --only-binary=:all: --dest "$target" \
  --python-version "$version" --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
  --platform manylinux2014_x86_64 --platform any \
  beartype jaxtyping wadler-lindig pydantic 'pydantic-core==2.*' annotated-types typing-inspection \
  typing-extensions annotated-doc fastapi fastapi-offline starlette anyio idna 'uvicorn<0.55' click h11 \
  httptools orjson uvloop prometheus-client nvidia-ml-py httpx httpcore certifi filelock iniconfig \
  pluggy pytest pytest-xdist execnet tqdm
# pydantic names the one version of its core that it takes
core=$(python3 - "$target" <<'PYTHON'
import pathlib, re, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob("pydantic-[0-9]*.whl"))
archive = zipfile.ZipFile(wheel)
name = next(name for name in archive.namelist() if name.endswith("METADATA"))
print(re.search(r"Requires-Dist: pydantic-core==([\d.]+)", archive.read(name).decode())[1])
PYTHON
)
rm -f "$target"/pydantic_core-*.whl
python3 -m pip download -q --no-deps --only-binary=:all: --dest "$target" \
  --python-version "$version" --platform manylinux_2_17_x86_64 "pydantic-core==$core"
du -sh "$target"
