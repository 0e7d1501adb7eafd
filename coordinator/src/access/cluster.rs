//! A coordinator's cluster: its authority, its members and its tokens.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use convoy_proto::VERSION;
use convoy_security::{
    Authority, Certificate, Fingerprint, Identity, NewKey, Peer, PublicKey, Role, Secret, ServerTls, Token, TokenError,
    TokenRecord,
};
use tonic::Status;

use super::caller::Caller;
use super::calls::{CallEnd, MemberCalls};
use super::error::AccessError;
use super::store::{AccessStore, MemberRecord, TokenLeft, unix_seconds};
use crate::state_folder::private_folder;
use crate::store_error::StoreError;

/// Life of a certificate unless a coordinator is told otherwise. Members and the coordinator itself renew theirs after
/// two thirds.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Longest time between two looks at the clock. Timers stand still while a machine sleeps, certificates do not.
const LOOK: Duration = Duration::from_secs(60);
/// How often the store is tidied.
const TIDY: Duration = Duration::from_secs(3600);
/// Names under which a coordinator can always be reached.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes a cluster: its authority in `state`, and an identity that may do everything.
///
/// # Errors
/// When there is one already, or the folder cannot be written.
pub fn init_cluster(state: &Path, hosts: &[String]) -> Result<Identity, AccessError> {
    let now = SystemTime::now();
    private_folder(state).map_err(|source| AccessError::Io { path: state.to_owned(), source })?;
    let hosts_path = state.join("hosts");
    let authority = Authority::create(&state.join("ca"), now)?;
    // Wrong names are found now and not at the first start.
    authority.server(hosts, CERTIFICATE_LIFE, now)?;
    fs::write(&hosts_path, hosts.join("\n") + "\n").map_err(|source| AccessError::Io { path: hosts_path, source })?;
    let store = AccessStore::create(&state.join("access.redb"))?;
    let key = NewKey::generate()?;
    // Whoever can read the state folder can do all of this again.
    let life = Duration::from_secs(10 * 365 * 24 * 3600);
    let certificate = authority.sign(&key.public()?, "admin", life, now)?;
    store.add_member("admin", Role::Admin, None, &certificate)?;
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
    let expires_at = unix_seconds(SystemTime::now()).saturating_add(ttl.as_secs());
    store.put_token(&TokenRecord::new(&token, role, expires_at, uses))?;
    Ok(token)
}

/// Who may call a coordinator.
#[derive(Debug)]
pub(crate) enum Access {
    /// Processes of this machine that know the secret of the coordinator's user.
    Local(Secret),
    /// Members of a cluster.
    Cluster(Box<Cluster>),
}

/// A cluster: who signs for it, who belongs to it.
#[derive(Debug)]
pub(crate) struct Cluster {
    authority: Authority,
    hosts: Vec<String>,
    store: AccessStore,
    tls: ServerTls,
    calls: MemberCalls,
    /// Life of the certificates that it signs.
    pub(crate) life: Duration,
}

impl Access {
    /// The cluster in `state`, if there is one, whose certificates live for `life`; else whoever knows `secret`.
    pub(crate) fn open(state: &Path, life: Duration, secret: Secret) -> Result<Arc<Access>, AccessError> {
        if !is_cluster(state) {
            return Ok(Arc::new(Access::Local(secret)));
        }
        let authority = Authority::open(&state.join("ca"))?;
        let path = state.join("hosts");
        let named = fs::read_to_string(&path).map_err(|source| AccessError::Io { path, source })?;
        let named = named.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
        let hosts: Vec<String> = named.chain(LOCAL_HOSTS.map(str::to_owned)).collect();
        let now = SystemTime::now();
        let tls = ServerTls::new(&authority.server(&hosts, life, now)?)?;
        let store = AccessStore::open(&state.join("access.redb"))?;
        store.tidy(unix_seconds(now))?;
        let calls = MemberCalls::default();
        Ok(Arc::new(Access::Cluster(Box::new(Cluster { authority, hosts, store, tls, calls, life }))))
    }

    /// What the server shows, if it encrypts.
    pub(crate) fn tls(&self) -> Option<ServerTls> {
        self.member_cluster().map(|cluster| cluster.tls.clone())
    }

