//! Which workers of a run know and reach each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::{MOST_PEER_ADDRESSES, WireError, is_peer_address, v1};
use convoy_scheduler::{JobId, WorkerId};
use parking_lot::Mutex;

use crate::run::outbox::WorkerOutbox;

/// Characters that are kept of why a worker does not get through to another.
const PROBLEM: usize = 256;
/// Problems of a worker that are shown.
const SHOWN: usize = 8;

/// What other workers are told of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PeerPlace {
    /// sha256 of the certificate that its process shows; `None` where it shows none.
    fingerprint: Option<[u8; 32]>,
    /// Where it listens for others; none if it does not.
    addresses: Vec<String>,
    /// Whether it is on the coordinator's machine, as far as the coordinator sees.
    beside: bool,
    /// Whether its addresses are of use on its machine alone.
    loopback: bool,
}

impl PeerPlace {
    /// What a worker says of itself that connects from the address `seen`, where it listens unless it says otherwise,
    /// and is `beside` the coordinator on its machine or not.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(crate) fn of(hello: &v1::Hello, seen: Option<IpAddr>, beside: bool) -> Result<Self, WireError> {
        let invalid = |field, value: String| Err(WireError::Invalid { field, value });
        let fingerprint = match &hello.fingerprint[..] {
            [] => None,
            bytes => match bytes.try_into() {
                Ok(fingerprint) => Some(fingerprint),
                Err(_) => return invalid("fingerprint", format!("{} bytes", bytes.len())),
            },
        };
        let Ok(port) = u16::try_from(hello.peer_port) else {
            return invalid("peer_port", hello.peer_port.to_string());
        };
        if let Some(wrong) = hello.peer_addresses.iter().find(|address| !is_peer_address(address)) {
            return invalid("peer_addresses", wrong.chars().take(64).collect());
        }
        if hello.peer_addresses.len() > MOST_PEER_ADDRESSES {
            return invalid("peer_addresses", format!("{} of them", hello.peer_addresses.len()));
        }
        let (seen, mut addresses) = (seen.map(|seen| seen.to_canonical()), hello.peer_addresses.clone());
        addresses.sort();
        addresses.dedup();
        if let (true, Some(seen), 1..) = (addresses.is_empty(), seen, port) {
            addresses.push(SocketAddr::new(seen, port).to_string());
        }
        let is_loopback = |address: &String| address.parse().is_ok_and(|at: SocketAddr| at.ip().is_loopback());
        let loopback = addresses.iter().all(is_loopback);
        if fingerprint.is_none() || port == 0 || (loopback && !beside) {
            addresses.clear();
        }
        Ok(PeerPlace { fingerprint, addresses, beside, loopback })
    }

    /// Whether it is on the coordinator's machine.
    pub(crate) fn is_beside(&self) -> bool {
        self.beside
    }

    /// Whether there is any other that may try to connect to it.
    pub(crate) fn listens(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Whether `other` may try to connect to it: an address of the machine alone is of no use on another one.
    fn listens_for(&self, other: &PeerPlace) -> bool {
        self.listens() && (!self.loopback || other.beside)
    }

    /// Whether one of both may connect to the other.
    fn concerns(&self, other: &PeerPlace) -> bool {
        let known = self.fingerprint.is_some() && other.fingerprint.is_some();
        known && (self.listens_for(other) || other.listens_for(self))
    }

    /// What `other` is told of it, which is `worker`.
    fn as_told(&self, worker: WorkerId, other: &PeerPlace) -> v1::PeerPlace {
        let fingerprint = self.fingerprint.map(|bytes| bytes.to_vec()).unwrap_or_default().into();
        let addresses = if self.listens_for(other) { self.addresses.clone() } else { Vec::new() };
        v1::PeerPlace { worker: worker.0, fingerprint, addresses }
    }
}

/// What is known of a worker and others, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct PeerRow {
    /// Where it listens for others; none if it does not.
    pub(crate) listens: Vec<String>,
    /// Workers of its run that it gets through to.
    pub(crate) reaches: Vec<u32>,
    /// To how many others that listen for it it does not get through.
    pub(crate) unreached: usize,
    /// Of how many others that listen for it it is not known yet.
    pub(crate) untried: usize,
    /// Why not, by their number, of some of them.
    pub(crate) problems: BTreeMap<u32, String>,
}

