//! What the tests of several rooms need: a small plan, an open run, and connections that only note what they are asked.

use std::path::Path;
use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::file_tree::Files;
use convoy_common::manifest::{FileEntry, FileList, Label, LabelKind, Manifest, Sample, Split};
use convoy_common::plan::DataFacts;
use convoy_model::{Network, ParameterFormat};
use convoy_reduce::{Flat, ParameterBoard};
use convoy_scheduler::{JobId, RunGeneration, WorkerId};
use convoy_testing::{facts, plan_of};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::queue::{QueueReceiver, queue};
use crate::run::brought_questions::BroughtQuestions;
use crate::run::delivery::Delivery;
use crate::run::folder::worker_logs::WorkerLogs;
use crate::run::handle::{FlatVector, RunHandle};
use crate::run::leases::Leases;
use crate::run::reduction::reducer_queue::{Command, ReducerQueue};
use crate::run::run_inputs::RunInput;
use crate::run::worker_links::WorkerLinks;

/// A manifest of `samples` samples of two classes that nobody reads.
pub(crate) fn manifest(samples: u32) -> Manifest {
    manifest_of(samples, 0)
}

/// As [`manifest`], of so many samples for training and validation.
pub(crate) fn manifest_of(train: u32, validation: u32) -> Manifest {
    let sample = |index| Sample { file: 0, index, label: Label::Class(index % 2), broken: None };
    let files: FileList = [FileEntry { path: "images", size: 0, blake3: Default::default() }].into_iter().collect();
    let split = |samples| {
        Arc::new(Split { files: files.clone(), samples: (0..samples).map(sample).collect(), ..Split::default() })
    };
    let names = vec!["class0".to_owned(), "class1".to_owned()];
    let validation = if validation == 0 { Arc::default() } else { split(validation) };
    Manifest { names, labels: LabelKind::Class, train: split(train), validation }
}

/// The plan of `spec` (TOML without `[data]`) for that many grey images of two classes; of a small network, unless the
/// spec names one.
pub(crate) fn plan(spec: &str, train: u32, validation: u32) -> Arc<Plan> {
    let facts = DataFacts {
        train_samples: train,
        validation_samples: validation,
        class_counts: vec![u64::from(train / 2), u64::from(train - train / 2)],
        manifest: manifest_of(train, validation).digest(),
        ..facts([28, 28, 1], 2)
    };
    let network = if spec.contains("[network]") { "" } else { "\n[network]\nname = \"lenet5\"\n" };
    Arc::new(plan_of(&format!("{spec}{network}"), &facts))
}

/// No file can be read.
#[derive(Debug)]
pub(crate) struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

/// The other ends of an open run.
pub(crate) struct RunEnds {
    pub(crate) inputs: QueueReceiver<RunInput>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
}

/// An open run with the parameters 0, whose loop and reducer are the test.
pub(crate) fn run_handle(plan: &Arc<Plan>, generation: u64, folder: &Path) -> (Arc<RunHandle>, RunEnds) {
    let network = Network::of(plan).expect("a network of a test is right");
    let (input_sender, inputs) = queue(16);
    let (reducer, commands) = ReducerQueue::new();
    let handle = RunHandle {
        plan_json: plan.to_json().into(),
        manifest_bytes: "none".into(),
        plan: plan.clone(),
        manifest: Arc::new(manifest(0)),
        files: Arc::new(NoFiles),
        generation: RunGeneration(generation),
        vector: FlatVector::of(plan, &network),
        inputs: input_sender,
        reducer,
        board: Arc::new(ParameterBoard::new(0, &Flat::of(&vec![0.0; network.len()]), ParameterFormat::default())),
        leases: Arc::new(Leases::default()),
        delivery: Arc::new(Delivery::default()),
        questions: Arc::new(BroughtQuestions::default()),
        worker_logs: WorkerLogs::new(folder),
    };
    (Arc::new(handle), RunEnds { inputs, commands })
}

/// Room that nobody else wants.
pub(crate) fn permit() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it is new")
}

/// Connections that note what they are asked, in words.
#[derive(Debug, Default)]
pub(crate) struct FakeLinks(Mutex<Vec<String>>);

impl FakeLinks {
    /// What was asked since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }

    fn note(&self, text: String) {
        self.0.lock().push(text);
    }
}

impl WorkerLinks for FakeLinks {
    fn open(&self, job: JobId, _: Arc<RunHandle>) {
        self.note(format!("open {job}"));
    }

    fn close(&self, job: JobId, reason: &str) {
        self.note(format!("close {job}: {reason}"));
    }

    fn release(&self, worker: WorkerId, job: JobId, reason: &str) {
        self.note(format!("release {worker} of {job}: {reason}"));
    }

    fn lose(&self, worker: WorkerId) {
        self.note(format!("lose {worker}"));
    }

    fn disconnect(&self, worker: WorkerId, reason: &str) {
        self.note(format!("disconnect {worker}: {reason}"));
    }

    fn evict(&self, machine: &str, reason: String) {
        self.note(format!("evict {machine}: {reason}"));
    }
}
