use std::fs;

use convoy_common::manifest::{LabelKind, Split};
use convoy_proto::v1;
use convoy_testing::{Calls, FilesCall, Scripted, connect};
use tokio::sync::oneshot;
use tokio::time::Instant as VirtualInstant;

use super::*;
use crate::fixtures::ASSIGNMENT;

fn contents(number: u32) -> Vec<u8> {
    vec![number as u8; 100 + number as usize]
}

/// Eight files, the first six of them of the training split, below `root`.
fn manifest(root: &str) -> Manifest {
    let split = |numbers: std::ops::Range<u32>| {
        let mut split = Split { root: root.to_owned(), ..Split::default() };
        for number in numbers {
            let (path, bytes) = (format!("{number}.png"), contents(number));
            split.files.push(FileEntry { path: &path, size: bytes.len() as u64, blake3: Digest::of(&bytes) });
        }
        Arc::new(split)
    };
    Manifest { names: Vec::new(), labels: LabelKind::Class, train: split(0..6), validation: split(6..8) }
}

const REMOTE: &str = "dataset:photos";

fn path(number: u32) -> PathBuf {
    Path::new(REMOTE).join(format!("{number}.png"))
}

/// A worker's files and the coordinator that has them, played by the test.
struct Remote {
    files: Arc<RunFiles>,
    calls: Calls,
    client: CoordinatorClient<Channel>,
    fetching: Option<Fetching>,
}