/// Whom a worker reaches, where that is known of all others that listen for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeersKnown {
    pub(crate) worker: WorkerId,
    pub(crate) reached: BTreeSet<WorkerId>,
}

/// What follows when a worker leaves its run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) job: JobId,
    /// Those that have no room to be told of it.
    pub(crate) deaf: Vec<WorkerId>,
    /// Those of whom all is known now that it is gone.
    pub(crate) known: Vec<PeersKnown>,
}

/// The members of all runs, as others of the same run know them.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<BTreeMap<WorkerId, Member>>);

#[derive(Debug)]
struct Member {
    job: JobId,
    place: PeerPlace,
    outbox: WorkerOutbox,
    /// What came of trying to reach others: nothing, or why it did not get through.
    reached: BTreeMap<WorkerId, Option<String>>,
    /// Whom it was said to reach last.
    known: Option<BTreeSet<WorkerId>>,
}

impl Peers {
    /// `worker` is a member of the job's run from now on: it and the others there are told of each other. Those that
    /// have no room for it, and would not know who is there.
    pub(crate) fn join(&self, worker: WorkerId, job: JobId, place: PeerPlace, outbox: WorkerOutbox) -> Vec<WorkerId> {
        let mut members = self.0.lock();
        let (mut came, mut deaf) = (Vec::new(), Vec::new());
        let there = members.iter().filter(|(_, other)| other.job == job && other.place.concerns(&place));
        for (id, other) in there {
            came.push(other.place.as_told(*id, &place));
            let told = v1::Peers { job: job.0, came: vec![place.as_told(worker, &other.place)], gone: Vec::new() };
            deaf.extend((!other.outbox.say(Message::Peers(told))).then_some(*id));
        }
        if !came.is_empty() && !outbox.say(Message::Peers(v1::Peers { job: job.0, came, gone: Vec::new() })) {
            deaf.push(worker);
        }
        members.insert(worker, Member { job, place, outbox, reached: BTreeMap::new(), known: None });
        deaf
    }

    /// `worker` is no member of a run any more; the others there forget it.
    pub(crate) fn leave(&self, worker: WorkerId) -> Left {
        let mut members = self.0.lock();
        let Some(Member { job, place, .. }) = members.remove(&worker) else { return Left::default() };
        let mut deaf = Vec::new();
        let others = members.iter_mut().filter(|(_, other)| other.job == job && other.place.concerns(&place));
        for (id, other) in others {
            other.reached.remove(&worker);
            // It may come back by the same number, and be news then.
            other.known.iter_mut().for_each(|known| _ = known.remove(&worker));
            let told = v1::Peers { job: job.0, came: Vec::new(), gone: vec![worker.0] };
            deaf.extend((!other.outbox.say(Message::Peers(told))).then_some(*id));
        }
        let waiting = members.iter().filter(|(_, other)| other.job == job && other.known.is_none());
        let waiting: Vec<WorkerId> = waiting.map(|(id, _)| *id).collect();
        let known = waiting.into_iter().filter_map(|id| news_of(&mut members, id)).collect();
        Left { job, deaf, known }
    }

    /// Whom `worker` reaches, if that is known and news.
    pub(crate) fn known(&self, worker: WorkerId) -> Option<PeersKnown> {
        news_of(&mut self.0.lock(), worker)
    }

    /// `worker` does not get through to `peer` any more: it is told of it once more, so that it finds out when it does.
    /// False where it has no room for that.
    pub(crate) fn lost(&self, worker: WorkerId, peer: WorkerId) -> bool {
        let mut members = self.0.lock();
        let Some(place) = members.get(&peer).map(|peer| (peer.job, peer.place.clone())) else { return true };
        let Some(member) = members.get_mut(&worker) else { return true };
        if worker == peer || member.job != place.0 || !place.1.listens_for(&member.place) {
            return true;
        }
        member.reached.remove(&peer);
        member.known.iter_mut().for_each(|known| _ = known.remove(&peer));
        let came = vec![place.1.as_told(peer, &member.place)];
        member.outbox.say(Message::Peers(v1::Peers { job: place.0.0, came, gone: Vec::new() }))
    }

