//! Jobs: work that must be done once its cause is stored.
//!
//! A job is enqueued in the transaction of its cause ([`Commit::jobs`](crate::Commit::jobs)) and
//! lives through waiting, running and done or given up. A worker holds it for the time of a lease;
//! when the worker is gone the lease ends and another may claim the job, so handlers must bear
//! to be run twice. Jobs are never removed, which is how a key stays unique.
//!
//! A job that was put off holds the later ones of its destination back. One that is held waits for
//! no time but until its destination is released, and all behind it with it.

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

/// Which kinds of jobs are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds<'a> {
    /// Whatever there is.
    All,
    /// These.
    Only(&'a [&'a str]),
    /// All but these.
    Except(&'a [&'a str]),
}

impl Kinds<'_> {
    /// The condition on a job's kind, its values pushed behind those that are there.
    fn condition(self, values: &mut Vec<Value>) -> String {
        let (kinds, not) = match self {
            Kinds::All => return String::new(),
            Kinds::Only(kinds) => (kinds, ""),
            Kinds::Except(kinds) => (kinds, "NOT "),
        };
        let mut list = Vec::with_capacity(kinds.len());
        for kind in kinds {
            values.push(clean(kind));
            list.push(format!("${}", values.len()));
        }
        format!(" AND kind {not}IN ({})", list.join(", "))
    }
}

/// When a held job may be claimed: never, until it is released.
const HELD: Micros = Micros::MAX;

impl State {
    fn from_number(number: i64) -> Result<State, Error> {
        match number {
            0 => Ok(State::Waiting),
            1 => Ok(State::Running),
            2 => Ok(State::Done),
            3 => Ok(State::GivenUp),
            _ => Err(sqlx::Error::Decode("state of a job is unknown".into()).into()),
        }
    }

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
    /// How far it is.
    pub state: State,
    /// When it may be claimed.
    pub not_before: Micros,
    /// Why it was last put off or given up; empty when it never was.
    pub reason: String,
}

impl Listed {
    /// Whether it waits until its destination is released.
    pub fn is_held(&self) -> bool {
        self.state == State::Waiting && self.not_before == HELD
    }
}

