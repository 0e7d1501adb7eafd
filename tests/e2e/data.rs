//! Data sets that a coordinator keeps, and workers that see no file of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cluster::{Cluster, digest};
use crate::job::{GOLDEN, Job, Process, convoy, report, wait_for, write_grey};

/// A worker with a cache of its own.
fn worker_with_cache(address: &str, cache: &Path, more: &[&str]) -> Process {
    let mut command = convoy();
    command.args(["worker", "--coordinator", address, "--threads", "1"]).args(more).env("CONVOY_CACHE", cache);
    Process(command.stderr(Stdio::null()).spawn().expect("convoy starts"))
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

/// 60 PNG files of 8x8 in three class folders, and what `convoy train` makes of them.
fn photos(job: &Job) -> String {
    for index in 0..60u32 {
        let class = index % 3;
        let value = |x: u32, y: u32| ((x * 29 + y * class * 31 + index * 7) % 200) as u8;
        let folder = job.path("photos").join(["left", "middle", "right"][class as usize]);
        fs::create_dir_all(&folder).expect("the folder is writable");
        write_grey(folder.join(format!("{index:02}.png")), value);
    }
    let train = format!("data.train={}", job.path("photos").display());
    let report = job.train("alone", &["--set", &train]);
    report["parameters_digest"].as_str().expect("a digest").to_owned()
}

#[test]
fn what_is_submitted_takes_its_data_along() {
    let cluster = Cluster::new();
    let coordinator = cluster.start();
    let alone = photos(&cluster.job);
    let train = format!("data.train={}", cluster.job.path("photos").display());
    let (first, second) = (cluster.submit(&[]), cluster.submit(&["--set", &train]));
    fs::remove_dir_all(cluster.job.path("data")).expect("the data is there");
    fs::remove_dir_all(cluster.job.path("photos")).expect("the data is there");
    let cache = cluster.job.path("cache");
    let workers = [0, 1].map(|_| worker_with_cache(&cluster.address, &cache, &[]));
    let done = |id: &serde_json::Value| {
        cluster.when(id.as_u64().expect("a number"), "a job's end", |job| job["state"] == "completed")
    };
    assert_eq!(digest(&done(&first["id"])), GOLDEN.trim());
    assert_eq!(digest(&done(&second["id"])), alone);
    assert_eq!(files_in(&cache).len(), 4 + 60, "every file came, once");

    // A later job reads from the cache, and a coordinator that was killed has the data still.
    drop(coordinator);
    drop(workers);
    let _coordinator = cluster.start();
    for pack in files_in(&cluster.job.path("state/data/packs")) {
        fs::write(&pack, "gone").expect("the pack is writable");
    }
    let name = second["data"][0].as_str().expect("a data set").to_owned();
    cluster.check(&["data", "rm", "nothing"], 3, &["nothing", "convoy data ls"]);
    assert!(cluster.json(&["data", "rm", &name])["files"] == 60, "no unfinished job needs it");
}

#[test]
fn a_data_set_is_pushed_once_and_named_by_jobs() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let alone = photos(&cluster.job);
    let photos = cluster.job.path("photos").display().to_string();
    fs::write(cluster.job.path("photos/.hidden"), "x").expect("the folder is writable");
    let set = cluster.json(&["data", "push", &photos, "photos"]);
    assert_eq!((&set["files"], set["name"].as_str()), (&60.into(), Some("photos")));
    assert_eq!(cluster.json(&["data", "push", &photos, "photos"]), set, "the same again is the same");
    let packs = || files_in(&cluster.job.path("state/data/packs")).len();
    assert_eq!(cluster.json(&["data", "push", &photos, "again"])["digest"], set["digest"]);
    assert_eq!(packs(), 1, "equal contents are kept once");
    fs::write(cluster.job.path("photos/left/00.png"), "other").expect("the folder is writable");
    cluster.check(&["data", "push", &photos, "photos"], 1, &["photos", "--replace"]);
    cluster.check(&["data", "push", &photos, "../x"], 2, &["../x"]);
    std::os::unix::fs::symlink(cluster.job.spec(), cluster.job.path("photos/left/spec.toml")).expect("it is writable");
    let out = "1 file is a link out of";
    cluster.check(&["data", "push", &photos, "linked"], 2, &[out, "left/spec.toml", "--follow-links"]);
    assert_eq!(cluster.json(&["data", "push", &photos, "linked", "--follow-links"])["files"], 61);

    let spec = cluster.job.spec().display().to_string();
    let submit = ["submit", &spec, "--set", "data.train=dataset:photos", "--detach", "--json"];
    let output = cluster.convoy(&submit).output().expect("convoy starts");
    let (job, said) = (report(&output), "class folders, dataset:photos");
    assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    cluster.check(&["data", "rm", "photos"], 1, &["photos", "used by job-1"]);
    let cache = cluster.job.path("cache");
    let worker = worker_with_cache(&cluster.address, &cache, &["--cache-mib", "0"]);
    let done = cluster.when(job["id"].as_u64().expect("a number"), "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), alone);
    assert_eq!(files_in(&cache), [] as [PathBuf; 0], "a cache without room holds nothing");
    drop(worker);
    cluster.check(&["watch", "last"], 0, &[said]);
    let log = cluster.convoy(&["logs", "last"]).output().expect("convoy starts");
    assert!(String::from_utf8_lossy(&log.stdout).contains(said), "{log:?}");

    let refused = |path: &str, code, names: &[&str]| {
        let set = format!("data.train={path}");
        cluster.check(&["submit", &spec, "--set", &set, "--detach"], code, names);
    };
    refused("dataset:none", 3, &["dataset:none"]);
    refused("dataset:photos/../../x", 2, &["does not stay in its folder"]);
    refused("shared:photos", 3, &["--data"]);
    refused("nowhere", 3, &["nowhere"]);
    let here = convoy().args(["train", &spec, "--set", "data.train=dataset:photos"]).output().expect("convoy starts");
    assert_eq!(here.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&here.stderr).contains("convoy submit"));
}

