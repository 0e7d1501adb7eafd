//! Opening connections to a server that is known by its cluster's pin, or by its own fingerprint.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::identity::Identity;
use crate::key::{Fingerprint, Pin};
use crate::peers::{AnotherProcess, PeerIdentity, TheOne};
use crate::sockets::set_options;
use crate::tls::{ALPN, proof_of_key, provider};

/// Time to connect, handshake included.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// It is no address.
    #[error("`{0}` is no HOST:PORT")]
    Address(String),
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no answer within 5 s")]
    TimedOut,
    /// The server is of another cluster.
    #[error(
        "it is of another cluster than the token or certificate here, or it is not who it says; check the address, or join it with a token of its own"
    )]
    WrongPin,
    /// Another process answers than the one with this fingerprint.
    #[error("another process answers there")]
    WrongPeer,
    /// The server's certificate has expired.
    #[error("its certificate has expired; check both machines' clocks, and start the coordinator again")]
    ServerExpired,
    /// The server's certificate is for other names.
    #[error("its certificate is not for `{0}`; add the name with `convoy cluster init --host`, or use another one")]
    WrongName(String),
    /// The client's certificate has expired.
    #[error("the certificate here has expired; join the cluster again with a new token")]
    Expired,
    /// The server does not take the client's certificate.
    #[error("it does not accept the certificate here ({0}); join the cluster again with a new token")]
    Refused(String),
    /// The server does not speak TLS, or not as it should.
    #[error("no encrypted connection: {0}")]
    Tls(String),
}

/// Opens a connection to `address` (`HOST:PORT`), a server of the cluster with this pin, as `identity` or as nobody.
/// `endpoint` sets what the connection is like. A connection that breaks is opened again, in the same way, by the next
/// call on the channel.
///
/// # Errors
/// [`ConnectError::Address`] when `address` is none; [`ConnectError::Unreachable`] and [`ConnectError::TimedOut`] when
/// nobody answers within 5 s; [`ConnectError::WrongPin`], [`ConnectError::ServerExpired`] and
/// [`ConnectError::WrongName`] when the server is not trusted; [`ConnectError::Expired`] and [`ConnectError::Refused`]
/// when the server does not trust `identity`; [`ConnectError::Tls`] when it does not speak TLS 1.3 with HTTP/2.
///
/// The future is boxed, so that a client's whole connection is compiled here and not in each crate that awaits it.
pub fn connect<'a>(
    endpoint: fn(Endpoint) -> Endpoint,
    address: &'a str,
    pin: Pin,
    identity: Option<&'a Identity>,
) -> BoxFuture<'a, Result<Channel, ConnectError>> {
    Box::pin(async move {
        let config = client_config(Arc::new(Pinned { pin }), identity.map(Identity::certified))?;
        connect_with(endpoint, address, config, identity.is_some()).await
    })
}

/// Opens a connection to `address` (`HOST:PORT`), where the process with this fingerprint listens, which knows
/// `identity`. `endpoint` sets what the connection is like.
///
/// # Errors
/// [`ConnectError::Address`] when `address` is none; [`ConnectError::Unreachable`] and [`ConnectError::TimedOut`] when
/// nobody answers within 5 s; [`ConnectError::WrongPeer`] when somebody else does; [`ConnectError::Refused`] when the
/// server does not know `identity`; [`ConnectError::Tls`] when it does not speak TLS 1.3 with HTTP/2.
pub fn connect_to_peer<'a>(
    endpoint: fn(Endpoint) -> Endpoint,
    address: &'a str,
    peer: Fingerprint,
    identity: &'a PeerIdentity,
) -> BoxFuture<'a, Result<Channel, ConnectError>> {
    Box::pin(async move {
        let config = client_config(Arc::new(TheOne(peer)), Some(identity.certified()))?;
        connect_with(endpoint, address, config, true).await
    })
}

