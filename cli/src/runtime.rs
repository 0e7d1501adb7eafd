//! The asynchronous runtimes of this process: one thread for a command that asks a coordinator, two for whoever serves.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::error::CliError;
use crate::signals::Stop;

/// How long tasks that are left over may take to end.
const LEFT_OVER: Duration = Duration::from_secs(1);

/// Runs a command that talks to a coordinator.
///
/// # Errors
/// Those of the command.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    runtime.block_on(work)
}

/// Runs whatever serves until it is done or asked to stop. `hint` says at the first signal what happens next.
///
/// # Errors
/// Those of `work`.
pub fn serve<T>(hint: &'static str, work: impl AsyncFnOnce(Stop) -> Result<T, CliError>) -> Result<T, CliError> {
    let builder = &mut Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).thread_name("sockets").enable_all().build().map_err(no_runtime)?;
    let done = runtime.block_on(async {
        let stop = Stop::listen(hint).map_err(|source| CliError::Io { path: "signals".into(), source })?;
        work(stop).await
    })?;
    runtime.shutdown_timeout(LEFT_OVER);
    Ok(done)
}

fn no_runtime(source: std::io::Error) -> CliError {
    CliError::Io { path: "tokio".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_work_ends_with_comes_out() {
        assert_eq!(block_on(async { Ok(7) }).unwrap(), 7);
        assert!(matches!(block_on(async { Err::<(), _>(CliError::BrokenPipe) }), Err(CliError::BrokenPipe)));
    }

    #[test]
    fn whatever_serves_knows_whether_it_was_asked_to_stop() {
        let code = serve("stopping", async |stop| Ok(tokio::spawn(async move { stop.exit_code() }).await));
        assert_eq!(code.unwrap().unwrap(), 0);
    }
}