#[test]
fn damaged_data_costs_no_worker_and_comes_back_with_the_next_push() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let number = |job: &serde_json::Value| job["id"].as_u64().expect("a number");
    let first = number(&cluster.submit(&[]));
    let pack = files_in(&cluster.job.path("state/data/packs")).pop().expect("a pack");
    let mut bytes = fs::read(&pack).expect("the pack is readable");
    bytes[600] ^= 1;
    fs::write(&pack, bytes).expect("the pack is writable");
    let mut worker = worker_with_cache(&cluster.address, &cluster.job.path("cache"), &[]);
    let told = |job: &serde_json::Value| job["waiting_for"].as_str().is_some_and(|text| text.contains("is damaged"));
    let waits = cluster.when(first, "the reason why it waits", told)["waiting_for"].to_string();
    assert_eq!(waits.matches("cannot be read").count(), 1, "{waits}");
    assert_eq!(waits.matches("dataset:").count(), 1, "{waits}");
    let listed = cluster.convoy(&["data", "ls"]).output().expect("convoy starts").stdout;
    assert!(String::from_utf8_lossy(&listed).contains("1 files are damaged"), "{}", String::from_utf8_lossy(&listed));
    // The same spec again: what is damaged is pushed once more, and both jobs have it.
    let second = number(&cluster.submit(&[]));
    for id in [first, second] {
        let done = cluster.when(id, "its end", |job| job["state"] == "completed");
        assert_eq!(digest(&done), GOLDEN.trim());
    }
    assert!(worker.0.try_wait().expect("it was started").is_none(), "the worker is the one it was");
}

#[test]
fn a_coordinator_starts_whatever_is_damaged_in_its_state() {
    let cluster = Cluster::new();
    let coordinator = cluster.start();
    let number = |job: &serde_json::Value| job["id"].as_u64().expect("a number");
    let [first, second] = [0, 1].map(|_| number(&cluster.submit(&[])));
    for file in files_in(&cluster.job.path("state")) {
        let mode = fs::metadata(&file).expect("the file is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} can be read by others", file.display());
    }
    drop(coordinator);
    fs::write(cluster.job.path("state/data/data.redb"), "").expect("the folder is writable");
    let record = cluster.job.path("state/jobs").join(first.to_string()).join("job");
    let text = fs::read_to_string(&record).expect("the record is readable");
    fs::write(&record, text.replacen("queued", "failed", 1)).expect("the record is writable");
    let _coordinator = cluster.start();
    let _worker = worker_with_cache(&cluster.address, &cluster.job.path("cache"), &[]);
    let done = cluster.when(second, "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), GOLDEN.trim());
    let lost =
        |job: &serde_json::Value| job["error"].as_str().is_some_and(|text| text.contains("made anew from its run"));
    cluster.when(first, "its pause", |job| job["state"] == "paused" && lost(job));
    cluster.check(&["resume", &first.to_string()], 0, &[]);
    let done = cluster.when(first, "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), GOLDEN.trim());
    let names = fs::read_dir(cluster.job.path("state/data")).expect("the folder is readable").flatten();
    let names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.starts_with("data.damaged-")), "{names:?}");
}

