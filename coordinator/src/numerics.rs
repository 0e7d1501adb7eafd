//! Numbers for classes of arithmetic.

/// The fleet's number for a class of arithmetic, made of its name, for there is one for each kind of GPU. Two names of
/// one number would do no harm: a worker looks at the name before it joins a run.
pub(crate) fn numerics_number(name: &str) -> u32 {
    let [a, b, c, d, ..] = convoy_common::Digest::of(name.as_bytes()).0;
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_number_of_its_own() {
        let names = ["cpu-f32-v1", "cpu-f32-direct-v1", "cuda-f32-v1/H100/12.4", "cuda-f32-v1/H200/12.4"];
        let numbers: std::collections::BTreeSet<u32> = names.iter().map(|name| numerics_number(name)).collect();
        assert_eq!(numbers.len(), names.len());
    }
}
