//! Tracing: to standard error as the user asks, and to the run folder's `log` at level info: the one of the process, or
//! those of the jobs that it coordinates.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

static FILE: OnceLock<Mutex<File>> = OnceLock::new();

/// Starts logging.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    let stderr = fmt::layer().with_writer(io::stderr).with_target(false);
    let stderr: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Pretty => stderr.compact().with_filter(filter).boxed(),
        LogFormat::Json => stderr.json().with_filter(filter).boxed(),
    };
    let file = fmt::layer().with_writer(|| FileWriter).with_ansi(false).with_target(false).compact();
    tracing_subscriber::registry()
        .with(stderr)
        .with(file.with_filter(LevelFilter::INFO))
        .with(JobLogs.with_filter(LevelFilter::INFO))
        .with(Collector.with_filter(LevelFilter::INFO))
        .init();
}

/// Writes what happens inside a span named `job` to the file `log` in the span's `folder`.
struct JobLogs;

/// Bytes of a job's log; lines that come after are left out and counted.
const KEPT: u64 = 64 << 20;

/// The open log of a job's span.
struct JobLog(Mutex<BoundedLog>);

struct BoundedLog {
    file: File,
    written: u64,
    left_out: u64,
}

impl BoundedLog {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(BoundedLog { file, written, left_out: 0 })
    }

    /// A log that cannot be written stops nothing.
    fn line(&mut self, line: &str) {
        if self.written >= KEPT {
            self.left_out += 1;
            return;
        }
        self.written += line.len() as u64 + 1;
        _ = self.file.write_all(format!("{line}\n").as_bytes());
        if self.written >= KEPT {
            _ = writeln!(self.file, "this log is full ({} MiB): what comes after is left out", KEPT >> 20);
        }
    }
}

impl Drop for BoundedLog {
    fn drop(&mut self) {
        if self.left_out > 0 {
            _ = writeln!(self.file, "{} lines were left out", self.left_out);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JobLogs {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "job" {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let Some(folder) = fields.folder else { return };
        if let (Ok(log), Some(span)) = (BoundedLog::open(&folder.join("log")), context.span(id)) {
            span.extensions_mut().insert(JobLog(Mutex::new(log)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(scope) = context.event_scope(event) else { return };
        for span in scope {
            if let Some(JobLog(log)) = span.extensions().get() {
                log.lock().line(&line_of(event));
            }
        }
    }
}

/// Lines that may wait to be handed on; more are dropped.
const COLLECTED: usize = 1024;

static COLLECTING: OnceLock<mpsc::Sender<String>> = OnceLock::new();

/// Hands on what is logged at level info and above, from now on.
pub fn collect() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(COLLECTED);
    _ = COLLECTING.set(sender);
    lines
}

struct Collector;

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(sender) = COLLECTING.get() {
            _ = sender.try_send(line_of(event));
        }
    }
}

fn line_of(event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let (time, level) = (jiff::Timestamp::now(), event.metadata().level());
    format!("{time:.3} {level:>5} {}{}", fields.message, fields.others)
}

#[derive(Default)]
struct Fields {
    folder: Option<PathBuf>,
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "folder" => self.folder = Some(PathBuf::from(format!("{value:?}"))),
            "message" => self.message = format!("{value:?}"),
            // What workers and files call themselves is escaped, so that a line stays one line.
            name => _ = write!(self.others, " {name}={:?}", Escaped(&format!("{value:?}"))),
        }
    }
}

/// Text without control characters.
struct Escaped<'a>(&'a str);

impl std::fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) })
    }
}

/// Writes log lines of level info and above to the file at `path` as well, from now on.
///
/// # Errors
/// When the file cannot be opened.
pub fn to_file(path: &Path) -> io::Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    _ = FILE.set(Mutex::new(file));
    Ok(())
}

struct FileWriter;

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match FILE.get() {
            Some(file) => file.lock().write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_in_a_job_is_written_to_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let logs = tracing_subscriber::registry().with(JobLogs.with_filter(LevelFilter::INFO));
        tracing::subscriber::with_default(logs, || {
            tracing::info!("before");
            let _inside = tracing::info_span!("job", job = 7, folder = %dir.path().display()).entered();
            tracing::info!(worker = %"a\nb\u{1b}[0m", step = 3, "joined");
            tracing::debug!("of no interest");
        });
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        let (_, line) = log.trim_end().split_once(' ').expect("a time comes first");
        assert_eq!(line.trim_start(), r"INFO joined worker=a\nb\u{1b}[0m step=3");
    }

    #[test]
    fn a_full_log_says_how_much_was_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::create(&path).unwrap().set_len(KEPT - 4).unwrap();
        let mut log = BoundedLog::open(&path).unwrap();
        (0..5).for_each(|_| log.line("a line"));
        drop(log);
        BoundedLog::open(&path).unwrap().line("later");
        let bytes = std::fs::read(&path).unwrap();
        let end = String::from_utf8_lossy(&bytes[KEPT as usize - 4..]);
        let said = ["a line", "this log is full (64 MiB): what comes after is left out", "4 lines were left out"];
        assert_eq!(end.lines().take(3).collect::<Vec<_>>(), said, "{end}");
        assert_eq!(end.lines().nth(3), Some("1 lines were left out"));
    }
}
