#!/usr/bin/env bash
# Builds the image convoy:latest, with bases that are here, can be pulled, or are made from Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/.."
runtime=${RUNTIME_IMAGE:-debian:bookworm-slim}
build=${BUILD_IMAGE:-rust:1.95-slim-bookworm}
for image in "$runtime" "$build"; do
    if ! docker image inspect "$image" >/dev/null 2>&1 && ! timeout 120 docker pull "$image" >&2; then
        RUNTIME_IMAGE=$runtime BUILD_IMAGE=$build deploy/base-images.sh
        break
    fi
done
docker build -f deploy/Dockerfile --build-arg "RUNTIME_IMAGE=$runtime" --build-arg "BUILD_IMAGE=$build" \
    -t "${CONVOY_IMAGE:-convoy:latest}" . >&2
