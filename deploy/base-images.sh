#!/usr/bin/env bash
# Makes the images that the Dockerfile begins with from Debian's packages and this machine's Rust toolchain, under the
# very names that it asks for. For machines that reach no image registry. Needs root, docker and debootstrap.
set -euo pipefail
runtime=${RUNTIME_IMAGE:-debian:bookworm-slim}
build=${BUILD_IMAGE:-rust:1.95-slim-bookworm}
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

has() { docker image inspect "$1" >/dev/null 2>&1; }
if has "$runtime" && has "$build"; then exit 0; fi
if ! command -v debootstrap >/dev/null; then
    apt-get install -y debootstrap >&2 || { apt-get update >&2 && apt-get install -y debootstrap >&2; }
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
if ! has "$runtime"; then
    debootstrap --variant=minbase bookworm "$root/runtime" >&2
    rm -rf "$root"/runtime/var/cache/apt/* "$root"/runtime/var/lib/apt/lists/* "$root"/runtime/usr/share/{doc,man,locale}/*
    tar -C "$root/runtime" -c . | docker import - "$runtime" >&2
fi
if ! has "$build"; then
    debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates bookworm "$root/build" >&2
    toolchain=$(rustc --print sysroot)
    cp -a "$toolchain/bin" "$root/build/usr/local/"
    # Documentation is most of what a toolchain weighs.
    tar -C "$toolchain" --exclude='share/doc' -c lib | tar -C "$root/build/usr/local" -x
    cp --dereference "$certificates" "$root/build/etc/ssl/certs/ca-certificates.crt"
    tar -C "$root/build" -c . | docker import - "$build" >&2
fi
