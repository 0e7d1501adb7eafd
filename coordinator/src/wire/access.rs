//! The gRPC service for joining, tokens and members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_proto::v1;
use convoy_security::{Certificate, PublicKey, Role, Token};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::access_layer::caller_of;
use crate::access::caller::Caller;
use crate::access::cluster::{Access, Cluster};
use crate::access::error::AccessError;
use crate::access::store::TokenLeft;
use crate::fleet::connections::Connections;

/// Longest life of a token.
const LONGEST_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Certificates and tokens that are made at the same time; each is signed and waits for the disk.
const SIGNING: usize = 4;

/// The service.
#[derive(Clone)]
pub(crate) struct AccessService {
    access: Arc<Access>,
    connections: Arc<Connections>,
    renewals: Arc<Mutex<Renewals>>,
    signing: Arc<Semaphore>,
}

impl AccessService {
    /// A service for members and tokens of `access`, which disconnects those of `connections` that are revoked.
    pub(crate) fn new(access: Arc<Access>, connections: Arc<Connections>) -> Self {
        let (renewals, signing) = (Arc::default(), Arc::new(Semaphore::new(SIGNING)));
        AccessService { access, connections, renewals, signing }
    }

    /// Runs what signs or waits for the disk where it holds up no connection.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Cluster) -> Result<T, AccessError> + Send + 'static,
    ) -> Result<T, Status> {
        let crashed = |error: &dyn std::fmt::Display| Status::internal(format!("it crashed: {error}"));
        let turn = self.signing.clone().acquire_owned().await.map_err(|error| crashed(&error))?;
        let access = self.access.clone();
        let changing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            Ok::<_, Status>(change(access.cluster()?)?)
        });
        changing.await.map_err(|error| crashed(&error))?
    }
}

/// When members renewed last, as far as that says whether they may again.
#[derive(Debug, Default)]
struct Renewals(BTreeMap<u64, Instant>);

/// Longest time between two renewals of a member; a sixth of a certificate's life where that is shorter.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(60);

impl Renewals {
    /// Takes note that `member` renews a certificate of `life` at `now`; an error says when it may.
    fn admit(&mut self, member: u64, life: Duration, now: Instant) -> Result<(), Status> {
        let between = BETWEEN_RENEWALS.min(life / 6);
        self.0.retain(|_, last| now.duration_since(*last) < between);
        if let Some(last) = self.0.get(&member) {
            let wait = (between - now.duration_since(*last)).as_secs_f32().ceil();
            let between = between.as_secs_f32().ceil();
            return Err(Status::resource_exhausted(format!(
                "a member renews its certificate at most every {between} s; try again in {wait} s"
            )));
        }
        self.0.insert(member, now);
        Ok(())
    }
}

impl From<AccessError> for Status {
    fn from(error: AccessError) -> Self {
        let message = error.to_string();
        match error {
            AccessError::Token(_) | AccessError::RevokedName(_) => Status::permission_denied(message),
            AccessError::UnknownMember(_) => Status::not_found(message),
            AccessError::Authority(_)
            | AccessError::Key(_)
            | AccessError::AmbiguousMember { .. }
            | AccessError::NumberAsName(_) => Status::invalid_argument(message),
            AccessError::Store(_) | AccessError::Io { .. } => Status::internal(message),
        }
    }
}

fn key(bytes: &[u8]) -> Result<PublicKey, Status> {
    Ok(PublicKey::new(bytes.to_vec()).map_err(AccessError::from)?)
}

fn certificate(role: Role, certificate: Certificate, life: Duration) -> Response<v1::CertificateReply> {
    let (role, seconds) = (role.to_string(), life.as_secs());
    Response::new(v1::CertificateReply { chain_pem: certificate.chain_pem, role, seconds })
}

#[tonic::async_trait]
impl v1::access_server::Access for AccessService {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::CertificateReply>, Status> {
        let request = request.into_inner();
        let token: Token = request.token.parse().map_err(AccessError::from)?;
        let name: String = request.name.chars().filter(|c| !c.is_control()).take(128).collect();
        let key = key(&request.public_key)?;
        let (role, signed) = self.change(move |cluster| cluster.join(&token, &key, &name)).await?;
        Ok(certificate(role, signed, self.access.cluster()?.life))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::CertificateReply>, Status> {
        let Caller::Member { id, name, role } = caller_of(&request) else {
            return Err(Status::failed_precondition("only members have certificates"));
        };
        let (key, life) = (key(&request.get_ref().public_key)?, self.access.cluster()?.life);
        self.renewals.lock().admit(id, life, Instant::now())?;
        let signed = self.change(move |cluster| cluster.renew(id, &name, &key)).await?;
        Ok(certificate(role, signed, life))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenReply>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let role: Role = request
            .role
            .parse()
            .map_err(|error: convoy_security::TokenError| Status::invalid_argument(error.to_string()))?;
        let ttl = Duration::from_secs(request.ttl_seconds).min(LONGEST_TTL);
        let uses = (request.uses > 0).then_some(request.uses);
        let token = self.change(move |cluster| cluster.create_token(role, ttl, uses)).await?;
        tracing::info!(%caller, id = token.id, %role, "token created");
        Ok(Response::new(v1::CreateTokenReply { token: token.expose() }))
    }

