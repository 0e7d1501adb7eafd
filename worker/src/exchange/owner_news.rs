//! What an owner has to tell the coordinator: the sums of its chunks, what it lacks, and what contradicts itself.

use std::sync::Arc;
use std::time::Duration;

use convoy_common::counted_sum::Contradiction;
use convoy_proto::v1;
use convoy_proto::v1::coordinator_client::CoordinatorClient;
use convoy_proto::v1::root_message::Message;
use convoy_reduce::{ChunkBuffer, ChunkState, StepRules};
use convoy_scheduler::Opening;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::owner::{OwnerCommand, OwnerNews, OwnerThread};
use crate::assignment::Assignment;
use crate::outbox::Outbox;

/// Before what did not get through is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Sums that wait for the socket.
const AHEAD: usize = 2;

/// A task that lasts no longer than this.
struct AbortOnDrop(AbortHandle);

impl AbortOnDrop {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        AbortOnDrop(tokio::spawn(task).abort_handle())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Carries news of the owner's thread.
pub(crate) struct OwnerMessenger {
    pub(crate) client: CoordinatorClient<Channel>,
    pub(crate) assignment: Assignment,
    pub(crate) outbox: Outbox,
    pub(crate) rules: Arc<StepRules>,
    pub(crate) owner: Arc<OwnerThread>,
}

impl OwnerMessenger {
    /// Carries `news` until the thread has ended.
    pub(crate) async fn run(self, mut news: mpsc::UnboundedReceiver<OwnerNews>) {
        let mut _fetching = None;
        // Sums of an opening that is over are not wanted.
        let mut roots: Option<(mpsc::UnboundedSender<Message>, AbortOnDrop)> = None;
        while let Some(news) = news.recv().await {
            match news {
                OwnerNews::Opened(opening) => {
                    let (sender, messages) = mpsc::unbounded_channel();
                    let sending = send_roots(self.client.clone(), self.assignment, opening, messages);
                    roots = Some((sender, AbortOnDrop::spawn(sending)));
                    _fetching = None;
                }
                OwnerNews::Closed => roots = None,
                OwnerNews::Root(message) => {
                    if let Some((sender, _)) = &roots {
                        _ = sender.send(message);
                    }
                }
                OwnerNews::Lacks { step, chunks } => {
                    let fetch = fetch_state(
                        self.client.clone(),
                        self.assignment.state(step, chunks),
                        self.rules.clone(),
                        Arc::downgrade(&self.owner),
                    );
                    _fetching = Some(AbortOnDrop::spawn(fetch));
                }
                OwnerNews::Contradicted(opening, contradiction) => self.contradicted(opening, contradiction).await,
            }
        }
    }

    async fn contradicted(&self, opening: Opening, contradiction: Contradiction) {
        let Contradiction { node, workers } = contradiction;
        tracing::warn!(%node, ?workers, "copies of a node differ");
        let workers = workers.into_iter().map(|worker| worker.0).collect();
        let (job, opening, node) = (self.assignment.job, opening.0, Some(node.into()));
        let said = v1::NodeContradicted { job, opening, node, workers };
        self.outbox.say(v1::worker_message::Message::NodeContradicted(said)).await;
    }
}

/// Sends the sums of one opening as they come. Where the call ends, all of them are sent again: the coordinator counts
/// each once.
async fn send_roots(
    mut client: CoordinatorClient<Channel>,
    assignment: Assignment,
    opening: Opening,
    mut messages: mpsc::UnboundedReceiver<Message>,
) {
    let mut all: Vec<Message> = Vec::new();
    loop {
        // Nothing is open while there is nothing to send.
        if all.is_empty() {
            match messages.recv().await {
                Some(message) => all.push(message),
                None => return,
            }
        }
        let (sender, outgoing) = mpsc::channel(AHEAD);
        let feed = async {
            let header = Message::Header(assignment.roots(opening));
            _ = sender.send(v1::RootMessage { message: Some(header) }).await;
            let mut sent = 0;
            loop {
                while let Some(message) = all.get(sent) {
                    let message = Some(message.clone());
                    if sender.send(v1::RootMessage { message }).await.is_err() {
                        // How the call ended is said by the call.
                        std::future::pending::<()>().await;
                    }
                    sent += 1;
                }
                match messages.recv().await {
                    Some(message) => all.push(message),
                    None => return,
                }
            }
        };
        let call = client.roots(ReceiverStream::new(outgoing));
        let ended = tokio::select! {
            // The opening is over; what is left is not wanted.
            () = feed => return,
            ended = call => ended,
        };
        if let Err(status) = ended {
            tracing::debug!(%status, "sums did not get through; sent again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Gets the state of chunks before a step, and hands it to the owner's thread.
async fn fetch_state(
    mut client: CoordinatorClient<Channel>,
    request: v1::StateRequest,
    rules: Arc<StepRules>,
    owner: std::sync::Weak<OwnerThread>,
) {
    loop {
        match take_state(&mut client, &request, &rules, &owner).await {
            Ok(()) => return,
            Err(status) => tracing::debug!(%status, step = request.step, "the state of chunks did not come"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn take_state(
    client: &mut CoordinatorClient<Channel>,
    request: &v1::StateRequest,
    rules: &StepRules,
    owner: &std::sync::Weak<OwnerThread>,
) -> Result<(), Status> {
    let mut states = client.state(request.clone()).await?.into_inner();
    while let Some(chunk) = states.message().await? {
        let index = chunk.chunk as usize;
        let state = read_state(&chunk).filter(|state| state.fits(rules, index));
        let state = state.ok_or_else(|| Status::data_loss(format!("the state of chunk {index} does not fit")))?;
        let Some(owner) = owner.upgrade() else { return Ok(()) };
        owner.send(OwnerCommand::State { step: request.step, index, state });
    }
    Ok(())
}

fn read_state(chunk: &v1::ChunkState) -> Option<ChunkState> {
    let values = |bytes: &[u8]| {
        let (quads, rest) = bytes.as_chunks::<4>();
        let values: Vec<f32> = quads.iter().map(|quad| f32::from_le_bytes(*quad)).collect();
        rest.is_empty().then(|| Arc::new(ChunkBuffer::of(&values)))
    };
    let moments = chunk.moments.iter().map(|moment| values(moment)).collect::<Option<_>>()?;
    Some(ChunkState { values: values(&chunk.values)?, moments })
}
