//! What the nodes of the reduce tree do with gradients.

use crate::cpu::simd;
use crate::shape::expect_len;

/// `left = left + right`, element by element: a node of the reduce tree, whose left child is `left`.
///
/// # Panics
/// If the lengths differ.
pub fn add_into(left: &mut [f32], right: &[f32]) {
    expect_len("right", right.len(), left.len());
    add(left, right);
}

simd! {
    fn add(left: &mut [f32], right: &[f32]) {
        for (l, r) in left.iter_mut().zip(right) {
            *l += r;
        }
    }
}

simd! {
    /// `values = values * factor`, element by element: the root's sum times 1 / count.
    pub fn scale(values: &mut [f32], factor: f32) {
        for v in values {
            *v *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_and_scales() {
        let mut left = [1.0, -2.0, f32::MAX];
        add_into(&mut left, &[0.5, 2.0, f32::MAX]);
        assert_eq!(left, [1.5, 0.0, f32::INFINITY]);
        scale(&mut left, 0.25);
        assert_eq!(left, [0.375, 0.0, f32::INFINITY]);
    }
}
