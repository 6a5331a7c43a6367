#!/usr/bin/env bash
# Last step of a build stage: what must hold of /opt/osa, its bill of materials, and no ballast.
set -euo pipefail
target=$1
site=$(/opt/osa/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

cuda=$(/opt/osa/bin/python -c 'import torch; print(torch.version.cuda)')
case "$target $cuda" in
  "cpu None" | "cuda 13."*) ;;
  cpu*) echo "torch is built for CUDA $cuda: pass --build-arg TORCH_INDEX=..." >&2; exit 1 ;;
  *) echo "torch is built for CUDA $cuda, not 13" >&2; exit 1 ;;
esac

python3 -m venv /opt/sbom
/opt/sbom/bin/pip install -q cyclonedx-bom
/opt/sbom/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/osa/sbom.cdx.json /opt/osa

# Headers and static libraries serve who builds against torch. torch.compile on a CPU does that, and
# needs g++ besides: the engine "compile" is for the cuda image.
if [ "$target" = cpu ]; then
  # a third of a gigabyte that only a GPU can use
  rm -f "$site"/onnxruntime/capi/libonnxruntime_providers_{cuda,tensorrt}.so
  rm -rf "$site/torch/include" "$site/torch/share" "$site"/torch/lib/*.a
fi
rm -rf "$site/torch/test"

# Without a compiler the install goes on in plain torch; an image must not.
/opt/osa/bin/osa info | tee /dev/stderr | grep -q '"cpu": "native' \
  || { echo "the CPU kernel was not built" >&2; exit 1; }
test -f "$site/osa/export/ort_ops/libosa_ort_ops.so"
/opt/osa/bin/pip check
/opt/osa/bin/pip uninstall -q -y pip
