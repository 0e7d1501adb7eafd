//! Calls of members, which end when their member is revoked or its certificate expires.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

/// What ends a call before its time.
#[derive(Debug, Clone)]
pub(crate) enum CallEnd {
    /// Nothing.
    Never,
    /// Its member is put out: the other end of this is dropped.
    Member(watch::Receiver<()>),
}

impl CallEnd {
    /// Returns when the call has to end.
    pub(crate) async fn ended(self) {
        match self {
            CallEnd::Never => std::future::pending().await,
            CallEnd::Member(mut member) => while member.changed().await.is_ok() {},
        }
    }
}

/// Members that have called, with what their calls hang on.
#[derive(Debug, Default)]
pub(crate) struct MemberCalls(Mutex<BTreeMap<u64, watch::Sender<()>>>);

impl MemberCalls {
    /// A call of the member `id` begins.
    pub(crate) fn begin(&self, id: u64) -> CallEnd {
        let mut members = self.0.lock();
        CallEnd::Member(members.entry(id).or_insert_with(|| watch::channel(()).0).subscribe())
    }

    /// Ends all calls of the member `id` that have begun.
    pub(crate) fn end(&self, id: u64) {
        self.0.lock().remove(&id);
    }

    /// Ends all calls of the members of which `unwanted` holds, and forgets those that have none.
    pub(crate) fn end_where(&self, unwanted: impl Fn(u64) -> bool) {
        self.0.lock().retain(|id, calls| calls.receiver_count() > 0 && !unwanted(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_end_with_their_member_and_no_others() {
        let calls = MemberCalls::default();
        let ends = [1, 1, 2, 3].map(|member| tokio::spawn(calls.begin(member).ended()));
        let finished = async || {
            tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
            ends.iter().map(tokio::task::JoinHandle::is_finished).collect::<Vec<_>>()
        };
        assert_eq!(finished().await, [false; 4]);
        calls.end(1);
        assert_eq!(finished().await, [true, true, false, false]);
        calls.end_where(|member| member == 3);
        assert_eq!(finished().await, [true, true, false, true]);
        calls.begin(1);
        calls.end_where(|_| false);
        assert_eq!(calls.0.lock().keys().copied().collect::<Vec<_>>(), [2], "who has no calls is forgotten");
    }
}
