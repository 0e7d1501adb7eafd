//! Queues between tasks that refuse nothing and yet do not grow without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

/// A queue in which `limit` values may wait before its [`room`](QueueSender::room) is gone.
///
/// Sending never waits and is never refused, since what the coordinator itself has to say must not be lost. Whoever
/// passes on what somebody else sent waits for room first, and reads nothing more from them until then. So there are
/// never more values than `limit` and what each sender queues between two waits.
pub(crate) fn queue<T>(limit: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let fill = Arc::new(Fill { limit, waiting: AtomicUsize::new(0), room: Notify::new() });
    (QueueSender { sender, fill: fill.clone() }, QueueReceiver { receiver, fill })
}

/// How full a queue is.
#[derive(Debug)]
struct Fill {
    limit: usize,
    waiting: AtomicUsize,
    /// Told when there is room again, or nobody reads any more.
    room: Notify,
}

/// The end of a queue that values are put into.
#[derive(Debug)]
pub(crate) struct QueueSender<T> {
    sender: mpsc::UnboundedSender<T>,
    fill: Arc<Fill>,
}

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        QueueSender { sender: self.sender.clone(), fill: self.fill.clone() }
    }
}

impl<T> QueueSender<T> {
    /// Queues a value; `false` when nobody reads any more.
    pub(crate) fn send(&self, value: T) -> bool {
        self.fill.waiting.fetch_add(1, Ordering::Relaxed);
        self.sender.send(value).is_ok()
    }

    /// Returns as soon as there is room, or nobody reads any more.
    pub(crate) async fn room(&self) {
        loop {
            let mut told = std::pin::pin!(self.fill.room.notified());
            told.as_mut().enable();
            if self.fill.waiting.load(Ordering::Relaxed) < self.fill.limit || self.sender.is_closed() {
                return;
            }
            told.await;
        }
    }
}

/// The end of a queue that is read.
#[derive(Debug)]
pub(crate) struct QueueReceiver<T> {
    receiver: mpsc::UnboundedReceiver<T>,
    fill: Arc<Fill>,
}

impl<T> QueueReceiver<T> {
    /// The next value; `None` when there is none and nobody can send one any more. Nothing is lost when this is dropped
    /// before it returns.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        let value = self.receiver.recv().await?;
        self.taken();
        Some(value)
    }

    /// The next value, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        let value = self.receiver.try_recv().ok()?;
        self.taken();
        Some(value)
    }

    fn taken(&self) {
        if self.fill.waiting.fetch_sub(1, Ordering::Relaxed) <= self.fill.limit {
            self.fill.room.notify_waiters();
        }
    }
}

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        self.receiver.close();
        self.fill.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether there is room before anything else happens.
    async fn has_room<T>(sender: &QueueSender<T>) -> bool {
        tokio::time::timeout(Duration::from_secs(1), sender.room()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_as_many_as_the_limit() {
        let (sender, mut receiver) = queue(2);
        for value in 0..2 {
            assert!(has_room(&sender).await);
            assert!(sender.send(value));
        }
        assert!(!has_room(&sender).await);
        assert_eq!(receiver.recv().await, Some(0));
        assert!(has_room(&sender).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_is_not_refused() {
        let (sender, mut receiver) = queue(1);
        (0..5).for_each(|value| assert!(sender.send(value)));
        for expected in 0..5 {
            assert!(!has_room(&sender).await, "{} still wait", 5 - expected);
            assert_eq!(receiver.recv().await, Some(expected));
        }
        assert!(has_room(&sender).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_the_reader_comes_to_it() {
        let (sender, mut receiver) = queue(1);
        sender.send(1);
        let waits = tokio::spawn({
            let sender = sender.clone();
            async move { sender.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        receiver.recv().await;
        waits.await.expect("it does not crash");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_reader_that_is_gone() {
        let (sender, receiver) = queue(1);
        sender.send(1);
        let waits = tokio::spawn({
            let sender = sender.clone();
            async move { sender.room().await }
        });
        tokio::task::yield_now().await;
        drop(receiver);
        waits.await.expect("it does not crash");
        assert!(!sender.send(2));
        assert!(has_room(&sender).await);
    }
}
