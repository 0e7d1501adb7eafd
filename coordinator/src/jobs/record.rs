//! What is known of a job.

use convoy_common::Plan;
use convoy_common::data_place::{DataName, DataPlace};
use convoy_common::spec::Spec;
use convoy_scheduler::{JobId, JobRequest, Limits};
use serde::{Deserialize, Serialize};

use crate::numerics::numerics_number;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its turn.
    Queued,
    /// Its run is open.
    Running,
    /// Its run finishes a step before the pause.
    Pausing,
    /// Somebody wants it to wait.
    Paused,
    /// Its run finishes a step before the end.
    Stopping,
    /// It came to its end.
    Completed,
    /// Somebody stopped it.
    Stopped,
    /// It could not go on.
    Failed,
}

impl JobState {
    /// Whether nothing more happens by itself.
    pub fn is_over(self) -> bool {
        matches!(self, JobState::Completed | JobState::Stopped | JobState::Failed)
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Pausing => "pausing",
            JobState::Paused => "paused",
            JobState::Stopping => "stopping",
            JobState::Completed => "completed",
            JobState::Stopped => "stopped",
            JobState::Failed => "failed",
        })
    }
}

/// A job as it is kept.
///
/// Many fields: each is a key of the JSON object that the store keeps and that people are shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Counted by submission.
    pub id: u64,
    /// Its name in commands: the spec's, and its number.
    pub job: String,
    /// Where it stands.
    pub state: JobState,
    /// Higher goes first.
    pub priority: i32,
    /// Workers without which it does not start.
    pub min_workers: u32,
    /// Workers beyond which it gets no more.
    pub max_workers: Option<u32>,
    /// Class of arithmetic.
    pub numerics: String,
    /// Who submitted it.
    pub submitted_by: String,
    /// When.
    pub submitted: String,
    /// When its run was opened first.
    pub started: Option<String>,
    /// When it was over.
    pub ended: Option<String>,
    /// The data sets that its spec names.
    #[serde(default)]
    pub data: Vec<DataName>,
    /// Bytes that its files may take on the coordinator's disk.
    #[serde(default)]
    pub disk_bytes: u64,
    /// What was taken of its data when it was planned, and why.
    #[serde(default)]
    pub taken: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The object that its run ended with.
    pub result: Option<serde_json::Value>,
}

impl JobRecord {
    /// The record of job `id`, submitted now, that nothing more is wished of than what `plan` says.
    pub(crate) fn new(id: u64, plan: &Plan, submitted_by: String) -> JobRecord {
        JobRecord {
            id,
            job: format!("{}-{id}", name_of(&plan.spec.name)),
            state: JobState::Queued,
            priority: 0,
            min_workers: 1,
            max_workers: None,
            numerics: plan.spec.numerics.clone(),
            submitted_by,
            submitted: now(),
            started: None,
            ended: None,
            data: data_sets_of(&plan.spec),
            disk_bytes: 0,
            taken: None,
            error: None,
            result: None,
        }
    }

    /// The job's number, as the scheduler takes it.
    pub fn id(&self) -> JobId {
        JobId(self.id)
    }

    /// What the job asks of the fleet: priority, how many workers, and of which class of arithmetic.
    pub(crate) fn request(&self) -> JobRequest {
        JobRequest {
            priority: self.priority,
            least: self.min_workers,
            // A run takes no more members than that.
            most: Some(self.max_workers.unwrap_or(u32::MAX).min(Limits::default().workers)),
            numerics: numerics_number(&self.numerics),
        }
    }

    /// Whether `text` means this job: its number or its name.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.job == text || text.parse() == Ok(self.id)
    }
}

/// The data sets that a spec names.
pub(super) fn data_sets_of(spec: &Spec) -> Vec<DataName> {
    let name = |path: &str| match DataPlace::parse(path) {
        Ok(DataPlace::DataSet(name, _)) => Some(name),
        _ => None,
    };
    spec.paths().into_iter().filter_map(|(_, path)| name(path)).collect()
}

/// The time it is, in UTC.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// The first part of a job's name: lower case letters, digits, dots, hyphens and underscores, at most 40 of them.
fn name_of(spec_name: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let name: String = spec_name.to_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).take(40).collect();
    let name = name.trim_start_matches(['.', '-', '_']);
    if name.is_empty() { "job".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_typed_and_stay_in_their_folder() {
        let names = ["Fashion MNIST", "../../etc", "", "ünde"].map(name_of);
        assert_eq!(names, ["fashion-mnist", "etc", "job", "nde"]);
    }
}
