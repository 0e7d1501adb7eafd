//! How commands look at data of this machine.

use convoy_files::cache_folder;
use convoy_planning::Looking;
use convoy_vision::LookCache;

use crate::progress::counter;

/// Whether files that did not change are read again.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct LookArgs {
    /// Read every file again, those too that are as an earlier look saw them by size, time and identity.
    #[arg(long)]
    pub verify: bool,
}

impl LookArgs {
    /// Looking that shows how far it is, and trusts earlier looks unless told otherwise.
    pub fn looking(self) -> Looking {
        let cache = LookCache::in_folder(cache_folder().join("looks"));
        Looking { counters: counter, cache: Some(if self.verify { cache.anew() } else { cache }) }
    }
}
