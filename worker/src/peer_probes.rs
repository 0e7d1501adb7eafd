//! Finding out which other workers of a run this one gets through to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use convoy_proto::channel;
use convoy_proto::v1;
use convoy_security::{ConnectError, Fingerprint};
use tokio::task::AbortHandle;

use crate::error::WorkerError;
use crate::outbox::Outbox;
use crate::peer_end::PeerEnd;

/// What a probe carries: as much as a chunk.
const FILLING: usize = 256 << 10;
/// Time for the filling, once connected: a link of 1 Mbit/s takes 2 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Characters of why a worker is not reached.
const PROBLEM: usize = 256;
/// Until a worker that was not reached is tried again; each time twice as long, up to the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(60)];

/// The workers that a member was told of. Forgotten, and let in no more, when this is dropped.
#[derive(Debug)]
pub(crate) struct PeerProbes {
    end: Arc<PeerEnd>,
    job: u64,
    outbox: Outbox,
    told: BTreeMap<u32, ToldPeer>,
}

#[derive(Debug)]
struct ToldPeer {
    fingerprint: Fingerprint,
    /// Tries to reach it, if it listens.
    probing: Option<AbortHandle>,
}

impl PeerProbes {
    /// Of a member of the job's run, which was told of nobody yet.
    pub(crate) fn new(end: Arc<PeerEnd>, job: u64, outbox: Outbox) -> Self {
        PeerProbes { end, job, outbox, told: BTreeMap::new() }
    }

    /// Lets workers in that came, tries to reach those that listen, and forgets those that are gone.
    ///
    /// # Errors
    /// When the message makes no sense.
    pub(crate) fn heard(&mut self, peers: v1::Peers) -> Result<(), WorkerError> {
        peers.gone.into_iter().for_each(|worker| self.forget(worker));
        for place in peers.came {
            let fingerprint = place.fingerprint[..].try_into().map(Fingerprint);
            let fingerprint = fingerprint.map_err(|error| WorkerError::nonsense("a fingerprint", error))?;
            self.forget(place.worker);
            self.end.known.insert(fingerprint);
            self.end.workers.insert(&place, fingerprint);
            let worker = place.worker;
            let probing = (!place.addresses.is_empty()).then(|| {
                let probing = reach(self.end.clone(), self.job, fingerprint, place, self.outbox.clone());
                tokio::spawn(probing).abort_handle()
            });
            self.told.insert(worker, ToldPeer { fingerprint, probing });
        }
        Ok(())
    }

    /// This worker's end towards others.
    pub(crate) fn end(&self) -> &PeerEnd {
        &self.end
    }

    fn forget(&mut self, worker: u32) {
        let Some(gone) = self.told.remove(&worker) else { return };
        if let Some(probing) = &gone.probing {
            probing.abort();
        }
        self.end.known.remove(gone.fingerprint);
        self.end.workers.remove(worker);
    }
}

impl Drop for PeerProbes {
    fn drop(&mut self) {
        let told: Vec<u32> = self.told.keys().copied().collect();
        told.into_iter().for_each(|worker| self.forget(worker));
    }
}

/// Tries to reach a worker until it is reached, and tells the coordinator what came of it, when that is news.
async fn reach(end: Arc<PeerEnd>, job: u64, fingerprint: Fingerprint, place: v1::PeerPlace, outbox: Outbox) {
    let [mut pause, longest] = PAUSES;
    let mut told = None;
    loop {
        let turn = end.probes.acquire().await;
        let problem = probe(&end, fingerprint, &place.addresses).await.err().unwrap_or_default();
        drop(turn);
        let reached = problem.is_empty();
        if told.as_ref() != Some(&problem) {
            tracing::info!(worker = place.worker, addresses = ?place.addresses, problem, "another worker");
            let said = v1::PeerReached { job, worker: place.worker, problem: problem.clone() };
            outbox.say(v1::worker_message::Message::PeerReached(said)).await;
            told = Some(problem);
        }
        if reached {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(2 * pause);
    }
}

/// Gets through to the worker with this fingerprint at one of its addresses, or says why not.
async fn probe(end: &PeerEnd, fingerprint: Fingerprint, addresses: &[String]) -> Result<(), String> {
    let mut problems = Vec::new();
    for address in addresses {
        match probe_at(end, fingerprint, address).await {
            Ok(()) => return Ok(()),
            // It may be another process's words.
            Err(problem) => problems.push(format!("{address}: {}", cut(&problem))),
        }
    }
    Err(cut(&problems.join("; ")))
}

/// A text for people, of a length that fits into any message.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(PROBLEM).collect()
}

