//! Data sets on disk, and what comes in pieces.

use super::*;
use crate::disk_use::DiskLimits;

fn open(folder: &Path) -> DataStore {
    DataStore::open(folder, DiskUse::new(folder, DiskLimits::default())).unwrap()
}

fn file(path: &str, text: &str) -> SetFile {
    SetFile { path: path.parse().unwrap(), digest: Digest::of(text.as_bytes()), size: text.len() as u64 }
}

fn push(store: &DataStore, files: &[(&str, &str)]) -> u64 {
    let mut receiver = store.receive("anna");
    for (path, text) in files {
        receiver.begin(file(path, text)).unwrap();
        text.as_bytes().chunks(2).for_each(|piece| receiver.piece(piece).unwrap());
    }
    receiver.finish().unwrap()
}

const TREE: [(&str, &str); 5] =
    [("train/a/1.png", "one"), ("train/a/2.png", "two"), ("train/b/1.png", "one"), ("train/b.txt", "x"), ("z", "")];

fn filled(folder: &Path) -> (DataStore, DataName) {
    let store = open(folder);
    assert_eq!(push(&store, &TREE), 4, "equal contents are kept once");
    let name: DataName = "set".parse().unwrap();
    let files = TREE.iter().map(|(path, text)| file(path, text)).collect();
    let set = store.commit(&name, files, false, "now".to_owned()).unwrap();
    assert_eq!((set.files, set.bytes), (5, 10));
    (store, name)
}

#[test]
fn what_was_pushed_is_listed_and_read_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    fs::write(folder.path().join("packs/.pack-x.tmp"), "half").unwrap();
    let store = open(folder.path());
    assert_eq!(fs::read_dir(folder.path().join("packs")).unwrap().count(), 1);
    let name: DataName = "set".parse().unwrap();
    let entries = |path: &str| store.entries(&name, &path.parse().unwrap()).unwrap();
    let folders = |names: &[(&str, bool)]| names.iter().map(|(name, f)| ((*name).to_owned(), *f)).collect::<Vec<_>>();
    assert_eq!(entries(""), folders(&[("train", true), ("z", false)]));
    assert_eq!(entries("train"), folders(&[("a", true), ("b.txt", false), ("b", true)]));
    assert_eq!(entries("train/a"), folders(&[("1.png", false), ("2.png", false)]));
    assert_eq!(entries("train/a/1.png"), []);
    let (digest, size) = store.file(&name, &"train/b/1.png".parse().unwrap()).unwrap().unwrap();
    assert_eq!((store.read(&digest).unwrap(), size), (b"one".to_vec(), 3));
    let pack = fs::read_dir(folder.path().join("packs")).unwrap().next().unwrap().unwrap().path();
    let mut archive = tar::Archive::new(fs::File::open(pack).unwrap());
    let paths: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(paths, ["train/a/1.png", "train/a/2.png", "train/b.txt", "z"].map(PathBuf::from));
}

#[test]
fn names_are_taken_once_and_contents_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    let commit = |files: Vec<SetFile>, replace| store.commit(&name, files, replace, String::new());
    let same = TREE.iter().map(|(path, text)| file(path, text)).collect();
    assert_eq!(commit(same, false).unwrap().pushed, "now");
    assert!(matches!(commit(vec![file("z", "")], false), Err(DataError::Taken(_))));
    assert!(matches!(commit(vec![file("z", "new")], true), Err(DataError::Missing { missing: 1, .. })));
    assert!(matches!(commit(vec![file("z", ""), file("z", "x")], true), Err(DataError::Wrong { .. })));
    assert_eq!(commit(vec![file("z", "")], true).unwrap().files, 1);
    assert_eq!(store.entries(&name, &InnerPath::default()).unwrap().len(), 1);
}

#[test]
fn what_did_not_come_whole_or_as_announced_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut receiver = store.receive("anna");
    let mut whole = |name: &str, text: &str| {
        receiver.begin(file(name, text)).unwrap();
        receiver.piece(text.as_bytes()).unwrap();
    };
    whole("first", "one");
    let (other, long, half) = (file("other", "1"), file("long", "1"), file("half", "three"));
    receiver.begin(other).unwrap();
    assert!(matches!(receiver.piece(b"2"), Err(DataError::Wrong { .. })));
    receiver.begin(long).unwrap();
    assert!(matches!(receiver.piece(b"12"), Err(DataError::Wrong { .. })));
    receiver.begin(half.clone()).unwrap();
    receiver.piece(b"th").unwrap();
    let second = file("second", "two");
    receiver.begin(second).unwrap();
    receiver.piece(b"two").unwrap();
    receiver.begin(half).unwrap();
    receiver.piece(b"thr").unwrap();
    assert_eq!(receiver.finish().unwrap(), 2);
    assert_eq!(store.read(&Digest::of(b"two")).unwrap(), b"two");
    assert_eq!(store.missing(&["one", "1", "three", "two"].map(|text| Digest::of(text.as_bytes()))).unwrap(), [1, 2]);
    let pack = fs::read_dir(folder.path().join("packs")).unwrap().next().unwrap().unwrap().path();
    let name: Digest = pack.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert_eq!(Digest::of(&fs::read(&pack).unwrap()), name);
    assert_eq!(fs::metadata(pack).unwrap().len(), 6 * 512, "two files and the end mark");
}

