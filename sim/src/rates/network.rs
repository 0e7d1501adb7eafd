//! Links with a rate: what a machine sends waits for its up link, and then for the down link of who takes it.
//!
//! Each machine has one link each way, beside one another, of the same rate. Bytes are passed on as they come: on idle
//! links, a parcel takes the latency and the time of its bytes once. A parcel that has begun is not interrupted. What
//! comes for a machine at a time waits before its down link in the order in which it was begun; nothing is lost.
//!
//! As with streams that have a window, a machine has only so much on its way to another one; meanwhile it goes on with
//! what others take. So all that send to one machine get on equally fast, whoever began first. Messages of few bytes
//! have no window and pass all others, as they do where queues are fair or short.

use std::collections::{BTreeMap, VecDeque};

/// Nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

/// What all links are like. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cable {
    /// Bytes a second.
    pub rate: u64,
    /// What a byte takes from machine to machine, without waiting.
    pub latency: u64,
    /// Bytes that a machine may have on their way to another one before it sends more, besides those that a link
    /// carries within the latency.
    pub window: u64,
}

impl Cable {
    /// What so many bytes take on one link.
    pub fn takes(&self, bytes: u64) -> u64 {
        let nanos = (u128::from(bytes) * SECOND).div_ceil(u128::from(self.rate));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Bytes that may be on their way before more are sent.
    fn most_under_way(&self) -> u64 {
        let carried = u128::from(self.rate) * u128::from(self.latency) / SECOND;
        self.window.saturating_add(u64::try_from(carried).unwrap_or(u64::MAX))
    }
}

/// What goes first where several parcels wait for one up link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Messages of few bytes.
    Control,
    /// Gradients: all workers wait for the last of them.
    Gradient,
    /// Next parameters, and sums.
    Parameters,
}

impl Rank {
    /// All ranks, the first first.
    const ALL: [Rank; 3] = [Rank::Control, Rank::Gradient, Rank::Parameters];
}

/// Bytes on their way from machine to machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel<T> {
    /// The machine that sends it.
    pub from: usize,
    /// The machine that takes it.
    pub to: usize,
    /// Its bytes.
    pub bytes: u64,
    /// What it is among others.
    pub rank: Rank,
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
    waiting: [VecDeque<Parcel<T>>; Rank::ALL.len()],
    /// Bytes on their way, by who takes them.
    under_way: BTreeMap<usize, u64>,
    up_free: u64,
    down_free: u64,
    bytes: Carried,
}

impl<T> Machine<T> {
    /// Takes what is next out of what waits, given how many bytes may be on their way to a machine.
    fn next(&mut self, most: u64) -> Option<Parcel<T>> {
        let under_way = &mut self.under_way;
        let fits = |parcel: &Parcel<T>| {
            let bytes = under_way.get(&parcel.to).copied().unwrap_or(0);
            parcel.rank == Rank::Control || bytes == 0 || bytes + parcel.bytes <= most
        };
        let parcel = self.waiting.iter_mut().find_map(|waiting| waiting.remove(waiting.iter().position(fits)?))?;
        if parcel.rank != Rank::Control {
            *under_way.entry(parcel.to).or_default() += parcel.bytes;
        }
        Some(parcel)
    }
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
pub struct Network<T> {
    cable: Cable,
    machines: Vec<Machine<T>>,
}

impl<T> Network<T> {
    /// Idle links of so many machines.
    pub fn new(cable: Cable, machines: usize) -> Network<T> {
        let machine = |_| {
            let waiting = std::array::from_fn(|_| VecDeque::new());
            Machine { waiting, under_way: BTreeMap::new(), up_free: 0, down_free: 0, bytes: Carried::default() }
        };
        Network { cable, machines: (0..machines).map(machine).collect() }
    }

    /// Has a parcel wait for the up link of its machine.
    pub fn queue(&mut self, parcel: Parcel<T>) {
        self.machines[parcel.from].waiting[parcel.rank as usize].push_back(parcel);
    }

    /// Begins the parcel that is next at a machine, if its up link is free at `now` and there is one that may be sent.
    /// Moments must not go back from one call to the next: so parcels come to a down link in the order in which they
    /// were begun.
    pub fn depart(&mut self, now: u64, machine: usize) -> Option<Departure<T>> {
        let from = &mut self.machines[machine];
        if from.up_free > now {
            return None;
        }
        let parcel = from.next(self.cable.most_under_way())?;
        let takes = self.cable.takes(parcel.bytes);
        from.up_free = now + takes;
        from.bytes.given += parcel.bytes;
        let (to, first) = (&mut self.machines[parcel.to], now + self.cable.latency);
        to.down_free = to.down_free.max(first) + takes;
        to.bytes.taken += parcel.bytes;
        let arrives = if parcel.rank == Rank::Control { first + takes } else { to.down_free };
        Some(Departure { parcel, free: now + takes, arrives })
    }

