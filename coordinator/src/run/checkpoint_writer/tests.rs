use std::sync::mpsc::sync_channel;

use convoy_common::durable::faults::{Fault, FaultPlan, Faults};
use convoy_reduce::Flat;

use super::*;
use crate::fixtures::plan;
use crate::queue::{QueueReceiver, queue};
use crate::run::folder::journal::JournalFile;

struct Bench {
    folder: tempfile::TempDir,
    writer: CheckpointWriter,
    told: QueueReceiver<RunInput>,
    state: Arc<ParameterState>,
    _journal: JournalFile,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan("[train]\nepochs = 1\nbatch = 8\nshard = 8", 8, 0);
    let network = Arc::new(Network::of(&plan).unwrap());
    let (journal, _) = JournalFile::open(&folder.path().join("journal")).unwrap();
    let (inputs, told) = queue(16);
    let moments = vec![Flat::zeros(network.parameters)];
    let state = Arc::new(ParameterState { step: 0, flat: Flat::of(&network.initial(0)), moments });
    let writer = CheckpointWriter::start(folder.path().to_owned(), plan, network, journal.syncer(), inputs);
    Bench { folder, writer, told, state, _journal: journal }
}

impl Bench {
    fn ask(&self, step: u64, state: &ParameterState) {
        let (reply, states) = sync_channel(1);
        reply.send(Arc::new(ParameterState { step, ..state.clone() })).unwrap();
        self.writer.write(CheckpointToWrite { step, trusted: 0, state: states, history: History::default() });
    }

    async fn hear(&mut self) -> RunInput {
        let told = tokio::time::timeout(std::time::Duration::from_secs(60), self.told.recv());
        told.await.expect("nothing is told").expect("the writer is there")
    }

    fn fail(&self, fault: Fault) -> Arc<Faults> {
        Faults::in_folder(self.folder.path(), Some(FaultPlan { point: 1, fault, lasting: true }))
    }
}

#[tokio::test]
async fn a_full_disk_is_tried_again_until_there_is_room() {
    let mut bench = bench();
    let faults = bench.fail(Fault::Full);
    bench.ask(1, &bench.state);
    let RunInput::CheckpointWaits { step: 1, reason } = bench.hear().await else { panic!("it does not wait") };
    assert!(reason.contains("the disk is full"), "{reason}");
    faults.heal();
    assert!(matches!(bench.hear().await, RunInput::CheckpointWritten { step: 1, .. }));
}

#[tokio::test]
async fn who_waits_for_the_end_does_not_wait_for_ever() {
    let mut bench = bench();
    let _faults = bench.fail(Fault::Full);
    bench.writer.hurry();
    bench.ask(1, &bench.state);
    assert!(matches!(bench.hear().await, RunInput::CheckpointWaits { .. }));
    assert!(matches!(bench.hear().await, RunInput::CheckpointFailed { step: 1, .. }));
}

#[tokio::test]
async fn what_fails_for_another_reason_is_tried_a_few_times() {
    let mut bench = bench();
    let _faults = bench.fail(Fault::Eio);
    bench.ask(1, &bench.state);
    assert!(matches!(bench.hear().await, RunInput::CheckpointWaits { .. }));
    assert!(matches!(bench.hear().await, RunInput::CheckpointFailed { step: 1, .. }));
}

#[tokio::test]
async fn a_newer_one_takes_the_place_of_one_that_waits() {
    let mut bench = bench();
    let faults = bench.fail(Fault::Full);
    bench.ask(1, &bench.state);
    assert!(matches!(bench.hear().await, RunInput::CheckpointWaits { step: 1, .. }));
    bench.ask(2, &bench.state);
    assert!(matches!(bench.hear().await, RunInput::CheckpointFailed { step: 1, .. }));
    assert!(matches!(bench.hear().await, RunInput::CheckpointWaits { step: 2, .. }));
    faults.heal();
    assert!(matches!(bench.hear().await, RunInput::CheckpointWritten { step: 2, .. }));
}

#[tokio::test]
async fn a_panic_is_told_and_the_next_one_is_written() {
    let mut bench = bench();
    let broken = ParameterState { moments: vec![Flat::default()], ..ParameterState::clone(&bench.state) };
    bench.ask(1, &broken);
    let RunInput::CheckpointFailed { step: 1, reason } = bench.hear().await else { panic!("nobody is told") };
    assert!(reason.contains("crashed"), "{reason}");
    bench.ask(2, &bench.state);
    assert!(matches!(bench.hear().await, RunInput::CheckpointWritten { step: 2, .. }));
}