    /// Keeps what came of it when `worker` tried to reach another. What it says of one that it cannot reach, since it
    /// is gone or does not listen, is stale. Whom it reaches, if that is known and news.
    pub(crate) fn reached(&self, worker: WorkerId, reached: v1::PeerReached) -> Option<PeersKnown> {
        let mut members = self.0.lock();
        let (job, peer) = (JobId(reached.job), WorkerId(reached.worker));
        let at = |id: &WorkerId| members.get(id).filter(|member| member.job == job);
        let listens = |member: &Member| at(&peer).is_some_and(|peer| peer.place.listens_for(&member.place));
        if worker == peer || !at(&worker).is_some_and(listens) {
            return None;
        }
        let problem: String = reached.problem.chars().filter(|c| !c.is_control()).take(PROBLEM).collect();
        if let Some(member) = members.get_mut(&worker) {
            member.reached.insert(peer, (!problem.is_empty()).then_some(problem));
        }
        news_of(&mut members, worker)
    }

    /// What is known of `worker` and others; `None` where it is no member of a run.
    pub(crate) fn row(&self, worker: WorkerId) -> Option<PeerRow> {
        let members = self.0.lock();
        let member = members.get(&worker)?;
        let others = members.iter().filter(|(id, other)| **id != worker && other.job == member.job);
        let listen = others.filter(|(_, other)| other.place.listens_for(&member.place)).count();
        let untried = listen.saturating_sub(member.reached.len());
        let mut row = PeerRow { listens: member.place.addresses.clone(), untried, ..PeerRow::default() };
        for (peer, problem) in &member.reached {
            match problem {
                None => row.reaches.push(peer.0),
                Some(problem) => {
                    row.unreached += 1;
                    if row.problems.len() < SHOWN {
                        row.problems.insert(peer.0, problem.clone());
                    }
                }
            }
        }
        Some(row)
    }
}

