//! Other workers of the run: who they are, and the connection to each.

use std::collections::BTreeMap;

use convoy_proto::channel;
use convoy_proto::v1;
use convoy_proto::v1::peer_client::PeerClient;
use convoy_security::{ConnectError, Fingerprint, PeerIdentity};
use parking_lot::Mutex;
use tonic::transport::Channel;

/// The workers that a member was told of.
#[derive(Debug)]
pub(crate) struct KnownWorkers {
    /// Who one is to them.
    identity: PeerIdentity,
    workers: Mutex<BTreeMap<u32, KnownWorker>>,
}

#[derive(Debug)]
struct KnownWorker {
    fingerprint: Fingerprint,
    addresses: Vec<String>,
    client: Option<PeerClient<Channel>>,
}

impl KnownWorkers {
    /// Nobody yet.
    pub(crate) fn new(identity: PeerIdentity) -> Self {
        KnownWorkers { identity, workers: Mutex::default() }
    }

    /// A worker came.
    pub(crate) fn insert(&self, place: &v1::PeerPlace, fingerprint: Fingerprint) {
        let worker = KnownWorker { fingerprint, addresses: place.addresses.clone(), client: None };
        self.workers.lock().insert(place.worker, worker);
    }

    /// A worker is gone.
    pub(crate) fn remove(&self, worker: u32) {
        self.workers.lock().remove(&worker);
    }

    /// Whether `worker` is the one that shows this certificate.
    pub(crate) fn is(&self, worker: u32, fingerprint: Fingerprint) -> bool {
        self.workers.lock().get(&worker).is_some_and(|known| known.fingerprint == fingerprint)
    }

    /// A connection to `worker`: the one that there is, or a new one.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) async fn client(&self, worker: u32) -> Result<PeerClient<Channel>, String> {
        let (fingerprint, addresses) = match self.workers.lock().get(&worker) {
            Some(KnownWorker { client: Some(client), .. }) => return Ok(client.clone()),
            Some(known) => (known.fingerprint, known.addresses.clone()),
            None => return Err("nobody told of it".to_owned()),
        };
        let mut problem = "it does not listen".to_owned();
        for address in addresses {
            match channel::peer(&address, fingerprint, &self.identity).await {
                Ok(client) => {
                    if let Some(known) = self.workers.lock().get_mut(&worker) {
                        known.client = Some(client.clone());
                    }
                    return Ok(client);
                }
                Err(ConnectError::Refused(_)) => problem = format!("{address}: it does not know this worker"),
                Err(error) => problem = format!("{address}: {error}"),
            }
        }
        Err(problem)
    }

    /// The connection to `worker` is of no use any more.
    pub(crate) fn broken(&self, worker: u32) {
        if let Some(known) = self.workers.lock().get_mut(&worker) {
            known.client = None;
        }
    }
}
