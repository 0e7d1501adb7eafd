# Each recipe is one command that works without just as well.

# The binary, target/release/convoy.
build:
    cargo build --release

# All tests.
test:
    cargo test --workspace

# The sources: circles, names, sizes, pages.
tidy:
    cargo test -p convoy-tidy

# Formatting and lints, as .ci/run has them.
lint:
    cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings

# Train on 10,000 Fashion-MNIST images.
example:
    cargo run --release -- train examples/fashion-mnist.toml

# The same network, recipe and data in PyTorch; needs a Python with torch and torchvision.
twin:
    cargo run --release -- spec examples/fashion-mnist.toml --json | python tests/reference/twin.py --seeds 1 2 3

# Simulated runs: 20,000 seeds.
sim:
    cargo run --release -p convoy-sim -- --seeds 20000

# Many more cases of the property tests, and the digests of a build for this machine's CPU alone.
long:
    .ci/long
