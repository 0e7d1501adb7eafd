//! An array in a zip file: its header (`.npy`, versions 1 to 3), and its numbers.

use std::io::{self, Read};

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
    Bool,
    /// Characters of four bytes each.
    Text(usize),
}

impl Element {
    /// Bytes of one.
    pub(super) fn size(self) -> usize {
        match self {
            Element::Unsigned(size) | Element::Signed(size) | Element::Float(size) => size,
            Element::Bool => 1,
            Element::Text(characters) => 4 * characters,
        }
    }
}

/// What an array's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NpyHeader {
    pub element: Element,
    pub big_endian: bool,
    pub shape: Vec<u64>,
    /// Bytes before the first number.
    pub length: u64,
}

/// What an array begins with.
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Bytes of a header; NumPy itself refuses longer ones.
const LONGEST: usize = 10_000;

pub(super) fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl NpyHeader {
    /// Reads the header that `from` begins with.
    ///
    /// # Errors
    /// When there is none, or it speaks of what is not read.
    pub(super) fn read(from: &mut impl Read) -> io::Result<NpyHeader> {
        let mut start = [0; 10];
        from.read_exact(&mut start)?;
        if !start.starts_with(MAGIC) {
            return Err(wrong("is no array of NumPy"));
        }
        let short = usize::from(u16::from_le_bytes([start[8], start[9]]));
        let (before, length) = match start[6] {
            1 => (10, short),
            2 | 3 => {
                let mut more = [0; 2];
                from.read_exact(&mut more)?;
                (12, short | usize::from(u16::from_le_bytes(more)) << 16)
            }
            version => return Err(wrong(format!("is of version {version}; known are 1, 2 and 3"))),
        };
        if length > LONGEST {
            return Err(wrong(format!("claims a header of {length} bytes")));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        let text = String::from_utf8(text).map_err(|_| wrong("has a header that is no text"))?;
        let (element, big_endian) = element_of(&text)?;
        if field(&text, "fortran_order").is_none_or(|value| !value.starts_with("False")) {
            return Err(wrong("lies column by column (Fortran order); save np.ascontiguousarray of it"));
        }
        let shape = shape_of(&text).ok_or_else(|| wrong(format!("has a header without a shape: {}", text.trim())))?;
        Ok(NpyHeader { element, big_endian, shape, length: (before + length) as u64 })
    }

    /// Bytes of header and numbers together; `None` where no file is that large.
    pub(super) fn total(&self) -> Option<u64> {
        let count = self.shape.iter().try_fold(1u64, |product, side| product.checked_mul(*side))?;
        count.checked_mul(self.element.size() as u64)?.checked_add(self.length)
    }

    /// The element that `bytes` hold, as text.
    pub(super) fn text(&self, bytes: &[u8]) -> String {
        let mut padded = [0; 8];
        let size = bytes.len().min(8);
        padded[..size].copy_from_slice(&bytes[..size]);
        if self.big_endian {
            padded[..size].reverse();
        }
        let number = u64::from_le_bytes(padded);
        match self.element {
            Element::Unsigned(_) => number.to_string(),
            Element::Signed(size) => ((number << (64 - 8 * size)) as i64 >> (64 - 8 * size)).to_string(),
            Element::Float(4) => format!("{:?}", f32::from_bits(number as u32)),
            Element::Float(_) => format!("{:?}", f64::from_bits(number)),
            Element::Bool => (number != 0).to_string(),
            Element::Text(_) => {
                let code = |four: &[u8; 4]| {
                    if self.big_endian { u32::from_be_bytes(*four) } else { u32::from_le_bytes(*four) }
                };
                let characters = bytes.as_chunks::<4>().0.iter().map(code).take_while(|code| *code != 0);
                characters.map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
        }
    }
}

/// The text behind a key of the header, which is a dictionary as Python writes it.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let at = text.find(&format!("'{key}'"))?;
    Some(text[at + key.len() + 2..].trim_start().strip_prefix(':')?.trim_start())
}

fn element_of(text: &str) -> io::Result<(Element, bool)> {
    let value = field(text, "descr").ok_or_else(|| wrong("has a header without a type"))?;
    let Some(kind) = value.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) else {
        return Err(wrong("holds structures, not numbers"));
    };
    let (kind, _) = kind;
    let mut characters = kind.chars();
    let order = characters.next();
    let letter = characters.next();
    let size: usize = characters.as_str().parse().unwrap_or(0);
    let element = match (letter, size) {
        (Some('u'), 1 | 2 | 4 | 8) => Element::Unsigned(size),
        (Some('i'), 1 | 2 | 4 | 8) => Element::Signed(size),
        (Some('f'), 4 | 8) => Element::Float(size),
        (Some('b'), 1) => Element::Bool,
        (Some('U'), 1..=1000) => Element::Text(size),
        (Some('O'), _) => {
            return Err(wrong("holds objects of Python, which are never loaded: that would run what is in them"));
        }
        _ => return Err(wrong(format!("holds elements of type `{kind}`, which are not read"))),
    };
    Ok((element, order == Some('>')))
}

