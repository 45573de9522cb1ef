//! Goes on with indexing what was stored before its search parameters:
//! <https://hl7.org/fhir/R4/searchparameter.html>.
//!
//! Also how this process hears of SearchParameters that another one stored.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;

/// Resources of one commit.
const STEP: usize = 200;
/// How often somebody looks whether there is something to do.
const POLL: Duration = Duration::from_secs(1);

/// Works until `stopped`.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        match app.facade.reindex(STEP).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "resources cannot be indexed anew"),
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = stopped.changed() => {}
        }
    }
}
