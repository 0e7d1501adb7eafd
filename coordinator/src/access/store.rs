//! Members and tokens on disk: tables of a redb file.

use std::path::Path;
use std::time::SystemTime;

use convoy_security::{Certificate, Fingerprint, Role, Token, TokenError, TokenRecord};
use redb::{ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::error::AccessError;
use crate::store_error::StoreError;
use crate::store_file::{Halted, StoreFile};

/// Members by number.
const MEMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("members");
/// Whose a certificate is, as versions before this one kept it.
const OLD_CERTIFICATES: TableDefinition<'_, &[u8], u64> = TableDefinition::new("certificates");
/// Whose a certificate is, and when it expires in seconds since 1970.
const CERTIFICATES: TableDefinition<'_, &[u8], (u64, u64)> = TableDefinition::new("certificates with expiry");
/// Seconds for which a member is kept that has not renewed in time and so can never come back.
const KEPT: u64 = 30 * 24 * 3600;
const TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens");

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
    /// Whether its certificates were revoked.
    pub revoked: bool,
    /// The token that it joined with; none for the cluster's first member, and for those of older versions.
    #[serde(default)]
    pub token: Option<String>,
}

impl MemberRecord {
    /// Whether its newest certificate is worth nothing any more.
    pub(crate) fn expired(&self, now: SystemTime) -> bool {
        unix_seconds(now) > self.expires_at
    }
}

/// Seconds from 1970 to `time`.
pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What to do about a damaged file. It cannot be made anew by itself: who was revoked stands in it alone.
const REMEDY: &str = "put a copy of it back that is newer than the last revocation; or move it away, with `ca` beside \
    it, and make the cluster anew with `convoy cluster init`: jobs and data stay, and all members join again";

/// Members and tokens.
#[derive(Debug)]
pub(crate) struct AccessStore {
    file: StoreFile,
}

/// The token of a member that was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenLeft {
    /// It lets nobody in any more.
    Closed {
        /// Which one.
        id: String,
    },
    /// It lets others in still: some who came by it stay.
    Open {
        /// Which one.
        id: String,
        /// How many members stay that came by it.
        others: usize,
    },
    /// It is not known: the member made the cluster, or joined it under an older version.
    Unknown,
}

/// The member that `text` means: a number first of all, else a name that only one has.
fn meant(members: &[MemberRecord], text: &str) -> Result<MemberRecord, AccessError> {
    let valid = || members.iter().filter(|member| !member.revoked);
    let number = text.parse().ok();
    if let Some(member) = valid().find(|member| Some(member.id) == number) {
        return Ok(member.clone());
    }
    let named: Vec<&MemberRecord> = valid().filter(|member| member.name == text).collect();
    match named[..] {
        [] => Err(AccessError::UnknownMember(text.to_owned())),
        [member] => Ok(member.clone()),
        _ => {
            let numbers: Vec<String> = named.iter().map(|member| member.id.to_string()).collect();
            Err(AccessError::AmbiguousMember { name: text.to_owned(), numbers: numbers.join(", ") })
        }
    }
}

fn read<T: serde::de::DeserializeOwned, E: From<StoreError>>(path: &Path, json: &[u8]) -> Result<T, Halted<E>> {
    serde_json::from_slice(json).map_err(|error| {
        let problem = format!("a record in it makes no sense: {error}");
        Halted::Refused(StoreError::Damaged { path: path.to_owned(), problem, remedy: REMEDY }.into())
    })
}

fn write(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a record is plain data")
}

