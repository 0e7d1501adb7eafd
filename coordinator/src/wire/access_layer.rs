//! Looks at every call before its service does: who it is from, and whether they may; and ends it when its member is
//! put out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use convoy_proto::channel::shown_secret;
use convoy_security::{Peer, Rarely};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::header::USER_AGENT;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use crate::access::caller::Caller;
use crate::access::calls::CallEnd;
use crate::access::cluster::Access;
use crate::access::roles::denial;

/// Anybody can be denied as often as they like.
static DENIED: Rarely = Rarely::new();

/// Puts the [`Caller`] into each request, or answers it.
#[derive(Clone)]
pub(crate) struct AccessLayer(pub(crate) Arc<Access>);

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { access: self.0.clone(), inner }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    access: Arc<Access>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (caller, end) = match admit(&self.access, &request) {
            Ok(admitted) => admitted,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        request.extensions_mut().insert(caller);
        if matches!(end, CallEnd::Never) {
            return Box::pin(self.inner.call(request));
        }
        let incoming = end.clone();
        let answer = self.inner.call(request.map(|body| Body::new(Cut::when(incoming, Way::In, body))));
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = answer => Ok(answer?.map(|body| Body::new(Cut::when(end, Way::Out, body)))),
                () = end.clone().ended() => Ok(put_out().into_http()),
            }
        })
    }
}

/// Why a call ends before its time.
fn put_out() -> Status {
    Status::unauthenticated("the certificate was revoked or has expired; ask the cluster's admin")
}

/// A direction of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// One direction of a call, which ends when its member is put out.
struct Cut {
    body: Body,
    way: Way,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    over: bool,
}

impl Cut {
    fn when(end: CallEnd, way: Way, body: Body) -> Self {
        Cut { body, way, end: Box::pin(end.ended()), over: false }
    }
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.end.as_mut().poll(cx).is_ready() {
            self.over = true;
            if self.way == Way::In {
                return Poll::Ready(Some(Err(put_out())));
            }
            let mut trailers = HeaderMap::new();
            // A status of plain text fits into headers.
            _ = put_out().add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }
}

/// The caller behind `request`, as [`AccessLayer`] found it.
pub(super) fn caller_of<T>(request: &tonic::Request<T>) -> Caller {
    request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Stranger)
}

fn admit<B>(access: &Access, request: &Request<B>) -> Result<(Caller, CallEnd), Status> {
    let peer = request.extensions().get::<Peer>().ok_or_else(|| Status::internal("a connection without a peer"))?;
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let (caller, end) = access.caller(peer, agent.and_then(shown_secret))?;
    match denial(&caller, request.uri().path()) {
        None => Ok((caller, end)),
        Some(reason) => {
            if let Some(left_out) = DENIED.now() {
                tracing::warn!(%caller, address = %peer.address, method = request.uri().path(), left_out, "denied");
            }
            Err(match caller {
                Caller::Stranger => Status::unauthenticated(reason),
                _ => Status::permission_denied(reason),
            })
        }
    }
}
