//! Who calls, and what they may do.

mod calls;
mod layer;
mod roles;
mod service;
mod store;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use convoy_proto::VERSION;
use convoy_security::{
    Authority, AuthorityError, Certificate, Fingerprint, Identity, KeyError, NewKey, Peer, PublicKey, Role, ServerTls,
    Token, TokenError, TokenRecord,
};
use tonic::Status;

pub(crate) use calls::CallsLayer;
pub(crate) use layer::AccessLayer;
pub(crate) use service::AccessService;
pub use store::MemberRecord;
use store::{AccessStore, Member};

use crate::hub::Hub;
use crate::jobs::StoreError;

/// Life of a certificate unless a coordinator is told otherwise. Members and the coordinator itself renew theirs after
/// two thirds.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Longest time between two looks at the clock. Timers stand still while a machine sleeps, certificates do not.
const LOOK: Duration = Duration::from_secs(60);
/// How often the store is tidied.
const TIDY: Duration = Duration::from_secs(3600);
/// Names under which a coordinator can always be reached.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Who is behind a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process on this machine, over a plain connection on loopback.
    Local,
    /// Somebody without a certificate.
    Stranger,
    /// A member of the cluster.
    Member {
        /// Its number.
        id: u64,
        /// Its name.
        name: String,
        /// What it may do.
        role: Role,
    },
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Local => f.write_str("local"),
            Caller::Stranger => f.write_str("a stranger"),
            Caller::Member { id, name, .. } => write!(f, "{name} ({id})"),
        }
    }
}

impl Caller {
    /// Whether both are the same identity, whatever certificate it shows.
    pub fn is(&self, other: &Caller) -> bool {
        match (self, other) {
            (Caller::Member { id, .. }, Caller::Member { id: other, .. }) => id == other,
            (Caller::Local, Caller::Local) => true,
            _ => false,
        }
    }

    /// The caller behind `request`, as [`AccessLayer`] found it.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Caller {
        request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Stranger)
    }
}

/// Why access cannot be managed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is kept of members and tokens.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such member.
    #[error("there is no member `{0}`; `convoy cluster members` shows them")]
    UnknownMember(String),
}

/// Makes a cluster: its authority in `state`, and an identity that may do everything.
///
/// # Errors
/// When there is one already, or the folder cannot be written.
pub fn init_cluster(state: &Path, hosts: &[String]) -> Result<Identity, AccessError> {
    let now = SystemTime::now();
    let hosts_path = state.join("hosts");
    let authority = Authority::create(&state.join("ca"), now)?;
    // Wrong names are found now and not at the first start.
    authority.server(hosts, CERTIFICATE_LIFE, now)?;
    fs::write(&hosts_path, hosts.join("\n") + "\n").map_err(|source| AccessError::Io { path: hosts_path, source })?;
    let store = AccessStore::open(&state.join("access.redb"))?;
    let key = NewKey::generate()?;
    // Whoever can read the state folder can do all of this again.
    let life = Duration::from_secs(10 * 365 * 24 * 3600);
    let certificate = authority.sign(&key.public()?, "admin", life, now)?;
    store.add_member("admin", Role::Admin, &certificate)?;
    Ok(key.with(certificate.chain_pem)?)
}

/// Makes a token in `state` while no coordinator uses it.
///
/// # Errors
/// When there is no cluster, or a coordinator runs.
pub fn create_token(state: &Path, role: Role, ttl: Duration, uses: Option<u32>) -> Result<Token, AccessError> {
    let authority = Authority::open(&state.join("ca"))?;
    let store = AccessStore::open(&state.join("access.redb"))?;
    new_token(&authority, &store, role, ttl, uses)
}

fn new_token(
    authority: &Authority,
    store: &AccessStore,
    role: Role,
    ttl: Duration,
    uses: Option<u32>,
) -> Result<Token, AccessError> {
    let token = Token::new(authority.pin());
    let expires_at = seconds(SystemTime::now()).saturating_add(ttl.as_secs());
    store.put_token(&TokenRecord::new(&token, role, expires_at, uses))?;
    Ok(token)
}

/// Authority, members and tokens of a coordinator; none where it serves loopback alone.
#[derive(Debug)]
pub(crate) struct Access {
    cluster: Option<Cluster>,
}

#[derive(Debug)]
struct Cluster {
    authority: Authority,
    hosts: Vec<String>,
    store: AccessStore,
    tls: ServerTls,
    life: Duration,
}

impl Access {
    /// Everybody on this machine may do everything, and nobody else is let in.
    pub(crate) fn loopback() -> Arc<Access> {
        Arc::new(Access { cluster: None })
    }

    /// The cluster in `state`, if there is one, whose certificates live for `life`.
    pub(crate) fn open(state: &Path, life: Duration) -> Result<Arc<Access>, AccessError> {
        if !is_cluster(state) {
            return Ok(Access::loopback());
        }
        let authority = Authority::open(&state.join("ca"))?;
        let path = state.join("hosts");
        let named = fs::read_to_string(&path).map_err(|source| AccessError::Io { path, source })?;
        let named = named.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
        let hosts: Vec<String> = named.chain(LOCAL_HOSTS.map(str::to_owned)).collect();
        let now = SystemTime::now();
        let tls = ServerTls::new(&authority.server(&hosts, life, now)?)?;
        let store = AccessStore::open(&state.join("access.redb"))?;
        store.tidy(seconds(now))?;
        Ok(Arc::new(Access { cluster: Some(Cluster { authority, hosts, store, tls, life }) }))
    }

