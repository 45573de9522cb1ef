//! Bulk jobs as a client sees them: the asynchronous request pattern,
//! <https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-status-request>.
//!
//! Here is what is asked for and what is told. The work is done by `jobs::bulk`, which finds here
//! what it exports ([`export`]) and hands what it imports ([`import`]). Who may fetch a file is
//! whoever knows its job's id; that there is a caller is all that the door knows so far.

pub mod export;
pub mod import;
mod kick_off;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lumbar_fhir::datetime::{Micros, instant};
use lumbar_fhir::{Issue, IssueType, Json, Object, json};
use lumbar_store::{BulkJob, BulkState};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Error, Facade, Preferences, Reply, Success};
use crate::config;
use crate::security::Caller;
pub use kick_off::Level;

/// Kind of the jobs that export.
pub const EXPORT: &str = "export";
/// Kind of the jobs that import.
pub const IMPORT: &str = "import";

/// Shortest time between two questions for the state of one job.
const PATIENCE: Micros = 500_000;
/// Jobs whose last question is remembered.
const REMEMBERED: usize = 1000;

/// How bulk jobs are done, and what their clients are doing.
pub struct Clients {
    settings: config::Bulk,
    /// When the states of jobs were last asked for.
    asked: Mutex<HashMap<String, Micros>>,
    /// Places for uploads that are coming in.
    uploads: Arc<Semaphore>,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients::new(config::Bulk::default())
    }
}

impl Clients {
    pub(super) fn new(settings: config::Bulk) -> Clients {
        let uploads = Arc::new(Semaphore::new(settings.most.min(Semaphore::MAX_PERMITS)));
        Clients { settings, asked: Mutex::default(), uploads }
    }

    /// Whether it is too early to ask for the state of a job again.
    fn is_hasty(&self, id: &str, now: Micros) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= REMEMBERED {
            asked.retain(|_, last| (0..PATIENCE).contains(&now.saturating_sub(*last)));
        }
        let last = asked.insert(id.to_owned(), now);
        last.is_some_and(|last| (0..PATIENCE).contains(&now.saturating_sub(last)))
    }
}

/// A file that a job writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// Resource type of its lines.
    pub kind: String,
    /// Its name in the job's folder and in its URL.
    pub name: String,
    /// Its length, up to which it is whole.
    pub bytes: u64,
    /// Its lines.
    pub count: u64,
    /// URL of the imported file that it reports on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

/// What became of the lines of an import: `lines` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub lines: u64,
    pub stored: u64,
    pub unchanged: u64,
    pub refused: u64,
}

/// Where a job goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// Type that is exported.
    #[serde(default)]
    pub of: String,
    /// Row of the type after which it goes on.
    #[serde(default)]
    pub after: i64,
    /// Whether what was deleted is being told.
    #[serde(default)]
    pub deletions: bool,
    /// Number of the file that is imported, from 0.
    #[serde(default)]
    pub input: usize,
    /// Its length, once it is in the job's folder.
    #[serde(default)]
    pub fetched: Option<u64>,
    /// Bytes of it that are done.
    #[serde(default)]
    pub offset: u64,
    /// Lines of it that are done.
    #[serde(default)]
    pub line: u64,
}

/// How far a job is; it is kept with the job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the manifest")]
pub struct Progress {
    pub position: Position,
    pub output: Vec<File>,
    pub deleted: Vec<File>,
    pub error: Vec<File>,
    /// Of an import.
    pub counts: Option<Counts>,
    /// One line for a person.
    pub told: String,
    /// Why it failed.
    pub fault: Option<String>,
}

/// The state of a job.
#[derive(Debug)]
pub struct Status {
    /// Whether it is done or goes on.
    pub success: Success,
    /// How far it is, while it goes on.
    pub progress: Option<String>,
    /// The manifest, when it is done.
    pub manifest: Option<Json>,
    /// When its files are removed.
    pub expires: Option<Micros>,
}

/// A new id of a job that nobody can guess: over 128 random bits.
pub fn new_id() -> String {
    let (first, second) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("{}{:08x}", first.simple(), second.as_fields().0)
}

/// Reads what is kept with a job.
///
/// # Errors
/// It was not written by this version.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(%error, "what is kept with a bulk job cannot be read");
        Error::Internal
    })
}

/// Writes what is kept with a job.
///
/// # Errors
/// A fault of ours.
pub fn write<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| {
        tracing::error!(%error, "what is kept with a bulk job cannot be written");
        Error::Internal
    })
}

/// One error about the request.
fn refused(code: IssueType, place: &str, text: impl Into<String>) -> Error {
    Error::Unparseable(vec![Issue::error(code, text).at(place)])
}

impl Facade {
    /// How bulk jobs are done.
    pub fn bulk_settings(&self) -> &config::Bulk {
        &self.bulk.settings
    }

    /// Whether a job may be begun now.
    ///
    /// # Errors
    /// The client does not want to wait, or too many jobs are open.
    pub async fn may_begin(&self, name: &str, prefer: Preferences) -> Result<(), Error> {
        if !prefer.asynchronous {
            return Err(refused(
                IssueType::Required,
                "http.Prefer",
                format!(
                    "${name} is done after its answer only; send the header Prefer: respond-async."
                ),
            ));
        }
        match self.resources.bulk().open().await? < self.bulk.settings.most {
            true => Ok(()),
            false => Err(self.crowded()),
        }
    }

