//! Progress on standard error: a bar on a terminal, one plain line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use convoy_coordinator::{RunEvent, Status};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, watch};

use crate::out;

const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_EVERY: Duration = Duration::from_millis(250);

/// Counts things that are done one by one.
pub struct Counter {
    bar: Option<ProgressBar>,
    what: &'static str,
    last: Mutex<Instant>,
}

impl Counter {
    /// A counter of `what`.
    pub fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} eta {eta}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
        });
        Counter { bar, what, last: Mutex::new(Instant::now()) }
    }

    /// `done` of `all` are done.
    pub fn show(&self, done: usize, all: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            out::note(format_args!("{}: {done}/{all}", self.what));
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

/// Shows a run until `events` end.
pub async fn show_run(status: watch::Receiver<Status>, mut events: mpsc::UnboundedReceiver<RunEvent>) {
    let terminal = std::io::stderr().is_terminal();
    let bar = terminal.then(|| {
        let style = ProgressStyle::with_template("[{bar:30}] {msg}");
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let say = |text: String| match &bar {
        Some(bar) => bar.println(text),
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
                        bar.set_message(line(&status));
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
    if status.evaluating {
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
            let metrics: Vec<String> =
                row.validation.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
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
        RunEvent::WorkerLeft { worker, reason } if reason != "drained" => {
            format!("worker {worker} left ({reason}); others take over what it held")
        }
        RunEvent::CheckpointFailed { step, reason } => {
            format!("warning: the checkpoint of step {step} was not written: {reason}; the last good one is kept")
        }
        RunEvent::LeaseFailed { worker, reason } => format!("warning: worker {worker}: {reason}"),
        _ => return None,
    })
}

/// `1h02m`, `6m10s`, `12s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(["12s", "6m10s", "1h02m"], [11.6, 370.0, 3725.0].map(duration).each_ref().map(String::as_str));
    }

    #[test]
    fn a_line_says_what_is_awaited() {
        let status =
            Status { step: 3, steps: 10, epoch: 1, epochs: 2, waiting_for: "workers".into(), ..Status::default() };
        assert_eq!(line(&status), "step 3/10 · epoch 1/2 · loss 0.0000 · 0 workers · waiting for workers");
    }
}
