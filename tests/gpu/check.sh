#!/usr/bin/env bash
# Proves on a CUDA device what only a device can prove, in under nine minutes, without network.
#   tests/gpu/check.sh [--device cuda|cpu] [--out FOLDER] [--budget SECONDS] [--only STEP,...]
# Needs Python 3.11 or newer with torch, Triton, transformers and pytest; wheels of the rest lie in
# build/gpu-wheels (tests/gpu/prepare.sh fetches them; carry that folder). --device cpu runs what a
# CPU can, and says what it cannot. Each result is written as it ends: FOLDER/results.jsonl; then
# the report: FOLDER/report.md.
set -u
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir -p "$site/osa"
for part in model export service; do ln -s "$PWD/$part" "$site/osa/$part"; done
if compgen -G 'build/gpu-wheels/*.whl' > /dev/null; then
  # later on the path than what is installed: only what is missing is taken from here
  "$python" - "$site/more" build/gpu-wheels/*.whl <<'UNPACK' || exit 2
import pathlib, sys, zipfile
own = f"cp{sys.version_info.major}{sys.version_info.minor}"
for wheel in map(pathlib.Path, sys.argv[2:]):
    interpreter, abi = wheel.stem.split("-")[-3:-1]
    if "py3" in interpreter.split(".") or abi == "abi3" or own in interpreter:
        zipfile.ZipFile(wheel).extractall(sys.argv[1])
UNPACK
fi
mkdir -p "$site/osa_encoder-0.1.0.dist-info"
printf 'Metadata-Version: 2.1\nName: osa-encoder\nVersion: 0.1.0\n' > "$site/osa_encoder-0.1.0.dist-info/METADATA"
# every process of the check looks there last: PYTHONPATH would come before what is installed
cat > "$site/sitecustomize.py" <<'LAST'
import os, sys
sys.path.append(os.environ["CHECK_SITE"])
LAST
export PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}"
export CHECK_SITE="$site/more" TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 DO_NOT_TRACK=1
exec_status=0
"$python" -m tests.gpu.check "$@" || exec_status=$?
exit "$exec_status"