    /// Renews the coordinator's own certificate for as long as it runs, and tidies the store. `disconnect` is called
    /// again and again: it shall close the connections of all callers whose certificate has expired.
    pub(crate) async fn keep_fresh(&self, disconnect: impl Fn(&dyn Fn(&Caller) -> bool)) {
        let Some(cluster) = self.member_cluster() else { return };
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
            let expired = |id: u64| matches!(cluster.store.member(id), Ok(Some(member)) if member.expired(now));
            disconnect(&|caller| matches!(caller, Caller::Member { id, .. } if expired(*id)));
            cluster.calls.end_where(expired);
            if passed(tidied) >= TIDY {
                tidied = now;
                if let Err(error) = cluster.store.tidy(unix_seconds(now)) {
                    tracing::error!(%error, "certificates that have expired could not be dropped");
                }
            }
        }
    }

    /// Who is behind a connection, and what ends a call of theirs before its time; or why nobody should be.
    ///
    /// `shown` is the secret that comes with the call.
    pub(crate) fn caller(&self, peer: &Peer, shown: Option<Secret>) -> Result<(Caller, CallEnd), Status> {
        match (self, peer.fingerprint) {
            (Access::Local(secret), _) if shown.is_some_and(|shown| secret.is(&shown)) => {
                Ok((Caller::Local, CallEnd::Never))
            }
            (Access::Local(_), _) => Err(Status::unauthenticated(
                "this coordinator takes calls of its own user alone: whoever calls needs the same $CONVOY_HOME \
                 (~/.config/convoy), which holds that user's secret; `convoy cluster init` lets others in",
            )),
            (Access::Cluster(_), None) => Ok((Caller::Stranger, CallEnd::Never)),
            (Access::Cluster(cluster), Some(fingerprint)) => cluster.member(peer, fingerprint, SystemTime::now()),
        }
    }

    fn member_cluster(&self) -> Option<&Cluster> {
        match self {
            Access::Local(_) => None,
            Access::Cluster(cluster) => Some(cluster),
        }
    }

    /// The cluster.
    ///
    /// # Errors
    /// When there is none, as the coordinator serves loopback alone.
    pub(crate) fn cluster(&self) -> Result<&Cluster, Status> {
        self.member_cluster().ok_or_else(|| {
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
    fn member(&self, peer: &Peer, fingerprint: Fingerprint, now: SystemTime) -> Result<(Caller, CallEnd), Status> {
        let internal = |error: StoreError| Status::internal(error.to_string());
        let owner = match peer.known.get() {
            Some(id) => Some(*id),
            None => self.store.owner(fingerprint).map_err(internal)?,
        };
        // Before the record is read: whoever revokes ends calls after the record says so.
        let end = owner.map_or(CallEnd::Never, |id| self.calls.begin(id));
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
            Some(MemberRecord { id, name, role, .. }) => {
                _ = peer.known.set(id);
                Ok((Caller::Member { id, name, role }, end))
            }
        }
    }

    /// Lets somebody in who has a token: signs `key` for `name`.
    pub(crate) fn join(&self, token: &Token, key: &PublicKey, name: &str) -> Result<(Role, Certificate), AccessError> {
        let now = SystemTime::now();
        if token.pin != self.authority.pin() {
            return Err(TokenError::Unknown.into());
        }
        let role = self.store.redeem(token, name, unix_seconds(now))?;
        let certificate = self.authority.sign(key, name, self.life, now)?;
        self.store.add_member(name, role, Some(&token.id), &certificate)?;
        tracing::info!(name, %role, fingerprint = %certificate.fingerprint, "joined the cluster");
        Ok((role, certificate))
    }

    /// Signs a member's next certificate.
    pub(crate) fn renew(&self, id: u64, name: &str, key: &PublicKey) -> Result<Certificate, AccessError> {
        let now = SystemTime::now();
        let certificate = self.authority.sign(key, name, self.life, now)?;
        self.store.renew(id, &certificate, unix_seconds(now))?;
        Ok(certificate)
    }

    /// Makes a token.
    pub(crate) fn create_token(&self, role: Role, ttl: Duration, uses: Option<u32>) -> Result<Token, AccessError> {
        new_token(&self.authority, &self.store, role, ttl, uses)
    }

    /// All tokens.
    pub(crate) fn tokens(&self) -> Result<Vec<TokenRecord>, AccessError> {
        Ok(self.store.tokens()?)
    }

    /// Removes a token; whether there was such a one.
    pub(crate) fn remove_token(&self, id: &str) -> Result<bool, AccessError> {
        Ok(self.store.remove_token(id)?)
    }

    /// All members, the oldest first.
    pub(crate) fn members(&self) -> Result<Vec<MemberRecord>, AccessError> {
        Ok(self.store.members()?)
    }

    /// Revokes a member's certificates, by its number or its name, and ends its calls; see [`AccessStore::revoke`].
    pub(crate) fn revoke(&self, text: &str, close_token: bool) -> Result<(MemberRecord, TokenLeft), AccessError> {
        let (member, left) = self.store.revoke(text, close_token)?;
        self.calls.end(member.id);
        Ok((member, left))
    }
}
