//! Group commit: one task writes, and takes all that waits into one transaction.
//!
//! The cost of making a transaction durable is shared by all its commits. While one transaction
//! reaches the disk the next ones gather in the queue, so batches grow with the load. A lone commit
//! waits for nothing; after a crowd, the next transaction waits for it at most `LINGER`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::cache::Cache;
use crate::commit::{Batch, Commit};
use crate::dialect::{Link, Pools, Session};
use crate::names::Names;
use crate::{Error, Options};

/// Places in the queue.
const QUEUE: usize = 1024;

/// Greatest number of requests in one transaction.
const BATCH: usize = 256;

/// Number of changes from which a transaction takes no further request.
const CHANGES: usize = 2048;

/// Requests in the last transaction from which the next one waits for as many.
const CROWD: usize = 4;

/// How long it waits at most, which is about what a transaction takes to become durable.
const LINGER: Duration = Duration::from_millis(1);

/// Something else than a commit that writes. It may run more than once, in transactions of which
/// only the last is committed.
pub(crate) trait Write: Send + 'static {
    type Output: Send + 'static;

    fn run(
        &self,
        session: &mut Session<'_>,
    ) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// A handle on the task that writes.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
    wait: Duration,
}

enum Request {
    Commit(Commit, oneshot::Sender<Result<(), Error>>),
    Write(Box<dyn Waiting>),
    Close,
}

/// A [`Write`] and the one who waits for it.
struct Pending<W: Write> {
    write: W,
    output: Option<W::Output>,
    answer: oneshot::Sender<Result<W::Output, Error>>,
}

trait Waiting: Send {
    fn run<'a>(
        &'a mut self,
        session: &'a mut Session<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

    fn answer(self: Box<Self>, result: Result<(), Error>);
}

impl<W: Write> Waiting for Pending<W>
where
    W: Sync,
{
    fn run<'a>(
        &'a mut self,
        session: &'a mut Session<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        Box::pin(async move {
            self.output = Some(self.write.run(session).await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, result: Result<(), Error>) {
        let Pending { output, answer, .. } = *self;
        // Whoever asked may have gone; what was written stays written.
        let _ = answer.send(result.and_then(|()| output.ok_or(Error::Unavailable(None))));
    }
}

impl Writer {
    pub(crate) fn start(
        pools: Pools,
        names: Arc<Names>,
        cache: Arc<Cache>,
        options: &Options,
    ) -> Writer {
        let (queue, requests) = mpsc::channel(QUEUE);
        tokio::spawn(Task { pools, names, cache, link: None }.work(requests));
        Writer { queue, wait: options.wait }
    }

    pub(crate) async fn commit(&self, commit: Commit) -> Result<(), Error> {
        let (answer, result) = oneshot::channel();
        self.send(Request::Commit(commit, answer)).await?;
        result.await.unwrap_or(Err(Error::Unavailable(None)))
    }

    pub(crate) async fn write<W: Write + Sync>(&self, write: W) -> Result<W::Output, Error> {
        let (answer, result) = oneshot::channel();
        self.send(Request::Write(Box::new(Pending { write, output: None, answer }))).await?;
        result.await.unwrap_or(Err(Error::Unavailable(None)))
    }

    /// Lets what waits be written, then ends the task.
    pub(crate) async fn close(&self) {
        let _ = self.queue.send(Request::Close).await;
        self.queue.closed().await;
    }

    async fn send(&self, request: Request) -> Result<(), Error> {
        match self.queue.send_timeout(request, self.wait).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Error::Busy),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Error::Unavailable(None)),
        }
    }
}

/// The task that writes, and its connection.
struct Task {
    pools: Pools,
    names: Arc<Names>,
    cache: Arc<Cache>,
    link: Option<Link>,
}

/// How a transaction failed.
enum Failure {
    /// Nothing is stored.
    Before(Error),
    /// It may be stored.
    Committing(Error),
}