    fn crowded(&self) -> Error {
        Error::TooMany(Issue::error(
            IssueType::Throttled,
            format!(
                "{} exports and imports wait or run; try again when one of them is done.",
                self.bulk.settings.most
            ),
        ))
    }

    /// Keeps a new job and says where its state can be asked for.
    async fn enqueue(&self, id: &str, kind: &str, request: &str) -> Result<Reply, Error> {
        let most = self.bulk.settings.most;
        if !self.resources.bulk().enqueue(id, kind, request, self.source.now(), most).await? {
            return Err(self.crowded());
        }
        let content_location = Some(self.bulk_url(id));
        Ok(Reply { content_location, ..Reply::empty(Success::Accepted) })
    }

    /// URL of a job's state. It is below the base, so that it is reached however the base is.
    fn bulk_url(&self, id: &str) -> String {
        format!("{}/$bulk/{id}", self.base)
    }

    async fn job(&self, id: &str) -> Result<BulkJob, Error> {
        let now = self.source.now();
        let job = self.resources.bulk().get(id).await?;
        job.filter(|job| job.expires.is_none_or(|expires| expires > now)).ok_or_else(|| {
            Error::NotFound(Issue::error(
                IssueType::NotFound,
                "There is no such bulk job: its files have expired, it was cancelled, or it never was.",
            ))
        })
    }

    /// The state of a job.
    ///
    /// # Errors
    /// There is none, it has failed, or it was asked for too often.
    pub async fn bulk_status(&self, caller: &Caller, id: &str) -> Result<Status, Error> {
        let (Caller::Open | Caller::System) = caller;
        let job = self.job(id).await?;
        let progress: Progress = match &*job.progress {
            "" => Progress::default(),
            text => read(text)?,
        };
        match job.state {
            BulkState::Open if self.bulk.is_hasty(id, self.source.now()) => {
                Err(Error::TooMany(Issue::error(
                    IssueType::Throttled,
                    "The state of this job was asked for just now; wait as Retry-After says.",
                )))
            }
            BulkState::Open => {
                let told = Some(progress.told).filter(|told| !told.is_empty());
                Ok(Status {
                    success: Success::Accepted,
                    progress: Some(told.unwrap_or_else(|| format!("the {} waits", job.kind))),
                    manifest: None,
                    expires: None,
                })
            }
            BulkState::Failed => Err(Error::Failed(Issue::error(
                IssueType::Processing,
                progress.fault.unwrap_or_else(|| "The job has failed.".to_owned()),
            ))),
            BulkState::Done => Ok(Status {
                success: Success::Ok,
                progress: None,
                expires: job.expires,
                manifest: Some(self.manifest(&job, &progress)?),
            }),
        }
    }

    /// The answer of a job that is done:
    /// <https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---complete-status>.
    fn manifest(&self, job: &BulkJob, progress: &Progress) -> Result<Json, Error> {
        #[derive(Deserialize)]
        struct Asked {
            url: String,
        }
        let asked: Asked = read(&job.request)?;
        let files = |files: &[File]| -> Vec<Json> {
            let file = |file: &File| {
                let url = format!("{}/{}", self.bulk_url(&job.id), file.name);
                let mut told = json!({
                    "type": (file.kind.as_str()),
                    "url": (url),
                    "count": (i64::try_from(file.count).unwrap_or(i64::MAX))
                });
                if let Some(input) = &file.input {
                    told.set("inputUrl", input.as_str());
                }
                told
            };
            files.iter().map(file).collect()
        };
        let (time, _) = job.moment.ok_or(Error::Internal)?;
        let mut manifest = json!({
            "transactionTime": (instant(time)),
            "request": (asked.url),
            "requiresAccessToken": false,
            "output": (files(&progress.output)),
            "error": (files(&progress.error))
        });
        if !progress.deleted.is_empty() {
            manifest.set("deleted", files(&progress.deleted));
        }
        if let Some(counts) = progress.counts {
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let counts = json!({
                "lines": (number(counts.lines)),
                "stored": (number(counts.stored)),
                "unchanged": (number(counts.unchanged)),
                "refused": (number(counts.refused))
            });
            let mut extension = Object::new();
            extension.set(&format!("{}/import-counts", config::ID_BASE), counts);
            manifest.set("extension", extension);
        }
        Ok(manifest)
    }

    /// A file of a job that is done.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn bulk_file(&self, caller: &Caller, id: &str, name: &str) -> Result<File, Error> {
        let (Caller::Open | Caller::System) = caller;
        let job = self.job(id).await?;
        let progress: Progress = match job.state {
            BulkState::Done => read(&job.progress)?,
            BulkState::Open | BulkState::Failed => Progress::default(),
        };
        let files = progress.output.into_iter().chain(progress.deleted).chain(progress.error);
        files.into_iter().find(|file| file.name == name).ok_or_else(|| {
            Error::NotFound(Issue::error(
                IssueType::NotFound,
                "The job has no such file; its manifest names those it has.",
            ))
        })
    }

    /// Cancels or removes a job; its files are removed by whoever calls.
    ///
    /// # Errors
    /// There is none.
    pub async fn bulk_cancel(&self, caller: &Caller, id: &str) -> Result<Reply, Error> {
        let (Caller::Open | Caller::System) = caller;
        self.job(id).await?;
        self.resources.bulk().remove(id).await?;
        Ok(Reply::empty(Success::Accepted))
    }
}
