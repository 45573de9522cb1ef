//! The worker of bulk jobs: claims one, does a part of it, saves how far it is, and so on.
//!
//! What a part writes to files is on the disk before its progress is saved. Whoever goes on after a
//! crash cuts the files to the saved lengths, so no line is torn, lost or there twice. Exports and
//! imports have a worker each, and each worker has one job at a time.

mod export;
mod import;

use std::sync::Arc;
use std::time::Duration;

use lumbar_fhir::datetime::Micros;
use lumbar_store::{BulkJob, BulkState};
use tokio::sync::watch;

use crate::app::App;
use crate::delivery::{Folder, write_durably};
use crate::facade::Error;
use crate::facade::bulk::{EXPORT, File, IMPORT, Progress, read, write};

/// How long a worker may be silent before another may take its job.
const LEASE: Micros = 60_000_000;
/// How often a worker that is in the middle of a part says that it is there.
const HOLD: Duration = Duration::from_secs(20);
/// How often a worker looks for jobs.
const POLL: Duration = Duration::from_secs(1);
/// How often a part is tried before its job fails.
const ATTEMPTS: u32 = 20;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is nothing to do.
    Idle,
    /// A part is done, and there may be more.
    Worked,
    /// Something is in the way; it is worth trying later.
    Later,
}

/// Why a part was not done.
enum Fault {
    /// It may work later.
    Later,
    /// The job can never be done: a sentence for its client.
    Never(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::Busy | Error::Conflict(_) | Error::Timeout | Error::Internal => Fault::Later,
            error => {
                let issues = error.issues();
                Fault::Never(issues.first().map_or_else(String::new, |issue| issue.text.clone()))
            }
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Fault::Never("Files of the job were lost; ask for it again.".to_owned())
            }
            _ => {
                tracing::error!(%error, "a file of a bulk job cannot be written or read");
                Fault::Later
            }
        }
    }
}

/// Works until `stopped`: exports and imports beside each other.
pub async fn run(app: Arc<App>, stopped: watch::Receiver<bool>) {
    sweep(&app).await;
    tokio::join!(
        lane(Worker::new(app.clone(), EXPORT), stopped.clone()),
        lane(Worker::new(app, IMPORT), stopped)
    );
}

async fn lane(mut worker: Worker, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        if worker.step().await != Step::Worked {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                _ = stopped.changed() => {}
            }
        }
    }
    if let Err(error) = worker.app.bulk.release(&worker.id).await {
        tracing::warn!(%error, "a bulk job is still held; it goes on when the lease has ended");
    }
}

/// Removes what is left of uploads that broke off with the program.
async fn sweep(app: &App) {
    let folder = Folder::new(&app.settings.bulk.folder);
    let jobs = folder.older(app.settings.bulk.expiry).await.unwrap_or_default();
    for job in jobs {
        if is_id(&job) && matches!(app.bulk.get(&job).await, Ok(None)) {
            remove(&folder, &job).await;
        }
    }
}

