//! Looking for NaN and infinity.

/// Whether no value is NaN or infinite. True for no values at all.
pub fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    // Whole blocks without an early exit, so that the test becomes vectors.
    values.chunks(1024).all(|block| !block.iter().fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT)))
}

#[cfg(test)]
mod tests {
    use super::all_finite;

    #[test]
    fn one_bad_value_is_found_anywhere() {
        let mut values = vec![f32::MAX; 3000];
        assert!(all_finite(&values) && all_finite(&[]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
            for at in [0, 1023, 1024, 2999] {
                let good = std::mem::replace(&mut values[at], bad);
                assert!(!all_finite(&values), "{bad} at {at}");
                values[at] = good;
            }
        }
    }
}