fn shape_of(text: &str) -> Option<Vec<u64>> {
    let (inner, _) = field(text, "shape")?.strip_prefix('(')?.split_once(')')?;
    inner.split(',').map(str::trim).filter(|side| !side.is_empty()).map(|side| side.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[version, 0]].concat();
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    fn read(text: &str) -> Result<NpyHeader, String> {
        NpyHeader::read(&mut &header(1, text)[..]).map_err(|error| error.to_string())
    }

    #[test]
    fn headers_of_all_versions() {
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 28, 28), }   \n";
        for (version, before) in [(1, 10), (2, 12), (3, 12)] {
            let found = NpyHeader::read(&mut &header(version, text)[..]).unwrap();
            let length = before + text.len() as u64;
            assert_eq!(
                found,
                NpyHeader { element: Element::Unsigned(1), big_endian: false, shape: vec![5, 28, 28], length }
            );
            assert_eq!(found.total(), Some(length + 5 * 784));
        }
        assert!(NpyHeader::read(&mut &header(4, text)[..]).is_err());
        assert_eq!(read("{'descr': '<f8', 'fortran_order': False, 'shape': (), }").unwrap().shape.len(), 0);
        assert_eq!(read("{'descr': '<i8', 'fortran_order': False, 'shape': (7,), }").unwrap().shape, [7]);
    }

    #[test]
    fn what_is_not_read_is_refused_in_words() {
        let with = |kind: &str, order: &str, shape: &str| {
            read(&format!("{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"))
        };
        for (header, words) in [
            (with("'|O'", "False", "(5,)"), "never loaded"),
            (with("'|u1'", "True", "(5, 5)"), "ascontiguousarray"),
            (with("[('a', '<i4')]", "False", "(5,)"), "structures"),
            (with("'<c16'", "False", "(5,)"), "`<c16`"),
            (with("'|u1'", "False", "(5, -1)"), "without a shape"),
            (with("'|u1'", "False", "(5, 1"), "without a shape"),
            (read("{}"), "without a type"),
        ] {
            let text = header.unwrap_err();
            assert!(text.contains(words), "{text}");
        }
        assert!(NpyHeader::read(&mut &header(2, "")[..9]).is_err());
        let long = [&MAGIC[..], &[2, 0, 0xFF, 0xFF, 0xFF, 0xFF]].concat();
        assert!(NpyHeader::read(&mut &long[..]).unwrap_err().to_string().contains("4294967295"));
        let huge = with("'<f8'", "False", "(18446744073709551615, 2)").unwrap();
        assert_eq!(huge.total(), None);
    }

    #[test]
    fn elements_are_text() {
        let text = |kind: &str, bytes: &[u8]| {
            read(&format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (1,), }}")).unwrap().text(bytes)
        };
        assert_eq!(text("|u1", &[200]), "200");
        assert_eq!(text("|i1", &[255]), "-1");
        assert_eq!(text("<i8", &(-5i64).to_le_bytes()), "-5");
        assert_eq!(text(">i2", &[1, 2]), "258");
        assert_eq!(text("<f4", &1.5f32.to_le_bytes()), "1.5");
        assert_eq!(text("<f8", &2f64.to_le_bytes()), "2.0");
        assert_eq!(text("|b1", &[1]), "true");
        assert_eq!(text("<U3", &[b'a', 0, 0, 0, 0xE9, 0, 0, 0, 0, 0, 0, 0]), "aé");
    }
}
