//! The binary `convoy`: what must be settled before the first thread starts, then the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    compute_on_own_threads_only();
    convoy_cli::run(std::env::args_os())
}

/// Keeps candle from sharing single additions out over threads of its own, which spin on the cores that compute
/// shards. Candle can only be told by the environment, before its first use.
#[allow(unsafe_code)]
fn compute_on_own_threads_only() {
    // SAFETY: nothing else runs yet that could read the environment at the same time.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
}
