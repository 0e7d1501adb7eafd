//! Giving files of this machine to a coordinator.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use convoy_common::Digest;
use convoy_common::data_place::{DATA_SET, DataName, DataPlace, InnerPath};
use convoy_common::file_tree::{FileKind, FileTree};
use convoy_common::spec::Spec;
use convoy_coordinator::DataSet;
use convoy_files::{Disk, here};
use convoy_proto::channel::PIECE;
use convoy_proto::v1;
use convoy_vision::files_of;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::out;
use crate::progress::Counter;
use crate::push_links::FollowLinks;

/// Digests in one question.
const ASKED: usize = 8192;
/// Files in one message of a list.
const LISTED: usize = 4096;
/// How often a push begins again when the coordinator lost what it had, as when somebody removes another data set.
const TRIES: usize = 3;

/// Files by their paths in a data set.
pub type Files = BTreeMap<InnerPath, PathBuf>;

/// All files below a folder but hidden ones.
///
/// # Errors
/// When something cannot be read, or has a name that a data set cannot hold.
pub fn below(folder: &Path) -> Result<Files, CliError> {
    let mut files = Files::new();
    let mut trail = Vec::new();
    walk(folder, String::new(), &mut trail, &mut files)?;
    match files.is_empty() {
        true => Err(CliError::NotFound { path: folder.to_owned(), hint: "a data set has files".to_owned() }),
        false => Ok(files),
    }
}

fn walk(folder: &Path, inner: String, trail: &mut Vec<PathBuf>, files: &mut Files) -> Result<(), CliError> {
    let fail = |source| CliError::Io { path: folder.to_owned(), source };
    let real = Disk.real(folder).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            CliError::NotFound { path: folder.to_owned(), hint: "name a folder to push".to_owned() }
        }
        _ => fail(source),
    })?;
    if trail.contains(&real) {
        return Err(CliError::Usage(format!("{}: a link leads back to a folder above it", folder.display())));
    }
    trail.push(real);
    for (path, kind) in Disk.entries(folder).map_err(fail)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| CliError::Usage(format!("{}: its name is not UTF-8", path.display())))?;
        if name.starts_with('.') {
            continue;
        }
        let inner = if inner.is_empty() { name.to_owned() } else { format!("{inner}/{name}") };
        match kind {
            FileKind::Folder => walk(&path, inner, trail, files)?,
            FileKind::File => _ = files.insert(parse_inner(&inner)?, path),
            FileKind::Other => out::note(format_args!("left out {}: a pipe, a socket or a device", path.display())),
        }
    }
    trail.pop();
    Ok(())
}

fn parse_inner(path: &str) -> Result<InnerPath, CliError> {
    path.parse().map_err(|error| CliError::Usage(format!("{error}")))
}

/// `spec` with the data that it names by paths of this machine pushed to the coordinator, under a name made of its
/// contents.
///
/// # Errors
/// When that data cannot be used or pushed.
pub async fn with_data(at: &Endpoint, spec: Spec, links: FollowLinks) -> Result<Spec, CliError> {
    let mut local = Vec::new();
    for (key, path) in spec.paths() {
        match DataPlace::parse(path).map_err(|error| CliError::Usage(format!("{key}: {error}")))? {
            DataPlace::Local(path) => local.push((key, path)),
            DataPlace::DataSet(..) | DataPlace::Shared(_) => {}
        }
    }
    let is_local = |wanted: &str| local.iter().any(|(key, _)| *key == wanted);
    if let Some(key) = ["data.validation", "data.images", "data.moved"].into_iter().find(|key| is_local(key))
        && !is_local("data.train")
    {
        let text = format!("{key} is a path of this machine, and data.train is not; push both as one data set");
        return Err(CliError::Usage(text));
    }
    let (mut paths, mut roots, mut absolute) = (Vec::new(), Vec::new(), false);
    if is_local("data.train") {
        let found = files_of(&*here(), &spec.data, spec.task, Path::new(""))?;
        out::note(found.taken);
        (paths, roots, absolute) = (found.files, found.roots, found.absolute);
    }
    paths.extend(spec.network.init.iter().filter(|_| is_local("network.init")).map(PathBuf::from));
    // The roots too, so that files which are not there are missed in the same places.
    let all = paths.iter().chain(&roots).chain(local.iter().map(|(_, path)| path));
    let Some(root) = common_folder(all) else { return Ok(spec) };
    let inside = |path: &Path| parse_inner(utf8(path.strip_prefix(&root).unwrap_or(path))?);
    let files = paths.iter().map(|path| Ok((inside(path)?, path.clone()))).collect::<Result<Files, CliError>>()?;
    links.check(&root, files.values())?;
    let set = push(at, &files, None, false).await?;
    let pushed = format!("{DATA_SET}{}", set.name);
    let mut spec = spec.with_paths(|_, path| match DataPlace::parse(path) {
        Ok(DataPlace::Local(path)) => {
            let inner = inside(&path)?;
            let slash = if inner.as_str().is_empty() { "" } else { "/" };
            Ok::<_, CliError>(format!("{pushed}{slash}{}", inner.as_str()))
        }
        _ => Ok(path.to_owned()),
    })?;
    if absolute {
        spec.data.moved.insert(utf8(&root)?.to_owned(), pushed);
    }
    Ok(spec)
}

