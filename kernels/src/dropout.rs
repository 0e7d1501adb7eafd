//! Dropout with a mask that the caller drew.

use crate::shape::expect_len;

/// `y = x * scale` where `keep`, else 0. With `scale` = 1 / (1 - p) this is `torch.nn.Dropout(p)` in training; its
/// gradient is the same function of `dy`, mask and scale.
///
/// # Panics
/// If the lengths differ.
pub fn apply(x: &[f32], keep: &[bool], scale: f32, y: &mut [f32]) {
    expect_len("keep", keep.len(), x.len());
    expect_len("y", y.len(), x.len());
    for ((y, &x), &keep) in y.iter_mut().zip(x).zip(keep) {
        *y = if keep { x * scale } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn drops_and_scales() {
        let mut y = [9.0; 3];
        super::apply(&[1.0, f32::NAN, -3.0], &[true, false, true], 2.0, &mut y);
        assert_eq!(y, [2.0, 0.0, -6.0]);
    }
}