    /// Notes that a parcel is there: its machine may send more to where it was sent.
    pub fn taken(&mut self, parcel: &Parcel<T>) {
        let under_way = &mut self.machines[parcel.from].under_way;
        if let Some(bytes) = under_way.get_mut(&parcel.to).filter(|_| parcel.rank != Rank::Control) {
            *bytes -= parcel.bytes;
            if *bytes == 0 {
                under_way.remove(&parcel.to);
            }
        }
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
    fn links(machines: usize) -> Network<char> {
        Network::new(Cable { rate: 1_000_000, latency: 1_000_000, window: 1_000_000 }, machines)
    }

    fn parcel(rank: Rank, from: usize, to: usize, bytes: u64, load: char) -> Parcel<char> {
        Parcel { rank, from, to, bytes, load }
    }

    /// Begins what is next: what it is, and when link and parcel are done, in microseconds.
    fn depart(links: &mut Network<char>, micros: u64, machine: usize) -> Option<(char, u64, u64)> {
        let departed = links.depart(micros * 1000, machine)?;
        Some((departed.parcel.load, departed.free / 1000, departed.arrives / 1000))
    }

    #[test]
    fn bytes_take_their_time_rounded_up() {
        let cable = Cable { rate: 3, latency: 0, window: 1 };
        assert_eq!([0, 1, 3, 4].map(|bytes| cable.takes(bytes)), [0, 333_333_334, 1_000_000_000, 1_333_333_334]);
        let fast = Cable { rate: 1_175_000_000, latency: 0, window: 1 };
        assert_eq!(fast.takes(262_144), 223_102);
        assert_eq!(fast.takes(1_175_000_000_000_000_000), 1_000_000_000_000_000_000, "nothing overflows");
    }

    #[test]
    fn on_idle_links_bytes_are_counted_once() {
        let mut links = links(2);
        links.queue(parcel(Rank::Control, 0, 1, 50, 'a'));
        assert_eq!(depart(&mut links, 10, 0), Some(('a', 60, 1060)));
        assert_eq!(depart(&mut links, 60, 0), None, "nothing waits");
        let carried = links.carried();
        assert_eq!((carried[0].given, carried[0].taken, carried[1].given, carried[1].taken), (50, 0, 0, 50));
    }

    #[test]
    fn what_one_machine_sends_goes_one_after_the_other_and_by_rank() {
        let mut links = links(3);
        links.queue(parcel(Rank::Parameters, 0, 1, 50, 'p'));
        links.queue(parcel(Rank::Gradient, 0, 1, 50, 'g'));
        links.queue(parcel(Rank::Gradient, 0, 2, 50, 'h'));
        assert_eq!(depart(&mut links, 0, 0), Some(('g', 50, 1050)));
        links.queue(parcel(Rank::Control, 0, 2, 1, 'c'));
        assert_eq!(depart(&mut links, 49, 0), None, "what has begun is not interrupted");
        assert_eq!(depart(&mut links, 50, 0), Some(('c', 51, 1051)));
        assert_eq!(depart(&mut links, 51, 0), Some(('h', 101, 1101)));
        assert_eq!(depart(&mut links, 101, 0), Some(('p', 151, 1151)));
    }

    #[test]
    fn what_comes_from_several_machines_waits_for_the_down_link() {
        let mut links = links(3);
        links.queue(parcel(Rank::Gradient, 0, 2, 100, 'a'));
        links.queue(parcel(Rank::Gradient, 1, 2, 100, 'b'));
        links.queue(parcel(Rank::Gradient, 2, 0, 100, 'c'));
        assert_eq!(depart(&mut links, 0, 0), Some(('a', 100, 1100)));
        assert_eq!(depart(&mut links, 10, 1), Some(('b', 110, 1200)), "its own link is free long before");
        assert_eq!(depart(&mut links, 20, 2), Some(('c', 120, 1120)), "the ways are beside one another");
        links.queue(parcel(Rank::Control, 0, 2, 1, 'd'));
        links.queue(parcel(Rank::Gradient, 1, 2, 100, 'e'));
        assert_eq!(depart(&mut links, 100, 0), Some(('d', 101, 1101)), "it passes what waits");
        assert_eq!(depart(&mut links, 110, 1), Some(('e', 210, 1301)), "but it takes its time from that");
    }

    /// 1,000 bytes are carried within the latency.
    #[test]
    fn who_does_not_take_holds_up_nobody_else() {
        let mut links = Network::new(Cable { rate: 1_000_000, latency: 1_000_000, window: 500 }, 3);
        let first = parcel(Rank::Gradient, 0, 1, 1000, 'a');
        links.queue(first.clone());
        links.queue(parcel(Rank::Gradient, 0, 1, 501, 'b'));
        links.queue(parcel(Rank::Gradient, 0, 2, 9000, 'c'));
        links.queue(parcel(Rank::Gradient, 0, 2, 1, 'd'));
        assert_eq!(depart(&mut links, 0, 0), Some(('a', 1000, 2000)));
        assert_eq!(depart(&mut links, 1000, 0), Some(('c', 10_000, 11_000)), "one alone may be any size");
        assert_eq!(depart(&mut links, 10_000, 0), None);
        links.queue(parcel(Rank::Control, 0, 1, 1, 'e'));
        assert_eq!(depart(&mut links, 10_000, 0), Some(('e', 10_001, 11_001)));
        links.taken(&first);
        assert_eq!(depart(&mut links, 10_001, 0), Some(('b', 10_502, 11_502)));
    }
}