/// Whether a folder's name is one that only we give.
fn is_id(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn remove(folder: &Folder, job: &str) {
    if let Err(error) = folder.remove(job).await {
        tracing::error!(%error, "the files of a bulk job cannot be removed");
    }
}

/// Does the jobs of one kind, one after the other.
pub struct Worker {
    app: Arc<App>,
    id: String,
    kind: &'static str,
    folder: Folder,
    held: Option<Held>,
    failures: u32,
}

/// A job that is being done.
struct Held {
    job: BulkJob,
    progress: Progress,
    task: Task,
}

enum Task {
    Export(Box<export::Exporting>),
    Import(import::Importing),
}

impl Worker {
    /// A worker for jobs of a kind.
    pub fn new(app: Arc<App>, kind: &'static str) -> Worker {
        let folder = Folder::new(&app.settings.bulk.folder);
        let id = uuid::Uuid::new_v4().to_string();
        Worker { app, id, kind, folder, held: None, failures: 0 }
    }

    /// Does a part of a job, if there is one.
    pub async fn step(&mut self) -> Step {
        self.expire().await;
        let held = match self.held.take() {
            Some(held) => Ok(Some(held)),
            None => self.claim().await,
        };
        let mut held = match held {
            Ok(Some(held)) => held,
            Ok(None) => return Step::Idle,
            Err((job, fault)) => return self.fault(job.as_deref(), fault).await,
        };
        match self.part(&mut held).await {
            Ok(Part::More) => self.held = Some(held),
            Ok(Part::End) => {}
            Err(fault) => return self.fault(Some(&held.job.id), fault).await,
        }
        self.failures = 0;
        Step::Worked
    }

    /// Takes the next job and opens what it needs.
    async fn claim(&self) -> Result<Option<Held>, (Option<String>, Fault)> {
        let now = self.app.facade.now();
        let claimed = self.app.bulk.claim(self.kind, &self.id, now, now + LEASE).await;
        let Some(job) = claimed.map_err(|error| (None, Error::from(error).into()))? else {
            return Ok(None);
        };
        let id = job.id.clone();
        self.open(job).await.map_err(|fault| (Some(id), fault))
    }

    async fn open(&self, mut job: BulkJob) -> Result<Option<Held>, Fault> {
        if job.moment.is_none() {
            // The manifest tells milliseconds, and a later _since repeats them.
            let now = self.app.facade.now();
            let time = now - now.rem_euclid(1000);
            if !self.app.bulk.begin(&job.id, &self.id, time).await.map_err(Error::from)? {
                return Ok(None);
            }
            let Some(begun) = self.app.bulk.get(&job.id).await.map_err(Error::from)? else {
                return Ok(None);
            };
            job = begun;
        }
        let progress: Progress = match &*job.progress {
            "" => Progress::default(),
            text => read(text)?,
        };
        let task = if self.kind == EXPORT {
            Task::Export(Box::new(export::Exporting::open(&self.app, &job).await?))
        } else {
            Task::Import(import::Importing::open(&job)?)
        };
        Ok(Some(Held { job, progress, task }))
    }

    /// Does a part and saves it. A job that was cancelled meanwhile ends there.
    async fn part(&self, held: &mut Held) -> Result<Part, Fault> {
        let Held { job, progress, task } = held;
        let files = Files { folder: &self.folder, job: &job.id };
        let done = {
            let part = async {
                match task {
                    Task::Export(task) => task.part(&self.app, files, progress).await,
                    Task::Import(task) => task.part(&self.app, files, progress).await,
                }
            };
            let mut part = std::pin::pin!(part);
            loop {
                tokio::select! {
                    done = &mut part => break done?,
                    () = tokio::time::sleep(HOLD) => {
                        let until = self.app.facade.now() + LEASE;
                        if !self.app.bulk.hold(files.job, &self.id, until).await.map_err(Error::from)? {
                            break Part::End;
                        }
                    }
                }
            }
        };
        let text = write(progress)?;
        let now = self.app.facade.now();
        let (job, worker) = (&job.id, &self.id);
        let saved = match done {
            Part::More => self.app.bulk.save(job, worker, &text, now + LEASE).await,
            Part::End => {
                let expires = now.saturating_add(micros(self.app.settings.bulk.expiry));
                self.app.bulk.end(job, worker, BulkState::Done, &text, expires).await
            }
        };
        if saved.map_err(Error::from)? {
            return Ok(done);
        }
        self.let_go(job).await;
        Ok(Part::End)
    }

    /// Leaves a job that is no longer ours; what was written for a removed one goes.
    async fn let_go(&self, job: &str) {
        if matches!(self.app.bulk.get(job).await, Ok(None)) {
            remove(&self.folder, job).await;
        }
    }

    /// A part was not done: it is tried again from what was saved, or the job fails.
    async fn fault(&mut self, job: Option<&str>, fault: Fault) -> Step {
        self.failures += 1;
        let Some(job) = job else { return Step::Later };
        let reason = match fault {
            Fault::Later if self.failures < ATTEMPTS => return Step::Later,
            Fault::Later => {
                "The service could not go on; its operator finds the cause in the log.".to_owned()
            }
            Fault::Never(reason) => reason,
        };
        self.failures = 0;
        tracing::error!(kind = self.kind, "a bulk job has failed");
        let progress = Progress { fault: Some(reason), ..Progress::default() };
        let now = self.app.facade.now();
        let expires = now.saturating_add(micros(self.app.settings.bulk.expiry));
        let ended = match write(&progress) {
            Ok(text) => {
                let end = self.app.bulk.end(job, &self.id, BulkState::Failed, &text, expires).await;
                end.map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(true) => remove(&self.folder, job).await,
            Ok(false) => self.let_go(job).await,
            Err(_) => return Step::Later,
        }
        Step::Worked
    }

    /// Removes jobs whose time is over.
    async fn expire(&self) {
        let expired = self.app.bulk.expired(self.app.facade.now()).await.unwrap_or_default();
        for job in expired {
            remove(&self.folder, &job).await;
            if let Err(error) = self.app.bulk.remove(&job).await {
                tracing::error!(%error, "an expired bulk job cannot be removed");
            }
        }
    }
}

/// Whether a job goes on after a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    More,
    End,
}

fn micros(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The files of one job.
#[derive(Clone, Copy)]
struct Files<'w> {
    folder: &'w Folder,
    job: &'w str,
}

impl Files<'_> {
    /// Appends lines to a file and counts them.
    async fn append(self, file: &mut File, lines: &[String]) -> Result<(), Fault> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        let mut opened = self.folder.append(self.job, &file.name, file.bytes).await?;
        write_durably(&mut opened, &bytes).await?;
        file.bytes += u64::try_from(bytes.len()).unwrap_or_default();
        file.count += u64::try_from(lines.len()).unwrap_or_default();
        Ok(())
    }
}
