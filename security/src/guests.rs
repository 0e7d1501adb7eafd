//! Connections of which nobody knows yet whose they are: no more than there is room for, and nobody fills the room
//! alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Where somebody comes from. Of IPv6 half the bits: one host has all addresses that begin with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    pub(crate) fn of(address: IpAddr) -> Self {
        Origin(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address => address,
        })
    }
}

/// Guests that are alike: where they come from, and whether they have sent anything.
type Group = (Origin, bool);

/// The room for guests. When it is full, a newcomer takes the place of the one in the largest [`Group`] that has been
/// there longest: who opens many connections loses their own, and those that say nothing before those that do.
#[derive(Debug)]
pub(crate) struct Guests {
    most: usize,
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// Numbers that were given, in the order of arrival.
    given: u64,
    groups: HashMap<Group, BTreeSet<u64>>,
    /// All groups by size; among those of one size the last has the oldest guest.
    order: BTreeSet<(usize, Reverse<u64>, Group)>,
    /// Dropped to send a guest away.
    places: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Room {
    fn change(&mut self, group: Group, change: impl FnOnce(&mut BTreeSet<u64>)) {
        let members = self.groups.entry(group).or_default();
        if let Some(oldest) = members.first() {
            self.order.remove(&(members.len(), Reverse(*oldest), group));
        }
        change(members);
        match members.first() {
            Some(oldest) => _ = self.order.insert((members.len(), Reverse(*oldest), group)),
            None => _ = self.groups.remove(&group),
        }
    }

    fn leave(&mut self, group: Group, number: u64) {
        self.change(group, |members| _ = members.remove(&number));
        self.places.remove(&number);
    }
}

impl Guests {
    /// Room for `most`, at least one.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Guests { most: most.max(1), room: Mutex::default() })
    }

    /// Takes in a guest that has sent nothing yet.
    pub(crate) fn enter(self: &Arc<Self>, origin: Origin) -> Guest {
        let mut room = self.room.lock();
        if room.places.len() >= self.most
            && let Some((_, Reverse(oldest), group)) = room.order.last().copied()
        {
            room.leave(group, oldest);
        }
        let (place, sent_away) = oneshot::channel();
        let number = room.given;
        room.given += 1;
        room.places.insert(number, place);
        let group = (origin, false);
        room.change(group, |members| _ = members.insert(number));
        drop(room);
        Guest { guests: self.clone(), group, number, sent_away }
    }
}

/// A place in the room, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Arc<Guests>,
    group: Group,
    number: u64,
    sent_away: oneshot::Receiver<()>,
}

impl Guest {
    /// It has sent something.
    pub(crate) fn spoke(&mut self) {
        let mut room = self.guests.room.lock();
        if !self.group.1 && room.places.contains_key(&self.number) {
            room.change(self.group, |members| _ = members.remove(&self.number));
            self.group.1 = true;
            room.change(self.group, |members| _ = members.insert(self.number));
        }
    }

    /// Ready as soon as its place belongs to somebody else; the task is woken then.
    pub(crate) fn poll_sent_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.sent_away).poll(cx).map(|_| ())
    }

    /// Returns as soon as its place belongs to somebody else.
    pub(crate) async fn sent_away(&mut self) {
        std::future::poll_fn(|cx| self.poll_sent_away(cx)).await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.room.lock().leave(self.group, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(last: u8) -> Origin {
        Origin::of(IpAddr::from([10, 0, 0, last]))
    }

    /// Whether the guest still has its place.
    fn stays(guest: &Guest) -> bool {
        guest.guests.room.lock().places.contains_key(&guest.number)
    }

    #[tokio::test]
    async fn who_opens_many_connections_loses_their_own() {
        let guests = Guests::new(8);
        let honest = guests.enter(origin(1));
        let mut many: Vec<Guest> = (0..100).map(|_| guests.enter(origin(2))).collect();
        assert!(stays(&honest));
        let kept: Vec<bool> = many.iter().map(stays).collect();
        assert_eq!(kept.iter().filter(|stays| **stays).count(), 7);
        assert!(kept[93..].iter().all(|stays| *stays), "the newest");
        many[0].sent_away().await;
    }

    #[test]
    fn who_speaks_outlives_those_that_are_silent_at_the_same_address() {
        let guests = Guests::new(8);
        let mut honest = guests.enter(origin(1));
        honest.spoke();
        let silent: Vec<Guest> = (0..1000).map(|_| guests.enter(origin(1))).collect();
        assert!(stays(&honest));
        drop(silent);
        let talkers: Vec<Guest> = (0..1000)
            .map(|_| {
                let mut talker = guests.enter(origin(1));
                talker.spoke();
                talker
            })
            .collect();
        assert!(!stays(&honest), "it had its time");
        let newcomer = guests.enter(origin(1));
        assert!(stays(&newcomer));
        drop((talkers, newcomer, honest));
        let room = guests.room.lock();
        assert!(room.groups.is_empty() && room.order.is_empty() && room.places.is_empty(), "{room:?}");
    }

    #[test]
    fn of_many_addresses_the_oldest_goes() {
        let guests = Guests::new(4);
        let all: Vec<Guest> = (0..10).map(|last| guests.enter(origin(last))).collect();
        let kept: Vec<bool> = all.iter().map(stays).collect();
        assert_eq!(kept, [vec![false; 6], vec![true; 4]].concat());
    }

    #[test]
    fn a_network_of_ipv6_is_one_place() {
        let of = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::7"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::7"), of("2001:db8:1:3::7"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
