# Sourced by the benchmarks: `python` is a Python with torch and torchvision, and PyTorch's allocator keeps its memory.
python=${CONVOY_PYTHON:-target/bench-python/bin/python}
if [ -z "${CONVOY_PYTHON:-}" ] && ! "$python" -c 'import torch, torchvision, PIL' 2> /dev/null; then
    echo "installing torch and torchvision into target/bench-python; set CONVOY_PYTHON to use another Python" >&2
    python3 -m venv target/bench-python
    "$python" -m pip install --quiet torch torchvision pillow
fi
# As much as is ever freed stays with the process: glibc would give large buffers back, and fault them in again each step.
export GLIBC_TUNABLES=glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592
