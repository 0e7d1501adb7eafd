//! A thread of its own that says that this process lives.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use convoy_proto::v1;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinError};
use tokio::time::MissedTickBehavior;

/// The thread. All workers of a process share one; it ends with the last of them.
///
/// Control connections are opened on it, so that the tasks which write to their sockets live there, beside those which
/// queue heartbeats. Guaranteed: however long the threads of the session's own runtime are busy, a heartbeat that finds
/// room in the queue gets to the socket. Not guaranteed: that the rest of the worker makes progress (late leases show
/// that), and heartbeats while the whole process stands still, or while the socket takes nothing more.
#[derive(Debug)]
pub(crate) struct Heart {
    handle: Handle,
    /// Dropped with the last worker.
    _stop: oneshot::Sender<()>,
}

impl Heart {
    /// The heart of this process.
    pub(crate) fn of_process() -> std::io::Result<Arc<Heart>> {
        static HEART: Mutex<Weak<Heart>> = Mutex::new(Weak::new());
        let mut beating = HEART.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heart) = beating.upgrade() {
            return Ok(heart);
        }
        let heart = Arc::new(Heart::start()?);
        *beating = Arc::downgrade(&heart);
        Ok(heart)
    }

    fn start() -> std::io::Result<Heart> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("heart".to_owned()).spawn(move || _ = runtime.block_on(stopped))?;
        Ok(Heart { handle, _stop: stop })
    }

    /// Does `work` on the thread; what it spawns stays there.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        self.handle.spawn(work).await
    }

    /// Queues a heartbeat in `outbox` every `period`, one at once. Where there is no room the other end has enough to
    /// read.
    pub(crate) fn beat(&self, outbox: mpsc::Sender<v1::WorkerMessage>, period: Duration) -> Beating {
        let task = self.handle.spawn(async move {
            let mut tick = tokio::time::interval(period);
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                let message = Some(v1::worker_message::Message::Heartbeat(v1::Heartbeat {}));
                if let Err(mpsc::error::TrySendError::Closed(_)) = outbox.try_send(v1::WorkerMessage { message }) {
                    return;
                }
            }
        });
        Beating(task.abort_handle())
    }
}

/// Heartbeats of one session, until it is dropped.
pub(crate) struct Beating(AbortHandle);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(inbox: &mut mpsc::Receiver<v1::WorkerMessage>) -> usize {
        std::iter::from_fn(|| inbox.try_recv().ok()).count()
    }

    #[tokio::test]
    async fn a_full_queue_is_passed_over_and_the_end_of_a_session_ends_its_heartbeats() {
        let heart = Heart::of_process().expect("a thread can be started");
        assert!(Arc::ptr_eq(&heart, &Heart::of_process().expect("it is there")), "a process has one heart");
        let (outbox, mut inbox) = mpsc::channel(2);
        let beating = heart.beat(outbox, Duration::from_millis(1));
        while inbox.len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(beats(&mut inbox), 2, "what did not fit was not kept");
        assert!(inbox.recv().await.is_some(), "it goes on when there is room");
        drop(beating);
        while inbox.recv().await.is_some() {}
    }
}
