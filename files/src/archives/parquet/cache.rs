//! The pages that were decoded last, so that neighbours do not decode one page again each.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use parquet::data_type::ByteArray;

/// Which page: of a row group, by its number.
pub(super) type PageKey = (usize, usize);

/// The pictures of a page; none where a row has none.
pub(super) type Page = Arc<[Option<ByteArray>]>;

/// Pages that are kept for each file.
const KEPT: usize = 2;
/// Bytes of a page that is kept; larger ones hold few pictures.
const LARGEST: usize = 8 << 20;

/// The last pages of one file.
#[derive(Debug, Default)]
pub(super) struct PageCache(Mutex<VecDeque<(PageKey, Page)>>);

impl PageCache {
    /// The page, if it is kept.
    pub(super) fn get(&self, key: PageKey) -> Option<Page> {
        let kept = self.0.lock();
        kept.iter().find(|(found, _)| *found == key).map(|(_, page)| page.clone())
    }

    /// Keeps a page in place of the oldest.
    pub(super) fn keep(&self, key: PageKey, page: &Page) {
        let size = page.iter().flatten().map(ByteArray::len).sum::<usize>();
        if size > LARGEST || page.len() < 2 {
            return;
        }
        let mut kept = self.0.lock();
        kept.truncate(KEPT - 1);
        kept.push_front((key, page.clone()));
    }
}
