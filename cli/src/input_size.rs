//! The size of a sample, as people write it.

use std::str::FromStr;

use convoy_common::plan::Input;

/// `HxWxC`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputSize(pub Input);

impl FromStr for InputSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<u32>> = text.split('x').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[height, width, channels @ (1 | 3)]) => Ok(InputSize(Input { height, width, channels })),
            _ => Err("give height, width and channels (1 or 3), such as 32x32x3".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!("8x9x1".parse(), Ok(InputSize(Input { height: 8, width: 9, channels: 1 })));
        for text in ["8x9", "8x9x2", "8x9x3x1", "-8x9x3", "axbxc", ""] {
            assert!(text.parse::<InputSize>().is_err(), "{text}");
        }
    }
}
