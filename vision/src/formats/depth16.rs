//! Pictures of 16 bits become pictures of eight.

/// The least and the largest of `values`.
pub(crate) fn range_of(values: &[u16]) -> Option<[u16; 2]> {
    Some([*values.iter().min()?, *values.iter().max()?])
}

/// The smallest range that holds both.
pub(crate) fn union(a: Option<[u16; 2]>, b: Option<[u16; 2]>) -> Option<[u16; 2]> {
    match (a, b) {
        (Some(a), Some(b)) => Some([a[0].min(b[0]), a[1].max(b[1])]),
        (a, b) => a.or(b),
    }
}

/// Eight bits of each value: the upper byte, or its place in `range`, from 0 at the lower end to 255 at the upper end,
/// rounded; what lies outside becomes the nearest end.
pub(crate) fn narrow(values: &[u16], range: Option<[u16; 2]>) -> Vec<u8> {
    let Some([low, high]) = range.filter(|[low, high]| low < high) else {
        return values.iter().map(|value| (value >> 8) as u8).collect();
    };
    let span = u32::from(high - low);
    let place = |value: &u16| (u32::from((*value).clamp(low, high) - low) * 255 + span / 2) / span;
    values.iter().map(|value| place(value) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_bits_fill_eight() {
        let values = [0, 1000, 2048, 4095, 65_535];
        assert_eq!(narrow(&values, None), [0, 3, 8, 15, 255]);
        assert_eq!(narrow(&values, Some([0, 4095])), [0, 62, 128, 255, 255]);
        assert_eq!(narrow(&values, Some([1000, 2048])), [0, 0, 255, 255, 255]);
        // The whole range rounds where the upper byte cuts off.
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let apart = narrow(&all, None).iter().zip(narrow(&all, Some([0, u16::MAX]))).map(|(a, b)| a.abs_diff(b)).max();
        assert_eq!(apart, Some(1));
    }

    #[test]
    fn ranges() {
        assert_eq!(range_of(&[5, 3, 9]), Some([3, 9]));
        assert_eq!(range_of(&[]), None);
        assert_eq!(union(Some([3, 9]), Some([1, 4])), Some([1, 9]));
        assert_eq!(union(None, Some([1, 4])), Some([1, 4]));
    }
}