/// Whom `worker` reaches, if that is not what was said last. The first time that is when it is known of all others that
/// listen for it.
fn news_of(members: &mut BTreeMap<WorkerId, Member>, worker: WorkerId) -> Option<PeersKnown> {
    let member = members.get(&worker)?;
    let others = || members.iter().filter(|(id, other)| **id != worker && other.job == member.job);
    let untried =
        |(id, other): (&WorkerId, &Member)| other.place.listens_for(&member.place) && !member.reached.contains_key(id);
    if member.known.is_none() && others().any(untried) {
        return None;
    }
    let through = member.reached.iter().filter(|(_, problem)| problem.is_none());
    let reached: BTreeSet<WorkerId> = through.map(|(id, _)| *id).collect();
    let known = &mut members.get_mut(&worker)?.known;
    if known.as_ref() == Some(&reached) {
        return None;
    }
    *known = Some(reached.clone());
    Some(PeersKnown { worker, reached })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::outbox::WorkerInbox;

    const JOB: JobId = JobId(7);

    fn hello(fingerprint: &[u8], addresses: &[&str], port: u32) -> v1::Hello {
        let peer_addresses = addresses.iter().map(|address| address.to_string()).collect();
        v1::Hello { fingerprint: fingerprint.to_vec().into(), peer_addresses, peer_port: port, ..Default::default() }
    }

    fn place(number: u8, addresses: &[&str]) -> PeerPlace {
        PeerPlace::of(&hello(&[number; 32], addresses, u32::from(!addresses.is_empty())), None, false).unwrap()
    }

    fn join(peers: &Peers, worker: u32, addresses: &[&str]) -> WorkerInbox {
        let (outbox, inbox) = WorkerOutbox::new(16);
        assert!(peers.join(WorkerId(worker), JOB, place(worker as u8, addresses), outbox).is_empty());
        inbox
    }

    /// Who came and who went, as a worker was told since the last call.
    fn told(inbox: &mut WorkerInbox) -> (Vec<u32>, Vec<u32>) {
        let (mut came, mut gone) = (Vec::new(), Vec::new());
        while let Ok(message) = inbox.try_recv() {
            let Some(Message::Peers(peers)) = message.expect("a message").message else { panic!("nothing else") };
            assert_eq!(peers.job, JOB.0);
            came.extend(peers.came.iter().map(|peer| peer.worker));
            gone.extend(peers.gone);
        }
        (came, gone)
    }

    /// `worker` has tried to reach `peer`. The answer is whom it reaches, if that is known and news.
    fn reached(peers: &Peers, worker: u32, peer: u32, problem: &str) -> Option<PeersKnown> {
        let reached = v1::PeerReached { job: JOB.0, worker: peer, problem: problem.to_owned() };
        peers.reached(WorkerId(worker), reached)
    }

    /// That `worker` reaches all of these and no others.
    fn known(worker: u32, reached: &[u32]) -> PeersKnown {
        PeersKnown { worker: WorkerId(worker), reached: reached.iter().copied().map(WorkerId).collect() }
    }

    #[test]
    fn a_place_is_what_a_worker_says_or_where_it_is_seen() {
        let seen = Some("10.0.0.5".parse().unwrap());
        let of = |hello: &v1::Hello, seen: Option<IpAddr>| {
            PeerPlace::of(hello, seen, seen.is_some_and(|seen| seen.is_loopback()))
        };
        let addresses = |hello: &v1::Hello, seen| of(hello, seen).map(|place| place.addresses);
        assert_eq!(addresses(&hello(&[1; 32], &["ox:7071", "[::1]:9"], 5), seen).unwrap(), ["[::1]:9", "ox:7071"]);
        assert_eq!(addresses(&hello(&[1; 32], &[], 7071), seen).unwrap(), ["10.0.0.5:7071"]);
        let mapped = Some("::ffff:10.0.0.5".parse().unwrap());
        assert_eq!(addresses(&hello(&[1; 32], &[], 7071), mapped).unwrap(), ["10.0.0.5:7071"]);
        assert_eq!(
            addresses(&hello(&[1; 32], &[], 7071), Some("fe80::1".parse().unwrap())).unwrap(),
            ["[fe80::1]:7071"]
        );
        for silent in [hello(&[1; 32], &[], 0), hello(&[1; 32], &["ox:7071"], 0)] {
            assert!(addresses(&silent, seen).unwrap().is_empty(), "it does not listen");
        }
        assert!(addresses(&hello(&[], &["ox:7071"], 1), seen).unwrap().is_empty(), "nobody could know it");
        let local = hello(&[1; 32], &["127.0.0.1:7071"], 7071);
        assert!(addresses(&local, seen).unwrap().is_empty(), "nobody else is on its machine, as far as is known");
        assert_eq!(addresses(&local, Some("127.0.0.1".parse().unwrap())).unwrap(), ["127.0.0.1:7071"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (hello, field) in [
            (hello(&[1; 31], &[], 0), "fingerprint"),
            (hello(&[1; 32], &[], 65_536), "peer_port"),
            (hello(&[1; 32], &["o\u{1b}[2Jx:7071"], 0), "peer_addresses"),
            (hello(&[1; 32], &["ox:1"; 9], 0), "peer_addresses"),
        ] {
            let error = PeerPlace::of(&hello, None, false).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{field}`")), "{error}");
        }
    }

    #[test]
    fn workers_of_a_run_are_told_of_each_other_where_one_of_both_listens() {
        let peers = Peers::default();
        let mut one = join(&peers, 1, &[]);
        let mut two = join(&peers, 2, &[]);
        assert_eq!((told(&mut one), told(&mut two)), Default::default(), "neither listens");
        let mut three = join(&peers, 3, &["ox:7071"]);
        assert_eq!(told(&mut three), (vec![1, 2], vec![]), "to let them in");
        assert_eq!((told(&mut one), told(&mut two)), ((vec![3], vec![]), (vec![3], vec![])));
        let (outbox, mut elsewhere) = WorkerOutbox::new(16);
        _ = peers.join(WorkerId(4), JobId(8), place(4, &["yak:7071"]), outbox);
        assert_eq!((told(&mut one), told(&mut elsewhere)), Default::default(), "it is in another run");
        peers.leave(WorkerId(3));
        assert_eq!((told(&mut one), told(&mut two)), ((vec![], vec![3]), (vec![], vec![3])));
        peers.leave(WorkerId(1));
        assert_eq!(told(&mut two), Default::default(), "nobody had told it of that one");
    }

    #[test]
    fn an_address_on_loopback_is_told_on_the_coordinators_machine_alone() {
        let peers = Peers::default();
        let seen = |number: u8, at: &str| {
            let at: IpAddr = at.parse().unwrap();
            PeerPlace::of(&hello(&[number; 32], &[], 7070 + u32::from(number)), Some(at), at.is_loopback())
        };
        let join = |number: u8, at: &str| {
            let (outbox, inbox) = WorkerOutbox::new(16);
            _ = peers.join(WorkerId(number.into()), JOB, seen(number, at).unwrap(), outbox);
            inbox
        };
        let addresses = |inbox: &mut WorkerInbox| {
            let messages = std::iter::from_fn(|| inbox.try_recv().ok());
            let came = messages.flat_map(|message| match message.expect("a message").message {
                Some(Message::Peers(peers)) => peers.came,
                other => panic!("{other:?}"),
            });
            came.flat_map(|place| place.addresses).collect::<Vec<_>>()
        };
        let (mut beside, mut also) = (join(1, "127.0.0.1"), join(2, "::1"));
        let mut elsewhere = join(3, "10.0.0.5");
        assert_eq!(addresses(&mut beside), ["[::1]:7072", "10.0.0.5:7073"]);
        assert_eq!(addresses(&mut also), ["127.0.0.1:7071", "10.0.0.5:7073"]);
        assert!(addresses(&mut elsewhere).is_empty(), "it would reach itself");
        reached(&peers, 3, 1, "another process answers there");
        assert_eq!(peers.row(WorkerId(3)).unwrap().unreached, 0, "nobody asked it to");
    }

    #[test]
    fn who_has_no_room_for_it_is_named() {
        let peers = Peers::default();
        let (outbox, _full) = WorkerOutbox::new(1);
        _ = outbox.say(Message::Welcome(v1::Welcome::default()));
        assert!(peers.join(WorkerId(1), JOB, place(1, &["ox:7071"]), outbox).is_empty());
        let (outbox, _inbox) = WorkerOutbox::new(16);
        assert_eq!(peers.join(WorkerId(2), JOB, place(2, &[]), outbox), [WorkerId(1)]);
        let left = peers.leave(WorkerId(2));
        assert_eq!((left.job, &left.deaf[..]), (JOB, &[WorkerId(1)][..]));
    }

    #[test]
    fn who_is_lost_is_told_of_again_and_news_when_it_is_reached() {
        let peers = Peers::default();
        let mut inboxes = [join(&peers, 1, &["ox:7071"]), join(&peers, 2, &["yak:7071"]), join(&peers, 3, &[])];
        reached(&peers, 3, 1, "");
        reached(&peers, 3, 2, "");
        inboxes.iter_mut().for_each(|inbox| _ = told(inbox));
        assert!(peers.lost(WorkerId(3), WorkerId(2)));
        assert_eq!(told(&mut inboxes[2]), (vec![2], vec![]));
        assert_eq!((told(&mut inboxes[0]), told(&mut inboxes[1])), Default::default(), "nobody else is");
        let again = v1::PeerReached { job: JOB.0, worker: 2, problem: String::new() };
        let known = peers.reached(WorkerId(3), again).expect("it is news");
        assert_eq!(known.reached, [WorkerId(1), WorkerId(2)].into());
        for (worker, peer) in [(1, 1), (1, 3), (9, 1), (1, 9)] {
            assert!(peers.lost(WorkerId(worker), WorkerId(peer)), "nothing follows");
        }
        assert_eq!((told(&mut inboxes[0]), told(&mut inboxes[2])), Default::default());
    }

    #[test]
    fn who_comes_back_by_the_same_number_is_news() {
        let peers = Peers::default();
        let _inboxes = [join(&peers, 1, &["ox:7071"]), join(&peers, 2, &["yak:7071"])];
        reached(&peers, 1, 2, "");
        peers.leave(WorkerId(2));
        let _again = join(&peers, 2, &["yak:7071"]);
        let reached = v1::PeerReached { job: JOB.0, worker: 2, problem: String::new() };
        assert!(peers.reached(WorkerId(1), reached).is_some());
    }

    #[test]
    fn of_many_problems_some_are_shown() {
        let peers = Peers::default();
        let _inboxes: Vec<_> = (1..=12).map(|worker| join(&peers, worker, &["ox:7071"])).collect();
        (2..=12).for_each(|peer| _ = reached(&peers, 1, peer, "refused"));
        let row = peers.row(WorkerId(1)).unwrap();
        assert_eq!((row.unreached, row.untried, row.problems.len()), (11, 0, SHOWN));
        assert_eq!(peers.row(WorkerId(2)).unwrap().untried, 11);
    }

    #[test]
    fn what_came_of_trying_is_kept_while_both_are_there() {
        let peers = Peers::default();
        let _inboxes = [join(&peers, 1, &["ox:7071"]), join(&peers, 2, &["yak:7071"]), join(&peers, 3, &[])];
        reached(&peers, 3, 1, "");
        reached(&peers, 3, 2, "connection\u{7} refused");
        let expected = PeerRow {
            listens: vec![],
            reaches: vec![1],
            unreached: 1,
            untried: 0,
            problems: [(2, "connection refused".to_owned())].into_iter().collect(),
        };
        assert_eq!(peers.row(WorkerId(3)), Some(expected));
        reached(&peers, 3, 2, "");
        assert_eq!(peers.row(WorkerId(3)).unwrap().reaches, [1, 2], "it gets through now");
        reached(&peers, 1, 3, "");
        reached(&peers, 1, 1, "");
        reached(&peers, 1, 9, "");
        assert!(peers.row(WorkerId(1)).unwrap().reaches.is_empty(), "nobody listens there");
        peers.leave(WorkerId(1));
        assert_eq!(peers.row(WorkerId(3)).unwrap().reaches, [2]);
        assert_eq!(peers.row(WorkerId(1)), None);
    }

    #[test]
    fn whom_a_worker_reaches_is_told_when_all_were_tried_and_when_it_changes() {
        let peers = Peers::default();
        let _inboxes = [1, 2, 3].map(|worker| join(&peers, worker, &["ox:7071"]));
        let _silent = join(&peers, 4, &[]);
        assert_eq!(peers.known(WorkerId(1)), None);
        assert_eq!(reached(&peers, 1, 2, ""), None, "3 was not tried");
        assert_eq!(reached(&peers, 1, 3, "refused"), Some(known(1, &[2])), "4 does not listen");
        assert_eq!((peers.known(WorkerId(1)), reached(&peers, 1, 2, "")), (None, None), "that is no news");
        assert_eq!(reached(&peers, 1, 3, ""), Some(known(1, &[2, 3])));
        assert_eq!(reached(&peers, 1, 2, "broken"), Some(known(1, &[3])));
        let _late = join(&peers, 5, &["yak:7071"]);
        assert_eq!(reached(&peers, 1, 2, ""), Some(known(1, &[2, 3])), "another that comes does not hold it up");
        assert_eq!(reached(&peers, 1, 5, ""), Some(known(1, &[2, 3, 5])));
        assert_eq!(reached(&peers, 1, 1, ""), None, "it says that of itself");
    }

    #[test]
    fn all_is_known_when_the_last_that_was_not_tried_has_left() {
        let peers = Peers::default();
        let _inboxes = [1, 2, 3, 4].map(|worker| join(&peers, worker, &["ox:7071"]));
        let (outbox, _inbox) = WorkerOutbox::new(16);
        _ = peers.join(WorkerId(5), JobId(8), place(5, &["yak:7071"]), outbox);
        assert_eq!(reached(&peers, 1, 2, ""), None);
        assert_eq!(peers.leave(WorkerId(3)), Left { job: JOB, deaf: vec![], known: vec![] }, "4 was not tried");
        let left = peers.leave(WorkerId(4));
        assert_eq!(left, Left { job: JOB, deaf: vec![], known: vec![known(1, &[2])] }, "2 has tried nobody");
        let left = peers.leave(WorkerId(1));
        assert_eq!(left.known, [known(2, &[])], "nobody else is left");
        assert_eq!(peers.leave(WorkerId(2)).known, [], "other runs are not concerned");
        assert_eq!(peers.leave(WorkerId(9)), Left::default(), "it is no member");
    }

    #[test]
    fn of_a_worker_to_which_nobody_listens_all_is_known_at_once() {
        let peers = Peers::default();
        let _first = join(&peers, 1, &["ox:7071"]);
        assert_eq!(peers.known(WorkerId(1)), Some(known(1, &[])));
        assert_eq!(peers.known(WorkerId(1)), None, "once");
        let _second = join(&peers, 2, &[]);
        assert_eq!(peers.known(WorkerId(2)), None, "the first listens");
        assert_eq!(peers.known(WorkerId(9)), None, "it is no member");
    }
}
