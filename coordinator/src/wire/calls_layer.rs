//! Bounds each caller: calls in flight, the size of a message, and how long a call may say nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use convoy_common::memory::{CALLS, HeldMemory, MemoryBudget};
use convoy_security::{Peer, Rarely};
use http_body::Frame;
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::outgoing::{HANDED, Replies};
use crate::access::caller::Caller;
use crate::access::roles::{self, Method};

/// How long a call may be waited for while it sends nothing (unless it [may](Method::may_be_silent)), or does not read
/// what it is sent.
pub(super) const STALLED: Duration = Duration::from_secs(60);
/// Calls of all methods together that a connection without a certificate may have in flight.
const CALLS_OF_A_STRANGER: usize = 4;

static REFUSED: Rarely = Rarely::new();

/// Refuses calls beyond the bounds of their method. Stands behind [`AccessLayer`](super::access_layer::AccessLayer),
/// which says whose a call is.
#[derive(Clone)]
pub(crate) struct CallsLayer {
    in_flight: Arc<InFlight>,
    replies: Arc<Replies>,
    memory: &'static MemoryBudget,
    stalled: Duration,
}

impl CallsLayer {
    /// The bounds of a server. Must be called within a runtime.
    pub(crate) fn new() -> Self {
        CallsLayer::with_patience(STALLED)
    }

    fn with_patience(stalled: Duration) -> Self {
        CallsLayer { in_flight: Arc::default(), replies: Replies::watched(stalled), memory: &CALLS, stalled }
    }
}

/// Who shares a bound: a member with all its connections; where nobody is known, a connection by its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    Member(u64),
    Connection(SocketAddr),
}

type Key = (Party, &'static str);

#[derive(Debug, Default)]
struct InFlight(Mutex<HashMap<Key, usize>>);

/// A call in flight, until it is dropped.
struct Turn {
    in_flight: Arc<InFlight>,
    key: Key,
    /// For what it may have on its way in and out.
    _held: Option<HeldMemory<'static>>,
}

impl InFlight {
    fn take(self: &Arc<Self>, key: Key, most: usize, held: Option<HeldMemory<'static>>) -> Option<Turn> {
        let mut counts = self.0.lock();
        let count = counts.entry(key).or_default();
        // An entry that was just made has room.
        (*count < most).then(|| {
            *count += 1;
            Turn { in_flight: self.clone(), key, _held: held }
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.in_flight.0.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { bounds: self.clone(), inner }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub(crate) struct Bounded<S> {
    bounds: CallsLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (turn, method) = match self.bounds.admit(&request) {
            Ok(admitted) => admitted,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let stalled = self.bounds.stalled;
        let answer = self.inner.call(request.map(|body| Body::new(Incoming::new(body, method, stalled))));
        let replies = self.bounds.replies.clone();
        Box::pin(async move { Ok(answer.await?.map(|body| replies.send(body, turn))) })
    }
}

impl CallsLayer {
    fn admit(&self, request: &Request<Body>) -> Result<(Turn, &'static Method), Status> {
        let missing = || Status::internal("a call that was not admitted");
        let (extensions, path) = (request.extensions(), request.uri().path());
        let caller = extensions.get::<Caller>().ok_or_else(missing)?;
        let peer = extensions.get::<Peer>().ok_or_else(missing)?;
        let method = roles::find(path).ok_or_else(missing)?;
        let (key, most) = match caller {
            Caller::Member { id, .. } => ((Party::Member(*id), method.path), method.calls),
            Caller::Local => ((Party::Connection(peer.address), method.path), method.calls),
            Caller::Stranger => ((Party::Connection(peer.address), ""), CALLS_OF_A_STRANGER),
        };
        let held = method.is_of_people().then(|| self.memory.try_take(method.message.saturating_add(HANDED) as u64));
        let held = held.transpose().map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let turn = self.in_flight.take(key, most, held).ok_or_else(|| {
            if let Some(left_out) = REFUSED.now() {
                tracing::warn!(%caller, address = %peer.address, method = path, most, left_out, "too many calls");
            }
            let text =
                format!("{caller} has {most} calls of {path} in flight and may have no more; wait until one ends");
            Status::resource_exhausted(text)
        })?;
        Ok((turn, method))
    }
}

/// What comes in: messages of bounded size, one piece after the other in time.
struct Incoming {
    body: Body,
    method: &'static Method,
    stalled: Duration,
    /// Runs while a piece is waited for.
    patience: Option<Pin<Box<tokio::time::Sleep>>>,
    /// What came of a message's head: whether it is compressed, and four bytes of its length.
    head: Vec<u8>,
    /// Bytes of the message that are to come.
    left: usize,
}

/// Bytes before each message.
const HEAD: usize = 5;

impl Incoming {
    fn new(body: Body, method: &'static Method, stalled: Duration) -> Self {
        Incoming { body, method, stalled, patience: None, head: Vec::with_capacity(HEAD), left: 0 }
    }

    /// Looks at the lengths of messages.
    fn check(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            let inside = self.left.min(data.len());
            self.left -= inside;
            data = &data[inside..];
            let of_head = data.len().min(HEAD - self.head.len());
            self.head.extend_from_slice(&data[..of_head]);
            data = &data[of_head..];
            if let [_, a, b, c, d] = self.head[..] {
                self.head.clear();
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.left > self.method.message {
                    let (path, length, most) = (self.method.path, self.left, self.method.message);
                    let text = format!("a message of {path} has {length} bytes; there may be {most}");
                    return Err(Status::resource_exhausted(text));
                }
            }
        }
        Ok(())
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.patience = None;
            let checked = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(Ok(()), |data| this.check(data)),
                _ => Ok(()),
            };
            return Poll::Ready(match checked {
                Ok(()) => frame,
                Err(status) => Some(Err(status)),
            });
        }
        if this.method.may_be_silent() {
            return Poll::Pending;
        }
        let stalled = this.stalled;
        let patience = this.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(stalled)));
        patience.as_mut().poll(cx).map(|()| {
            tracing::warn!(method = this.method.path, "given up: it sends nothing");
            let text = format!("nothing came for {} s; call again", stalled.as_secs_f32());
            Some(Err(Status::deadline_exceeded(text)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests;
