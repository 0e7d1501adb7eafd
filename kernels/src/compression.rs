//! Sums and changes of parameters that are rounded to bf16, so that they travel as half the bytes.

use crate::bf16::Bf16;
use crate::cpu::simd;
use crate::shape::expect_len;

/// `left = bf(left + right)`, element by element, bf as [`Bf16::from_f32`]: a node of the reduce tree where nodes are
/// bf16.
///
/// # Panics
/// If the lengths differ.
pub fn add_into_rounded(left: &mut [f32], right: &[f32]) {
    expect_len("right", right.len(), left.len());
    add_rounded(left, right);
}

simd! {
    fn add_rounded(left: &mut [f32], right: &[f32]) {
        for (l, r) in left.iter_mut().zip(right) {
            *l = Bf16::from_f32(*l + r).to_f32();
        }
    }
}

simd! {
    /// `values = bf(values)`, element by element, bf as [`Bf16::from_f32`].
    pub fn round(values: &mut [f32]) {
        for value in values {
            *value = Bf16::from_f32(*value).to_f32();
        }
    }
}

/// `change = bf(after - before)` and `after = before + change`, element by element, bf as [`Bf16::from_f32`]: a step
/// whose changes are bf16. Of their bits the lower byte comes first.
///
/// # Panics
/// If the lengths differ.
pub fn round_change(before: &[f32], after: &mut [f32], change: &mut [[u8; 2]]) {
    expect_len("after", after.len(), before.len());
    expect_len("change", change.len(), before.len());
    split_change(before, after, change);
}

simd! {
    fn split_change(before: &[f32], after: &mut [f32], change: &mut [[u8; 2]]) {
        for ((before, after), change) in before.iter().zip(after).zip(change) {
            let rounded = Bf16::from_f32(*after - before);
            *after = before + rounded.to_f32();
            *change = rounded.to_bits().to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_changes_are_bf16() {
        // 1 + 2^-7 is a bf16, 1 + 2^-8 is halfway to it and goes to the even 1, 1 + 3 * 2^-8 to 1 + 2^-6.
        let (one, ulp) = (1.0f32, 1.0 / 128.0);
        let mut left = [one, one, one, f32::MAX, f32::NAN];
        add_into_rounded(&mut left, &[ulp, ulp / 2.0, 1.5 * ulp, f32::MAX, 1.0]);
        assert_eq!(left[..4], [one + ulp, one, one + 2.0 * ulp, f32::INFINITY]);
        assert!(left[4].is_nan());
        let mut values = [-one - ulp / 2.0, 1e-20, -0.0];
        round(&mut values);
        assert_eq!(values.map(f32::to_bits), [-one, 0.0, 0.0].map(f32::to_bits));
        let before = [1000.0, 0.1, -3.0];
        let (mut after, mut change) = ([1000.0 + 0.123, 0.1, -3.5], [[0; 2]; 3]);
        round_change(&before, &mut after, &mut change);
        let changed = change.map(|bits| f32::from_bits(u32::from(u16::from_le_bytes(bits)) << 16));
        assert_eq!(changed, [Bf16::from_f32((1000.0f32 + 0.123) - 1000.0).to_f32(), 0.0, -0.5]);
        assert_eq!(after, [1000.0 + changed[0], 0.1, -3.5]);
    }
}