/// Packs that lie on the disk.
fn packs(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder.join("packs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// All files of [`TREE`] as the store reads them; those that it cannot are `None`.
fn contents(store: &DataStore, name: &DataName) -> Vec<Option<Vec<u8>>> {
    let read = |path: &str| {
        let (digest, _) = store.file(name, &path.parse().unwrap()).unwrap()?;
        store.read(&digest).ok()
    };
    TREE.iter().map(|(path, _)| read(path)).collect()
}

fn all_of_tree() -> Vec<Option<Vec<u8>>> {
    TREE.iter().map(|(_, text)| Some(text.as_bytes().to_vec())).collect()
}

fn commit_tree(store: &DataStore, name: &DataName) -> Result<DataSet, DataError> {
    let files = TREE.iter().map(|(path, text)| file(path, text)).collect();
    store.commit(name, files, false, "later".to_owned())
}

#[test]
fn packs_go_with_their_last_data_set_and_those_of_a_push_under_way_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    let other: DataName = "set.2".parse().unwrap();
    store.commit(&other, vec![file("w", "two")], false, String::new()).unwrap();
    push(&store, &[("q", "alone")]);
    assert_eq!(packs(folder.path()).len(), 2);
    store.remove(&name).unwrap();
    store.remove(&other).unwrap();
    assert!(matches!(store.remove(&name), Err(DataError::Unknown(_))));
    assert_eq!((packs(folder.path()).len(), store.list().unwrap().len()), (1, 0));
    assert_eq!(store.missing(&["two", "alone"].map(|text| Digest::of(text.as_bytes()))).unwrap(), [0]);
    store.commit(&other, vec![file("q", "alone")], false, String::new()).unwrap();
    assert_eq!(store.sweep(|_| true).unwrap(), 0);
    push(&store, &[("r", "never named")]);
    assert_eq!(store.sweep(|pack| pack.kept_at == 0).unwrap(), 0, "it is new");
    assert_eq!(store.sweep(|_| true).unwrap(), 1);
    assert_eq!(packs(folder.path()).len(), 1);
    assert!(store.read(&Digest::of(b"alone")).is_ok());
}

#[test]
fn equal_bytes_are_kept_once_whoever_pushes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    for _ in 0..3 {
        assert_eq!(push(&store, &TREE), 0);
    }
    let mut at_once = [store.receive("anna"), store.receive("otto")];
    for receiver in &mut at_once {
        receiver.begin(file("x", "the same")).unwrap();
        receiver.piece(b"the same").unwrap();
    }
    at_once.into_iter().for_each(|receiver| assert_eq!(receiver.finish().unwrap(), 1));
    assert_eq!(packs(folder.path()).len(), 2);
    assert_eq!(contents(&store, &name), all_of_tree());
    assert_eq!(store.read(&Digest::of(b"the same")).unwrap(), b"the same");
}

#[test]
fn a_damaged_file_is_put_aside_and_comes_back_with_the_next_push() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    let digest = Digest::of(b"one");
    for round in 0..3 {
        // In the second round, in what was sent again.
        let at = store.located(&digest).unwrap();
        let pack = pack::path_of(&store.packs, &at.pack);
        let mut bytes = fs::read(&pack).unwrap();
        bytes[at.offset as usize] ^= 1;
        fs::write(pack, bytes).unwrap();
        // Parts are not compared with anything; whoever doubts them has the whole file looked at.
        assert!(round == 0 || store.read_range(&digest, 0, 1).is_ok() && store.check(&digest).is_err());
        assert_eq!(store.read(&digest).unwrap_err().kind(), ErrorKind::InvalidData, "{round}");
        assert_eq!(store.missing(&[digest]).unwrap(), [0], "it counts as missing");
        assert_eq!(store.list().unwrap()[0].damaged, 2, "two files have these contents");
        assert_eq!(store.read_range(&digest, 0, 1).unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(matches!(commit_tree(&store, &name), Err(DataError::Missing { missing: 2, .. })));
        assert_eq!(push(&store, &TREE), 1, "what is damaged is sent again, and nothing else");
        assert_eq!(commit_tree(&store, &name).unwrap().pushed, "now");
        assert_eq!((contents(&store, &name), store.list().unwrap()[0].damaged), (all_of_tree(), 0));
    }
}