fn utf8(path: &Path) -> Result<&str, CliError> {
    path.to_str().ok_or_else(|| CliError::Usage(format!("{}: is not UTF-8", path.display())))
}

/// The innermost folder that holds all `paths`, or is one of them.
fn common_folder<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Option<PathBuf> {
    let mut common: Option<PathBuf> = None;
    for path in paths {
        let folder = if path.is_dir() { path.as_path() } else { path.parent()? };
        common = Some(match common {
            None => folder.to_owned(),
            Some(common) => {
                common.components().zip(folder.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
            }
        });
    }
    common
}

/// A file as it is now.
struct Known {
    inner: InnerPath,
    path: PathBuf,
    size: u64,
    digest: Digest,
}

/// Pushes files and gives them a name; `None` for one made of their contents.
///
/// # Errors
/// When a file cannot be read, or the coordinator refuses.
pub async fn push(at: &Endpoint, files: &Files, name: Option<&DataName>, replace: bool) -> Result<DataSet, CliError> {
    let files = look(files)?;
    let name = name.map_or_else(|| contents_name(&files), DataName::to_string);
    let mut client = at.data().await?;
    let mut tries = 0;
    loop {
        let mut missing = Vec::new();
        for (number, some) in files.chunks(ASKED).enumerate() {
            let digests: Vec<u8> = some.iter().flat_map(|file| file.digest.0).collect();
            let reply = client.missing(v1::MissingRequest { digests: digests.into() }).await;
            let positions = reply.map_err(|status| at.refused(&status))?.into_inner().missing;
            missing.extend(positions.iter().filter_map(|at| files.get(number * ASKED + *at as usize)));
        }
        if !missing.is_empty() {
            send(at, &missing).await?;
        }
        let list = files.chunks(LISTED).map(|some| v1::CommitRequest {
            name: name.clone(),
            replace,
            files: some.iter().map(data_file).collect(),
        });
        let list: Vec<_> = list.collect();
        match client.commit(tokio_stream::iter(list)).await {
            Ok(reply) => return read(&reply.into_inner().json),
            Err(status) if status.code() == Code::Aborted && tries + 1 < TRIES => tries += 1,
            Err(status) => return Err(at.refused(&status)),
        }
    }
}

fn data_file(file: &Known) -> v1::DataFile {
    v1::DataFile {
        path: file.inner.as_str().to_owned(),
        size: file.size,
        digest: bytes::Bytes::copy_from_slice(&file.digest.0),
    }
}

/// Size and digest of each file.
fn look(files: &Files) -> Result<Vec<Known>, CliError> {
    let counter = Counter::new("looking at files");
    let mut known = Vec::with_capacity(files.len());
    for (done, (inner, path)) in files.iter().enumerate() {
        let mut hasher = blake3::Hasher::new();
        let size = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
        let size = size.map_err(|source| CliError::Io { path: path.clone(), source })?;
        let digest = Digest(*hasher.finalize().as_bytes());
        known.push(Known { inner: inner.clone(), path: path.clone(), size, digest });
        counter.show(done + 1, files.len());
    }
    Ok(known)
}

/// `auto-` and the beginning of a digest over paths and contents: the same files get the same name.
fn contents_name(files: &[Known]) -> String {
    let mut all = Vec::new();
    for file in files {
        all.extend_from_slice(file.inner.as_str().as_bytes());
        all.push(0);
        all.extend_from_slice(&file.digest.0);
    }
    format!("auto-{}", &Digest::of(&all).to_string()[..16])
}

async fn send(at: &Endpoint, missing: &[&Known]) -> Result<(), CliError> {
    let mut client = at.data().await?;
    let counter = Counter::new("pushing files");
    let (sender, requests) = mpsc::channel(8);
    let pushing = client.push(ReceiverStream::new(requests));
    let feeding = async {
        for (done, file) in missing.iter().enumerate() {
            let fail = |source| CliError::Io { path: file.path.clone(), source };
            let mut bytes = File::open(&file.path).map_err(fail)?.take(file.size);
            let (mut head, mut left) = (Some(data_file(file)), file.size);
            while left > 0 || head.is_some() {
                let mut data = vec![0; left.min(PIECE as u64) as usize];
                bytes.read_exact(&mut data).map_err(fail)?;
                left -= data.len() as u64;
                let piece = v1::PushRequest { file: head.take(), data: data.into() };
                // The coordinator says itself why it does not listen any more.
                if sender.send(piece).await.is_err() {
                    return Ok(());
                }
            }
            counter.show(done + 1, missing.len());
        }
        drop(sender);
        Ok::<_, CliError>(())
    };
    let (pushed, fed) = tokio::join!(pushing, feeding);
    fed?;
    pushed.map_err(|status| at.refused(&status))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        dir
    }

    fn names(files: &Files) -> Vec<&str> {
        files.keys().map(InnerPath::as_str).collect()
    }

    #[test]
    fn all_files_below_a_folder_are_pushed_but_hidden_ones() {
        let dir = folder(&["b/2.png", "a.csv", ".git/x", "b/.DS_Store"]);
        let files = below(dir.path()).unwrap();
        assert_eq!(names(&files), ["a.csv", "b/2.png"]);
        assert_eq!(files.values().next(), Some(&dir.path().join("a.csv")));
    }

    #[test]
    fn a_folder_that_is_missing_or_empty_is_named() {
        let dir = folder(&[".hidden"]);
        let error = below(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("does not exist; a data set has files"), "{error}");
        let error = below(&dir.path().join("none")).unwrap_err();
        assert!(error.to_string().ends_with("none does not exist; name a folder to push"), "{error}");
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn a_link_that_leads_back_is_not_followed() {
        let dir = folder(&["a/1.png"]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/back")).unwrap();
        let error = below(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("a link leads back to a folder above it"), "{error}");
    }

    #[test]
    fn the_same_files_get_the_same_name() {
        let name = |files: &[&str]| contents_name(&look(&below(folder(files).path()).unwrap()).unwrap());
        assert_eq!(name(&["a", "b"]), name(&["b", "a"]));
        assert_ne!(name(&["a", "b"]), name(&["a", "c"]));
        let moved = folder(&["a"]);
        fs::rename(moved.path().join("a"), moved.path().join("b")).unwrap();
        assert_ne!(name(&["a"]), contents_name(&look(&below(moved.path()).unwrap()).unwrap()));
        assert!(name(&["a"]).parse::<DataName>().is_ok());
    }

    #[test]
    fn the_innermost_folder_of_all_paths_is_found() {
        let dir = folder(&["x/a/1.png", "x/b/2.png"]);
        let at = |name: &str| dir.path().join(name);
        let common = |names: &[&str]| common_folder(names.iter().map(|name| at(name)).collect::<Vec<_>>().iter());
        assert_eq!(common(&["x/a/1.png"]), Some(at("x/a")));
        assert_eq!(common(&["x/a/1.png", "x/b/2.png"]), Some(at("x")));
        assert_eq!(common(&["x/a", "x/a/1.png"]), Some(at("x/a")));
        assert_eq!(common(&[]), None);
    }

    #[tokio::test]
    async fn data_that_the_coordinator_keeps_is_not_pushed() {
        let spec = |text: &str| convoy_common::spec::parse(text, &[]).unwrap();
        let kept = spec("[data]\ntrain = \"dataset:flowers\"\nvalidation = \"shared:val\"");
        let nobody = crate::typed::typed::<Asked>(&["--coordinator", "127.0.0.1:1"]).unwrap().at;
        let links = FollowLinks { follow_links: false };
        assert_eq!(with_data(&nobody, kept.clone(), links).await.unwrap(), kept);
        let half = spec("[data]\ntrain = \"dataset:flowers\"\nvalidation = \"/here\"");
        let error = with_data(&nobody, half, links).await.unwrap_err();
        assert!(error.to_string().ends_with("push both as one data set"), "{error}");
    }

    #[derive(clap::Args)]
    struct Asked {
        #[command(flatten)]
        at: Endpoint,
    }
}