impl Task {
    async fn work(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut open = true;
        let mut before = 0;
        while open {
            let mut batch = Vec::new();
            let mut changes = 0;
            let mut next = requests.recv().await;
            let deadline = Instant::now() + LINGER;
            loop {
                match next {
                    Some(Request::Close) | None => {
                        open = false;
                        break;
                    }
                    Some(request) => {
                        if let Request::Commit(commit, _) = &request {
                            changes += commit.changes.len();
                        }
                        batch.push(request);
                    }
                }
                if batch.len() == BATCH || changes >= CHANGES {
                    break;
                }
                if requests.is_empty() {
                    // Those who were answered just now get the chance to come back.
                    tokio::task::yield_now().await;
                }
                next = match requests.try_recv() {
                    Ok(request) => Some(request),
                    // One alone has nobody to wait for; after a crowd, most of it comes back, and
                    // many together cost little more than one.
                    Err(_) if before >= CROWD && batch.len() < before => {
                        match timeout_at(deadline, requests.recv()).await {
                            Ok(next) => next,
                            Err(_) => break,
                        }
                    }
                    Err(_) => break,
                };
            }
            before = batch.len();
            self.store(batch).await;
        }
        requests.close();
        while let Some(request) = requests.recv().await {
            request.answer(Err(Error::Unavailable(None)));
        }
    }

    /// Stores a batch. When the database refuses it, its requests are tried one by one, so that
    /// the one at fault fails alone.
    async fn store(&mut self, mut batch: Vec<Request>) {
        match self.attempt(&mut batch).await {
            Ok(results) => {
                for (request, result) in batch.into_iter().zip(results) {
                    request.answer(result);
                }
            }
            Err(Failure::Before(Error::Database(_))) if batch.len() > 1 => {
                for request in batch {
                    Box::pin(self.store(vec![request])).await;
                }
            }
            Err(Failure::Before(error) | Failure::Committing(error)) => {
                tracing::error!(?error, requests = batch.len(), "a transaction failed");
                self.link = None;
                for request in batch {
                    request.answer(Err(error.clone()));
                }
            }
        }
    }

    /// One transaction, and what becomes of each request when it is committed.
    async fn attempt(&mut self, batch: &mut [Request]) -> Result<Vec<Result<(), Error>>, Failure> {
        let link = match self.link.take() {
            Some(link) => link,
            None => self.pools.write.acquire().await.map_err(Failure::Before)?,
        };
        // In memory there is one connection for all.
        let link = if self.pools.shared { &mut { link } } else { self.link.insert(link) };
        let mut transaction = link.begin().await.map_err(Failure::Before)?;
        let written = write(&mut transaction.session(), &self.names, batch).await;
        match written {
            Ok((results, fresh)) => {
                let before = self.cache.committing();
                let committed = transaction.commit().await.map_err(Failure::Committing);
                self.cache.committed(before, committed.is_ok().then(|| changed(batch)));
                committed?;
                self.names.publish(fresh);
                Ok(results)
            }
            Err(error) => {
                transaction.rollback().await.map_err(Failure::Before)?;
                Err(Failure::Before(error))
            }
        }
    }
}

/// Type and id of everything that a batch may have changed.
fn changed(batch: &[Request]) -> impl Iterator<Item = (&str, &str)> {
    let commits = batch.iter().filter_map(Request::as_commit);
    let changes = commits.flat_map(|commit| &commit.changes);
    changes.map(|change| (change.resource_type.as_str(), change.id.as_str()))
}

async fn write(
    session: &mut Session<'_>,
    names: &Names,
    batch: &mut [Request],
) -> Result<(Vec<Result<(), Error>>, crate::names::Fresh), Error> {
    let commits: Vec<&Commit> = batch.iter().filter_map(Request::as_commit).collect();
    let (of_commits, fresh) = Batch::run(session, names, &commits).await?;
    let mut of_commits = of_commits.into_iter();
    let mut results = Vec::with_capacity(batch.len());
    for request in batch {
        results.push(match request {
            Request::Commit(..) => of_commits.next().unwrap_or(Err(Error::Unavailable(None))),
            Request::Write(waiting) => {
                waiting.run(session).await?;
                Ok(())
            }
            Request::Close => Ok(()),
        });
    }
    Ok((results, fresh))
}

impl Request {
    fn as_commit(&self) -> Option<&Commit> {
        match self {
            Request::Commit(commit, _) => Some(commit),
            Request::Write(_) | Request::Close => None,
        }
    }

    fn answer(self, result: Result<(), Error>) {
        match self {
            // Whoever asked may have gone; what was written stays written.
            Request::Commit(_, answer) => drop(answer.send(result)),
            Request::Write(waiting) => waiting.answer(result),
            Request::Close => {}
        }
    }
}
