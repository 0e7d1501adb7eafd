//! `convoy watch`: follows a job until it is over, through lost connections and restarts of the coordinator.

use std::process::ExitCode;
use std::time::Duration;

use convoy_coordinator::{RunEvent, Status};
use convoy_proto::patience::Patience;
use convoy_proto::v1;
use tokio::sync::{mpsc, watch};
use tonic::Code;

use super::view::JobView;
use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::out;
use crate::progress::show_run;
use crate::runtime::block_on;

/// Follow a job to its end, and end as it does.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: that of the job (0 completed, 1 failed, 5 stopped); 3 when there is no such job.\n\
    Example:\n  convoy watch last"
)]
pub struct WatchArgs {
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
    at: Endpoint,
}

/// Follows the job.
///
/// # Errors
/// As [`follow`].
pub fn run(args: WatchArgs) -> Result<ExitCode, CliError> {
    block_on(follow_for(&args.at, &args.job, args.json, Duration::from_secs(args.patience), true))
}

/// Follows a job that was submitted just now, patiently.
///
/// # Errors
/// When there is no such job, or the coordinator stays away.
pub async fn follow(at: &Endpoint, job: &str, json: bool) -> Result<ExitCode, CliError> {
    follow_for(at, job, json, Duration::from_secs(300), false).await
}

async fn follow_for(
    at: &Endpoint,
    job: &str,
    json: bool,
    patience: Duration,
    tell_taken: bool,
) -> Result<ExitCode, CliError> {
    let (status, watched) = watch::channel(Status::default());
    let (tell, events) = mpsc::unbounded_channel();
    let progress = tokio::spawn(show_run(watched, events));
    let mut following = Following { job: job.to_owned(), offset: 0, last: None, said: None, tell_taken, status, tell };
    let mut patience = Patience::new(Some(patience));
    let (text, view) = loop {
        let lost = match following.listen(at).await {
            Ok(Some(over)) => break over,
            Ok(None) => {
                patience.renew();
                "the connection was lost".to_owned()
            }
            Err(CliError::Unreachable { reason, .. }) => reason,
            Err(error) => return Err(error),
        };
        let Some(pause) = patience.pause() else { return Err(at.unreachable(lost)) };
        tokio::time::sleep(pause).await;
    };
    drop(following);
    _ = progress.await;
    out::unless_closed(if json { out::line(text) } else { out::line(view.summary()) })?;
    if let Some(error) = &view.error {
        out::note(format_args!("error: {error}"));
    }
    Ok(ExitCode::from(view.exit_code()))
}

struct Following {
    job: String,
    offset: u64,
    /// Text and meaning of the last answer.
    last: Option<(String, JobView)>,
    /// The waiting that was told last.
    said: Option<String>,
    /// Whether to tell what the job takes, once.
    tell_taken: bool,
    status: watch::Sender<Status>,
    tell: mpsc::UnboundedSender<RunEvent>,
}

impl Following {
    /// Listens until the job is over; `None` when the connection was lost before.
    async fn listen(&mut self, at: &Endpoint) -> Result<Option<(String, JobView)>, CliError> {
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
        let view: JobView = read(&reply.json)?;
        // The name stays, also when `last` becomes another job.
        self.job.clone_from(&view.job);
        self.offset = reply.offset;
        if std::mem::take(&mut self.tell_taken) {
            view.taken.iter().for_each(out::note);
        }
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

    fn say_waiting(&mut self, view: &JobView) {
        let waiting = view.waiting_for.as_ref().map(|waiting| format!("{}: {waiting}", view.state));
        if waiting.is_some() && waiting != self.said {
            out::note(format_args!("{} {}", view.job, waiting.as_deref().unwrap_or_default()));
            self.said = waiting;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following(job: &str) -> (Following, watch::Receiver<Status>, mpsc::UnboundedReceiver<RunEvent>) {
        let (status, shown) = watch::channel(Status::default());
        let (tell, events) = mpsc::unbounded_channel();
        (
            Following { job: job.to_owned(), offset: 0, last: None, said: None, tell_taken: true, status, tell },
            shown,
            events,
        )
    }

    fn reply(json: &str, events: &[&str]) -> v1::WatchReply {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        v1::WatchReply { json: json.to_owned(), events, offset: 7 }
    }

    #[test]
    fn the_job_keeps_the_name_that_was_told_first() {
        let (mut following, ..) = following("last");
        following.hear(reply(r#"{"job":"tiny-7","state":"queued","waiting_for":"workers"}"#, &[])).unwrap();
        assert_eq!((following.job.as_str(), following.offset), ("tiny-7", 7));
        assert_eq!(following.said.as_deref(), Some("queued: workers"));
        let (text, view) = following.last.expect("an answer came");
        assert!(text.contains("tiny-7") && !view.state.is_over());
    }

    #[test]
    fn status_and_events_are_passed_on() {
        let (mut following, shown, mut events) = following("tiny-7");
        let status = serde_json::to_string(&Status { step: 3, steps: 9, ..Status::default() }).unwrap();
        let event = RunEvent::Checkpoint { step: 3, file: "c".to_owned() };
        let json = format!(r#"{{"job":"tiny-7","state":"running","status":{status}}}"#);
        following.hear(reply(&json, &[&serde_json::to_string(&event).unwrap()])).unwrap();
        assert_eq!(shown.borrow().step, 3);
        assert!(matches!(events.try_recv(), Ok(RunEvent::Checkpoint { step: 3, .. })));
    }

    #[test]
    fn an_answer_of_another_version_ends_it() {
        let (mut following, ..) = following("tiny-7");
        assert_eq!(following.hear(reply("{}", &[])).unwrap_err().exit_code(), 1);
    }
}