async fn connect_with(
    endpoint: fn(Endpoint) -> Endpoint,
    address: &str,
    config: Arc<ClientConfig>,
    shows_identity: bool,
) -> Result<Channel, ConnectError> {
    let host = address.rsplit_once(':').map(|(host, _)| host.trim_start_matches('[').trim_end_matches(']'));
    let name = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
    let (Some(name), Ok(uri)) = (name, Endpoint::from_shared(format!("http://{address}"))) else {
        return Err(ConnectError::Address(address.to_owned()));
    };
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, name, config) = (address.clone(), name.clone(), config.clone());
        async move {
            match tokio::time::timeout(CONNECT, open(&address, name, config, shows_identity)).await {
                Ok(opened) => opened.map(TokioIo::new),
                Err(_) => Err(ConnectError::TimedOut),
            }
        }
    });
    endpoint(uri).connect_with_connector(connector).await.map_err(|error| {
        let error: &(dyn StdError + 'static) = &error;
        ConnectError::find(error).unwrap_or_else(|| ConnectError::Unreachable(last(error).to_string()))
    })
}

async fn open(
    address: &str,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    shows_identity: bool,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let stream = TcpStream::connect(address).await.map_err(|error| ConnectError::Unreachable(error.to_string()))?;
    set_options(&stream).map_err(|error| ConnectError::Unreachable(error.to_string()))?;
    let text = name.to_str().into_owned();
    let failed = |error: io::Error| ConnectError::of_io(&error, &text);
    let mut stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
    // In TLS 1.3 a client is done before the server has looked at its certificate; HTTP/2 begins with the server's
    // settings, or it is refused.
    if shows_identity && stream.fill_buf().await.map_err(failed)?.is_empty() {
        return Err(ConnectError::Unreachable("the server hung up".to_owned()));
    }
    Ok(stream)
}

fn client_config(
    trusts: Arc<dyn ServerCertVerifier>,
    shows: Option<Arc<CertifiedKey>>,
) -> Result<Arc<ClientConfig>, ConnectError> {
    let bad = |error: TlsError| ConnectError::Tls(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(bad)?
        .dangerous()
        .with_custom_certificate_verifier(trusts);
    let mut config = match shows {
        None => builder.with_no_client_auth(),
        Some(certified) => {
            let resolver = rustls::sign::SingleCertAndKey::from(certified);
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

impl ConnectError {
    /// Looks through `error` and its sources, which may be tonic's, for one of these errors, or for the alert that a
    /// server sent. `None` when the connection failed for another reason.
    pub fn find(error: &(dyn StdError + 'static)) -> Option<ConnectError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<ConnectError>() {
                return Some(found.clone());
            }
            // Errors of HTTP/2 keep only the text of what was below them.
            let text = error.to_string();
            if let Some((_, alert)) = text.rsplit_once("received fatal alert: ") {
                return Some(ConnectError::of_alert(alert));
            }
            next = error.source();
        }
        None
    }

    fn of_alert(alert: &str) -> ConnectError {
        match alert {
            "CertificateExpired" => ConnectError::Expired,
            alert => ConnectError::Refused(alert.to_owned()),
        }
    }

    fn of_io(error: &io::Error, name: &str) -> ConnectError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        match inner {
            Some(TlsError::InvalidCertificate(problem)) => match problem {
                CertificateError::Other(OtherError(other)) if other.is::<NotPinned>() => ConnectError::WrongPin,
                CertificateError::Other(OtherError(other)) if other.is::<AnotherProcess>() => ConnectError::WrongPeer,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => ConnectError::ServerExpired,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    ConnectError::WrongName(name.to_owned())
                }
                other => ConnectError::Tls(other.to_string()),
            },
            Some(TlsError::AlertReceived(alert)) => ConnectError::of_alert(&format!("{alert:?}")),
            Some(other) => ConnectError::Tls(other.to_string()),
            None => ConnectError::Unreachable(error.to_string()),
        }
    }
}

pub(crate) fn last<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// Trusts servers whose chain holds the certificate with this pin, and whose own is signed by it.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
}

#[derive(Debug, thiserror::Error)]
#[error("no certificate of the chain has the pin")]
struct NotPinned;

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let not_pinned = || TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotPinned))));
        let authority =
            intermediates.iter().find(|certificate| Pin::of(certificate) == self.pin).ok_or_else(not_pinned)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| TlsError::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now);
        verified.map_err(|error| match error {
            TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                not_pinned()
            }
            error => error,
        })
    }

    proof_of_key!();
}