impl Remote {
    async fn new(cache: Option<DiskCache>) -> Self {
        let (scripted, calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
        let files = Arc::new(RunFiles::new(&manifest(REMOTE), None, cache.map(Arc::new)));
        let client = connect(scripted).await;
        let fetching = Some(files.fetch_from(client.clone(), ASSIGNMENT));
        Remote { files, calls, client, fetching }
    }

    /// Reads a file on a thread of its own, as a loader does.
    fn read(&self, number: u32) -> oneshot::Receiver<io::Result<Vec<u8>>> {
        let (sender, read) = oneshot::channel();
        let files = self.files.clone();
        std::thread::spawn(move || sender.send(files.read(&path(number))));
        read
    }

    /// The next call, which asks for these files.
    async fn call(&mut self, files: &[u32]) -> FilesCall {
        let call = self.calls.files.recv().await.expect("the worker lives");
        assert_eq!(call.request, ASSIGNMENT.files(files.to_vec()));
        call
    }
}

async fn send_all(call: &FilesCall) {
    for number in &call.request.files {
        call.send(&contents(*number), true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_is_fetched_when_it_is_read() {
    let mut remote = Remote::new(None).await;
    let read = remote.read(7);
    let call = remote.call(&[7]).await;
    let whole = contents(7);
    call.send(&whole[..40], false).await;
    call.send(&whole[40..], true).await;
    assert_eq!(read.await.unwrap().unwrap(), whole, "in two pieces");
}

#[tokio::test(start_paused = true)]
async fn files_are_fetched_ahead_of_time() {
    let mut remote = Remote::new(None).await;
    remote.files.will_need(true, [4, 1, 4].into_iter());
    send_all(&remote.call(&[4, 1]).await).await;
    remote.files.will_need(false, [1].into_iter());
    send_all(&remote.call(&[7]).await).await;
    for number in [1, 4, 7] {
        assert_eq!(remote.read(number).await.unwrap().unwrap(), contents(number));
    }
    assert!(remote.calls.files.try_recv().is_err(), "all were here");
}

#[test]
fn a_file_is_waited_for_as_long_as_bytes_come() {
    let files = Arc::new(RunFiles { patience: Duration::ZERO, ..RunFiles::new(&manifest(REMOTE), None, None) });
    *files.flowed.lock() = Instant::now() + Duration::from_secs(3600);
    let reader = files.clone();
    let reading = std::thread::spawn(move || reader.read(&path(7)));
    while files.take_batch() != [7] {
        assert!(!reading.is_finished(), "it gave up");
        std::thread::yield_now();
    }
    files.take(7, Ok(contents(7).into()));
    assert_eq!(reading.join().unwrap().unwrap(), contents(7));
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_are_an_error_that_says_so() {
    let mut remote = Remote::new(None).await;
    let read = remote.read(2);
    remote.call(&[2]).await.send(&[9; 102], true).await;
    let error = read.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the coordinator sent other bytes than the manifest names");
    let again = remote.read(2);
    send_all(&remote.call(&[2]).await).await;
    assert_eq!(again.await.unwrap().unwrap(), contents(2), "the next one asks again");
}

#[tokio::test(start_paused = true)]
async fn more_bytes_than_the_manifest_names_are_not_taken() {
    let mut remote = Remote::new(None).await;
    let read = remote.read(2);
    remote.call(&[2]).await.send(&[2; 103], false).await;
    let error = read.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "more bytes came than the manifest names");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_the_coordinator_cannot_send_holds_up_no_other() {
    let mut remote = Remote::new(None).await;
    remote.fetching = None;
    assert!(remote.files.requests.lock().begin_to_wait(3));
    remote.files.will_need(true, [5].into_iter());
    remote.fetching = Some(remote.files.fetch_from(remote.client.clone(), ASSIGNMENT));
    let call = remote.call(&[3, 5]).await;
    _ = call.pieces.send(Err(Status::not_found("3.png is gone"))).await;
    drop(call);
    send_all(&remote.call(&[5]).await).await;
    assert_eq!(remote.read(5).await.unwrap().unwrap(), contents(5));
    assert_eq!(remote.files.requests.lock().end_to_wait(3), Some(Err("3.png is gone".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_gone_in_the_middle_of_a_file_is_asked_again_from_its_beginning() {
    let mut remote = Remote::new(None).await;
    remote.files.will_need(true, 0..3);
    let call = remote.call(&[0, 1, 2]).await;
    call.send(&contents(0), true).await;
    call.send(&contents(1)[..50], false).await;
    _ = call.pieces.send(Err(Status::unavailable("the connection was lost"))).await;
    let lost = VirtualInstant::now();
    let call = remote.call(&[1, 2]).await;
    assert_eq!(lost.elapsed(), AGAIN);
    send_all(&call).await;
    drop(call);
    for number in 0..3 {
        assert_eq!(remote.read(number).await.unwrap().unwrap(), contents(number));
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_end_early_are_asked_for_again() {
    let mut remote = Remote::new(None).await;
    remote.files.will_need(true, 0..2);
    remote.call(&[0, 1]).await.send(&contents(0), true).await;
    send_all(&remote.call(&[1]).await).await;
}

#[tokio::test(start_paused = true)]
async fn another_membership_asks_again_for_files_on_their_way() {
    let mut remote = Remote::new(None).await;
    let read = remote.read(2);
    let call = remote.call(&[2]).await;
    remote.fetching = None;
    call.pieces.closed().await;
    remote.fetching = Some(remote.files.fetch_from(remote.client.clone(), ASSIGNMENT));
    send_all(&remote.call(&[2]).await).await;
    assert_eq!(read.await.unwrap().unwrap(), contents(2));
}

#[tokio::test(start_paused = true)]
async fn files_that_came_are_read_from_the_cache_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut remote = Remote::new(Some(DiskCache::open(folder.path(), 10_000).unwrap())).await;
    remote.files.will_need(true, [0].into_iter());
    send_all(&remote.call(&[0]).await).await;
    let cache = remote.files.cache.clone().expect("there is one");
    while !cache.holds(&Digest::of(&contents(0))) {
        tokio::task::yield_now().await;
    }
    assert_eq!(remote.read(0).await.unwrap().unwrap(), contents(0));
    remote.files.will_need(true, [0].into_iter());
    assert!(remote.files.take_batch().is_empty(), "it is near");
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_does_not_keep_files_from_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut remote = Remote::new(Some(DiskCache::open(folder.path(), 1).unwrap())).await;
    for _ in 0..2 {
        remote.files.will_need(true, [0].into_iter());
        send_all(&remote.call(&[0]).await).await;
        assert_eq!(remote.read(0).await.unwrap().unwrap(), contents(0));
    }
}

#[test]
fn a_file_that_does_not_come_in_time_is_an_error() {
    let files = RunFiles { patience: Duration::ZERO, ..RunFiles::new(&manifest(REMOTE), None, None) };
    assert_eq!(files.read(&path(0)).unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(files.read(Path::new("dataset:photos/9.png")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_folder_that_the_machine_sees_is_read_first_if_its_bytes_are_right() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("photos/0.png"), contents(0)).unwrap();
    fs::write(folder.path().join("photos/1.png"), b"other bytes").unwrap();
    let sees = Some(folder.path().to_owned());
    let files = RunFiles { patience: Duration::ZERO, ..RunFiles::new(&manifest(REMOTE), sees, None) };
    assert_eq!(files.read(&path(0)).unwrap(), contents(0));
    assert_eq!(files.read(&path(1)).unwrap_err().kind(), io::ErrorKind::TimedOut, "the coordinator was asked");
    files.will_need(true, [0, 2].into_iter());
    assert_eq!(files.take_batch(), [1, 2], "file 1 is waited for no more but wanted still, and file 0 is near");
}

#[test]
fn files_of_the_shared_folder_are_found_in_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("photos/3.png"), contents(3)).unwrap();
    let files = RunFiles::new(&manifest("shared:photos"), Some(folder.path().to_owned()), None);
    assert_eq!(files.read(Path::new("shared:photos/3.png")).unwrap(), contents(3));
}

#[test]
fn files_of_this_machine_are_read_from_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("0.png"), b"changed since").unwrap();
    let files = RunFiles::new(&manifest(folder.path().to_str().unwrap()), None, None);
    let path = folder.path().join("0.png");
    assert_eq!(files.read(&path).unwrap(), b"changed since", "vision finds out that it changed");
    assert_eq!(files.read(&folder.path().join("1.png")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_damaged_file_in_the_cache_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 10_000).unwrap();
    let digest = Digest::of(&contents(0));
    assert!(cache.put(&digest, &contents(0)));
    let files = RunFiles { patience: Duration::ZERO, ..RunFiles::new(&manifest(REMOTE), None, Some(Arc::new(cache))) };
    assert_eq!(files.read(&path(0)).unwrap(), contents(0));
    let name = digest.to_string();
    fs::write(folder.path().join(&name[..2]).join(&name), b"damage").unwrap();
    assert_eq!(files.read(&path(0)).unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(files.take_batch(), [0]);
}
