//! Links with a rate: what a machine sends waits for its up link, and then for the down link of who takes it.
//!
//! Each machine has one link each way, beside one another, of the same rate. Bytes are passed on as they come: on idle
//! links, a parcel takes the latency and the time of its bytes once. A parcel that has begun is not interrupted. What
//! comes for a machine at a time waits before its down link in the order in which it was begun, however much that is:
//! nothing is lost. Only messages of few bytes pass all others, as they do where queues are fair or short.

use std::collections::VecDeque;

/// Nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

/// What all links are like. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Bytes a second.
    pub rate: u64,
    /// What a byte takes from machine to machine, without waiting.
    pub latency: u64,
}

impl Wire {
    /// What so many bytes take on one link.
    pub fn takes(&self, bytes: u64) -> u64 {
        let nanos = (u128::from(bytes) * SECOND).div_ceil(u128::from(self.rate));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// What goes first where several parcels wait for one up link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Messages of few bytes.
    Control,
    /// Gradients: all workers wait for the last of them.
    Gradient,
    /// Next parameters, and sums.
    Parameters,
}

/// Ranks that there are.
const RANKS: usize = 3;

/// Bytes on their way from machine to machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel<T> {
    /// The machine that sends it.
    pub from: usize,
    /// The machine that takes it.
    pub to: usize,
    /// Its bytes.
    pub bytes: u64,
    /// What it is.
    pub load: T,
}

/// A parcel that has begun.
#[derive(Debug, PartialEq, Eq)]
pub struct Departure<T> {
    /// Which one.
    pub parcel: Parcel<T>,
    /// When the up link is free again.
    pub free: u64,
    /// When the last byte is there.
    pub arrives: u64,
}

/// The links of one machine.
#[derive(Debug)]
struct Machine<T> {
    waiting: [VecDeque<Parcel<T>>; RANKS],
    up_free: u64,
    down_free: u64,
    bytes: Carried,
}

/// Bytes that the links of a machine have carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Taken in.
    pub taken: u64,
    /// Given out.
    pub given: u64,
}

/// The links of all machines.
#[derive(Debug)]
pub struct Links<T> {
    wire: Wire,
    machines: Vec<Machine<T>>,
}

impl<T> Links<T> {
    /// Idle links of so many machines.
    pub fn new(wire: Wire, machines: usize) -> Links<T> {
        let machine = |_| {
            let waiting = std::array::from_fn(|_| VecDeque::new());
            Machine { waiting, up_free: 0, down_free: 0, bytes: Carried::default() }
        };
        Links { wire, machines: (0..machines).map(machine).collect() }
    }

    /// Has a parcel wait for the up link of its machine.
    pub fn queue(&mut self, rank: Rank, parcel: Parcel<T>) {
        self.machines[parcel.from].waiting[rank as usize].push_back(parcel);
    }

    /// Begins the parcel that is next at a machine, if its up link is free at `now`. Moments must not go back from one
    /// call to the next: so parcels come to a down link in the order in which they were begun.
    pub fn depart(&mut self, now: u64, machine: usize) -> Option<Departure<T>> {
        let from = &mut self.machines[machine];
        if from.up_free > now {
            return None;
        }
        let [control, ..] = &from.waiting;
        let passes = !control.is_empty();
        let parcel = from.waiting.iter_mut().find_map(VecDeque::pop_front)?;
        let takes = self.wire.takes(parcel.bytes);
        from.up_free = now + takes;
        from.bytes.given += parcel.bytes;
        let to = &mut self.machines[parcel.to];
        let first = now + self.wire.latency;
        to.down_free = to.down_free.max(first) + takes;
        to.bytes.taken += parcel.bytes;
        let arrives = if passes { first + takes } else { to.down_free };
        Some(Departure { parcel, free: now + takes, arrives })
    }

