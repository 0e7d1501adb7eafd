//! A coordinator of one run.

use std::sync::Arc;

use convoy_scheduler::{FleetEvent, JobId, JobRequest};
use convoy_security::Secret;
use futures_core::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tonic::service::Routes;

use crate::access::cluster::Access;
use crate::fleet::connections::Connections;
use crate::fleet::fleet_loop::{EVENTS_WAITING, Ended, FleetLoop};
use crate::numerics::numerics_number;
use crate::queue::queue;
use crate::run::carry::carry;
use crate::run::config::Config;
use crate::run::error::RunError;
use crate::run::report::RunReport;
use crate::run::start::load;
use crate::server::{Listener, Server};
use crate::wire::workers::WorkersService;

/// The only job.
const JOB: JobId = JobId(1);

/// Runs the coordinator of one run on `listener` until the run is over; `stop` asks it to finish the step in flight,
/// save and end.
///
/// Goes on from the newest good checkpoint in the run folder; steps that the journal knows beyond it are computed
/// again and compared with their digests.
///
/// Both futures are boxed, so that all of this is compiled here and not in each crate that awaits it.
///
/// # Errors
/// When the run cannot begin, or does not end as planned. What was saved before stays.
///
/// # Examples
/// A run until its end, for workers on this machine:
/// ```no_run
/// # use convoy_coordinator::Config;
/// # async fn example(config: Config, secret: convoy_security::Secret) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:7100").await?;
/// let report = convoy_coordinator::serve(config, secret, listener.into(), Box::pin(std::future::pending())).await?;
/// println!("{} after {} steps: {}", report.outcome, report.steps, report.parameters_digest);
/// # Ok(())
/// # }
/// ```
pub fn serve(
    config: Config,
    secret: Secret,
    listener: Listener,
    stop: BoxFuture<'_, ()>,
) -> BoxFuture<'_, Result<RunReport, RunError>> {
    Box::pin(serve_until(config, secret, listener, stop))
}

async fn serve_until(
    config: Config,
    secret: Secret,
    listener: Listener,
    mut stop: BoxFuture<'_, ()>,
) -> Result<RunReport, RunError> {
    let loaded = load(config)?;
    let (events, fleet_events) = queue(EVENTS_WAITING);
    let numerics = loaded.config.plan.spec.numerics.clone();
    let connections = Arc::new(Connections::of_one_run(events.clone(), &numerics));
    let services = Routes::new(convoy_proto::channel::service(WorkersService(connections.clone())));
    let server = Server::start(listener, Arc::new(Access::Local(secret)), services);
    let (done, report) = oneshot::channel();
    let (asked, ask) = watch::channel(false);
    let mut only = Some((loaded, done));
    let links = connections.clone();
    let start = move |job, _| {
        let (run, links, mut ask) = (only.take(), links.clone(), ask.clone());
        let stop = async move { _ = ask.wait_for(|asked| *asked).await };
        async move {
            if let Some((loaded, done)) = run {
                _ = done.send(carry(loaded, job, links, stop).await);
            }
            Ended::Over
        }
    };
    let fleet = FleetLoop::new(connections.clone(), fleet_events, Default::default(), start);
    let fleet = tokio::spawn(fleet.run());
    let request = JobRequest { numerics: numerics_number(&numerics), ..JobRequest::default() };
    events.send(FleetEvent::JobAdded { job: JOB, request, started: true });
    tokio::pin!(report);
    let report = tokio::select! {
        report = &mut report => report,
        () = &mut stop => {
            asked.send_replace(true);
            report.await
        }
    };
    connections.disconnect_all(true, "the run is over");
    server.close().await;
    fleet.abort();
    report.map_err(|_| RunError::Crashed("the run's task crashed".to_owned()))?
}
