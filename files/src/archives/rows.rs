//! Rows of a table as files: their names, and pictures made of plain pixels.

/// Digits of a name at least.
const DIGITS: usize = 6;

/// The name of a row of `count`: its number, with zeros in front, so that byte order is the order of rows.
pub(super) fn name_of(row: u64, count: u64) -> String {
    let width = count.saturating_sub(1).to_string().len().max(DIGITS);
    format!("{row:0width$}")
}

/// The row of `count` that a name means.
pub(super) fn row_of(name: &str, count: u64) -> Option<u64> {
    let row = name.parse().ok().filter(|row| *row < count)?;
    (name_of(row, count) == name).then_some(row)
}

/// What a PGM or PPM file has before its pixels; of two bytes a number the upper one comes first.
pub(super) fn pnm_header(width: u64, height: u64, channels: u64, bytes: usize) -> Vec<u8> {
    let magic = if channels == 1 { "P5" } else { "P6" };
    let most = if bytes == 1 { 255 } else { 65_535 };
    format!("{magic}\n{width} {height}\n{most}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers_of_one_length() {
        assert_eq!(
            (name_of(7, 8), name_of(7, 1_000_000), name_of(7, 1_000_001)),
            ("000007".into(), "000007".into(), "0000007".into())
        );
        assert_eq!(row_of("000007", 8), Some(7));
        for name in ["000008", "7", "+00007", "0000007", "", "x", "00007 "] {
            assert_eq!(row_of(name, 8), None, "{name}");
        }
        assert_eq!(row_of("000000", 0), None);
    }
}
