//! A thread of its own that says that this process lives.

use std::sync::{Arc, Weak};
use std::time::Duration;

use convoy_proto::v1;
use convoy_proto::v1::worker_message::Message;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinError};
use tokio::time::MissedTickBehavior;

use crate::outbox::Outbox;

/// The thread. All workers of a process share one; it ends with the last of them.
///
/// Control connections are opened on it, so that the tasks which write to their sockets live there, beside those which
/// queue heartbeats. Guaranteed: however long the threads of the session's own runtime are busy, a heartbeat that finds
/// room in the queue gets to the socket. Not guaranteed: that the rest of the worker makes progress (late leases show
/// that), and heartbeats while the whole process stands still, or while the socket takes nothing more.
#[derive(Debug)]
pub(crate) struct HeartbeatThread {
    handle: Handle,
    /// Dropped with the last worker; none where the runtime is somebody else's.
    _stop: Option<oneshot::Sender<()>>,
}

impl HeartbeatThread {
    /// The thread of this process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn of_process() -> std::io::Result<Arc<Self>> {
        static THREAD: Mutex<Weak<HeartbeatThread>> = Mutex::new(Weak::new());
        let mut known = THREAD.lock();
        if let Some(thread) = known.upgrade() {
            return Ok(thread);
        }
        let thread = Arc::new(HeartbeatThread::start()?);
        *known = Arc::downgrade(&thread);
        Ok(thread)
    }

    fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || _ = runtime.block_on(stopped))?;
        Ok(HeartbeatThread { handle, _stop: Some(stop) })
    }

    /// No thread, but the runtime of the caller, whose clock a test may have stopped.
    #[cfg(test)]
    pub(crate) fn here() -> Arc<Self> {
        Arc::new(HeartbeatThread { handle: Handle::current(), _stop: None })
    }

    /// Does `work` on the thread; the tasks that it spawns stay there.
    ///
    /// # Errors
    /// When `work` panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        self.handle.spawn(work).await
    }

    /// Queues a heartbeat in `outbox` every `period`, one at once, until the answer is dropped.
    pub(crate) fn beat(&self, outbox: Outbox, period: Duration) -> Heartbeats {
        Heartbeats(self.handle.spawn(beat(outbox, period)).abort_handle())
    }
}

/// Queues heartbeats for as long as the stream is open. A heartbeat for which there is no room is left out: then the
/// coordinator has enough to read.
async fn beat(outbox: Outbox, period: Duration) {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        if !outbox.say_if_there_is_room(Message::Heartbeat(v1::Heartbeat {})) {
            return;
        }
    }
}

/// Heartbeats of one session, until it is dropped.
#[derive(Debug)]
pub(crate) struct Heartbeats(AbortHandle);

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    const PERIOD: Duration = Duration::from_millis(500);

    fn beats(inbox: &mut mpsc::Receiver<v1::WorkerMessage>) -> usize {
        std::iter::from_fn(|| inbox.try_recv().ok()).count()
    }

    #[test]
    fn a_process_has_one_thread() {
        let thread = HeartbeatThread::of_process().expect("a thread can be started");
        assert!(Arc::ptr_eq(&thread, &HeartbeatThread::of_process().expect("it is there")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_heartbeat_is_due_at_once_and_the_others_in_time() {
        let (outbox, mut inbox) = Outbox::new(16);
        let _heartbeats = HeartbeatThread::here().beat(outbox, PERIOD);
        let begun = Instant::now();
        for number in 0..4 {
            inbox.recv().await.expect("a heartbeat");
            assert_eq!(begun.elapsed(), number * PERIOD);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_without_room_is_left_out() {
        let (outbox, mut inbox) = Outbox::new(2);
        let _heartbeats = HeartbeatThread::here().beat(outbox, PERIOD);
        tokio::time::sleep(10 * PERIOD + PERIOD / 2).await;
        assert_eq!(beats(&mut inbox), 2, "the others were not kept");
        tokio::time::sleep(PERIOD).await;
        assert_eq!(beats(&mut inbox), 1, "they go on when there is room");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_session_ends_its_heartbeats() {
        let (outbox, mut inbox) = Outbox::new(2);
        let heartbeats = HeartbeatThread::here().beat(outbox, PERIOD);
        assert!(inbox.recv().await.is_some());
        drop(heartbeats);
        while inbox.recv().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_ended_ends_the_heartbeats() {
        let (outbox, inbox) = Outbox::new(2);
        drop(inbox);
        beat(outbox, PERIOD).await;
    }
}
