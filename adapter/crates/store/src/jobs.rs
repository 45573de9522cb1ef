//! Jobs: work that must be done once its cause is stored.
//!
//! A job is enqueued in the transaction of its cause ([`Commit::jobs`](crate::Commit::jobs)) and
//! lives through waiting, running and done or given up. A worker holds it for the time of a lease;
//! when the worker is gone the lease ends and another may claim the job, so handlers must bear
//! to be run twice. Jobs are never removed, which is how a key stays unique.

use std::sync::Arc;
use std::time::Duration;

use lumbar_fhir::datetime::Micros;

use crate::Error;
use crate::commit::Commit;
use crate::dialect::{Pool, Row, Session, Value};
use crate::insert::{Insert, Table};
use crate::resources::clean;
use crate::writer::{Write, Writer};

/// A job to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// What is to be done.
    pub kind: String,
    /// Unique among all jobs ever: a second job of the same key is not enqueued.
    pub key: String,
    /// Jobs of one destination run one after the other, in the order they were enqueued. A job
    /// without one (empty) waits for none.
    pub destination: String,
    /// What the handler needs to know.
    pub body: Arc<str>,
    /// Not before this moment.
    pub not_before: Micros,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Number in the order of enqueueing.
    pub id: i64,
    /// What is to be done.
    pub kind: String,
    /// Its unique key.
    pub key: String,
    /// Whose order it keeps.
    pub destination: String,
    /// What the handler needs to know.
    pub body: Arc<str>,
    /// How often it was claimed, this time included.
    pub attempts: i64,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// To be claimed when its time has come.
    Waiting,
    /// Claimed.
    Running,
    /// Done.
    Done,
    /// Failed for good.
    GivenUp,
}

impl State {
    fn number(self) -> i64 {
        match self {
            State::Waiting => 0,
            State::Running => 1,
            State::Done => 2,
            State::GivenUp => 3,
        }
    }
}

/// A job as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The job.
    pub job: Job,
    /// When it may be claimed.
    pub not_before: Micros,
    /// Why it was last put off or given up; empty when it never was.
    pub reason: String,
}

/// The handle on jobs.
#[derive(Clone, Debug)]
pub struct Jobs {
    pub(crate) pool: Pool,
    pub(crate) writer: Writer,
}

impl Jobs {
    /// Enqueues jobs that have no cause among resources.
    pub async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), Error> {
        self.writer.commit(Commit { jobs, ..Commit::default() }).await
    }

    /// Takes the job that has waited longest past its time, for `lease`; `None` when there is
    /// nothing to do at `now`. Among the open jobs of a destination only the first is given.
    pub async fn claim(
        &self,
        worker: &str,
        now: Micros,
        lease: Duration,
    ) -> Result<Option<Job>, Error> {
        // Asking first spares idle workers the write.
        if self.pool.fetch(DUE, vec![now.into()]).await?.is_empty() {
            return Ok(None);
        }
        let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
        let until = now.saturating_add(lease);
        self.writer.write(Claim { worker: worker.to_owned(), now, until }).await
    }

    /// Notes that a claimed job is done. `false`: the lease ended and the job was claimed again,
    /// so nothing is noted.
    pub async fn done(&self, job: &Job) -> Result<bool, Error> {
        self.settle(job, State::Done, None, None).await
    }

    /// Puts a claimed job off until `at`. `false` as with [`Jobs::done`].
    pub async fn retry(&self, job: &Job, at: Micros, reason: &str) -> Result<bool, Error> {
        self.settle(job, State::Waiting, Some(at), Some(reason)).await
    }

    /// Gives a claimed job up, which lets the next of its destination go ahead. `false` as with
    /// [`Jobs::done`].
    pub async fn give_up(&self, job: &Job, reason: &str) -> Result<bool, Error> {
        self.settle(job, State::GivenUp, None, Some(reason)).await
    }

    /// Jobs in a state whose number is greater than `after` (0: from the first), oldest first; at
    /// most `count`.
    pub async fn list(&self, state: State, after: i64, count: usize) -> Result<Vec<Listed>, Error> {
        let sql = "SELECT job_id, kind, job_key, destination, body, attempts, not_before, reason \
                   FROM job WHERE state = $1 AND job_id > $2 ORDER BY job_id LIMIT $3";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values = vec![state.number().into(), after.into(), count.into()];
        let listed = |row: &Row| {
            let (not_before, reason) = (row.int(6)?, row.text(7)?.to_owned());
            Ok(Listed { job: job(row)?, not_before, reason })
        };
        self.pool.fetch(sql, values).await?.iter().map(listed).collect()
    }

    async fn settle(
        &self,
        job: &Job,
        state: State,
        not_before: Option<Micros>,
        reason: Option<&str>,
    ) -> Result<bool, Error> {
        let reason = reason.map(str::to_owned);
        let settle = Settle { id: job.id, attempts: job.attempts, state, not_before, reason };
        self.writer.write(settle).await
    }
}

