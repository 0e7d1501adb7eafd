#!/usr/bin/env bash
# Checks that everything behind the cargo feature `cuda` compiles, candle's CUDA kernels by nvcc included; nothing is run,
# and no GPU is needed. Six minutes on 2 cores at the first call. Arguments go to cargo.
#
#     bench/cuda-check.sh
#
# nvcc comes from NVIDIA's wheels, into target/cuda-check/venv; CUDA_HOME set to another CUDA 13.0 skips them.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${CUDA_HOME:-}" ]; then
    venv=$PWD/target/cuda-check/venv
    wheels=(nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-crt nvidia-nvvm)
    if ! "$venv/bin/python" -c '' 2> /dev/null; then
        python3 -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet "${wheels[@]/%/==13.0.*}"
    CUDA_HOME=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
fi
export CUDA_HOME CUDA_PATH=$CUDA_HOME CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
export PATH=$CUDA_HOME/bin:$PATH CARGO_TARGET_DIR=target/cuda-check
cargo check -p convoy --features cuda "$@"
cargo check -p convoy-nn --features cuda --tests "$@"
