//! What is done for the data while nobody asks: packs are read again, and what nobody needs is removed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_common::Digest;

use super::error::DataError;
use super::index::PackFacts;
use super::pack::{self, Located};
use super::store::DataStore;
use super::unix_seconds;

/// How long what was pushed is kept for whoever did not name it, after their last push.
const UNNAMED_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Between two times that all packs are read.
const BETWEEN: Duration = Duration::from_secs(24 * 3600);
/// After a pack was read, nothing is read for so many times as long: one disk in twenty is busy with it.
const REST: u32 = 19;

/// Looks after the data for as long as the coordinator runs.
pub(crate) async fn keep_up(store: Arc<DataStore>) {
    loop {
        let sweeping = store.clone();
        let swept = tokio::task::spawn_blocking(move || sweeping.sweep_unnamed(unix_seconds())).await;
        match swept {
            Ok(Ok(packs @ 1..)) => tracing::info!(packs, "removed what was pushed and never named"),
            Ok(Ok(0)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "packs that nobody needs stay"),
            Err(error) => tracing::error!(%error, "removing packs crashed"),
        }
        for pack in store.index.packs().unwrap_or_default() {
            let (reading, begun) = (store.clone(), Instant::now());
            let read = tokio::task::spawn_blocking(move || reading.verify(&pack.digest)).await;
            if let Ok(Err(error)) = read {
                tracing::warn!(%error, "a pack of data could not be checked");
            }
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

impl DataStore {
    /// Removes packs that no data set needs, of those who pushed nothing for a day.
    pub(crate) fn sweep_unnamed(&self, now: u64) -> Result<usize, DataError> {
        let mut last = BTreeMap::<String, u64>::new();
        for pack in self.index.packs()? {
            let at = last.entry(pack.owner).or_default();
            *at = pack.kept_at.max(*at);
        }
        self.sweep(|pack: &PackFacts| {
            let at = last.get(&pack.owner).copied().unwrap_or(pack.kept_at);
            at.saturating_add(UNNAMED_KEPT.as_secs()) < now
        })
    }

    /// Reads a pack; what is damaged in it is put aside. How many files that is.
    pub(super) fn verify(&self, pack: &Digest) -> Result<usize, DataError> {
        if is_whole(self, pack)? {
            return Ok(0);
        }
        let is_damaged =
            |(digest, at): &(Digest, Located)| pack::digest_at(&self.packs, at).map_or(true, |now| now != *digest);
        let damaged: Vec<_> = self.index.contents_of(pack)?.into_iter().filter(is_damaged).collect();
        if !damaged.is_empty() {
            let path = pack::path_of(&self.packs, pack);
            tracing::error!(pack = %path.display(), files = damaged.len(), "data is damaged; it counts as missing until it is pushed again");
            self.index.put_aside(&damaged)?;
        }
        Ok(damaged.len())
    }
}

/// Whether the pack's bytes have its digest. One that was removed meanwhile has.
fn is_whole(store: &DataStore, pack: &Digest) -> io::Result<bool> {
    let file = match File::open(pack::path_of(&store.packs, pack)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        opened => opened?,
    };
    Ok(pack::digest_of(file, u64::MAX)?.0 == *pack)
}
