//! Replies on their way out. Who does not read one is not waited for without end: what it holds is given up.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use convoy_security::Rarely;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// Bytes that are handed to a connection at once: it keeps them until they are read, whatever becomes of the reply. A
/// chunk of parameters is not cut.
pub(super) const HANDED: usize = (256 << 10) + 256;
/// How often replies are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// All replies that are not at their end.
#[derive(Default)]
pub(super) struct Replies {
    open: Mutex<Open>,
    given_up: Rarely,
}

#[derive(Default)]
struct Open {
    given: u64,
    replies: HashMap<u64, Arc<Mutex<Reply>>>,
}

/// One of them.
struct Reply {
    /// `None` when it was given up.
    body: Option<Body>,
    /// What is left of a piece that was too large to be handed on at once.
    rest: Bytes,
    /// Since when the other end could have asked for more; `None` while it waits for us.
    unread: Option<Instant>,
}

impl Replies {
    /// Replies that are given up where nobody reads them for `stalled`. Must be called within a runtime, which looks at
    /// them until they are dropped.
    pub(super) fn watched(stalled: Duration) -> Arc<Self> {
        let replies = Arc::new(Replies::default());
        tokio::spawn(look_at(Arc::downgrade(&replies), stalled));
        replies
    }

    /// Sends `body`; `held` is dropped with it.
    pub(super) fn send<T: Send + 'static>(self: &Arc<Self>, body: Body, held: T) -> Body {
        let reply = Reply { body: Some(body), rest: Bytes::new(), unread: Some(Instant::now()) };
        let reply = Arc::new(Mutex::new(reply));
        let mut open = self.open.lock();
        let number = open.given;
        open.given += 1;
        open.replies.insert(number, reply.clone());
        drop(open);
        Body::new(Outgoing { replies: self.clone(), number, reply, _held: Box::new(held) })
    }

    /// Gives up what was not read for `stalled`.
    fn give_up(&self, stalled: Duration) {
        let open: Vec<_> = self.open.lock().replies.values().cloned().collect();
        let mut given_up = Vec::new();
        for reply in open {
            let mut reply = reply.lock();
            if reply.unread.is_some_and(|since| since.elapsed() >= stalled) {
                reply.rest = Bytes::new();
                given_up.extend(reply.body.take());
            }
        }
        if !given_up.is_empty()
            && let Some(left_out) = self.given_up.now()
        {
            tracing::warn!(replies = given_up.len(), left_out, "given up: nobody reads them");
        }
    }
}

async fn look_at(replies: Weak<Replies>, stalled: Duration) {
    loop {
        tokio::time::sleep(LOOK).await;
        match replies.upgrade() {
            Some(replies) => replies.give_up(stalled),
            None => return,
        }
    }
}

/// The body of a reply as its connection sees it.
struct Outgoing {
    replies: Arc<Replies>,
    number: u64,
    reply: Arc<Mutex<Reply>>,
    _held: Box<dyn Send>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.replies.open.lock().replies.remove(&self.number);
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut reply = self.reply.lock();
        let reply = &mut *reply;
        if reply.rest.is_empty() {
            let Some(body) = &mut reply.body else {
                return Poll::Ready(Some(Err(Status::deadline_exceeded("the reply was not read; call again"))));
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    reply.unread = None;
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => reply.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(end) => return Poll::Ready(end),
            }
        }
        reply.unread = Some(Instant::now());
        let piece = reply.rest.split_to(reply.rest.len().min(HANDED));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let reply = self.reply.lock();
        reply.rest.is_empty() && reply.body.as_ref().is_some_and(http_body::Body::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn large_pieces_are_handed_on_in_parts() {
        let replies = Replies::watched(Duration::from_secs(60));
        let sent = Bytes::from((0..3 * HANDED + 5).map(|at| at as u8).collect::<Vec<u8>>());
        let mut body = replies.send(Body::new(http_body_util::Full::new(sent.clone())), ());
        let mut came = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.expect("it is whole").into_data().expect("bytes");
            assert!(piece.len() <= HANDED);
            came.extend_from_slice(&piece);
        }
        assert_eq!(came, sent);
        drop(body);
        assert!(replies.open.lock().replies.is_empty());
    }

    /// A body that never ends, whose end `dropped` tells.
    struct Endless(Bytes, #[expect(dead_code, reason = "dropped with the body")] oneshot::Sender<()>);

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.is_empty() { Poll::Pending } else { Poll::Ready(Some(Ok(Frame::data(self.0.clone())))) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_given_up() {
        let replies = Replies::watched(Duration::from_secs(60));
        let (held, dropped) = oneshot::channel();
        let mut body = replies.send(Body::new(Endless(Bytes::from_static(b"x"), held)), ());
        for _ in 0..5 {
            // Slow, but it reads.
            tokio::time::sleep(Duration::from_secs(50)).await;
            assert!(body.frame().await.expect("there is more").is_ok());
        }
        assert!(dropped.await.is_err(), "what the reply holds is dropped while its connection keeps it");
        let status = body.frame().await.expect("an answer").expect_err("it was given up");
        assert!(status.to_string().contains("not read"), "{status}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_news_is_not_given_up() {
        let replies = Replies::watched(Duration::from_secs(60));
        let (held, mut dropped) = oneshot::channel();
        let mut body = replies.send(Body::new(Endless(Bytes::new(), held)), ());
        let waits = tokio::time::timeout(Duration::from_secs(3600), body.frame()).await;
        assert!(waits.is_err(), "there was no news");
        assert!(dropped.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
    }
}
