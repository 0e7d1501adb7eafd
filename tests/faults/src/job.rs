//! The jobs that faults happen to, and what an undisturbed run of each comes to.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use convoy_testing::Stripes;
use parking_lot::Mutex;
use serde_json::Value;

use crate::journal::parse;

/// A spec of 150 grey images of 8x8 in three classes, a network of some hundred parameters, 15 steps. The data is
/// [`write_data`]'s.
pub const TINY: &str = r#"
seed = 7
[data]
train = "data"
[augment]
horizontal_flip = 0.5
crop_padding = 1
[network]
layers = [
    { type = "conv", out = 6, kernel = 3, padding = 1, bias = false },
    { type = "batch_norm" },
    { type = "relu" },
    { type = "max_pool", kernel = 2 },
    { type = "dropout", p = 0.1 },
    { type = "flatten" },
    { type = "linear", out = 3 },
]
[optimizer]
lr = 0.05
[train]
epochs = 3
batch = 32
shard = 4
[checkpoint]
every_steps = 2
"#;

/// Writes the data of [`TINY`] to the folder `data` in `folder`.
///
/// # Panics
/// When the folder cannot be written.
pub fn write_data(folder: &Path) {
    Stripes { train: 150, validation: 40 }.write(&folder.join("data"));
}

/// A kind of job: what is changed in [`TINY`]. The learning rate is constant, so the steps of a short run are those of
/// a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    network: Option<&'static str>,
    batch: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

/// Steps of few parameters and little computing.
pub const SHORT: Kind = Kind { network: None, batch: 32, checkpoint_every: 50 };

/// Steps of few parameters that take some tens of milliseconds to compute.
pub const COMPUTING: Kind = Kind {
    network: Some(
        "[{type=\"conv\",out=32,kernel=3,padding=1},{type=\"relu\"},{type=\"conv\",out=32,kernel=3,padding=1},{type=\"relu\"},{type=\"flatten\"},{type=\"linear\",out=3}]",
    ),
    batch: 75,
    checkpoint_every: 50,
};

/// Steps of 38 shards that take some milliseconds each.
pub const HEAVY: Kind = Kind {
    network: Some(
        "[{type=\"conv\",out=64,kernel=3,padding=1},{type=\"relu\"},{type=\"conv\",out=64,kernel=3,padding=1},{type=\"relu\"},{type=\"flatten\"},{type=\"linear\",out=3}]",
    ),
    batch: 150,
    checkpoint_every: 50,
};

/// A network of 1.2 million parameters that are cheap to compute: a node takes 18 chunks and more to send.
pub const LARGE: Kind = Kind {
    network: Some(
        "[{type=\"flatten\"},{type=\"linear\",out=2048},{type=\"relu\"},{type=\"linear\",out=512},{type=\"linear\",out=3}]",
    ),
    batch: 32,
    checkpoint_every: 100,
};

/// Bytes of a node of [`LARGE`], nearly.
pub const LARGE_NODE: u64 = 4 * (64 * 2048 + 2048 * 512);

impl Kind {
    /// Epochs that no row reaches.
    const ENDLESS: u64 = 100_000;

    fn steps_of_an_epoch(&self) -> u64 {
        150_u64.div_ceil(self.batch)
    }

    /// Keys and values of the job's spec.
    pub fn sets(&self) -> Vec<String> {
        self.sets_for(Kind::ENDLESS)
    }

    fn sets_for(&self, epochs: u64) -> Vec<String> {
        let mut sets = vec![
            "schedule.kind=constant".to_owned(),
            format!("train.batch={}", self.batch),
            format!("train.epochs={epochs}"),
            format!("checkpoint.every_steps={}", self.checkpoint_every),
        ];
        sets.extend(self.network.map(|layers| format!("network.layers={layers}")));
        sets
    }
}

/// What all rows share: the programs, how often each row is tried, and what undisturbed runs come to.
pub struct Bench {
    /// The binary `convoy`.
    pub convoy: PathBuf,
    /// The binary `convoy-sim`, if it is there.
    pub sim: Option<PathBuf>,
    /// Tries of each row; its own number if it is `None`.
    pub tries: Option<u64>,
    chains: Mutex<HashMap<Kind, Arc<Vec<String>>>>,
}

impl Bench {
    /// A bench for the binary at `convoy`.
    pub fn new(convoy: impl Into<PathBuf>) -> Self {
        Bench { convoy: convoy.into(), sim: None, tries: None, chains: Mutex::default() }
    }

    /// How often a row is tried that is tried so often by itself.
    pub fn tries(&self, own: u64) -> u64 {
        self.tries.unwrap_or(own)
    }

    /// The digests of the parameters after each of the first `steps` steps and more of an undisturbed run in one
    /// process.
    ///
    /// # Panics
    /// When the run fails.
    pub fn undisturbed(&self, kind: Kind, steps: u64) -> Arc<Vec<String>> {
        let mut chains = self.chains.lock();
        let known = chains.get(&kind).filter(|chain| chain.len() as u64 >= steps).cloned();
        known.unwrap_or_else(|| {
            let chain = Arc::new(self.train(kind, steps));
            chains.insert(kind, chain.clone());
            chain
        })
    }

    fn train(&self, kind: Kind, steps: u64) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_data(folder.path());
        fs::write(folder.path().join("job.toml"), TINY).expect("the folder is writable");
        let mut command = Command::new(&self.convoy);
        command.current_dir(folder.path()).args(["train", "job.toml", "--json", "--out", "alone"]);
        let epochs = steps.max(1).div_ceil(kind.steps_of_an_epoch());
        let sets = kind.sets_for(epochs);
        command.args(sets.iter().flat_map(|set| ["--set", set])).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", self.convoy.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let journal = fs::read_to_string(folder.path().join("alone/journal")).expect("a run has a journal");
        let commits = journal.lines().filter_map(parse).filter(|record| record["record"] == "step_committed");
        commits.map(|record| text(&record["digest"])).collect()
    }
}

/// A string of JSON.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