#[test]
fn a_shared_folder_is_read_where_it_is() {
    let cluster = Cluster::new();
    let mut command = convoy();
    command.arg("coordinator").arg("--state").arg(cluster.job.path("state")).args(["--listen", &cluster.address]);
    command.arg("--data").arg(cluster.job.path("")).stderr(Stdio::null());
    let _coordinator = Process(command.spawn().expect("convoy starts"));
    wait_for("the coordinator", || cluster.convoy(&["health"]).output().ok()?.status.success().then_some(()));
    let job = cluster.submit(&["--set", "data.train=shared:data"]);
    let (sees, blind) = (cluster.job.path("sees"), cluster.job.path("blind"));
    let root = cluster.job.path("").display().to_string();
    let _workers = [
        worker_with_cache(&cluster.address, &sees, &["--data", &root]),
        worker_with_cache(&cluster.address, &blind, &[]),
    ];
    let done = cluster.when(job["id"].as_u64().expect("a number"), "its end", |job| job["state"] == "completed");
    assert_eq!(digest(&done), GOLDEN.trim());
    assert_eq!(files_in(&sees), [] as [PathBuf; 0], "what it sees is not fetched");
}

/// The class folders of [`photos`] in one compressed archive, and as samples in two plain ones.
fn archives(job: &Job) {
    let tgz = fs::File::create(job.path("photos.tgz")).expect("the folder is writable");
    let mut whole = tar::Builder::new(flate2::write::GzEncoder::new(tgz, flate2::Compression::fast()));
    whole.append_dir_all("photos", job.path("photos")).expect("the photos are there");
    whole.into_inner().and_then(flate2::write::GzEncoder::finish).expect("the folder is writable");
    for shard in [0, 1] {
        let file = fs::File::create(job.path(&format!("train-{shard}.tar"))).expect("the folder is writable");
        let mut samples = tar::Builder::new(file);
        for (class, path) in ["left", "middle", "right"]
            .iter()
            .flat_map(|class| files_in(&job.path("photos").join(class)).into_iter().map(move |path| (class, path)))
        {
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a number").to_owned();
            if name.parse::<u32>().expect("a number") % 2 == shard {
                samples.append_path_with_name(&path, format!("{name}.png")).expect("the photo is there");
                let mut header = tar::Header::new_gnu();
                header.set_size(class.len() as u64);
                samples.append_data(&mut header, format!("{name}.cls"), class.as_bytes()).expect("a short name");
            }
        }
        samples.finish().expect("the folder is writable");
    }
}

