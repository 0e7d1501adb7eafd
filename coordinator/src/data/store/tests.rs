//! Data sets on disk, and what comes in pieces.

use super::*;

fn file(path: &str, text: &str) -> SetFile {
    SetFile { path: path.parse().unwrap(), digest: Digest::of(text.as_bytes()), size: text.len() as u64 }
}

fn push(store: &DataStore, files: &[(&str, &str)]) -> u64 {
    let mut receiver = store.receive();
    for (path, text) in files {
        receiver.begin(file(path, text)).unwrap();
        text.as_bytes().chunks(2).for_each(|piece| receiver.piece(piece).unwrap());
    }
    receiver.finish().unwrap()
}

const TREE: [(&str, &str); 5] =
    [("train/a/1.png", "one"), ("train/a/2.png", "two"), ("train/b/1.png", "one"), ("train/b.txt", "x"), ("z", "")];

fn filled(folder: &Path) -> (DataStore, DataName) {
    let store = DataStore::open(folder).unwrap();
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
    let store = DataStore::open(folder.path()).unwrap();
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
    let store = DataStore::open(folder.path()).unwrap();
    let mut receiver = store.receive();
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
    assert!(pack::is_whole(&folder.path().join("packs"), &name).unwrap());
    assert_eq!(fs::metadata(pack).unwrap().len(), 6 * 512, "two files and the end mark");
}

#[test]
fn packs_go_with_their_last_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let (store, name) = filled(folder.path());
    let other: DataName = "set.2".parse().unwrap();
    store.commit(&other, vec![file("w", "two")], false, String::new()).unwrap();
    push(&store, &[("q", "alone")]);
    let packs = || fs::read_dir(folder.path().join("packs")).unwrap().count();
    assert_eq!(packs(), 2);
    store.remove(&name).unwrap();
    assert_eq!(packs(), 1);
    assert!(store.read(&Digest::of(b"two")).is_ok() && store.read(&Digest::of(b"alone")).is_err());
    assert!(matches!(store.remove(&name), Err(DataError::Unknown(_))));
    store.remove(&other).unwrap();
    assert_eq!((packs(), store.list().unwrap().len()), (0, 0));
    assert_eq!(store.missing(&[Digest::of(b"two")]).unwrap(), [0]);
}

#[test]
fn a_flipped_bit_in_a_pack_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = filled(folder.path());
    let path = fs::read_dir(folder.path().join("packs")).unwrap().next().unwrap().unwrap().path();
    let name: String = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let read = |digest: &Digest| pack::is_whole(&folder.path().join("packs"), digest).unwrap();
    let at: Digest = serde_json::from_value(name.into()).unwrap();
    assert!(read(&at));
    let mut bytes = fs::read(&path).unwrap();
    bytes[512] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(!read(&at));
    let error = store.read(&Digest::of(b"one")).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(store.read(&Digest::of(b"two")).is_ok());
}
