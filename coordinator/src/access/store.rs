//! Members and tokens on disk: tables of a redb file.

use std::path::Path;

use convoy_security::{Certificate, Fingerprint, Role, Token, TokenError, TokenRecord};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::AccessError;
use crate::jobs::StoreError;

/// Members by number.
const MEMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("members");
/// Whose a certificate is.
const CERTIFICATES: TableDefinition<'_, &[u8], u64> = TableDefinition::new("certificates");
const TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens");

/// A member as it is kept.
pub(crate) type Member = MemberRecord;

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its newest certificate.
    pub fingerprint: Fingerprint,
    /// Seconds since 1970 at which that expires.
    pub expires_at: u64,
    /// Whether it was put out.
    pub revoked: bool,
}

/// Members and tokens.
#[derive(Debug)]
pub(crate) struct AccessStore {
    database: Database,
}

fn io(error: impl std::fmt::Display) -> StoreError {
    StoreError::Io(error.to_string())
}

fn read<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json).map_err(|error| io(format!("a record of access.redb is damaged: {error}")))
}

fn write(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a record is plain data")
}

impl AccessStore {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.display().to_string()),
            error => io(error),
        })?;
        let store = AccessStore { database };
        store.change(|_| Ok::<_, StoreError>(()))?;
        Ok(store)
    }

    /// The member that a certificate is of.
    pub(crate) fn member(&self, fingerprint: Fingerprint) -> Result<Option<Member>, StoreError> {
        let read_only = self.database.begin_read().map_err(io)?;
        let certificates = read_only.open_table(CERTIFICATES).map_err(io)?;
        let Some(id) = certificates.get(&fingerprint.0[..]).map_err(io)?.map(|id| id.value()) else { return Ok(None) };
        let members = read_only.open_table(MEMBERS).map_err(io)?;
        members.get(id).map_err(io)?.map(|json| read(json.value())).transpose()
    }

    /// All members, the oldest first.
    pub(crate) fn members(&self) -> Result<Vec<Member>, StoreError> {
        let read_only = self.database.begin_read().map_err(io)?;
        let members = read_only.open_table(MEMBERS).map_err(io)?;
        members.iter().map_err(io)?.map(|entry| read(entry.map_err(io)?.1.value())).collect()
    }

    /// Keeps a new member.
    pub(crate) fn add_member(&self, name: &str, role: Role, certificate: &Certificate) -> Result<u64, StoreError> {
        self.change(|tables| {
            let id = tables.members.last().map_err(io)?.map_or(0, |(last, _)| last.value()) + 1;
            let (fingerprint, expires_at) = (certificate.fingerprint, certificate.expires_at);
            let member = Member { id, name: name.to_owned(), role, fingerprint, expires_at, revoked: false };
            tables.put_member(&member)?;
            Ok(id)
        })
    }

    /// Gives a member its next certificate.
    pub(crate) fn renew(&self, id: u64, certificate: &Certificate) -> Result<(), AccessError> {
        self.change(|tables| {
            let mut member = tables.member(id)?.ok_or_else(|| AccessError::UnknownMember(id.to_string()))?;
            (member.fingerprint, member.expires_at) = (certificate.fingerprint, certificate.expires_at);
            Ok(tables.put_member(&member)?)
        })
    }

    /// Puts a member out, by number or name.
    pub(crate) fn revoke(&self, text: &str) -> Result<Member, AccessError> {
        let unknown = || AccessError::UnknownMember(text.to_owned());
        let members = self.members()?;
        let means = |member: &&Member| text.parse() == Ok(member.id) || member.name == text;
        let id = members.iter().filter(|member| !member.revoked).find(means).ok_or_else(unknown)?.id;
        self.change(|tables| {
            let mut member = tables.member(id)?.ok_or_else(unknown)?;
            member.revoked = true;
            tables.put_member(&member)?;
            Ok(member)
        })
    }

    pub(crate) fn put_token(&self, token: &TokenRecord) -> Result<(), StoreError> {
        self.change(|tables| tables.tokens.insert(token.id.as_str(), write(token).as_slice()).map(|_| ()).map_err(io))
    }

    pub(crate) fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let read_only = self.database.begin_read().map_err(io)?;
        let tokens = read_only.open_table(TOKENS).map_err(io)?;
        tokens.iter().map_err(io)?.map(|entry| read(entry.map_err(io)?.1.value())).collect()
    }

    /// Whether there was such a token.
    pub(crate) fn remove_token(&self, id: &str) -> Result<bool, StoreError> {
        self.change(|tables| Ok(tables.tokens.remove(id).map_err(io)?.is_some()))
    }

    /// Uses a token once; says what it is for.
    pub(crate) fn redeem(&self, token: &Token, now: u64) -> Result<Role, AccessError> {
        self.change(|tables| {
            let kept = tables.tokens.get(token.id.as_str()).map_err(io)?.map(|json| read::<TokenRecord>(json.value()));
            let mut record = kept.transpose()?.ok_or(TokenError::Unknown)?;
            record.redeem(&token.secret, now)?;
            tables.tokens.insert(record.id.as_str(), write(&record).as_slice()).map_err(io)?;
            Ok(record.role)
        })
    }

    fn change<T, E: From<StoreError>>(&self, change: impl FnOnce(&mut Tables<'_>) -> Result<T, E>) -> Result<T, E> {
        let mut transaction = self.database.begin_write().map_err(io)?;
        transaction.set_two_phase_commit(true);
        let result = {
            let mut tables = Tables {
                members: transaction.open_table(MEMBERS).map_err(io)?,
                certificates: transaction.open_table(CERTIFICATES).map_err(io)?,
                tokens: transaction.open_table(TOKENS).map_err(io)?,
            };
            change(&mut tables)?
        };
        transaction.commit().map_err(io)?;
        Ok(result)
    }
}

struct Tables<'a> {
    members: redb::Table<'a, u64, &'static [u8]>,
    certificates: redb::Table<'a, &'static [u8], u64>,
    tokens: redb::Table<'a, &'static str, &'static [u8]>,
}

impl Tables<'_> {
    fn member(&self, id: u64) -> Result<Option<Member>, StoreError> {
        self.members.get(id).map_err(io)?.map(|json| read(json.value())).transpose()
    }

    fn put_member(&mut self, member: &Member) -> Result<(), StoreError> {
        self.members.insert(member.id, write(member).as_slice()).map_err(io)?;
        self.certificates.insert(&member.fingerprint.0[..], member.id).map_err(io)?;
        Ok(())
    }
}
