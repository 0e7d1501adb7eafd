//! Which workers of a run know and reach each other.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use convoy_proto::v1::coordinator_message::Message;
use convoy_proto::{WireError, v1};
use convoy_scheduler::{JobId, WorkerId};
use parking_lot::Mutex;

use crate::run::outbox::WorkerOutbox;

/// Addresses that a worker may say that it is reached at.
const MOST_ADDRESSES: usize = 8;
/// Characters of an address: a host name's most, and a port.
const ADDRESS: usize = 255 + 6;
/// Characters that are kept of why a worker does not get through to another.
const PROBLEM: usize = 256;

/// What other workers are told of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PeerPlace {
    /// sha256 of the certificate that its process shows; `None` where it shows none.
    fingerprint: Option<[u8; 32]>,
    /// Where it listens for others; none if it does not.
    addresses: Vec<String>,
}

impl PeerPlace {
    /// What a worker says of itself that connects from the address `seen`, where it listens unless it says otherwise.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(crate) fn of(hello: &v1::Hello, seen: Option<IpAddr>) -> Result<Self, WireError> {
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
        let mut addresses = hello.peer_addresses.clone();
        if let Some(wrong) = addresses.iter().find(|address| !is_address(address)) {
            return invalid("peer_addresses", wrong.chars().take(ADDRESS).collect());
        }
        if addresses.len() > MOST_ADDRESSES {
            return invalid("peer_addresses", format!("{} of them", addresses.len()));
        }
        if let (true, Some(seen), 1..) = (addresses.is_empty(), seen, port) {
            addresses.push(SocketAddr::new(seen.to_canonical(), port).to_string());
        }
        if fingerprint.is_none() {
            addresses.clear();
        }
        Ok(PeerPlace { fingerprint, addresses })
    }

    fn listens(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Whether one of both may connect to the other.
    fn concerns(&self, other: &PeerPlace) -> bool {
        let known = self.fingerprint.is_some() && other.fingerprint.is_some();
        known && (self.listens() || other.listens())
    }

    fn as_told(&self, worker: WorkerId) -> v1::PeerPlace {
        let fingerprint = self.fingerprint.map(|bytes| bytes.to_vec()).unwrap_or_default().into();
        v1::PeerPlace { worker: worker.0, fingerprint, addresses: self.addresses.clone() }
    }
}

/// `HOST:PORT`, of characters that a terminal can show.
fn is_address(address: &str) -> bool {
    let parts = address.rsplit_once(':');
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = |host: &str| !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic());
    address.len() <= ADDRESS && parts.is_some_and(|(host, port)| is_host(host) && is_port(port))
}

/// What is known of a worker and others, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct PeerRow {
    /// Where it listens for others; none if it does not.
    pub(crate) listens: Vec<String>,
    /// Workers of its run that it gets through to.
    pub(crate) reaches: Vec<u32>,
    /// Why it does not get through to others that listen, by their number.
    pub(crate) problems: BTreeMap<u32, String>,
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
}

impl Peers {
    /// `worker` is a member of the job's run from now on: it and the others there are told of each other.
    pub(crate) fn join(&self, worker: WorkerId, job: JobId, place: PeerPlace, outbox: WorkerOutbox) {
        let mut members = self.0.lock();
        let mut came = Vec::new();
        let there = members.iter().filter(|(_, other)| other.job == job && other.place.concerns(&place));
        for (id, other) in there {
            came.push(other.place.as_told(*id));
            let told = v1::Peers { job: job.0, came: vec![place.as_told(worker)], gone: Vec::new() };
            // One that does not read is lost by whoever tells it what matters.
            _ = other.outbox.say(Message::Peers(told));
        }
        if !came.is_empty() {
            _ = outbox.say(Message::Peers(v1::Peers { job: job.0, came, gone: Vec::new() }));
        }
        members.insert(worker, Member { job, place, outbox, reached: BTreeMap::new() });
    }

    /// `worker` is no member of a run any more; the others there forget it.
    pub(crate) fn leave(&self, worker: WorkerId) {
        let mut members = self.0.lock();
        let Some(Member { job, place, .. }) = members.remove(&worker) else { return };
        for other in members.values_mut().filter(|other| other.job == job && other.place.concerns(&place)) {
            other.reached.remove(&worker);
            let told = v1::Peers { job: job.0, came: Vec::new(), gone: vec![worker.0] };
            _ = other.outbox.say(Message::Peers(told));
        }
    }