#[test]
fn damage_that_nobody_reads_is_found_by_reading_all_packs() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    let path = packs(folder.path()).remove(0);
    let good = fs::read(&path).unwrap();
    let pack: Digest = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert_eq!(store.verify(&pack).unwrap(), 0);
    let damages = [(0, 0), (512, 1), (512 + 1024, 1), (good.len() - 1, 0)];
    for (at, found) in damages {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(store.verify(&pack).unwrap(), found, "byte {at}");
        fs::write(&path, &good).unwrap();
        push(&store, &TREE);
    }
    assert_eq!(contents(&store, &name), all_of_tree());
    fs::write(&path, &good[..600]).unwrap();
    let cut = store.verify(&pack).unwrap();
    assert!(cut > 0);
    assert_eq!(push(&store, &TREE), cut as u64);
    assert_eq!(contents(&store, &name), all_of_tree());
}

#[test]
fn a_pack_that_is_gone_counts_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    fs::remove_file(&packs(folder.path())[0]).unwrap();
    assert!(contents(&store, &name).iter().all(Option::is_none));
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.list().unwrap()[0].damaged, 5);
    assert_eq!(push(&store, &TREE), 4);
    assert_eq!(contents(&store, &name), all_of_tree());
}

#[test]
fn a_damaged_index_is_put_aside_and_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    let listed = store.list().unwrap();
    drop(store);
    let path = folder.path().join("data.redb");
    let good = fs::read(&path).unwrap();
    let written: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let flipped = written.iter().step_by(written.len() / 60).map(|at| {
        let mut bytes = good.clone();
        bytes[*at] ^= 0x10;
        bytes
    });
    let cut = [0, 1, good.len() / 2, good.len() - 1].map(|length| good[..length].to_owned());
    for bytes in flipped.chain(cut) {
        fs::write(&path, bytes).unwrap();
        let store = open(folder.path());
        assert_eq!((store.list().unwrap(), contents(&store, &name)), (listed.clone(), all_of_tree()));
        assert_eq!(push(&store, &TREE), 0);
        assert_eq!(packs(folder.path()).len(), 1);
    }
    let aside = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    assert!(aside.into_iter().any(|name| name.starts_with("data.damaged-")));
}

#[test]
fn the_list_of_a_data_set_is_in_two_places() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    let listed = store.list().unwrap();
    drop(store);
    let list = folder.path().join("sets/set.list");
    let good = fs::read(&list).unwrap();
    let check = || {
        let store = open(folder.path());
        assert_eq!((store.list().unwrap(), contents(&store, &name)), (listed.clone(), all_of_tree()));
    };
    for bytes in [&b""[..], b"x\n"] {
        fs::write(&list, bytes).unwrap();
        check();
        assert_eq!(fs::read(&list).unwrap(), good);
    }
    fs::remove_file(&list).unwrap();
    check();
    fs::remove_file(folder.path().join("data.redb")).unwrap();
    check();
}

#[test]
fn a_member_has_room_for_so_much() {
    let folder = tempfile::tempdir().unwrap();
    let limits = DiskLimits { all: Some(1 << 20), member: Some(10_000), reserve: Some(0) };
    let store = DataStore::open(folder.path(), DiskUse::new(folder.path(), limits)).unwrap();
    let text = |letter: &str| letter.repeat(3_000);
    let give = |owner: &str, letter: &str| {
        let text = text(letter);
        let mut receiver = store.receive(owner);
        receiver.begin(file(letter, &text))?;
        receiver.piece(text.as_bytes())?;
        receiver.finish()
    };
    give("anna", "a").unwrap();
    let mut half = store.receive("anna");
    half.begin(file("b", &text("b"))).unwrap();
    let error = give("anna", "c").unwrap_err();
    assert!(matches!(error, DataError::NoRoom(_)), "what is on its way counts: {error}");
    give("otto", "c").unwrap();
    drop(half);
    assert_eq!(give("anna", "c").unwrap(), 0, "it is here, whoever brought it");
    give("anna", "d").unwrap();
    let set = store.commit(&"x".parse().unwrap(), vec![file("a", &text("a"))], false, String::new()).unwrap();
    assert!(give("anna", "e").is_err());
    store.remove(&set.name).unwrap();
    give("anna", "e").unwrap();
}
