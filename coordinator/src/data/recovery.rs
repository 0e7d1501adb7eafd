//! Makes the index agree with what lies on the disk: after a crash, after damage, and when there is none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use convoy_common::Digest;
use convoy_common::data_place::DataName;

use super::error::DataError;
use super::index::{DataIndex, PackFacts};
use super::pack::{self, Packed};
use super::set_list;
use crate::store_error::StoreError;
use crate::store_file::put_aside;

/// Bytes that are read at once.
const PART: usize = 1 << 20;

/// Opens the index at `path`. A damaged one is put aside, and an empty one takes its place.
///
/// # Errors
/// When it is in use, or the disk fails.
pub(super) fn open_index(path: &Path) -> Result<DataIndex, StoreError> {
    match DataIndex::open(path) {
        Err(StoreError::Damaged { problem, .. }) => {
            let aside = put_aside(path)?;
            tracing::error!(file = %path.display(), aside = %aside.display(), problem, "damaged; it was put aside and is made anew");
            DataIndex::open(path)
        }
        opened => opened,
    }
}

/// Takes in packs and lists that the index does not know, and forgets packs that are not there.
///
/// # Errors
/// When the disk fails.
pub(super) fn reconcile(index: &DataIndex, packs: &Path, lists: &Path) -> Result<(), DataError> {
    reconcile_packs(index, packs)?;
    reconcile_lists(index, lists)?;
    if index.any_damaged()? {
        for set in index.sets()? {
            if let (count @ 1.., Some(first)) = index.damaged_of(&set.name)? {
                tracing::error!(name = %set.name, count, first = first.as_str(), "files of a data set are damaged or gone; push it again");
            }
        }
    }
    Ok(())
}

fn reconcile_packs(index: &DataIndex, folder: &Path) -> Result<(), DataError> {
    let known: BTreeSet<Digest> = index.packs()?.iter().map(|pack| pack.digest).collect();
    let found: BTreeSet<Digest> = pack::list(folder)?.into_iter().collect();
    for lost in known.difference(&found) {
        tracing::error!(pack = %pack::path_of(folder, lost).display(), "a pack of data is not there any more");
        index.forget_pack(lost)?;
    }
    for new in found.difference(&known) {
        let path = pack::path_of(folder, new);
        let packed = Packed { digest: *new, files: contents(&path)? };
        let facts = fs::metadata(&path)?;
        let age = facts.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let kept_at = age.unwrap_or_default().as_secs();
        tracing::warn!(pack = %path.display(), files = packed.files.len(), "a pack of data that was not known is taken in");
        index.keep(&packed, &PackFacts { digest: *new, owner: String::new(), bytes: facts.len(), kept_at })?;
    }
    Ok(())
}

/// Digest, offset and size of each file in the pack at `path`, up to where it is damaged.
fn contents(path: &Path) -> io::Result<Vec<(Digest, u64, u64)>> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(PART, File::open(path)?));
    let mut found = Vec::new();
    for entry in archive.entries()? {
        let Ok(entry) = entry else { break };
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let Ok((digest, came)) = pack::digest_of(entry, u64::MAX) else { break };
        if came == size {
            found.push((digest, offset, size));
        }
    }
    Ok(found)
}

fn reconcile_lists(index: &DataIndex, folder: &Path) -> Result<(), DataError> {
    let known = index.sets()?;
    let mut listed = BTreeSet::new();
    for path in lists(folder)? {
        let Some(name) = set_list::name_of(&path) else { continue };
        let of_index = known.iter().find(|set| set.name == name);
        let head = set_list::head(&path);
        if head.is_some() && head.as_ref() == of_index {
            listed.insert(name);
        } else if let Some((set, files)) = set_list::read(&path) {
            tracing::warn!(name = %set.name, files = set.files, "a data set that the index did not know is taken in");
            index.name(&set, &files)?;
            listed.insert(name);
        } else {
            let aside = put_aside(&path)?;
            let lost = if of_index.is_some() { "it is written anew" } else { "the data set is lost; push it again" };
            tracing::error!(%name, aside = %aside.display(), "the list of a data set is damaged: {lost}");
        }
    }
    for set in known.iter().filter(|set| !listed.contains::<DataName>(&set.name)) {
        set_list::write(folder, set, &index.files_of(&set.name)?)?;
    }
    Ok(())
}

fn lists(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}