/// How many jobs of a destination there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting or running.
    pub open: u64,
    /// Done.
    pub done: u64,
    /// Given up.
    pub given_up: u64,
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
        self.claim_among(worker, now, lease, Kinds::All).await
    }

    /// The same among some kinds of jobs. Order within a destination counts jobs of every kind.
    pub async fn claim_among(
        &self,
        worker: &str,
        now: Micros,
        lease: Duration,
        kinds: Kinds<'_>,
    ) -> Result<Option<Job>, Error> {
        // Asking first spares idle workers the write.
        let mut values = vec![now.into()];
        let first = due(kinds, &mut values);
        if self.pool.fetch(first, values).await?.is_empty() {
            return Ok(None);
        }
        let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
        let until = now.saturating_add(lease);
        let mut values = vec![now.into(), clean(worker), until.into()];
        let first = due(kinds, &mut values);
        self.writer.write(Claim { first, values }).await
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

    /// Puts a claimed job off until its destination is released, and so all that stand behind it.
    /// `false` as with [`Jobs::done`].
    pub async fn hold(&self, job: &Job, reason: &str) -> Result<bool, Error> {
        self.settle(job, State::Waiting, Some(HELD), Some(reason)).await
    }

    /// Lets the jobs of a destination that are held or were put off be claimed from `now` on.
    pub async fn release(&self, destination: &str, now: Micros) -> Result<(), Error> {
        let sql = "UPDATE job SET not_before = $2 \
                   WHERE destination = $1 AND state = 0 AND not_before > $2";
        let values = vec![clean(destination), now.into()];
        self.writer.write(Update { sql, values }).await
    }

    /// Lets the jobs of a destination that were given up wait again, in their old places.
    pub async fn replay(&self, destination: &str, now: Micros) -> Result<(), Error> {
        let sql = "UPDATE job SET state = 0, not_before = $2 WHERE destination = $1 AND state = 3";
        let values = vec![clean(destination), now.into()];
        self.writer.write(Update { sql, values }).await
    }

    /// Gives up what waits at a destination or was given up there, of the jobs before the one
    /// numbered `before`, and takes it from there: it is not replayed.
    pub async fn abandon(&self, destination: &str, before: i64, reason: &str) -> Result<(), Error> {
        let sql = "UPDATE job SET state = 3, destination = '', reason = $3 \
                   WHERE destination = $1 AND state IN (0, 3) AND job_id < $2";
        let values = vec![clean(destination), before.into(), clean(reason)];
        self.writer.write(Update { sql, values }).await
    }

    /// The jobs of a destination in a state, oldest first; at most `count`.
    pub async fn of_destination(
        &self,
        destination: &str,
        state: State,
        count: usize,
    ) -> Result<Vec<Listed>, Error> {
        let sql = format!(
            "SELECT {LISTED} FROM job WHERE destination = $1 AND state = $2 \
             ORDER BY job_id LIMIT $3"
        );
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values = vec![clean(destination), state.number().into(), count.into()];
        self.pool.fetch(sql, values).await?.iter().map(listed).collect()
    }

    /// How many jobs of a destination are in each state, none counted further than to `most`.
    pub async fn counts(&self, destination: &str, most: usize) -> Result<Counts, Error> {
        let count = |states: &str| {
            format!(
                "(SELECT COUNT(*) FROM (SELECT 1 FROM job \
                 WHERE destination = $1 AND state IN ({states}) LIMIT $2) AS counted)"
            )
        };
        let sql = format!("SELECT {}, {}, {}", count("0, 1"), count("2"), count("3"));
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.pool.fetch(sql, vec![clean(destination), most.into()]).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let number = |column| row.int(column).map(|number| u64::try_from(number).unwrap_or(0));
        Ok(Counts { open: number(0)?, done: number(1)?, given_up: number(2)? })
    }

    /// Jobs in a state whose number is greater than `after` (0: from the first), oldest first; at
    /// most `count`.
    pub async fn list(&self, state: State, after: i64, count: usize) -> Result<Vec<Listed>, Error> {
        let sql = format!(
            "SELECT {LISTED} FROM job WHERE state = $1 AND job_id > $2 ORDER BY job_id LIMIT $3"
        );
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values = vec![state.number().into(), after.into(), count.into()];
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

/// The first job that may be claimed at `$1`. It goes from destination to destination, not from
/// job to job, so that a long line behind one that waits costs nothing.
fn due(kinds: Kinds<'_>, values: &mut Vec<Value>) -> String {
    let kinds = kinds.condition(values);
    let due = format!("not_before <= $1 AND (state = 0 OR lease_until <= $1){kinds}");
    format!(
        "WITH RECURSIVE line (destination) AS (\
         SELECT MIN(destination) FROM job WHERE state < 2 AND destination > '' \
         UNION ALL SELECT (SELECT MIN(n.destination) FROM job n \
         WHERE n.state < 2 AND n.destination > line.destination) \
         FROM line WHERE line.destination IS NOT NULL) \
         SELECT job_id FROM (\
         SELECT job_id, not_before FROM (\
         SELECT (SELECT MIN(f.job_id) FROM job f \
         WHERE f.state < 2 AND f.destination = line.destination) AS first_id \
         FROM line WHERE line.destination IS NOT NULL) AS heads \
         CROSS JOIN job WHERE job_id = first_id AND {due} \
         UNION ALL SELECT job_id, not_before FROM (\
         SELECT job_id, not_before FROM job WHERE destination = '' AND state < 2 AND {due} \
         ORDER BY not_before, job_id LIMIT 1) AS alone) AS first \
         ORDER BY not_before, job_id LIMIT 1"
    )
}

struct Claim {
    /// The statement that finds the job.
    first: String,
    /// The time, the worker, the end of the lease, and what else the statement needs.
    values: Vec<Value>,
}

impl Write for Claim {
    type Output = Option<Job>;

    async fn run(&self, session: &mut Session<'_>) -> Result<Option<Job>, Error> {
        let sql = format!(
            "UPDATE job SET state = 1, attempts = attempts + 1, worker = $2, lease_until = $3 \
             WHERE job_id = ({}) \
             RETURNING job_id, kind, job_key, destination, body, attempts",
            self.first
        );
        session.fetch(sql, self.values.clone()).await?.first().map(job).transpose()
    }
}

struct Update {
    sql: &'static str,
    values: Vec<Value>,
}

impl Write for Update {
    type Output = ();

    async fn run(&self, session: &mut Session<'_>) -> Result<(), Error> {
        session.execute(self.sql, self.values.clone()).await.map(|_| ())
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

/// The columns of [`listed`], of which the first are those of [`job`].
const LISTED: &str =
    "job_id, kind, job_key, destination, body, attempts, not_before, reason, state";

fn listed(row: &Row) -> Result<Listed, Error> {
    let (not_before, reason) = (row.int(6)?, row.text(7)?.to_owned());
    Ok(Listed { job: job(row)?, state: State::from_number(row.int(8)?)?, not_before, reason })
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
