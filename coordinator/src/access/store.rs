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

    /// Keeps a new member.
    pub(crate) fn add_member(&self, name: &str, role: Role, certificate: &Certificate) -> Result<u64, StoreError> {
        self.change(|tables| {
            let id = tables.members.last()?.map_or(0, |(last, _)| last.value()) + 1;
            let (fingerprint, expires_at) = (certificate.fingerprint, certificate.expires_at);
            let member = MemberRecord { id, name: name.to_owned(), role, fingerprint, expires_at, revoked: false };
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
            for id in tables.members_where(gone)?.into_iter().filter(|id| *id != newest) {
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

    /// Revokes a member's certificates, by its number or name.
    pub(crate) fn revoke(&self, text: &str) -> Result<MemberRecord, AccessError> {
        let unknown = || AccessError::UnknownMember(text.to_owned());
        let members = self.members()?;
        let means = |member: &&MemberRecord| text.parse() == Ok(member.id) || member.name == text;
        let id = members.iter().filter(|member| !member.revoked).find(means).ok_or_else(unknown)?.id;
        self.change(|tables| {
            let mut member = tables.member(id)?.ok_or_else(unknown)?;
            member.revoked = true;
            tables.put_member(&member)?;
            Ok(member)
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

    /// Uses a token once; says what it is for.
    pub(crate) fn redeem(&self, token: &Token, now: u64) -> Result<Role, AccessError> {
        self.change(|tables| {
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

    fn members_where<E: From<StoreError>>(
        &self,
        wanted: impl Fn(&MemberRecord) -> bool,
    ) -> Result<Vec<u64>, Halted<E>> {
        let mut found = Vec::new();
        for entry in self.members.iter()? {
            let member: MemberRecord = read(self.path, entry?.1.value())?;
            found.extend(wanted(&member).then_some(member.id));
        }
        Ok(found)
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
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn certificate(number: u8, expires_at: u64) -> Certificate {
        Certificate { chain_pem: String::new(), fingerprint: Fingerprint([number; 32]), expires_at }
    }

    fn store() -> (tempfile::TempDir, AccessStore) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = AccessStore::create(&folder.path().join("access.redb")).expect("the folder is writable");
        (folder, store)
    }

    fn owners<const N: usize>(store: &AccessStore, numbers: [u8; N]) -> [Option<u64>; N] {
        numbers.map(|number| store.owner(Fingerprint([number; 32])).expect("the store can be read"))
    }

    #[test]
    fn renewing_drops_what_has_expired_of_that_member() {
        let (_folder, store) = store();
        let anna = store.add_member("anna", Role::Viewer, &certificate(1, 100)).unwrap();
        let otto = store.add_member("otto", Role::Viewer, &certificate(200, 100)).unwrap();
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
        let add = |name: &str, number| store.add_member(name, Role::Worker, &certificate(number, 100)).unwrap();
        let [gone, revoked_one, back, newest] =
            [("gone", 1), ("out", 2), ("back", 3), ("newest", 4)].map(|(n, c)| add(n, c));
        store.revoke("out").unwrap();
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
            store.add_member("next", Role::Worker, &certificate(6, 100)).unwrap() > newest,
            "no number comes twice"
        );
    }

    #[test]
    fn certificates_of_an_older_version_are_taken_over() {
        let (folder, store) = store();
        let anna = store.add_member("anna", Role::Viewer, &certificate(1, 100)).unwrap();
        let older = store.change(|tables| {
            tables.old_certificates.insert(&[7; 32][..], anna)?;
            Ok::<_, Halted<StoreError>>(())
        });
        older.unwrap();
        drop(store);
        let store = AccessStore::open(&folder.path().join("access.redb")).unwrap();
        assert_eq!(owners(&store, [1, 7]), [Some(anna), Some(anna)]);
        store.tidy(101).unwrap();
        assert_eq!(owners(&store, [1, 7]), [None, None]);
    }

    #[test]
    fn no_damage_lets_anybody_in_who_was_revoked() {
        let (folder, store) = store();
        for number in 1..40 {
            store.add_member(&format!("m{number}"), Role::Worker, &certificate(number, 100)).unwrap();
        }
        store.revoke("m7").unwrap();
        drop(store);
        let path = folder.path().join("access.redb");
        let good = std::fs::read(&path).unwrap();
        let written: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
        let flipped = written.iter().step_by(written.len() / 150).map(|at| {
            let mut bytes = good.clone();
            bytes[*at] ^= 0x10;
            bytes
        });
        let cut = [0, 1, good.len() / 2, good.len() - 1].map(|length| good[..length].to_owned());
        let mut refused = 0;
        for bytes in flipped.chain(cut) {
            std::fs::write(&path, bytes).unwrap();
            match AccessStore::open(&path) {
                Ok(store) => {
                    assert!(store.member(7).unwrap().unwrap().revoked);
                    assert_eq!(owners(&store, [7, 8]), [Some(7), Some(8)]);
                }
                Err(error) => {
                    refused += 1;
                    let text = error.to_string();
                    assert!(text.contains("access.redb is damaged") && text.contains("convoy cluster init"), "{text}");
                }
            }
        }
        assert!(refused > 20, "{refused}");
        std::fs::remove_file(&path).unwrap();
        assert!(AccessStore::open(&path).unwrap_err().to_string().contains("it is not there"));
    }
}
