#!/usr/bin/env bash
# Fetches what a bare machine with torch lacks, to be carried there: build/gpu-wheels.
#   tests/gpu/prepare.sh [PYTHON_VERSION]
# What is left out the machine has: torch, Triton, transformers with its packages, numpy. ONNX's
# packages are not needed. Fails where the tracked files and the wheels are more than 64 MiB.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:-3.12}
target=build/gpu-wheels
there=torch,numpy,safetensors,tokenizers,onnx,onnxruntime-gpu,onnxruntime
most=$((64 << 20))
rm -rf "$target"
mkdir -p "$target"
python3 docker/dependencies.py --without "$there" > "$target/requirements.txt"
python3 -m pip download -q --only-binary=:all: --dest "$target" \
  --python-version "$version" --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
  --platform manylinux2014_x86_64 --platform any -c docker/constraints.txt \
  -r "$target/requirements.txt" beartype filelock httpx pytest pytest-xdist
rm "$target/requirements.txt"
tracked=$(git ls-files -z | xargs -0 stat -c %s -- | awk '{ sum += $1 } END { printf "%d", sum }')
wheels=$(stat -c %s "$target"/*.whl | awk '{ sum += $1 } END { printf "%d", sum }')
echo "tracked files $((tracked >> 20)) MiB, wheels $((wheels >> 20)) MiB"
if ((tracked + wheels > most)); then
  echo "more than $((most >> 20)) MiB are to be carried" >&2
  exit 1
fi
