//! What the nodes of the reduce tree do with gradients.

use crate::shape::expect_len;

/// `left = left + right`, element by element: a node of the reduce tree, whose left child is `left`.
///
/// # Panics
/// If the lengths differ.
pub fn add_into(left: &mut [f32], right: &[f32]) {
    expect_len("right", right.len(), left.len());
    for (l, r) in left.iter_mut().zip(right) {
        *l += r;
    }
}

/// `values = values * factor`, element by element: the root's sum times 1 / count.
pub fn scale(values: &mut [f32], factor: f32) {
    for v in values {
        *v *= factor;
    }
}