    /// What the server shows, if it encrypts.
    pub(crate) fn tls(&self) -> Option<ServerTls> {
        self.cluster.as_ref().map(|cluster| cluster.tls.clone())
    }

    /// Renews the coordinator's own certificate for as long as it runs, puts workers out whose certificate has expired,
    /// and tidies the store.
    pub(crate) async fn keep_fresh(self: Arc<Self>, hub: Arc<Hub>) {
        let Some(cluster) = &self.cluster else { return };
        let (mut renewed, mut tidied) = (SystemTime::now(), SystemTime::now());
        let passed = |since: SystemTime| since.elapsed().unwrap_or_default();
        loop {
            tokio::time::sleep((cluster.life / 20).min(LOOK)).await;
            let now = SystemTime::now();
            if passed(renewed) >= Identity::renew_after(cluster.life) {
                match cluster.authority.server(&cluster.hosts, cluster.life, now) {
                    Ok(identity) => {
                        cluster.tls.exchange(&identity);
                        renewed = now;
                    }
                    Err(error) => tracing::error!(%error, "the coordinator's certificate could not be renewed"),
                }
            }
            let expired = |caller: &Caller| match caller {
                Caller::Member { id, .. } => {
                    matches!(cluster.store.member(*id), Ok(Some(member)) if member.expired(now))
                }
                _ => false,
            };
            hub.put_out_where(expired, "its certificate has expired");
            if passed(tidied) >= TIDY {
                tidied = now;
                if let Err(error) = cluster.store.tidy(seconds(now)) {
                    tracing::error!(%error, "certificates that have expired could not be dropped");
                }
            }
        }
    }

    /// Who is behind a connection, or why nobody should be.
    pub(crate) fn caller(&self, peer: &Peer) -> Result<Caller, Status> {
        match (&self.cluster, peer.fingerprint) {
            (None, _) => Ok(Caller::Local),
            (Some(_), None) => Ok(Caller::Stranger),
            (Some(cluster), Some(fingerprint)) => cluster.member(peer, fingerprint, SystemTime::now()),
        }
    }

    fn cluster(&self) -> Result<&Cluster, Status> {
        self.cluster.as_ref().ok_or_else(|| {
            Status::failed_precondition(format!(
                "this coordinator (Convoy {VERSION}) serves loopback alone and knows no members; `convoy cluster init` changes that"
            ))
        })
    }
}

/// Whether a cluster was made in `state`.
pub fn is_cluster(state: &Path) -> bool {
    state.join("ca").join("ca.key").is_file()
}

impl Cluster {
    /// Whose connection it is. It stays that member's after the certificate that it was opened with has expired, as
    /// long as the member has a newer one.
    fn member(&self, peer: &Peer, fingerprint: Fingerprint, now: SystemTime) -> Result<Caller, Status> {
        let internal = |error: StoreError| Status::internal(error.to_string());
        let owner = match peer.known.get() {
            Some(id) => Some(*id),
            None => self.store.owner(fingerprint).map_err(internal)?,
        };
        let member = owner.map(|id| self.store.member(id)).transpose().map_err(internal)?.flatten();
        match member {
            None => {
                Err(Status::unauthenticated("the cluster does not know this certificate; join it again with a token"))
            }
            Some(member) if member.revoked => {
                Err(Status::unauthenticated("this certificate was revoked; ask the cluster's admin"))
            }
            Some(member) if member.expired(now) => {
                Err(Status::unauthenticated("this certificate has expired; join the cluster again with a token"))
            }
            Some(Member { id, name, role, .. }) => {
                _ = peer.known.set(id);
                Ok(Caller::Member { id, name, role })
            }
        }
    }

    fn join(&self, token: &Token, key: &PublicKey, name: &str) -> Result<(Role, Certificate), AccessError> {
        let now = SystemTime::now();
        if token.pin != self.authority.pin() {
            return Err(TokenError::Unknown.into());
        }
        let role = self.store.redeem(token, seconds(now))?;
        let certificate = self.authority.sign(key, name, self.life, now)?;
        self.store.add_member(name, role, &certificate)?;
        tracing::info!(name, %role, fingerprint = %certificate.fingerprint, "joined the cluster");
        Ok((role, certificate))
    }

    fn renew(&self, id: u64, name: &str, key: &PublicKey) -> Result<Certificate, AccessError> {
        let now = SystemTime::now();
        let certificate = self.authority.sign(key, name, self.life, now)?;
        self.store.renew(id, &certificate, seconds(now))?;
        Ok(certificate)
    }

    fn create_token(&self, role: Role, ttl: Duration, uses: Option<u32>) -> Result<Token, AccessError> {
        new_token(&self.authority, &self.store, role, ttl, uses)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
