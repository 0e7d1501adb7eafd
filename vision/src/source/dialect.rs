//! What separates the columns of a table.

/// Characters that tables are written with, the likelier first.
const KNOWN: [char; 4] = [',', ';', '\t', '|'];

/// The separator of a table whose first line is `header`: the first that makes a column called `path_column` of it,
/// beginning with the one that the file's name promises (`tabs` for .tsv); else the most frequent, else the promised.
pub(crate) fn delimiter(header: &str, path_column: &str, tabs: bool) -> u8 {
    let promised = if tabs { '\t' } else { ',' };
    let candidates = || std::iter::once(promised).chain(KNOWN.into_iter().filter(move |mark| *mark != promised));
    let fits = |mark: &char| header.split(*mark).any(|name| name.trim().trim_matches('"') == path_column);
    let often = |mark: char| header.matches(mark).count();
    // The last of equals wins, so the order is turned round.
    let frequent = || {
        let mut all: Vec<char> = candidates().collect();
        all.reverse();
        all.into_iter().max_by_key(|mark| often(*mark)).unwrap_or(promised)
    };
    candidates().find(|mark| fits(mark) && often(*mark) > 0).unwrap_or_else(frequent) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_what_separates() {
        let found = |header: &str, tabs| delimiter(header, "path", tabs) as char;
        assert_eq!(found("path,label", false), ',');
        assert_eq!(found("path;label", false), ';');
        assert_eq!(found("path\tlabel", false), '\t');
        assert_eq!(found("path,label", true), ',');
        assert_eq!(found("path|label", false), '|');
        assert_eq!(found("\"path\";\"len, cm\"", false), ';');
        assert_eq!(found("image;len, cm;wid", false), ';');
        assert_eq!(found("path", false), ',');
        assert_eq!(found("path", true), '\t');
    }
}
