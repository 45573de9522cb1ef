//! The outbox's worker: claims jobs, does them, tries again with growing pauses, gives up visibly.
//!
//! A job was enqueued in the commit of its cause, so it cannot be lost; it is marked done after its
//! own results were committed, so it may be done twice. Every handler therefore repeats itself to
//! the byte: same message, same ids, same resources.

mod bars;
pub mod bulk;
mod list;

use std::sync::Arc;
use std::time::Duration;

use lumbar_fhir::Json;
use lumbar_store::Job;
use tokio::sync::watch;

use crate::app::App;
use crate::delivery::Web;
use crate::facade::Error;
use crate::facade::outbox::{BOOKING, LIST, REFERRAL, SLOT};

/// How long a worker may hold a job before another may take it.
const LEASE: Duration = Duration::from_secs(120);
/// How often the worker looks for jobs when nothing wakes it.
const POLL: Duration = Duration::from_millis(500);
/// Attempts before a job is given up: with the pauses below about a day.
const ATTEMPTS: i64 = 150;

/// How a job ended.
pub enum Ending {
    /// All is done.
    Done,
    /// The partner cannot take it now.
    Later(String),
    /// No attempt will help; a person must look.
    GiveUp(String),
}

impl From<Error> for Ending {
    fn from(error: Error) -> Self {
        let text = error.issues().first().map_or(String::new(), |issue| issue.text.clone());
        match error {
            Error::Busy | Error::Conflict(_) | Error::Internal | Error::Timeout => {
                Ending::Later(text)
            }
            _ => Ending::GiveUp(text),
        }
    }
}

/// Works until `stopped`.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let web = match Web::new() {
        Ok(web) => web,
        Err(error) => {
            tracing::error!(%error, "no HTTP client, so nothing can be delivered");
            return;
        }
    };
    let worker = uuid::Uuid::new_v4().to_string();
    while !*stopped.borrow() {
        match app.jobs.claim(&worker, app.facade.now(), LEASE).await {
            Ok(Some(job)) => work(&app, &web, job).await,
            Ok(None) => {
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = app.facade.enqueued() => {}
                    _ = stopped.changed() => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "jobs cannot be claimed");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

async fn work(app: &App, web: &Web, job: Job) {
    let ending = match body(&job) {
        Some(body) => match job.kind.as_str() {
            REFERRAL => bars::referral(app, web, &body).await,
            SLOT => bars::slot(app, web, &body).await,
            BOOKING => bars::booking(app, web, &body).await,
            LIST => list::list(app, web).await,
            _ => Ending::GiveUp("This version knows no such kind of job.".to_owned()),
        },
        None => Ending::GiveUp("The job's body cannot be read.".to_owned()),
    };
    let (job_id, kind, attempts) = (job.id, job.kind.as_str(), job.attempts);
    let settled = match ending {
        Ending::Done => app.jobs.done(&job).await,
        Ending::Later(reason) if attempts < ATTEMPTS => {
            tracing::warn!(job_id, kind, attempts, "a delivery is put off");
            app.jobs.retry(&job, app.facade.now() + pause(&job), &reason).await
        }
        Ending::Later(reason) | Ending::GiveUp(reason) => {
            // The reason may hold what the partner wrote: it is in the outbox and the Task.
            tracing::error!(job_id, kind, attempts, "a delivery is given up");
            if let Err(error) = bars::fail(app, &job, &reason).await {
                tracing::error!(job_id, %error, "the failed Task cannot be stored");
            }
            app.jobs.give_up(&job, &reason).await
        }
    };
    if let Err(error) = settled {
        tracing::error!(job_id, %error, "a job's end cannot be noted; it will be done again");
    }
}

/// Microseconds to the next attempt: 1, 2, 4 … 600 seconds, and up to a quarter more so that jobs
/// do not march in step.
fn pause(job: &Job) -> i64 {
    let seconds = 1_i64 << (job.attempts - 1).clamp(0, 10);
    let micros = seconds.min(600) * 1_000_000;
    let spread = job.id.wrapping_mul(2_654_435_761).rem_euclid(1000);
    micros + micros / 4 * spread / 1000
}

fn body(job: &Job) -> Option<Json> {
    Json::parse(job.body.as_bytes()).ok()
}