/// The first job that may be claimed at `$1`.
const DUE: &str = "SELECT j.job_id FROM job j \
    WHERE j.state < 2 AND j.not_before <= $1 AND (j.state = 0 OR j.lease_until <= $1) \
    AND (j.destination = '' OR NOT EXISTS (SELECT 1 FROM job e WHERE e.state < 2 \
    AND e.destination = j.destination AND e.job_id < j.job_id)) \
    ORDER BY j.not_before, j.job_id LIMIT 1";

struct Claim {
    worker: String,
    now: Micros,
    until: Micros,
}

impl Write for Claim {
    type Output = Option<Job>;

    async fn run(&self, session: &mut Session<'_>) -> Result<Option<Job>, Error> {
        let sql = format!(
            "UPDATE job SET state = 1, attempts = attempts + 1, worker = $2, lease_until = $3 \
             WHERE job_id = ({DUE}) \
             RETURNING job_id, kind, job_key, destination, body, attempts"
        );
        let values = vec![self.now.into(), clean(&self.worker), self.until.into()];
        session.fetch(sql, values).await?.first().map(job).transpose()
    }
}

struct Settle {
    id: i64,
    attempts: i64,
    state: State,
    not_before: Option<Micros>,
    reason: Option<String>,
}

impl Write for Settle {
    type Output = bool;

    async fn run(&self, session: &mut Session<'_>) -> Result<bool, Error> {
        let mut values: Vec<Value> =
            vec![self.id.into(), self.attempts.into(), self.state.number().into()];
        let mut sql = String::from("UPDATE job SET state = $3");
        if let Some(at) = self.not_before {
            values.push(at.into());
            sql += &format!(", not_before = ${}", values.len());
        }
        if let Some(reason) = &self.reason {
            values.push(clean(reason));
            sql += &format!(", reason = ${}", values.len());
        }
        sql += " WHERE job_id = $1 AND attempts = $2 AND state = 1";
        Ok(session.execute(sql, values).await? == 1)
    }
}

fn job(row: &Row) -> Result<Job, Error> {
    Ok(Job {
        id: row.int(0)?,
        kind: row.text(1)?.to_owned(),
        key: row.text(2)?.to_owned(),
        destination: row.text(3)?.to_owned(),
        body: row.text(4)?.into(),
        attempts: row.int(5)?,
    })
}

const JOB: Table = Table {
    head: "INSERT INTO job (kind, job_key, destination, body, state, not_before, attempts, \
           worker, lease_until, reason) VALUES",
    columns: 10,
    tail: "ON CONFLICT (job_key) DO NOTHING",
};

/// Enqueues jobs within the transaction of their cause.
pub(crate) async fn insert(
    session: &mut Session<'_>,
    jobs: impl Iterator<Item = &NewJob>,
) -> Result<(), Error> {
    let mut insert = Insert::new(&JOB);
    for job in jobs {
        insert.row([
            clean(&job.kind),
            clean(&job.key),
            clean(&job.destination),
            (&*job.body).into(),
            State::Waiting.number().into(),
            job.not_before.into(),
            0.into(),
            "".into(),
            0.into(),
            "".into(),
        ]);
    }
    insert.run(session).await
}