impl AccessStore {
    /// Makes the file at `path`.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let file = StoreFile::open(path, REMEDY, |write| Tables::open(path, write)?.take_over_old())?;
        Ok(AccessStore { file })
    }

    /// Opens the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if path.exists() {
            return AccessStore::create(path);
        }
        // A new one would know nobody, those least of all who were put out.
        Err(StoreError::Damaged { path: path.to_owned(), problem: "it is not there".to_owned(), remedy: REMEDY })
    }

    /// The member that a certificate is of.
    pub(crate) fn owner(&self, fingerprint: Fingerprint) -> Result<Option<u64>, StoreError> {
        self.file.read(|kept| {
            let owner = kept.open_table(CERTIFICATES)?.get(&fingerprint.0[..])?;
            Ok(owner.map(|owner| owner.value().0))
        })
    }

    /// The member with this number.
    pub(crate) fn member(&self, id: u64) -> Result<Option<MemberRecord>, StoreError> {
        self.file.read(|kept| {
            let json = kept.open_table(MEMBERS)?.get(id)?;
            json.map(|json| read(self.file.path(), json.value())).transpose()
        })
    }

    /// All members, the oldest first.
    pub(crate) fn members(&self) -> Result<Vec<MemberRecord>, StoreError> {
        self.file.read(|kept| {
            let members = kept.open_table(MEMBERS)?;
            members.iter()?.map(|entry| read(self.file.path(), entry?.1.value())).collect()
        })
    }

    /// Keeps a new member, which joined with `token`, if with any.
    pub(crate) fn add_member(
        &self,
        name: &str,
        role: Role,
        token: Option<&str>,
        certificate: &Certificate,
    ) -> Result<u64, StoreError> {
        self.change(|tables| {
            let id = tables.members.last()?.map_or(0, |(last, _)| last.value()) + 1;
            let (fingerprint, expires_at) = (certificate.fingerprint, certificate.expires_at);
            let (name, token, revoked) = (name.to_owned(), token.map(str::to_owned), false);
            let member = MemberRecord { id, name, role, fingerprint, expires_at, revoked, token };
            tables.put_member(&member)?;
            Ok(id)
        })
    }

    /// Gives a member its next certificate. Those of its own that have expired by `now` are dropped.
    pub(crate) fn renew(&self, id: u64, certificate: &Certificate, now: u64) -> Result<(), AccessError> {
        self.change(|tables| {
            tables.drop_certificates(|owner, expires_at| owner == id && expires_at < now)?;
            let mut member = tables.member(id)?.ok_or_else(|| AccessError::UnknownMember(id.to_string()))?;
            (member.fingerprint, member.expires_at) = (certificate.fingerprint, certificate.expires_at);
            tables.put_member(&member)
        })
    }

    /// Drops certificates that have expired by `now`, which no handshake takes any more, and members that did not renew
    /// theirs and can never come back, after 30 days. Who was revoked is kept, and so is the newest member, whose
    /// number says which comes next.
    pub(crate) fn tidy(&self, now: u64) -> Result<(), StoreError> {
        let gone = |member: &MemberRecord| !member.revoked && member.expires_at.saturating_add(KEPT) < now;
        self.change(|tables| {
            tables.drop_certificates(|_, expires_at| expires_at < now)?;
            let newest = tables.members.last()?.map_or(0, |(id, _)| id.value());
            for id in tables.all_members()?.into_iter().filter(gone).map(|member| member.id).filter(|id| *id != newest)
            {
                tables.members.remove(id)?;
            }
            Ok(())
        })
    }

    /// How many certificates are kept.
    #[cfg(test)]
    fn certificates(&self) -> u64 {
        use redb::ReadableTableMetadata;
        let count = self.file.read(|kept| Ok::<_, Halted<StoreError>>(kept.open_table(CERTIFICATES)?.len()?));
        count.expect("the store can be read")
    }

    /// Revokes a member's certificates, by its number or its name. The token that it came by is closed as well, if
    /// nobody else came by it or `close_token` says so; a member of its name does not come by it again in any case.
    pub(crate) fn revoke(&self, text: &str, close_token: bool) -> Result<(MemberRecord, TokenLeft), AccessError> {
        self.change(|tables| {
            let mut member = meant(&tables.all_members()?, text)?;
            member.revoked = true;
            tables.put_member(&member)?;
            let left = tables.close_token_of(&member, close_token)?;
            Ok((member, left))
        })
    }

    pub(crate) fn put_token(&self, token: &TokenRecord) -> Result<(), StoreError> {
        self.change(|tables| {
            tables.tokens.insert(token.id.as_str(), write(token).as_slice())?;
            Ok(())
        })
    }

    pub(crate) fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.file.read(|kept| {
            let tokens = kept.open_table(TOKENS)?;
            tokens.iter()?.map(|entry| read(self.file.path(), entry?.1.value())).collect()
        })
    }

    /// Whether there was such a token.
    pub(crate) fn remove_token(&self, id: &str) -> Result<bool, StoreError> {
        self.change(|tables| Ok(tables.tokens.remove(id)?.is_some()))
    }

    /// Uses a token once for somebody of this name; says what it is for.
    pub(crate) fn redeem(&self, token: &Token, name: &str, now: u64) -> Result<Role, AccessError> {
        if name.parse::<u64>().is_ok() {
            return Err(AccessError::NumberAsName(name.to_owned()));
        }
        self.change(|tables| {
            let came = |member: &MemberRecord| member.token.as_deref() == Some(token.id.as_str());
            if tables.all_members()?.iter().any(|member| member.revoked && member.name == name && came(member)) {
                return Err(AccessError::RevokedName(name.to_owned()).into());
            }
            let kept = tables.tokens.get(token.id.as_str())?.map(|json| read(self.file.path(), json.value()));
            let mut record: TokenRecord = kept.transpose()?.ok_or(AccessError::Token(TokenError::Unknown))?;
            record.redeem(&token.secret, now).map_err(AccessError::Token)?;
            tables.tokens.insert(record.id.as_str(), write(&record).as_slice())?;
            Ok(record.role)
        })
    }

    fn change<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, Halted<E>>,
    ) -> Result<T, E> {
        self.file.write(|kept| change(&mut Tables::open(self.file.path(), kept)?))
    }
}

