//! How long an exchange must take, by counting bytes.

use super::plan::RatesPlan;

impl RatesPlan {
    /// Nanoseconds that the busiest link carries bytes in a step, if every worker that can owns chunks and nothing ever
    /// waits for anything else: what an exchange would take at best.
    ///
    /// Of `G` bytes, `W` workers and `S` owners with a share of `G / S` each, an owner
    /// - gives out its gradient but for its own share, `G (S - 1) / S`, and its share of the parameters to all others,
    ///   `G / S (W - 1)`;
    /// - takes in its share of all other gradients, `G / S (W - 1)`, taken as `G` where it is less, and the parameters
    ///   of all others, about `G`.
    ///
    /// The larger of both, through a link. Of a star, the coordinator takes in `W G`, and gives out as much at the same
    /// time.
    pub fn by_bytes(&self) -> u64 {
        let (bytes, workers) = (u128::from(self.gradient), u128::from(self.workers));
        if self.star {
            return self.carry(workers * bytes);
        }
        let owners = workers.min(u128::from(self.chunks()));
        let up = bytes * (owners - 1 + workers - 1) / owners;
        let down = (bytes * (workers - 1) / owners).max(bytes);
        self.carry(up.max(down + bytes))
    }

    /// Nanoseconds that an exchange with so many owners must take, given that chunks are what is added, owned and sent:
    /// an owner has a whole number of chunks, and nothing of a chunk can leave it before all of it has come.
    ///
    /// The owner with the most chunks, `m` of `C`, gives out `C - m` chunks of its own gradient, `m (W - 1)` of
    /// parameters and `m` sums. It takes in no more. But its last chunk is complete only when `m (W - 1)` chunks have
    /// come through its down link, and then goes to `W - 1` others: `(m + 1) (W - 1)` one after the other. With few
    /// workers the first is more; with many more workers than chunks, which then have few owners with few chunks each,
    /// it is the second. The same goes for a star, whose owner sends nothing of its own: `(C + 1) W`.
    pub fn by_chunks(&self, owners: usize) -> u64 {
        let (chunks, workers, owners) = (u128::from(self.chunks()), u128::from(self.workers), owners as u128);
        let slots = if owners == 0 {
            (chunks + 1) * workers
        } else {
            let most = chunks.div_ceil(owners);
            let others = workers - 1;
            (chunks - most + most * others + most).max((most + 1) * others)
        };
        self.carry(slots * u128::from(self.chunk.min(self.gradient)))
    }

    fn carry(&self, bytes: u128) -> u64 {
        self.cable().takes(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_busiest_owner() {
        let millis = |nanos: u64| nanos / 1_000_000;
        let of = |workers| RatesPlan::of_workers(workers);
        assert_eq!([64, 256, 1000].map(|workers| millis(of(workers).by_bytes())), [76, 95, 260]);
        let star = |workers| RatesPlan { star: true, ..of(workers) };
        assert_eq!([64, 256, 1000].map(|workers| millis(star(workers).by_bytes())), [2451, 9804, 38297]);
        assert_eq!(
            [(64, 64), (256, 172), (1000, 172)].map(|(w, owners)| millis(of(w).by_chunks(owners))),
            [80, 113, 445]
        );
        assert_eq!(millis(star(64).by_chunks(0)), 2470);
    }

    #[test]
    fn who_is_alone_sends_its_sums_to_the_coordinator() {
        let alone = RatesPlan { gradient: 1000, ..RatesPlan::of_workers(1) };
        assert_eq!(alone.by_chunks(1), alone.cable().takes(1000));
    }
}
