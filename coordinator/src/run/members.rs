//! The workers of a run, and the way to each.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_proto::v1::coordinator_message::Message;
use convoy_scheduler::{Contact, JobId, WorkerId};
use tokio::time::Instant;

use super::outbox::WorkerOutbox;
use super::worker_links::WorkerLinks;

/// The members of a run.
pub(crate) struct RunMembers {
    links: Arc<dyn WorkerLinks>,
    job: JobId,
    members: BTreeMap<WorkerId, RunMember>,
}

struct RunMember {
    name: String,
    outbox: WorkerOutbox,
}

impl RunMembers {
    /// Nobody yet, for the run of `job`, whose workers are connected through `links`.
    pub(crate) fn new(links: Arc<dyn WorkerLinks>, job: JobId) -> Self {
        RunMembers { links, job, members: BTreeMap::new() }
    }

    /// The job whose run it is.
    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// The connections of the workers.
    pub(crate) fn links(&self) -> &dyn WorkerLinks {
        &*self.links
    }

    /// A worker is a member from now on.
    pub(crate) fn join(&mut self, worker: WorkerId, name: String, outbox: WorkerOutbox) {
        self.members.insert(worker, RunMember { name, outbox });
    }

    /// A worker is a member no longer; its name, if it was one.
    pub(crate) fn remove(&mut self, worker: WorkerId) -> Option<String> {
        self.members.remove(&worker).map(|member| member.name)
    }

    /// Nobody is a member any more.
    pub(crate) fn clear(&mut self) {
        self.members.clear();
    }

    /// The run lets a worker go: it is free for another job.
    pub(crate) fn release(&self, worker: WorkerId, reason: &str) {
        self.links.release(worker, self.job, reason);
    }

    /// Queues a message; a worker that does not read for so long that its queue is full is lost.
    pub(crate) fn send(&mut self, worker: WorkerId, message: Message) {
        let Some(member) = self.members.get(&worker) else { return };
        if !member.outbox.say(message) {
            tracing::warn!(%worker, "does not read its messages; cut off");
            self.members.remove(&worker);
            self.links.lose(worker);
        }
    }

    /// When each member was last in contact, in time since `begun`.
    pub(crate) fn contacts(&self, begun: Instant) -> Vec<(WorkerId, Contact)> {
        self.members.iter().map(|(worker, member)| (*worker, member.outbox.contact().read(begun))).collect()
    }

    /// A worker had to wait for others, and is in contact from now on.
    pub(crate) fn excuse(&self, worker: WorkerId) {
        if let Some(member) = self.members.get(&worker) {
            member.outbox.contact().pushed();
        }
    }

    /// Queues the same message for all members, in the order of their numbers.
    pub(crate) fn send_all(&mut self, message: &Message) {
        self.all().into_iter().for_each(|worker| self.send(worker, message.clone()));
    }

    /// All members, in the order of their numbers.
    pub(crate) fn all(&self) -> Vec<WorkerId> {
        self.members.keys().copied().collect()
    }

    /// What people call a worker.
    pub(crate) fn name_of(&self, worker: WorkerId) -> String {
        self.members.get(&worker).map_or_else(|| worker.to_string(), |member| member.name.clone())
    }
}
