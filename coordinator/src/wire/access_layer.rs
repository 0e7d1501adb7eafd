//! Looks at every call before its service does: who it is from, and whether they may.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use convoy_security::{Peer, Rarely};
use futures_util::future::Either;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use crate::access::caller::Caller;
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

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match admit(&self.access, &request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

/// The caller behind `request`, as [`AccessLayer`] found it.
pub(super) fn caller_of<T>(request: &tonic::Request<T>) -> Caller {
    request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Stranger)
}

fn admit<B>(access: &Access, request: &Request<B>) -> Result<Caller, Status> {
    let peer = request.extensions().get::<Peer>().ok_or_else(|| Status::internal("a connection without a peer"))?;
    let caller = access.caller(peer)?;
    match denial(&caller, request.uri().path()) {
        None => Ok(caller),
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