    async fn list_tokens(&self, _: Request<v1::ListTokensRequest>) -> Result<Response<v1::ListTokensReply>, Status> {
        let tokens = self.access.cluster()?.tokens()?;
        let row = |token: &convoy_security::TokenRecord| {
            let (id, role, expires_at, uses_left) = (&token.id, token.role, token.expires_at, token.uses_left);
            serde_json::json!({ "id": id, "role": role, "expires_at": expires_at, "uses_left": uses_left }).to_string()
        };
        Ok(Response::new(v1::ListTokensReply { json: tokens.iter().map(row).collect() }))
    }

    async fn remove_token(
        &self,
        request: Request<v1::RemoveTokenRequest>,
    ) -> Result<Response<v1::RemoveTokenReply>, Status> {
        let id = request.into_inner().id;
        let removing = id.clone();
        match self.change(move |cluster| cluster.remove_token(&removing)).await? {
            true => Ok(Response::new(v1::RemoveTokenReply {})),
            false => Err(Status::not_found(format!("there is no token `{id}`; `convoy token ls` shows them"))),
        }
    }

    async fn list_members(&self, _: Request<v1::ListMembersRequest>) -> Result<Response<v1::ListMembersReply>, Status> {
        let members = self.access.cluster()?.members()?;
        let json = members.iter().map(|member| serde_json::to_string(member).expect("a member is plain data"));
        Ok(Response::new(v1::ListMembersReply { json: json.collect() }))
    }

    async fn revoke(&self, request: Request<v1::RevokeRequest>) -> Result<Response<v1::RevokeReply>, Status> {
        let by = caller_of(&request);
        let v1::RevokeRequest { member: text, token } = request.into_inner();
        let (member, left) = self.change(move |cluster| cluster.revoke(&text, token)).await?;
        tracing::warn!(%by, member = member.name, id = member.id, ?left, "revoked");
        let revoked = |caller: &Caller| matches!(caller, Caller::Member { id, .. } if *id == member.id);
        self.connections.disconnect_where(revoked, "its certificate was revoked");
        let json = serde_json::to_string(&member).expect("a member is plain data");
        Ok(Response::new(v1::RevokeReply { json, token: words_of(&left, &member.name) }))
    }
}

/// What the operator of the cluster has to know about the token of `name`, which was revoked.
fn words_of(left: &TokenLeft, name: &str) -> String {
    match left {
        TokenLeft::Closed { id } => format!("its token {id} is closed: nobody joins with it any more"),
        TokenLeft::Open { id, others } => format!(
            "its token {id} stays open, as {others} other members came by it: `{name}` does not come back with it, but \
             whoever has it can join under another name; `--token` closes it, and who is a member stays one"
        ),
        TokenLeft::Unknown => {
            "which token it came by is not known; `convoy token ls` shows those that are open".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_renews_once_a_minute() {
        let (mut renewals, begun) = (Renewals::default(), Instant::now());
        let day = Duration::from_secs(24 * 3600);
        let mut at = |member, life, seconds| {
            let renewed = renewals.admit(member, life, begun + Duration::from_secs_f32(seconds));
            renewed.map_err(|status| status.message().to_owned())
        };
        assert_eq!(at(1, day, 0.0), Ok(()));
        assert_eq!(at(2, day, 0.0), Ok(()), "another member");
        let refused = "a member renews its certificate at most every 60 s; try again in 48 s";
        assert_eq!(at(1, day, 12.5), Err(refused.to_owned()));
        assert_eq!(at(1, day, 60.0), Ok(()));
        // A third of such a life is left when it is renewed, and there is time for another attempt.
        assert_eq!(at(3, Duration::from_secs(6), 60.0), Ok(()));
        assert_eq!(at(3, Duration::from_secs(6), 61.0), Ok(()));
        assert!(renewals.0.len() <= 3);
    }
}
