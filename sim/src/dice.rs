//! Random numbers for the world, never for the run.

use crate::oracle::mix;

/// A generator with one number as its state (splitmix64). Equal seeds throw equal dice.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that begin at `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(mix(seed, 0x5eed))
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0, 0) % bound.max(1)
    }

    /// True so many times in a thousand, on average.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// One of these, all with the same chance.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Puts `list` into a random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_throw_equal_dice() {
        let throws = |seed| -> Vec<u64> {
            let mut dice = Dice::new(seed);
            (0..20).map(|_| dice.below(1000)).collect()
        };
        assert_eq!(throws(3), throws(3));
        assert_ne!(throws(3), throws(4));
    }

    #[test]
    fn chances_are_kept() {
        let mut dice = Dice::new(1);
        let mut times = |per_mille| (0..10_000).filter(|_| dice.chance(per_mille)).count();
        assert_eq!((times(0), times(1000)), (0, 10_000));
        assert!((2_800..3_200).contains(&times(300)));
        assert_eq!(dice.below(0), 0);
    }

    #[test]
    fn a_shuffled_list_holds_the_same() {
        let mut list: Vec<u32> = (0..50).collect();
        Dice::new(2).shuffle(&mut list);
        assert!(!list.is_sorted());
        list.sort_unstable();
        assert!(list.into_iter().eq(0..50));
    }
}