struct Tables<'a> {
    /// The file that they are of.
    path: &'a Path,
    members: redb::Table<'a, u64, &'static [u8]>,
    certificates: redb::Table<'a, &'static [u8], (u64, u64)>,
    old_certificates: redb::Table<'a, &'static [u8], u64>,
    tokens: redb::Table<'a, &'static str, &'static [u8]>,
}

impl<'a> Tables<'a> {
    fn open(path: &'a Path, kept: &'a WriteTransaction) -> Result<Self, TableError> {
        Ok(Tables {
            path,
            members: kept.open_table(MEMBERS)?,
            certificates: kept.open_table(CERTIFICATES)?,
            old_certificates: kept.open_table(OLD_CERTIFICATES)?,
            tokens: kept.open_table(TOKENS)?,
        })
    }

    fn member<E: From<StoreError>>(&self, id: u64) -> Result<Option<MemberRecord>, Halted<E>> {
        self.members.get(id)?.map(|json| read(self.path, json.value())).transpose()
    }

    fn put_member<E>(&mut self, member: &MemberRecord) -> Result<(), Halted<E>> {
        self.members.insert(member.id, write(member).as_slice())?;
        self.certificates.insert(&member.fingerprint.0[..], (member.id, member.expires_at))?;
        Ok(())
    }

    fn all_members<E: From<StoreError>>(&self) -> Result<Vec<MemberRecord>, Halted<E>> {
        self.members.iter()?.map(|entry| read(self.path, entry?.1.value())).collect()
    }

    /// What becomes of the token of a member that was revoked.
    fn close_token_of<E: From<StoreError>>(
        &mut self,
        member: &MemberRecord,
        close: bool,
    ) -> Result<TokenLeft, Halted<E>> {
        let Some(id) = member.token.clone() else { return Ok(TokenLeft::Unknown) };
        let stays = |other: &MemberRecord| !other.revoked && other.token.as_ref() == Some(&id);
        let others = self.all_members()?.into_iter().filter(stays).count();
        if others > 0 && !close {
            let open = self.tokens.get(id.as_str())?.is_some();
            return Ok(if open { TokenLeft::Open { id, others } } else { TokenLeft::Closed { id } });
        }
        self.tokens.remove(id.as_str())?;
        Ok(TokenLeft::Closed { id })
    }

    /// Drops the certificates of which `unwanted` holds, given whose they are and when they expire.
    fn drop_certificates<E>(&mut self, unwanted: impl Fn(u64, u64) -> bool) -> Result<(), Halted<E>> {
        Ok(self.certificates.retain(|_, (owner, expires_at)| !unwanted(owner, expires_at))?)
    }

    /// Certificates that an older version kept expire when their member's newest does, at the latest.
    fn take_over_old<E: From<StoreError>>(&mut self) -> Result<(), Halted<E>> {
        loop {
            let old = self.old_certificates.pop_first()?;
            let Some((fingerprint, owner)) = old.map(|(key, owner)| (key.value().to_owned(), owner.value())) else {
                return Ok(());
            };
            if let Some(member) = self.member(owner)? {
                self.certificates.insert(fingerprint.as_slice(), (member.id, member.expires_at))?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