    /// What the links of each machine have carried so far.
    pub fn carried(&self) -> Vec<Carried> {
        self.machines.iter().map(|machine| machine.bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte takes a microsecond, and a millisecond to get there.
    fn links(machines: usize) -> Links<char> {
        Links::new(Wire { rate: 1_000_000, latency: 1_000_000 }, machines)
    }

    fn parcel(from: usize, to: usize, bytes: u64, load: char) -> Parcel<char> {
        Parcel { from, to, bytes, load }
    }

    /// Begins what is next: what it is, and when link and parcel are done, in microseconds.
    fn depart(links: &mut Links<char>, micros: u64, machine: usize) -> Option<(char, u64, u64)> {
        let departed = links.depart(micros * 1000, machine)?;
        Some((departed.parcel.load, departed.free / 1000, departed.arrives / 1000))
    }

    #[test]
    fn bytes_take_their_time_rounded_up() {
        let wire = Wire { rate: 3, latency: 0 };
        assert_eq!([0, 1, 3, 4].map(|bytes| wire.takes(bytes)), [0, 333_333_334, 1_000_000_000, 1_333_333_334]);
        let fast = Wire { rate: 1_175_000_000, latency: 0 };
        assert_eq!(fast.takes(262_144), 223_102);
        assert_eq!(fast.takes(1_175_000_000_000_000_000), 1_000_000_000_000_000_000, "nothing overflows");
    }

    #[test]
    fn on_idle_links_bytes_are_counted_once() {
        let mut links = links(2);
        links.queue(Rank::Control, parcel(0, 1, 50, 'a'));
        assert_eq!(depart(&mut links, 10, 0), Some(('a', 60, 1060)));
        assert_eq!(depart(&mut links, 60, 0), None, "nothing waits");
        let carried = links.carried();
        assert_eq!((carried[0].given, carried[0].taken, carried[1].given, carried[1].taken), (50, 0, 0, 50));
    }

    #[test]
    fn what_one_machine_sends_goes_one_after_the_other_and_by_rank() {
        let mut links = links(3);
        links.queue(Rank::Parameters, parcel(0, 1, 50, 'p'));
        links.queue(Rank::Gradient, parcel(0, 1, 50, 'g'));
        links.queue(Rank::Gradient, parcel(0, 2, 50, 'h'));
        assert_eq!(depart(&mut links, 0, 0), Some(('g', 50, 1050)));
        links.queue(Rank::Control, parcel(0, 2, 1, 'c'));
        assert_eq!(depart(&mut links, 49, 0), None, "what has begun is not interrupted");
        assert_eq!(depart(&mut links, 50, 0), Some(('c', 51, 1051)));
        assert_eq!(depart(&mut links, 51, 0), Some(('h', 101, 1101)));
        assert_eq!(depart(&mut links, 101, 0), Some(('p', 151, 1151)));
    }

    #[test]
    fn what_comes_from_several_machines_waits_for_the_down_link() {
        let mut links = links(3);
        links.queue(Rank::Gradient, parcel(0, 2, 100, 'a'));
        links.queue(Rank::Gradient, parcel(1, 2, 100, 'b'));
        links.queue(Rank::Gradient, parcel(2, 0, 100, 'c'));
        assert_eq!(depart(&mut links, 0, 0), Some(('a', 100, 1100)));
        assert_eq!(depart(&mut links, 10, 1), Some(('b', 110, 1200)), "its own link is free long before");
        assert_eq!(depart(&mut links, 20, 2), Some(('c', 120, 1120)), "the ways are beside one another");
        links.queue(Rank::Control, parcel(0, 2, 1, 'd'));
        links.queue(Rank::Gradient, parcel(1, 2, 100, 'e'));
        assert_eq!(depart(&mut links, 100, 0), Some(('d', 101, 1101)), "it passes what waits");
        assert_eq!(depart(&mut links, 110, 1), Some(('e', 210, 1301)), "but it takes its time from that");
    }
}