#[test]
fn archives_are_taken_along_whole_and_workers_get_their_files() {
    let cluster = Cluster::new();
    let alone = photos(&cluster.job);
    archives(&cluster.job);
    let set = |path: &str| format!("data.train={path}");
    let here = |name: &str| set(&cluster.job.path(name).display().to_string());
    let of = |report: &serde_json::Value| report["parameters_digest"].as_str().expect("a digest").to_owned();
    let (packed, samples) = (here("photos.tgz"), here("train-{0..1}.tar"));
    assert_eq!(of(&cluster.job.train("packed", &["--set", &packed])), alone, "an archive is its folders");
    let sharded = of(&cluster.job.train("sharded", &["--set", &samples]));

    let mut command = convoy();
    command.arg("coordinator").arg("--state").arg(cluster.job.path("state")).args(["--listen", &cluster.address]);
    command.arg("--data").arg(cluster.job.path("")).stderr(Stdio::null());
    let _coordinator = Process(command.spawn().expect("convoy starts"));
    wait_for("the coordinator", || cluster.convoy(&["health"]).output().ok()?.status.success().then_some(()));
    let jobs = [(packed, alone.clone()), (samples, sharded), (set("shared:photos.tgz"), alone)];
    let jobs = jobs.map(|(set, digest)| (cluster.submit(&["--set", &set]), digest));
    let files = |set: &serde_json::Value| {
        let listed = cluster.convoy(&["data", "ls", "--json"]).output().expect("convoy starts").stdout;
        let all = String::from_utf8_lossy(&listed).into_owned();
        let mut all = all.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        all.find(|one| one["name"] == *set)?["files"].as_u64()
    };
    assert_eq!([0, 1].map(|job: usize| files(&jobs[job].0["data"][0])), [Some(1), Some(2)], "archives go whole");
    let (sees, blind) = (cluster.job.path("sees"), cluster.job.path("blind"));
    let root = cluster.job.path("").display().to_string();
    let _workers = [
        worker_with_cache(&cluster.address, &sees, &["--data", &root]),
        worker_with_cache(&cluster.address, &blind, &[]),
    ];
    for (job, expected) in jobs {
        let done = cluster.when(job["id"].as_u64().expect("a number"), "its end", |job| job["state"] == "completed");
        assert_eq!(digest(&done), expected);
    }
    assert_eq!(files_in(&cluster.job.path("state/unpacked")).len(), 2, "what came and what is shared, once each");
}

/// Writes a table of the 60 photos in `job`, with what `path` makes of each: `left/00.png`, for example.
fn table(job: &Job, name: &str, path: impl Fn(usize, &str) -> String) {
    let mut rows = "path,label\n".to_owned();
    for index in 0..60 {
        let class = ["left", "middle", "right"][index % 3];
        rows += &format!("{},{class}\n", path(index, &format!("{class}/{index:02}.png")));
    }
    let file = job.path(name);
    fs::create_dir_all(file.parent().expect("a folder")).expect("the folder is writable");
    fs::write(file, rows).expect("the folder is writable");
}

#[test]
fn tables_lead_to_their_pictures_wherever_they_are_submitted_from() {
    let cluster = Cluster::new();
    let _coordinator = cluster.start();
    let job = &cluster.job;
    photos(job);
    let _worker = worker_with_cache(&cluster.address, &job.path("cache"), &[]);
    std::os::unix::fs::symlink(job.path("photos"), job.path("link")).expect("the folder is writable");
    let full = |name: &str| job.path(name).display().to_string();
    table(job, "far/off/absolute.csv", |_, path| full(&format!("link/{path}")));
    table(job, "lists/mixed.csv", |index, path| match index % 3 {
        0 => format!("../photos/{path}"),
        1 => full(&format!("lists/../photos/{path}")),
        _ => format!("/of/another/machine/{path}"),
    });
    table(job, "windows.csv", |_, path| format!("C:\\img\\{}", path.replace('/', "\\")));
    table(job, "names.csv", |_, path| path.to_owned());
    table(job, "photos/some.csv", |_, path| path.to_owned());
    let moved = |from: &str| format!("data.moved={{ {from:?} = {:?} }}", full("photos"));
    let cases = [
        vec!["data.train=far/off/absolute.csv".to_owned()],
        vec!["data.train=lists/mixed.csv".to_owned(), moved("/of/another/machine")],
        vec!["data.train=windows.csv".to_owned(), moved("C:\\img")],
        vec!["data.train=names.csv".to_owned(), "data.images=lists/../photos".to_owned()],
        vec![
            "data.train=lists/mixed.csv".to_owned(),
            moved("/of/another/machine"),
            "data.validation=photos/some.csv".to_owned(),
        ],
    ];
    for (number, settings) in cases.iter().enumerate() {
        let settings = settings.iter().flat_map(|set| {
            let (key, value) = set.split_once('=').expect("a key and a value");
            let is_place = matches!(key, "data.train" | "data.images" | "data.validation");
            ["--set".to_owned(), if is_place { format!("{key}={}", full(value)) } else { set.clone() }]
        });
        let settings: Vec<String> = settings.collect();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let alone = job.train(&format!("alone-{number}"), &settings);
        let id = cluster.submit(&settings)["id"].as_u64().expect("a number");
        let done = cluster.when(id, "the job's end", |job| job["state"] == "completed");
        assert_eq!(digest(&done), alone["parameters_digest"].as_str().expect("a digest"), "{settings:?}");
    }
}
