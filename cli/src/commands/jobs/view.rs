//! A job as the coordinator tells of it.

use convoy_coordinator::{JobState, Status};
use serde::Deserialize;

use crate::metric_lines::metric_lines;
use crate::time::duration;

/// A job as the coordinator tells of it.
#[derive(Debug, Clone, Deserialize)]
pub struct JobView {
    /// Its name.
    pub job: String,
    /// Where it stands.
    pub state: JobState,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// Its run, while it is open.
    pub status: Option<Status>,
    /// What was taken of its data, and why.
    pub taken: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The object that its run ended with.
    pub result: Option<serde_json::Value>,
}

impl JobView {
    /// What the job ended with, for people.
    pub fn summary(&self) -> String {
        let mut text = format!("\n{} {}", self.job, self.state);
        let Some(result) = &self.result else { return text };
        if let (Some(steps), Some(seconds)) = (result["steps"].as_u64(), result["seconds"].as_f64()) {
            text.push_str(&format!(" after {steps} steps, {}", duration(seconds)));
        }
        let metrics = result["validation"].as_object().into_iter().flatten();
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
        text.push_str(&metric_lines(&metrics.map(|(name, value)| (name.clone(), number(value))).collect()));
        if let Some(digest) = result["parameters_digest"].as_str() {
            text.push_str(&format!("\nparameters  {digest}"));
        }
        text.push_str(&format!("\n\nnext:  convoy get {} --out DIR", self.job));
        text
    }

    /// The exit code of whoever followed the job to its end.
    pub fn exit_code(&self) -> u8 {
        match self.state {
            JobState::Completed => 0,
            JobState::Stopped => 5,
            _ => 1,
        }
    }

    /// The row of `convoy ls`.
    pub fn row(&self) -> String {
        let (step, workers, eta) = match &self.status {
            Some(status) => (
                format!("{}/{}", status.step, status.steps),
                status.workers.to_string(),
                status.eta_seconds.map(duration).unwrap_or_default(),
            ),
            None => Default::default(),
        };
        let waiting = self.error.as_ref().or(self.waiting_for.as_ref()).map_or("", String::as_str);
        format!("{:<32} {:<10} {step:>11} {workers:>8} {eta:>8}  {waiting}", self.job, self.state)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn view(more: serde_json::Value) -> JobView {
        let mut json = json!({ "job": "tiny-7", "state": "queued" });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_row_tells_where_a_job_stands() {
        let status = Status { step: 3, steps: 10, workers: 2, eta_seconds: Some(70.0), ..Status::default() };
        let running = view(json!({ "state": "running", "status": status }));
        let rows = [
            view(json!({ "waiting_for": "1 more worker" })),
            running,
            view(json!({ "state": "failed", "error": "the disk is full", "waiting_for": "nothing" })),
        ];
        expect![[r#"
            tiny-7                           queued                                    1 more worker
            tiny-7                           running           3/10        2    1m10s
            tiny-7                           failed                                    the disk is full"#]]
        .assert_eq(&rows.map(|view| view.row().trim_end().to_owned()).join("\n"));
    }

    #[test]
    fn a_summary_has_what_the_run_ended_with() {
        assert_eq!(view(json!({ "state": "stopped" })).summary(), "\ntiny-7 stopped");
        let result = json!({
            "steps": 15, "seconds": 61.4, "validation": { "loss": 0.5, "accuracy": null }, "parameters_digest": "00ff"
        });
        expect![[r#"

            tiny-7 completed after 15 steps, 1m01s
            accuracy    NaN
            loss        0.5000
            parameters  00ff

            next:  convoy get tiny-7 --out DIR"#]]
        .assert_eq(&view(json!({ "state": "completed", "result": result })).summary());
    }

    #[test]
    fn whoever_follows_a_job_ends_as_it_does() {
        let codes =
            ["completed", "stopped", "failed", "paused"].map(|state| view(json!({ "state": state })).exit_code());
        assert_eq!(codes, [0, 5, 1, 1]);
    }
}
