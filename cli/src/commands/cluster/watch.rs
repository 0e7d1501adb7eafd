//! `convoy watch`: follows a job until it is over, through lost connections and restarts of the coordinator.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use convoy_coordinator::{JobState, RunEvent, Status};
use convoy_proto::v1;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tonic::Code;

use crate::cluster::{Where, block_on, read};
use crate::error::CliError;
use crate::out;
use crate::progress::{duration, show_run};

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(2);

/// Follow a job to its end, and end as it does.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: that of the job (0 completed, 1 failed, 5 stopped); 3 when there is no such job.\n\
    Example:\n  convoy watch last"
)]
pub struct Args {
    /// The job: its name, its number, or `last`.
    #[arg(default_value = "last")]
    job: String,
    /// Seconds for which an unreachable coordinator is tried again.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    patience: u64,
    /// End with one JSON object on standard output: the job's record.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    block_on(follow_for(&args.at, &args.job, args.json, Duration::from_secs(args.patience)))
}

/// A job as the coordinator tells of it.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    /// Its name.
    pub job: String,
    /// Where it stands.
    pub state: JobState,
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// Its run, while it is open.
    pub status: Option<Status>,
    /// Why it failed.
    pub error: Option<String>,
    /// The object that its run ended with.
    pub result: Option<serde_json::Value>,
}

/// Follows a job, patiently.
///
/// # Errors
/// When there is no such job, or the coordinator stays away.
pub async fn follow(at: &Where, job: &str, json: bool) -> Result<ExitCode, CliError> {
    follow_for(at, job, json, Duration::from_secs(300)).await
}

async fn follow_for(at: &Where, job: &str, json: bool, patience: Duration) -> Result<ExitCode, CliError> {
    let (status, watched) = watch::channel(Status::default());
    let (tell, events) = mpsc::unbounded_channel();
    let progress = tokio::spawn(show_run(watched, events));
    let mut following = Following { job: job.to_owned(), offset: 0, last: None, said: None, status, tell };
    let (mut pause, mut alone_since) = (BACKOFF_FIRST, Instant::now());
    let (text, view) = loop {
        let lost = match following.listen(at).await {
            Ok(Some(over)) => break over,
            Ok(None) => {
                (pause, alone_since) = (BACKOFF_FIRST, Instant::now());
                "the connection was lost".to_owned()
            }
            Err(CliError::Unreachable { reason, .. }) => reason,
            Err(error) => return Err(error),
        };
        if alone_since.elapsed() + pause > patience {
            return Err(at.unreachable(lost));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF_LAST);
    };
    drop(following);
    _ = progress.await;
    out::unless_closed(if json { out::line(text) } else { summary(&view) })?;
    if let Some(error) = &view.error {
        out::note(format_args!("error: {error}"));
    }
    Ok(ExitCode::from(match view.state {
        JobState::Completed => 0,
        JobState::Stopped => 5,
        _ => 1,
    }))
}

struct Following {
    job: String,
    offset: u64,
    /// Text and meaning of the last answer.
    last: Option<(String, View)>,
    /// The waiting that was told last.
    said: Option<String>,
    status: watch::Sender<Status>,
    tell: mpsc::UnboundedSender<RunEvent>,
}

impl Following {
    /// Listens until the job is over; `None` when the connection was lost before.
    async fn listen(&mut self, at: &Where) -> Result<Option<(String, View)>, CliError> {
        let mut client = at.connect().await?;
        let request = v1::WatchRequest { job: self.job.clone(), offset: self.offset };
        let mut replies = client.watch(request).await.map_err(|status| at.refused(&status))?.into_inner();
        loop {
            match replies.message().await {
                Ok(Some(reply)) => self.hear(reply)?,
                Ok(None) => return Ok(self.last.take().filter(|(_, view)| view.state.is_over())),
                Err(status) if status.code() == Code::NotFound => return Err(at.refused(&status)),
                Err(_) => return Ok(None),
            }
        }
    }

    fn hear(&mut self, reply: v1::WatchReply) -> Result<(), CliError> {
        let view: View = read(&reply.json)?;
        // The name stays, also when `last` becomes another job.
        self.job.clone_from(&view.job);
        self.offset = reply.offset;
        for event in reply.events {
            _ = self.tell.send(read(&event)?);
        }
        match &view.status {
            Some(status) => _ = self.status.send_replace(status.clone()),
            None => self.say_waiting(&view),
        }
        self.last = Some((reply.json, view));
        Ok(())
    }

    fn say_waiting(&mut self, view: &View) {
        let waiting = view.waiting_for.as_ref().map(|waiting| format!("{}: {waiting}", view.state));
        if waiting.is_some() && waiting != self.said {
            out::note(format_args!("{} {}", view.job, waiting.as_deref().unwrap_or_default()));
            self.said = waiting;
        }
    }
}

/// What a job ended with, for people.
fn summary(view: &View) -> Result<(), CliError> {
    let mut text = format!("\n{} {}", view.job, view.state);
    if let Some(result) = &view.result {
        if let (Some(steps), Some(seconds)) = (result["steps"].as_u64(), result["seconds"].as_f64()) {
            text.push_str(&format!(" after {steps} steps, {}", duration(seconds)));
        }
        for (name, value) in result["validation"].as_object().into_iter().flatten() {
            text.push_str(&format!("\n{name:<11} {:.4}", value.as_f64().unwrap_or(f64::NAN)));
        }
        if let Some(digest) = result["parameters_digest"].as_str() {
            text.push_str(&format!("\nparameters  {digest}"));
        }
        text.push_str(&format!("\n\nnext:  convoy get {} --out DIR", view.job));
    }
    out::line(text)
}