    /// Keeps what came of it when `worker` tried to reach another. What it says of one that it cannot reach, since it
    /// is gone or does not listen, is stale.
    pub(crate) fn reached(&self, worker: WorkerId, reached: v1::PeerReached) {
        let mut members = self.0.lock();
        let (job, peer) = (JobId(reached.job), WorkerId(reached.worker));
        let at = |id: &WorkerId| members.get(id).filter(|member| member.job == job);
        if at(&worker).is_none() || worker == peer || !at(&peer).is_some_and(|peer| peer.place.listens()) {
            return;
        }
        let problem: String = reached.problem.chars().filter(|c| !c.is_control()).take(PROBLEM).collect();
        if let Some(member) = members.get_mut(&worker) {
            member.reached.insert(peer, (!problem.is_empty()).then_some(problem));
        }
    }

    /// What is known of `worker` and others; `None` where it is no member of a run.
    pub(crate) fn row(&self, worker: WorkerId) -> Option<PeerRow> {
        let members = self.0.lock();
        let member = members.get(&worker)?;
        let mut row = PeerRow { listens: member.place.addresses.clone(), ..PeerRow::default() };
        for (peer, problem) in &member.reached {
            match problem {
                None => row.reaches.push(peer.0),
                Some(problem) => _ = row.problems.insert(peer.0, problem.clone()),
            }
        }
        Some(row)
    }
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
        PeerPlace::of(&hello(&[number; 32], addresses, 0), None).unwrap()
    }

    fn join(peers: &Peers, worker: u32, addresses: &[&str]) -> WorkerInbox {
        let (outbox, inbox) = WorkerOutbox::new(16);
        peers.join(WorkerId(worker), JOB, place(worker as u8, addresses), outbox);
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

    fn reached(peers: &Peers, worker: u32, peer: u32, problem: &str) {
        let reached = v1::PeerReached { job: JOB.0, worker: peer, problem: problem.to_owned() };
        peers.reached(WorkerId(worker), reached);
    }

    #[test]
    fn a_place_is_what_a_worker_says_or_where_it_is_seen() {
        let seen = Some("10.0.0.5".parse().unwrap());
        let addresses = |hello: &v1::Hello, seen| PeerPlace::of(hello, seen).map(|place| place.addresses);
        assert_eq!(addresses(&hello(&[1; 32], &["ox:7071", "[::1]:9"], 5), seen).unwrap(), ["ox:7071", "[::1]:9"]);
        assert_eq!(addresses(&hello(&[1; 32], &[], 7071), seen).unwrap(), ["10.0.0.5:7071"]);
        let mapped = Some("::ffff:10.0.0.5".parse().unwrap());
        assert_eq!(addresses(&hello(&[1; 32], &[], 7071), mapped).unwrap(), ["10.0.0.5:7071"]);
        assert_eq!(
            addresses(&hello(&[1; 32], &[], 7071), Some("fe80::1".parse().unwrap())).unwrap(),
            ["[fe80::1]:7071"]
        );
        assert!(addresses(&hello(&[1; 32], &[], 0), seen).unwrap().is_empty(), "it does not listen");
        assert!(addresses(&hello(&[], &["ox:7071"], 0), seen).unwrap().is_empty(), "nobody could know it");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let long = format!("{}:1", "x".repeat(300));
        for (hello, field) in [
            (hello(&[1; 31], &[], 0), "fingerprint"),
            (hello(&[1; 32], &[], 65_536), "peer_port"),
            (hello(&[1; 32], &["ox"], 0), "peer_addresses"),
            (hello(&[1; 32], &["ox:0"], 0), "peer_addresses"),
            (hello(&[1; 32], &[":7071"], 0), "peer_addresses"),
            (hello(&[1; 32], &["o\u{1b}[2Jx:7071"], 0), "peer_addresses"),
            (hello(&[1; 32], &[&long], 0), "peer_addresses"),
            (hello(&[1; 32], &["ox:1"; 9], 0), "peer_addresses"),
        ] {
            let error = PeerPlace::of(&hello, None).unwrap_err().to_string();
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
        peers.join(WorkerId(4), JobId(8), place(4, &["yak:7071"]), outbox);
        assert_eq!((told(&mut one), told(&mut elsewhere)), Default::default(), "it is in another run");
        peers.leave(WorkerId(3));
        assert_eq!((told(&mut one), told(&mut two)), ((vec![], vec![3]), (vec![], vec![3])));
        peers.leave(WorkerId(1));
        assert_eq!(told(&mut two), Default::default(), "nobody had told it of that one");
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
}
