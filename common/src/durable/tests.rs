use super::faults::{Fault, FaultPlan, Faults};
use super::*;

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    replace_file(&path, |file| file.write_all(b"old")).unwrap();
    let error = replace_file(&path, |file| {
        file.write_all(b"half of the new")?;
        Err(io::ErrorKind::StorageFull.into())
    })
    .unwrap_err()
    .to_string();
    assert!(error.contains("state") && error.contains("free some space"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    replace_file(&path, |file| file.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn paths_that_cannot_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/file");
    let error = replace_file(&missing, |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("missing/file") && error.contains("create the folder"), "{error}");
    assert!(replace_file(Path::new("/"), |_| Ok(())).is_err());
    assert!(replace_file(folder.path(), |_| Ok(())).is_err());
}

/// Writes `new` over `old` with a fault at `point`; whether it was reached, what was told, and what is there after the
/// power was cut, if it was.
fn replaced(point: u64, fault: Fault) -> (bool, Result<(), WriteError>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    fs::write(&path, b"old").unwrap();
    let faults = Faults::in_folder(folder.path(), Some(FaultPlan { point, fault, lasting: false }));
    let told = replace_file(&path, |file| file.write_all(b"new one"));
    if fault == Fault::PowerCut && faults.struck() {
        faults.cut_power();
    }
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() == 1 || matches!(fault, Fault::Crash), "{point} {fault:?}: {names:?}");
    (faults.struck(), told, fs::read(&path).unwrap())
}

#[test]
fn the_old_file_or_the_new_one_is_there_after_a_fault_at_any_point() {
    for fault in [Fault::Eio, Fault::Full, Fault::Short, Fault::Crash, Fault::PowerCut] {
        let mut points = 0;
        for point in 1.. {
            let (struck, told, there) = replaced(point, fault);
            assert!(there == b"old" || there == b"new one", "{point} {fault:?}: {there:?}");
            assert!(told.is_err() || there == b"new one", "{point} {fault:?}: it is said to be there, and is not");
            if !struck {
                assert!(told.is_ok());
                break;
            }
            assert!(told.is_err(), "{point} {fault:?}: nobody was told");
            points += 1;
        }
        assert_eq!(points, 10, "create, write, sync, rename and sync of the folder, before and after each");
    }
}

#[test]
fn what_a_growing_file_has_synced_outlives_a_loss_of_power() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grows");
    fs::write(&path, b"a").unwrap();
    let faults = Faults::in_folder(folder.path(), None);
    let file = DurableFile::append(&path).unwrap();
    file.add(b"b").unwrap();
    file.sync().unwrap();
    file.add(b"c").unwrap();
    faults.cut_power();
    assert_eq!(fs::read(&path).unwrap(), b"ab");
}

#[test]
fn half_of_a_short_write_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grows");
    let plan = FaultPlan { point: 3, fault: Fault::Short, lasting: false };
    let _faults = Faults::in_folder(folder.path(), Some(plan));
    let file = DurableFile::append(&path).unwrap();
    assert!(is_full(&file.add(b"abcd").unwrap_err()));
    assert_eq!(fs::read(&path).unwrap(), b"ab");
    file.cut(0).unwrap();
    file.add(b"abcd").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"abcd");
}

#[test]
fn a_full_disk_is_said_with_the_room_that_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let text = full_disk(&folder.path().join("not/there"));
    assert!(text.starts_with("the disk is full: ") && text.contains(" MiB free at /"), "{text}");
}
