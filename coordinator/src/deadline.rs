//! Waiting for a moment that may not be set.

use tokio::time::Instant;

/// Returns at `deadline`; never, where there is none.
pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
