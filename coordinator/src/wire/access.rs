//! The gRPC service for joining, tokens and members.

use std::sync::Arc;
use std::time::Duration;

use convoy_proto::v1;
use convoy_security::{Certificate, PublicKey, Role, Token};
use tonic::{Request, Response, Status};

use super::access_layer::caller_of;
use crate::access::caller::Caller;
use crate::access::cluster::Access;
use crate::access::error::AccessError;
use crate::access::store::TokenLeft;
use crate::fleet::connections::Connections;

/// Longest life of a token.
const LONGEST_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The service.
#[derive(Clone)]
pub(crate) struct AccessService {
    pub(crate) access: Arc<Access>,
    pub(crate) connections: Arc<Connections>,
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
        let cluster = self.access.cluster()?;
        let (role, signed) = cluster.join(&token, &key(&request.public_key)?, &name)?;
        Ok(certificate(role, signed, cluster.life))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::CertificateReply>, Status> {
        let Caller::Member { id, name, role } = caller_of(&request) else {
            return Err(Status::failed_precondition("only members have certificates"));
        };
        let cluster = self.access.cluster()?;
        let signed = cluster.renew(id, &name, &key(&request.get_ref().public_key)?)?;
        Ok(certificate(role, signed, cluster.life))
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
        let token = self.access.cluster()?.create_token(role, ttl, uses)?;
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
        match self.access.cluster()?.remove_token(&id)? {
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
        let (member, left) = self.access.cluster()?.revoke(&text, token)?;
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
