//! Work that may take longer than other requests may wait: validations of what is large or new,
//! evaluations of FHIRPath, JSON Schemas.
//!
//! It is done beside the threads that answer requests, as many pieces at once as the machine has
//! processors, the rest in the order in which it came. Whoever no longer waits for a piece that has
//! begun leaves its place taken until it ends, so that nobody gets more by asking and going away.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

use super::Error;

/// The places for such work.
pub(super) struct Work(Arc<Semaphore>);

impl Default for Work {
    fn default() -> Work {
        let places = available_parallelism().map_or(1, usize::from);
        Work(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))))
    }
}

impl Work {
    /// Does a piece of work when there is a place for it.
    ///
    /// # Errors
    /// It broke off.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.0.clone().acquire_owned().await.map_err(|_| Error::Internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "work broke off");
            Error::Internal
        })
    }
}
