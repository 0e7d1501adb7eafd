//! Looks at every call before its service does: who it is from, and whether they may.

use std::sync::Arc;
use std::task::{Context, Poll};

use convoy_security::Peer;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::roles::denial;
use super::{Access, Caller};

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
    type Future = futures::Either<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match admit(&self.access, &request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                futures::Either::Inner(Box::pin(self.inner.call(request)))
            }
            Err(status) => futures::Either::Denied(Some(status)),
        }
    }
}

fn admit<B>(access: &Access, request: &Request<B>) -> Result<Caller, Status> {
    let peer = request.extensions().get::<Peer>().ok_or_else(|| Status::internal("a connection without a peer"))?;
    let caller = access.caller(peer)?;
    match denial(&caller, request.uri().path()) {
        None => Ok(caller),
        Some(reason) => {
            tracing::warn!(%caller, address = %peer.address, method = request.uri().path(), "denied");
            Err(match caller {
                Caller::Stranger => Status::unauthenticated(reason),
                _ => Status::permission_denied(reason),
            })
        }
    }
}

mod futures {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tonic::Status;
    use tonic::body::Body;
    use tonic::codegen::http::Response;

    /// What the service answers, or why it was not asked.
    pub(crate) enum Either<F> {
        Inner(Pin<Box<F>>),
        Denied(Option<Status>),
    }

    impl<F, E> Future for Either<F>
    where
        F: Future<Output = Result<Response<Body>, E>>,
    {
        type Output = Result<Response<Body>, E>;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            match self.get_mut() {
                Either::Inner(future) => future.as_mut().poll(context),
                Either::Denied(status) => {
                    let status = status.take().unwrap_or_else(|| Status::internal("answered already"));
                    Poll::Ready(Ok(status.into_http()))
                }
            }
        }
    }
}
