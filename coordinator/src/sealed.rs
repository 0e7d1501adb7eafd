//! Text on disk whose last line is a digest of all before it.

use std::io::{self, Write};

/// Writes text, and its seal at the end.
pub(crate) struct Sealing<W> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Sealing<W> {
    pub(crate) fn new(out: W) -> Self {
        Sealing { out, hasher: blake3::Hasher::new() }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        for part in [text, "\n"] {
            self.hasher.update(part.as_bytes());
            self.out.write_all(part.as_bytes())?;
        }
        Ok(())
    }

    /// Writes the seal.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        writeln!(self.out, "{}", self.hasher.finalize().to_hex())?;
        self.out.flush()
    }
}

/// The lines that were sealed; `None` when a byte of them has changed.
pub(crate) fn unseal(bytes: &[u8]) -> Option<std::str::Lines<'_>> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (text, check) = text.split_at(text.rfind('\n')? + 1);
    (*check == *blake3::hash(text.as_bytes()).to_hex()).then(|| text.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_is_found() {
        for lines in [&[""][..], &["one"], &["one", "two"]] {
            let mut sealed = Vec::new();
            let mut sealing = Sealing::new(&mut sealed);
            lines.iter().for_each(|line| sealing.line(line).unwrap());
            sealing.finish().unwrap();
            assert_eq!(unseal(&sealed).unwrap().collect::<Vec<_>>(), lines);
            for at in 0..sealed.len() {
                assert!(unseal(&sealed[..at]).is_none(), "{lines:?} cut at {at}");
                let mut bytes = sealed.clone();
                bytes[at] ^= 1;
                assert!(unseal(&bytes).is_none(), "{lines:?} byte {at}");
            }
        }
    }
}
