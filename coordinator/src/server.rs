//! The server of a coordinator: its connections, the layers before its services, and its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use convoy_security::{Connection, incoming};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use crate::access::cluster::Access;
use crate::descriptors::connection_limits;
use crate::wire::access_layer::AccessLayer;
use crate::wire::calls_layer::CallsLayer;

/// How long connections may take to end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// Other processes.
    Tcp(TcpListener),
    /// This process alone: see [`convoy_security::in_process`].
    InProcess(ReceiverStream<io::Result<Connection>>),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

/// A server at work.
pub(crate) struct Server {
    closing: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// Serves `services` on `listener` to whom `access` lets in.
    pub(crate) fn start(listener: Listener, access: Arc<Access>, services: Routes) -> Self {
        let (closing, closed) = oneshot::channel::<()>();
        let connections = match listener {
            Listener::Tcp(listener) => incoming(listener, access.tls(), connection_limits()),
            Listener::InProcess(connections) => connections,
        };
        let server = convoy_proto::channel::server()
            .layer(AccessLayer(access))
            .layer(CallsLayer::new())
            .add_routes(services)
            .serve_with_incoming_shutdown(connections, async { _ = closed.await });
        Server { closing, task: tokio::spawn(server) }
    }

    /// Waits until the server ends by itself, which it should not; says how.
    pub(crate) async fn failed(&mut self) -> String {
        format!("{:?}", (&mut self.task).await)
    }

    /// Takes no more calls, and waits a while for the connections to end.
    pub(crate) async fn close(self) {
        _ = self.closing.send(());
        if tokio::time::timeout(GOODBYE, self.task).await.is_err() {
            tracing::debug!("some connections did not end");
        }
    }
}