async fn probe_at(end: &PeerEnd, fingerprint: Fingerprint, address: &str) -> Result<(), String> {
    let mut peer = channel::peer(address, fingerprint, &end.identity).await.map_err(|error| match error {
        ConnectError::Refused(_) => "it does not know this worker".to_owned(),
        error => error.to_string(),
    })?;
    let probe = peer.probe(v1::ProbeRequest { filling: vec![0; FILLING].into() });
    match tokio::time::timeout(PATIENCE, probe).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("256 KiB do not get through within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use convoy_proto::v1::worker_message::Message;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::peer_end::PeerConfig;

    /// A member that was told of others, and what it says.
    struct Member {
        end: Arc<PeerEnd>,
        probes: PeerProbes,
        inbox: mpsc::Receiver<v1::WorkerMessage>,
    }

    impl Member {
        async fn new(listens: bool) -> Self {
            let listen = listens.then(|| "127.0.0.1:0".parse().unwrap());
            let end = Arc::new(PeerEnd::open(&PeerConfig { listen, addresses: Vec::new() }).await.unwrap());
            let (outbox, inbox) = Outbox::new(16);
            Member { probes: PeerProbes::new(end.clone(), 7, outbox), end, inbox }
        }

        /// As others are told of it.
        fn place(&self, worker: u32) -> v1::PeerPlace {
            let mut hello = v1::Hello::default();
            self.end.introduce(&mut hello);
            let listens = hello.peer_port > 0;
            let addresses = listens.then(|| format!("127.0.0.1:{}", hello.peer_port)).into_iter().collect();
            v1::PeerPlace { worker, fingerprint: hello.fingerprint, addresses }
        }

        fn came(&mut self, place: v1::PeerPlace) {
            self.probes.heard(v1::Peers { job: 7, came: vec![place], gone: Vec::new() }).unwrap();
        }

        fn gone(&mut self, worker: u32) {
            self.probes.heard(v1::Peers { job: 7, came: Vec::new(), gone: vec![worker] }).unwrap();
        }

        /// Whom it has tried to reach, and why it did not get through.
        async fn said(&mut self) -> (u32, String) {
            let said = self.inbox.recv().await.and_then(|said| said.message);
            let Some(Message::PeerReached(reached)) = said else { panic!("{said:?}") };
            assert_eq!(reached.job, 7);
            (reached.worker, reached.problem)
        }
    }

    #[tokio::test]
    async fn workers_that_were_told_of_each_other_get_through() {
        let (mut one, mut two) = (Member::new(true).await, Member::new(false).await);
        one.came(two.place(2));
        two.came(one.place(1));
        assert_eq!(two.said().await, (1, String::new()));
        assert!(one.inbox.try_recv().is_err(), "the other one does not listen");
    }

    #[tokio::test]
    async fn a_worker_is_tried_again_until_it_knows_this_one() {
        let (mut one, mut two) = (Member::new(true).await, Member::new(false).await);
        two.came(one.place(1));
        let (worker, problem) = two.said().await;
        assert!(worker == 1 && problem.ends_with("it does not know this worker"), "{problem}");
        one.came(two.place(2));
        assert_eq!(two.said().await, (1, String::new()), "without being told again");
    }

    #[tokio::test]
    async fn who_is_gone_is_let_in_no_more() {
        let (mut one, two) = (Member::new(true).await, Member::new(false).await);
        let (address, one_print) = (one.place(1).addresses[0].clone(), one.end.identity.fingerprint());
        one.came(two.place(2));
        one.came(two.place(5));
        one.gone(2);
        assert_eq!(probe_at(&two.end, one_print, &address).await, Ok(()), "the same process came back before");
        // A connection from before is of no use either.
        let mut before = channel::peer(&address, one_print, &two.end.identity).await.unwrap();
        one.gone(5);
        let refused = before.probe(v1::ProbeRequest::default()).await.unwrap_err();
        assert!(refused.message().contains("was not told of you"), "{refused}");
        assert!(probe_at(&two.end, one_print, &address).await.is_err());
        one.came(two.place(6));
        assert_eq!(probe_at(&two.end, one_print, &address).await, Ok(()));
        drop(one.probes);
        assert!(probe_at(&two.end, one_print, &address).await.is_err(), "the membership is over");
    }

    #[tokio::test]
    async fn why_a_worker_is_not_reached_is_named_for_each_address() {
        let (mut one, mut two) = (Member::new(true).await, Member::new(true).await);
        one.came(two.place(2));
        two.end.known.insert(two.end.identity.fingerprint());
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let addresses = vec![nobody.clone(), two.place(2).addresses[0].clone()];
        two.came(v1::PeerPlace { addresses: addresses.clone(), ..one.place(1) });
        let (_, problem) = two.said().await;
        assert!(problem.contains(&format!("{nobody}: ")) && problem.contains("refused"), "{problem}");
        assert!(problem.contains(&format!("{}: another process answers there", addresses[1])), "{problem}");
        let good = vec![nobody, one.place(1).addresses[0].clone()];
        two.came(v1::PeerPlace { addresses: good, ..one.place(1) });
        assert_eq!(two.said().await, (1, String::new()), "one address is enough");
    }

    #[test]
    fn the_words_of_another_process_are_cut() {
        assert_eq!(cut(&format!("a\u{1b}{}", "b".repeat(100_000))), format!("a{}", "b".repeat(PROBLEM - 1)));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let _held = TcpListener::bind(taken).await.unwrap();
        let error = PeerEnd::open(&PeerConfig { listen: Some(taken), addresses: Vec::new() }).await.unwrap_err();
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_fingerprint_that_is_none_ends_the_worker() {
        let mut one = Member::new(false).await;
        let place = v1::PeerPlace { worker: 2, ..Default::default() };
        let error = one.probes.heard(v1::Peers { job: 7, came: vec![place], gone: Vec::new() }).unwrap_err();
        assert!(matches!(error, WorkerError::Nonsense { what: "a fingerprint", .. }), "{error}");
    }
}
