//! The outbox's worker: claims jobs, does them, tries again with growing pauses, gives up visibly.
//!
//! A job was enqueued in the commit of its cause, so it cannot be lost; it is marked done after its
//! own results were committed, so it may be done twice. Every handler therefore repeats itself to
//! the byte: same message, same ids, same resources.

mod bars;
pub mod bulk;
mod list;
pub mod reindex;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use lumbar_fhir::Json;
use lumbar_store::{Job, Kinds};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::App;
use crate::delivery::{RestHook, Web};
use crate::facade::Error;
use crate::facade::outbox::{
    BOOKING, END, FORGOTTEN, HANDSHAKE, LIST, NOTIFICATION, OF_SUBSCRIPTIONS, REFERRAL, SLOT,
};

/// How long a worker may hold a job before another may take it.
const LEASE: Duration = Duration::from_secs(120);
/// How often the worker looks for jobs when nothing wakes it.
const POLL: Duration = Duration::from_millis(500);
/// Attempts before a job is given up: with the pauses below about a day.
const ATTEMPTS: i64 = 150;
/// Most jobs that run at once about subscriptions, and as many about all else: endpoints that
/// answer slowly leave the rest its room.
const MOST_AT_ONCE: usize = 8;

/// How a job ended.
pub enum Ending {
    /// All is done.
    Done,
    /// The partner cannot take it now.
    Later(String),
    /// It waits until its destination is released, and with it what stands behind it.
    Hold(String),
    /// No attempt will help; a person must look.
    GiveUp(String),
}

impl From<Error> for Ending {
    fn from(error: Error) -> Self {
        let text = error.issues().first().map_or(String::new(), |issue| issue.text.clone());
        match error {
            Error::Busy
            | Error::Conflict(_)
            | Error::Internal
            | Error::Unavailable(_)
            | Error::Timeout => Ending::Later(text),
            _ => Ending::GiveUp(text),
        }
    }
}

/// What jobs are done with.
struct Worker {
    app: Arc<App>,
    web: Web,
    hook: RestHook,
}

/// The jobs that run, those about subscriptions apart.
#[derive(Default)]
struct Running {
    of_subscriptions: JoinSet<()>,
    others: JoinSet<()>,
}

impl Running {
    /// The kinds for which there is room.
    fn room(&self) -> Option<Kinds<'static>> {
        let has_room = |set: &JoinSet<()>| set.len() < MOST_AT_ONCE;
        match (has_room(&self.of_subscriptions), has_room(&self.others)) {
            (true, true) => Some(Kinds::All),
            (true, false) => Some(Kinds::Only(&OF_SUBSCRIPTIONS)),
            (false, true) => Some(Kinds::Except(&OF_SUBSCRIPTIONS)),
            (false, false) => None,
        }
    }

    fn start(&mut self, worker: &Arc<Worker>, job: Job) {
        let is_of_subscriptions = OF_SUBSCRIPTIONS.contains(&job.kind.as_str());
        let set = if is_of_subscriptions { &mut self.of_subscriptions } else { &mut self.others };
        let worker = worker.clone();
        set.spawn(async move { worker.work(job).await });
    }

    /// Returns when one of them has ended; never while there are none.
    async fn ended(&mut self) {
        tokio::select! {
            Some(_) = self.of_subscriptions.join_next() => {}
            Some(_) = self.others.join_next() => {}
            else => std::future::pending().await,
        }
    }
}

/// Works until `stopped`. Jobs of different destinations run beside each other.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let hosts = app.settings.policy.subscriptions.hosts.clone();
    let hook = RestHook::new(move |address| hosts.allow_address(address));
    let (web, hook) = match (Web::new(), hook) {
        (Ok(web), Ok(hook)) => (web, hook),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "no HTTP client, so nothing can be delivered");
            return;
        }
    };
    let name = uuid::Uuid::new_v4().to_string();
    let worker = Arc::new(Worker { app: app.clone(), web, hook });
    let mut running = Running::default();
    while !*stopped.borrow() {
        let claimed = match running.room() {
            Some(kinds) => app.jobs.claim_among(&name, app.facade.now(), LEASE, kinds).await,
            None => Ok(None),
        };
        match claimed {
            Ok(Some(job)) => running.start(&worker, job),
            Ok(None) => {
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = app.facade.enqueued() => {}
                    () = running.ended() => {}
                    _ = stopped.changed() => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "jobs cannot be claimed");
                tokio::time::sleep(POLL).await;
            }
        }
        while running.of_subscriptions.try_join_next().is_some()
            || running.others.try_join_next().is_some()
        {}
    }
    while running.of_subscriptions.join_next().await.is_some()
        || running.others.join_next().await.is_some()
    {}
}

impl Worker {
    async fn work(&self, job: Job) {
        let Worker { app, web, hook } = self;
        let body = body(&job);
        let ending = match &body {
            Some(body) => match job.kind.as_str() {
                REFERRAL => bars::referral(app, web, body).await,
                SLOT => bars::slot(app, web, body).await,
                BOOKING => bars::booking(app, web, body).await,
                LIST => list::list(app, web).await,
                NOTIFICATION => subscription::notification(app, hook, &job, body).await,
                HANDSHAKE => subscription::handshake(app, hook, &job, body).await,
                END => subscription::end(app, body).await,
                FORGOTTEN => subscription::forgotten(app, &job, body).await,
                _ => Ending::GiveUp("This version knows no such kind of job.".to_owned()),
            },
            None => Ending::GiveUp("The job's body cannot be read.".to_owned()),
        };
        let (job_id, kind, attempts) = (job.id, job.kind.as_str(), job.attempts);
        let tries = if kind == NOTIFICATION { subscription::tries(app, &job) } else { attempts };
        let settled = match ending {
            Ending::Done => app.jobs.done(&job).await,
            Ending::Later(reason) if tries < ATTEMPTS => {
                tracing::warn!(job_id, kind, attempts, "a delivery is put off");
                app.jobs.retry(&job, app.facade.now() + pause(&job, tries), &reason).await
            }
            Ending::Hold(reason) => {
                tracing::warn!(job_id, kind, attempts, "a delivery is held");
                let held = app.jobs.hold(&job, &reason).await;
                if let Some(body) = &body
                    && subscription::held(app, body).await.is_err()
                {
                    tracing::error!(job_id, "whether a held delivery may go on cannot be seen");
                }
                held
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
}

/// Microseconds to the next attempt: 1, 2, 4 … 600 seconds, and up to a quarter more so that jobs
/// do not march in step.
fn pause(job: &Job, tries: i64) -> i64 {
    let seconds = 1_i64 << (tries - 1).clamp(0, 10);
    let micros = seconds.min(600) * 1_000_000;
    let spread = job.id.wrapping_mul(2_654_435_761).rem_euclid(1000);
    micros + micros / 4 * spread / 1000
}

fn body(job: &Job) -> Option<Json> {
    Json::parse(job.body.as_bytes()).ok()
}
