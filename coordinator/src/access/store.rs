//! Members and tokens on disk: tables of a redb file.

use std::path::Path;
use std::time::SystemTime;

use convoy_security::{Certificate, Fingerprint, Role, Token, TokenError, TokenRecord};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::error::AccessError;
use crate::store_error::StoreError;

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

/// Members and tokens.
#[derive(Debug)]
pub(crate) struct AccessStore {
    database: Database,
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
        store.change(|tables| tables.take_over_old())?;
        Ok(store)
    }

    /// The member that a certificate is of.
    pub(crate) fn owner(&self, fingerprint: Fingerprint) -> Result<Option<u64>, StoreError> {
        let read_only = self.database.begin_read().map_err(io)?;
        let certificates = read_only.open_table(CERTIFICATES).map_err(io)?;
        Ok(certificates.get(&fingerprint.0[..]).map_err(io)?.map(|kept| kept.value().0))
    }

    /// The member with this number.
    pub(crate) fn member(&self, id: u64) -> Result<Option<MemberRecord>, StoreError> {
        let read_only = self.database.begin_read().map_err(io)?;
        let members = read_only.open_table(MEMBERS).map_err(io)?;
        members.get(id).map_err(io)?.map(|json| read(json.value())).transpose()
    }

    /// All members, the oldest first.
    pub(crate) fn members(&self) -> Result<Vec<MemberRecord>, StoreError> {
        let read_only = self.database.begin_read().map_err(io)?;
        let members = read_only.open_table(MEMBERS).map_err(io)?;
        members.iter().map_err(io)?.map(|entry| read(entry.map_err(io)?.1.value())).collect()
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
            let id = tables.members.last().map_err(io)?.map_or(0, |(last, _)| last.value()) + 1;
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
            Ok(tables.put_member(&member)?)
        })
    }

    /// Drops certificates that have expired by `now`, which no handshake takes any more, and members that did not renew
    /// theirs and can never come back, after 30 days. Who was revoked is kept, and so is the newest member, whose
    /// number says which comes next.
    pub(crate) fn tidy(&self, now: u64) -> Result<(), StoreError> {
        let gone = |member: &MemberRecord| !member.revoked && member.expires_at.saturating_add(KEPT) < now;
        self.change(|tables| {
            tables.drop_certificates(|_, expires_at| expires_at < now)?;
            let newest = tables.members.last().map_err(io)?.map_or(0, |(id, _)| id.value());
            for id in tables.all_members()?.into_iter().filter(gone).map(|member| member.id).filter(|id| *id != newest)
            {
                tables.members.remove(id).map_err(io)?;
            }
            Ok(())
        })
    }

    /// How many certificates are kept.
    #[cfg(test)]
    fn certificates(&self) -> u64 {
        use redb::ReadableTableMetadata;
        let read_only = self.database.begin_read().expect("the store can be read");
        read_only.open_table(CERTIFICATES).and_then(|table| Ok(table.len()?)).expect("the store can be read")
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

    /// Uses a token once for somebody of this name; says what it is for.
    pub(crate) fn redeem(&self, token: &Token, name: &str, now: u64) -> Result<Role, AccessError> {
        if name.parse::<u64>().is_ok() {
            return Err(AccessError::NumberAsName(name.to_owned()));
        }
        self.change(|tables| {
            let came = |member: &MemberRecord| member.token.as_deref() == Some(token.id.as_str());
            if tables.all_members()?.iter().any(|member| member.revoked && member.name == name && came(member)) {
                return Err(AccessError::RevokedName(name.to_owned()));
            }
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
                old_certificates: transaction.open_table(OLD_CERTIFICATES).map_err(io)?,
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
    certificates: redb::Table<'a, &'static [u8], (u64, u64)>,
    old_certificates: redb::Table<'a, &'static [u8], u64>,
    tokens: redb::Table<'a, &'static str, &'static [u8]>,
}

impl Tables<'_> {
    fn member(&self, id: u64) -> Result<Option<MemberRecord>, StoreError> {
        self.members.get(id).map_err(io)?.map(|json| read(json.value())).transpose()
    }

    fn put_member(&mut self, member: &MemberRecord) -> Result<(), StoreError> {
        self.members.insert(member.id, write(member).as_slice()).map_err(io)?;
        self.certificates.insert(&member.fingerprint.0[..], (member.id, member.expires_at)).map_err(io)?;
        Ok(())
    }

    fn all_members(&self) -> Result<Vec<MemberRecord>, StoreError> {
        self.members.iter().map_err(io)?.map(|entry| read(entry.map_err(io)?.1.value())).collect()
    }

    /// What becomes of the token of a member that was revoked.
    fn close_token_of(&mut self, member: &MemberRecord, close: bool) -> Result<TokenLeft, StoreError> {
        let Some(id) = member.token.clone() else { return Ok(TokenLeft::Unknown) };
        let stays = |other: &MemberRecord| !other.revoked && other.token.as_ref() == Some(&id);
        let others = self.all_members()?.into_iter().filter(stays).count();
        if others > 0 && !close {
            let open = self.tokens.get(id.as_str()).map_err(io)?.is_some();
            return Ok(if open { TokenLeft::Open { id, others } } else { TokenLeft::Closed { id } });
        }
        self.tokens.remove(id.as_str()).map_err(io)?;
        Ok(TokenLeft::Closed { id })
    }

    /// Drops the certificates of which `unwanted` holds, given whose they are and when they expire.
    fn drop_certificates(&mut self, unwanted: impl Fn(u64, u64) -> bool) -> Result<(), StoreError> {
        self.certificates.retain(|_, (owner, expires_at)| !unwanted(owner, expires_at)).map_err(io)
    }

    /// Certificates that an older version kept expire when their member's newest does, at the latest.
    fn take_over_old(&mut self) -> Result<(), StoreError> {
        loop {
            let old = self.old_certificates.pop_first().map_err(io)?;
            let Some((fingerprint, owner)) = old.map(|(key, owner)| (key.value().to_owned(), owner.value())) else {
                return Ok(());
            };
            if let Some(member) = self.member(owner)? {
                self.certificates.insert(fingerprint.as_slice(), (member.id, member.expires_at)).map_err(io)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn certificate(number: u8, expires_at: u64) -> Certificate {
        Certificate { chain_pem: String::new(), fingerprint: Fingerprint([number; 32]), expires_at }
    }

    fn store() -> (tempfile::TempDir, AccessStore) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = AccessStore::open(&folder.path().join("access.redb")).expect("the folder is writable");
        (folder, store)
    }

    fn owners<const N: usize>(store: &AccessStore, numbers: [u8; N]) -> [Option<u64>; N] {
        numbers.map(|number| store.owner(Fingerprint([number; 32])).expect("the store can be read"))
    }

    #[test]
    fn renewing_drops_what_has_expired_of_that_member() {
        let (_folder, store) = store();
        let anna = store.add_member("anna", Role::Viewer, None, &certificate(1, 100)).unwrap();
        let otto = store.add_member("otto", Role::Viewer, None, &certificate(200, 100)).unwrap();
        store.renew(anna, &certificate(2, 160), 60).unwrap();
        assert_eq!(owners(&store, [1, 2, 200]), [Some(anna), Some(anna), Some(otto)], "the first is good until 100");
        for renewal in 3..100 {
            let now = 60 * u64::from(renewal) - 60;
            store.renew(anna, &certificate(renewal, now + 100), now).unwrap();
            assert!(store.certificates() <= 4, "{} after {renewal} certificates", store.certificates());
        }
        assert_eq!(owners(&store, [1, 98, 99, 200]), [None, Some(anna), Some(anna), Some(otto)]);
    }

    #[test]
    fn who_can_never_come_back_is_dropped_after_thirty_days() {
        let (_folder, store) = store();
        let add = |name: &str, number| store.add_member(name, Role::Worker, None, &certificate(number, 100)).unwrap();
        let [gone, revoked_one, back, newest] =
            [("gone", 1), ("out", 2), ("back", 3), ("newest", 4)].map(|(n, c)| add(n, c));
        store.revoke("out", false).unwrap();
        store.tidy(100).unwrap();
        assert_eq!(store.certificates(), 4, "nothing has expired");
        store.tidy(101).unwrap();
        assert_eq!((store.certificates(), store.members().unwrap().len()), (0, 4), "members are kept");
        store.renew(back, &certificate(5, 100 + 40 * DAY), 101).unwrap();
        store.tidy(100 + 30 * DAY).unwrap();
        assert_eq!(store.members().unwrap().len(), 4, "not a second before");
        store.tidy(101 + 30 * DAY).unwrap();
        let left: Vec<u64> = store.members().unwrap().iter().map(|member| member.id).collect();
        assert_eq!(left, [revoked_one, back, newest]);
        assert!(store.member(revoked_one).unwrap().is_some_and(|member| member.revoked), "its refusal says revoked");
        assert_eq!(store.member(gone).unwrap(), None);
        assert!(
            store.add_member("next", Role::Worker, None, &certificate(6, 100)).unwrap() > newest,
            "no number comes twice"
        );
    }

    #[test]
    fn certificates_of_an_older_version_are_taken_over() {
        let (folder, store) = store();
        let anna = store.add_member("anna", Role::Viewer, None, &certificate(1, 100)).unwrap();
        store.change(|tables| tables.old_certificates.insert(&[7; 32][..], anna).map(|_| ()).map_err(io)).unwrap();
        drop(store);
        let store = AccessStore::open(&folder.path().join("access.redb")).unwrap();
        assert_eq!(owners(&store, [1, 7]), [Some(anna), Some(anna)]);
        store.tidy(101).unwrap();
        assert_eq!(owners(&store, [1, 7]), [None, None]);
    }

    fn token(store: &AccessStore, uses: Option<u32>) -> Token {
        let token = Token::new(convoy_security::Pin([1; 32]));
        store.put_token(&TokenRecord::new(&token, Role::Worker, 1000, uses)).unwrap();
        token
    }

    /// Joins as `name` by `token`; its number.
    fn join(store: &AccessStore, token: &Token, name: &str) -> Result<u64, AccessError> {
        let role = store.redeem(token, name, 5)?;
        let number = store.members().unwrap().len() as u8 + 100;
        Ok(store.add_member(name, role, Some(&token.id), &certificate(number, 1000))?)
    }

    #[test]
    fn who_is_revoked_does_not_come_back_by_the_token_it_came_by() {
        let (_folder, store) = store();
        let own = token(&store, None);
        join(&store, &own, "mallory").unwrap();
        let (_, left) = store.revoke("mallory", false).unwrap();
        assert_eq!(left, TokenLeft::Closed { id: own.id.clone() }, "nobody else came by it");
        assert!(matches!(join(&store, &own, "another"), Err(AccessError::Token(TokenError::Unknown))));
    }

    #[test]
    fn a_token_that_others_came_by_stays_open_for_them_unless_it_is_to_be_closed() {
        let (_folder, store) = store();
        let shared = token(&store, None);
        let [mallory, honest, third] = ["mallory", "honest", "third"].map(|name| join(&store, &shared, name).unwrap());
        let (member, left) = store.revoke(&mallory.to_string(), false).unwrap();
        assert_eq!((member.id, left), (mallory, TokenLeft::Open { id: shared.id.clone(), others: 2 }));
        assert!(matches!(join(&store, &shared, "mallory"), Err(AccessError::RevokedName(_))));
        join(&store, &shared, "newcomer").unwrap();
        let other = token(&store, None);
        join(&store, &other, "mallory").expect("whoever gives it another token wants it back");
        let (_, left) = store.revoke("third", true).unwrap();
        assert_eq!(left, TokenLeft::Closed { id: shared.id.clone() });
        assert!(matches!(join(&store, &shared, "late"), Err(AccessError::Token(TokenError::Unknown))));
        assert!(!store.member(honest).unwrap().unwrap().revoked && store.member(third).unwrap().unwrap().revoked);
    }

    #[test]
    fn a_number_is_meant_before_a_name_and_a_name_of_two_is_refused() {
        let (_folder, store) = store();
        let add = |name: &str, number| store.add_member(name, Role::Worker, None, &certificate(number, 100)).unwrap();
        // As an older version let them in.
        let [shield, two, three] = [("2", 1), ("ox", 2), ("ox", 3)].map(|(name, number)| add(name, number));
        assert!(
            matches!(store.revoke("ox", false), Err(AccessError::AmbiguousMember { numbers, .. }) if numbers == "2, 3")
        );
        assert_eq!(store.revoke("2", false).unwrap().0.id, two);
        assert_eq!(store.revoke("ox", false).unwrap().0.id, three, "one is left of that name");
        assert_eq!(store.revoke("2", false).unwrap().0.id, shield, "no member has the number any more");
        let token = token(&store, None);
        assert!(matches!(join(&store, &token, "9"), Err(AccessError::NumberAsName(_))));
        assert_eq!(store.tokens().unwrap()[0].uses_left, None);
    }
}
