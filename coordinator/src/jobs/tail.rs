//! Reading a file that grows, line by line.

use std::io;
use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

/// At most this is read at a time.
const PIECE: u64 = 256 << 10;

/// The whole lines of the file at `path` from `offset` on, and where the next one begins. A file that is not there has
/// none.
pub(crate) async fn lines_from(path: &Path, offset: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut file = match File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), offset)),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(offset)).await?;
    let mut text = Vec::new();
    file.take(PIECE).read_to_end(&mut text).await?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    // A line longer than a piece is passed on in parts.
    if whole > 0 || (text.len() as u64) < PIECE {
        text.truncate(whole);
    }
    let next = offset + text.len() as u64;
    Ok((text, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_whole_lines_are_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(lines_from(&path, 0).await.unwrap(), (vec![], 0));
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        assert_eq!(lines_from(&path, 0).await.unwrap(), (b"one\ntwo\n".to_vec(), 8));
        assert_eq!(lines_from(&path, 8).await.unwrap(), (vec![], 8));
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(lines_from(&path, 8).await.unwrap(), (b"three\n".to_vec(), 14));
    }
}
