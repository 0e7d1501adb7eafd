//! Progress on standard error: a bar on a terminal, one plain line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use convoy_coordinator::{RunEvent, Status};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::metric_lines::is_of_mean;
use crate::out;
use crate::time::duration;

const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_EVERY: Duration = Duration::from_millis(250);

/// Counts things that are done one by one.
pub struct Counter {
    bar: Option<ProgressBar>,
    what: &'static str,
    begun: Instant,
    last: Mutex<Instant>,
}

impl Counter {
    /// A counter of `what`.
    pub fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} eta {eta}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
        });
        let begun = Instant::now();
        Counter { bar, what, begun, last: Mutex::new(begun) }
    }

    /// `done` of `all` are done.
    pub fn show(&self, done: usize, all: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            return;
        }
        let mut last = self.last.lock();
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            let left = self.begun.elapsed().as_secs_f64() * all.saturating_sub(done) as f64 / done.max(1) as f64;
            out::note(format_args!("{}: {done}/{all}, eta {}", self.what, duration(left)));
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A [`Counter`] of `what`, for planning.
pub fn counter(what: &'static str) -> Box<dyn Fn(usize, usize) + Sync> {
    let counter = Counter::new(what);
    Box::new(move |done, all| counter.show(done, all))
}

/// Shows a run until `events` end.
pub async fn show_run(status: watch::Receiver<Status>, mut events: mpsc::UnboundedReceiver<RunEvent>) {
    let terminal = std::io::stderr().is_terminal();
    let bar = terminal.then(|| {
        let style = ProgressStyle::with_template("[{bar:30}] {msg}");
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let say = |text: String| match &bar {
        Some(bar) => bar.println(out::printable(text).to_string()),
        None => out::note(text),
    };
    let mut tick = tokio::time::interval(if terminal { BAR_EVERY } else { LINE_EVERY });
    tick.tick().await;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                None => break,
                Some(event) => if let Some(text) = describe(&event) { say(text) },
            },
            _ = tick.tick() => {
                let status = status.borrow().clone();
                if status.steps == 0 { continue }
                match &bar {
                    Some(bar) => {
                        bar.set_length(status.steps);
                        bar.set_position(status.step);
                        bar.set_message(out::printable(line(&status)).to_string());
                    }
                    None => out::note(line(&status)),
                }
            }
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// `step 420/3900 · epoch 2/10 · loss 0.83 · 1240 img/s · 4 workers · eta 6m10s · waiting 3 % (data 2 %) · …`
fn line(status: &Status) -> String {
    let mut text = format!("step {}/{} · epoch {}/{}", status.step, status.steps, status.epoch, status.epochs);
    if status.loss.is_finite() {
        text.push_str(&format!(" · loss {:.4}", status.loss));
    }
    if let Some(accuracy) = status.accuracy {
        text.push_str(&format!(" · accuracy {:.1} %", accuracy * 100.0));
    }
    if status.images_per_second > 0.0 {
        text.push_str(&format!(" · {:.0} img/s", status.images_per_second));
    }
    text.push_str(&format!(" · {} worker{}", status.workers, if status.workers == 1 { "" } else { "s" }));
    if let Some(eta) = status.eta_seconds {
        text.push_str(&format!(" · eta {}", duration(eta)));
    }
    let waits = status.waits;
    let all = waits.computing + waits.data + waits.parameters;
    if all > 0.0 {
        let share = |part: f64| 100.0 * part / all;
        text.push_str(&format!(
            " · waited {:.0} % for data, {:.0} % for parameters",
            share(waits.data),
            share(waits.parameters)
        ));
    }
    if let Some(reason) = &status.held_up {
        text.push_str(&format!(" · {reason}"));
    } else if status.evaluating {
        text.push_str(" · evaluating");
    } else if status.workers == 0 {
        text.push_str(&format!(" · waiting for {}", status.waiting_for));
    }
    text
}

/// What people want to hear of an event at once.
fn describe(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::Epoch(row) => {
            let metrics: Vec<String> = row
                .validation
                .iter()
                .filter(|(name, _)| !is_of_mean(name))
                .map(|(name, value)| format!("{name} {value:.4}"))
                .collect();
            let best = if row.best { " (best)" } else { "" };
            format!(
                "epoch {} · {} · train loss {:.4}{}{}{best}",
                row.epoch,
                duration(row.seconds),
                row.train_loss,
                if metrics.is_empty() { "" } else { " · validation " },
                metrics.join(", "),
            )
        }
        RunEvent::Overdue { worker, node, seconds } => {
            format!("worker {worker} is late with {node} ({seconds:.1} s); another computes it as well")
        }
        RunEvent::Doubted { worker, node } => {
            format!("warning: {node} came from worker {worker} with a NaN or an infinity; it is computed again")
        }
        RunEvent::Contradicted { step, node, workers } => {
            let workers = workers.join(", ");
            format!("warning: {node} of step {step} came with other numbers from {workers}; the step begins anew")
        }
        RunEvent::WorkerLeft { worker, reason } if reason != "drained" => {
            format!("worker {worker} left ({reason}); others take over what it held")
        }
        RunEvent::CheckpointFailed { step, reason } => {
            format!(
                "warning: the checkpoint of step {step} was not written: {reason}; it is tried again, and the last good one \
                 is kept"
            )
        }
        RunEvent::LeaseFailed { worker, reason } => format!("warning: worker {worker}: {reason}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use convoy_coordinator::{EpochRow, Waits};

    use super::*;

    #[test]
    fn a_line_says_what_is_awaited() {
        let status =
            Status { step: 3, steps: 10, epoch: 1, epochs: 2, waiting_for: "workers".into(), ..Status::default() };
        assert_eq!(line(&status), "step 3/10 · epoch 1/2 · loss 0.0000 · 0 workers · waiting for workers");
    }

    #[test]
    fn a_line_says_how_it_goes() {
        let status = Status {
            step: 420,
            steps: 3900,
            epoch: 2,
            epochs: 10,
            loss: 0.834_56,
            accuracy: Some(0.712),
            images_per_second: 1240.4,
            eta_seconds: Some(370.0),
            workers: 1,
            owners: 0,
            evaluating: false,
            waiting_for: "nothing".into(),
            waits: Waits { computing: 95.0, data: 3.0, parameters: 2.0 },
            held_up: None,
        };
        assert_eq!(
            line(&status),
            "step 420/3900 · epoch 2/10 · loss 0.8346 · accuracy 71.2 % · 1240 img/s · 1 worker · eta 6m10s \
             · waited 3 % for data, 2 % for parameters"
        );
        let evaluating = Status { loss: f64::NAN, evaluating: true, workers: 4, ..Status::default() };
        assert_eq!(line(&evaluating), "step 0/0 · epoch 0/0 · 4 workers · evaluating");
        let full = Status { held_up: Some("the disk is full: 3 MiB free at /runs".into()), ..evaluating };
        assert_eq!(line(&full), "step 0/0 · epoch 0/0 · 4 workers · the disk is full: 3 MiB free at /runs");
    }

    #[test]
    fn an_epoch_is_told_with_its_metrics() {
        let row = EpochRow {
            epoch: 3,
            step: 90,
            seconds: 61.0,
            lr: 0.05,
            train_loss: 0.5,
            validation: [("accuracy".to_owned(), 0.75), ("loss".to_owned(), 1.0)].into(),
            best: true,
        };
        let text = |row: &EpochRow| describe(&RunEvent::Epoch(row.clone())).unwrap();
        assert_eq!(text(&row), "epoch 3 · 1m01s · train loss 0.5000 · validation accuracy 0.7500, loss 1.0000 (best)");
        let bare = EpochRow { validation: [].into(), best: false, ..row };
        assert_eq!(text(&bare), "epoch 3 · 1m01s · train loss 0.5000");
    }

    #[test]
    fn only_what_people_want_to_hear_is_told() {
        let worker = 2;
        let left = |reason: &str| describe(&RunEvent::WorkerLeft { worker, reason: reason.to_owned() });
        assert_eq!(left("drained"), None);
        assert_eq!(left("silent").unwrap(), "worker 2 left (silent); others take over what it held");
        let late = RunEvent::Overdue { worker, node: "shards 0..4".into(), seconds: 2.25 };
        assert_eq!(describe(&late).unwrap(), "worker 2 is late with shards 0..4 (2.2 s); another computes it as well");
        let failed = RunEvent::LeaseFailed { worker, reason: "no memory".into() };
        assert_eq!(describe(&failed).unwrap(), "warning: worker 2: no memory");
        let doubted = describe(&RunEvent::Doubted { worker, node: "shard 1".into() }).unwrap();
        assert!(doubted.starts_with("warning: shard 1 came from worker 2 with a NaN"), "{doubted}");
        let unsaved = describe(&RunEvent::CheckpointFailed { step: 7, reason: "the disk is full".into() }).unwrap();
        assert!(
            unsaved.starts_with("warning: the checkpoint of step 7 was not written: the disk is full"),
            "{unsaved}"
        );
        assert_eq!(describe(&RunEvent::Started { generation: 1, step: 0, steps: 9 }), None);
        assert_eq!(describe(&RunEvent::Checkpoint { step: 7, file: String::new() }), None);
    }

    #[test]
    fn a_counter_counts_from_any_thread() {
        let counter = &counter("counting");
        std::thread::scope(|scope| (0..2).for_each(|done| _ = scope.spawn(move || counter(done, 2))));
    }
}
