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
        store.add_member(&format!("m{number}"), Role::Worker, None, &certificate(number, 100)).unwrap();
    }
    store.revoke("m7", false).unwrap();
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
