//! `lumbar serve`: from settings to a listening service, and back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lumbar_fhir::Issue;
use lumbar_fhir::definitions::Definitions;
use lumbar_store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::watch;

use crate::app::App;
use crate::config::Settings;
use crate::facade::{Machine, Source};
use crate::packages::Packages;
use crate::rules::Rules;
use crate::telemetry::say;
use crate::{demo, http, jobs, value_sets};

/// How long running requests may take to finish once the service is told to stop.
const FINISH: Duration = Duration::from_secs(20);

/// Runs the service until SIGTERM or Ctrl-C.
///
/// # Errors
/// A sentence that says what could not be started and what to do.
pub async fn serve(mut settings: Settings) -> Result<(), String> {
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {address}: {error}; choose another address with --listen")
    })?;
    let local = listener.local_addr().map_err(|error| error.to_string())?;
    if settings.base_url.is_empty() {
        settings.base_url = format!("http://{local}/fhir");
    }
    let (definitions, mut rules) = definitions(&settings.profiles)?;
    value_sets::supply(&mut rules, settings.value_sets.as_deref())?;
    for warning in &rules.packages.warnings {
        tracing::warn!("{warning}");
    }
    if rules.packages.skipped > 0 {
        let skipped = rules.packages.skipped;
        tracing::info!(skipped, "resources of --profiles are no conformance resources");
    }
    let (stop, stopped) = watch::channel(false);
    let calendar = Arc::new(demo::Calendar::default());
    let source: Arc<dyn Source> = if settings.demo {
        demo::prepare(&mut settings, &calendar, stopped.clone()).await?;
        calendar.clone()
    } else {
        Arc::new(Machine)
    };
    let store = open(&settings.database).await?;
    let app = Arc::new(App::new(settings, &store, definitions, rules, source));
    let wording = app.facade.wording();
    if !wording.packs().is_empty() {
        tracing::info!(packs = wording.packs().len(), "wording packs are in use");
    }
    for reason in &wording.refused {
        tracing::warn!("a wording pack is not used: {reason}");
    }
    app.facade
        .begin()
        .await
        .map_err(|error| format!("the search parameters cannot be read: {error}"))?;
    app.serve_artefacts().await?;
    let worker = tokio::spawn(jobs::run(app.clone(), stopped.clone()));
    let bulk = tokio::spawn(jobs::bulk::run(app.clone(), stopped.clone()));
    let indexer = tokio::spawn(jobs::reindex::run(app.clone(), stopped.clone()));

    let router = http::router(app.clone());
    let mut server = tokio::spawn(http::accept(listener, router, stopped.clone()));
    let told = signal().map_err(|error| format!("signals cannot be received: {error}"))?;
    say(&format!("lumbar listening on http://{local}"));
    let walk_and_serve = async {
        if app.settings.demo {
            demo::walk(&app, &calendar).await?;
        }
        std::future::pending::<Result<(), String>>().await
    };
    tokio::select! {
        result = walk_and_serve => result?,
        _ = &mut server => {}
        () = told => {}
    }
    let _ = stop.send(true);
    let finish = async {
        if !server.is_finished() {
            let _ = server.await;
        }
        let _ = worker.await;
        let _ = bulk.await;
        let _ = indexer.await;
    };
    if tokio::time::timeout(FINISH, finish).await.is_err() {
        tracing::warn!("some requests did not finish in time and were ended");
    }
    store.close().await;
    Ok(())
}

/// Opens the database.
///
/// # Errors
/// A sentence with the cause.
pub async fn open(database: &str) -> Result<Store, String> {
    Store::open(database, lumbar_store::Options::default()).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map_or(String::new(), |c| format!(": {c}"));
        format!("cannot open the database: {error}{cause}")
    })
}

/// The definitions of the standard and of the site, and the rules. What a site adds by itself is
/// served like what is compiled in, of several versions the newest; what its packages hold is only
/// used. Their SearchParameters are searched by.
///
/// # Errors
/// A sentence for the first artefact that cannot be used.
pub fn definitions(profiles: &[PathBuf]) -> Result<(Definitions, Rules), String> {
    let (mut definitions, mut rules) = known(profiles)?;
    let packages = &mut rules.packages;
    let mut warnings = Vec::new();
    for entry in packages.of_type("SearchParameter") {
        let resource = entry.resource()?;
        if let Some(issue) = definitions.add(&resource).into_iter().find(Issue::is_error) {
            let said = format!("{}: {}", entry.place, issue.text);
            if !entry.in_package {
                return Err(said);
            }
            warnings.push(said);
        }
    }
    if let Some(entry) = packages.own().find(|entry| entry.id.is_none()) {
        let place = &entry.place;
        return Err(format!("{place}: an artefact has no id, under which it could be served"));
    }
    packages.warnings.extend(warnings);
    Ok((definitions, rules))
}

/// The same for who only looks things up: nothing of a site is read before it is used, and its
/// SearchParameters are left alone.
///
/// # Errors
/// A sentence for the first file that cannot be read.
pub fn known(profiles: &[PathBuf]) -> Result<(Definitions, Rules), String> {
    let definitions = Definitions::r4();
    let mut rules = Rules::embedded().map_err(|issue| issue.text)?;
    rules.packages = Packages::load(profiles, &definitions)?;
    Ok((definitions, rules))
}

/// Listens for SIGTERM and Ctrl-C from now on; the future ends with the first of them.
fn signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = unix::signal(SignalKind::interrupt())?;
    let mut terminate = unix::signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
