//! `serve --demo`: the demonstration practice walks the whole way.
//!
//! GP extract in, questionnaires answered, scores and matches derived, matches confirmed, referrals
//! and bookings exchanged with a booking system on loopback, outcomes back. Everything goes through
//! the same parts as in a clinic, and a second start changes nothing.

mod booking_system;

use std::sync::Arc;
use std::time::Duration;

use include_dir::{Dir, include_dir};
use lumbar_fhir::Json;
use lumbar_store::State;
use tokio::sync::watch;

use crate::app::App;
use crate::config::{Destination, Settings};
use crate::facade::{Error, Source};
use crate::intake;
use crate::security::Caller;
use crate::serve::say;

static DEMO: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../fixtures/demo");

/// How long the deliveries of the demonstration may take.
const DELIVERY: Duration = Duration::from_secs(30);
/// Most resources of one kind that the walk looks at.
const MOST: usize = 200;

/// Starts the booking system and points the settings at it, where they say nothing else.
///
/// # Errors
/// A sentence: no port is free.
pub async fn prepare(
    settings: &mut Settings,
    source: &dyn Source,
    stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    if settings.booking.is_some() {
        return Ok(());
    }
    let base = booking_system::start(source.now(), stopped)
        .await
        .map_err(|error| format!("the demonstration's booking system cannot start: {error}"))?;
    settings.booking = Some(Destination::Http(base));
    settings.booking_service = booking_system::SERVICE.to_owned();
    settings.booking_ods_code = booking_system::ODS_CODE.to_owned();
    settings.booking_organisation = booking_system::NAME.to_owned();
    settings.ods_code = "Z99902".to_owned();
    settings.organisation = "Harbour View Surgery".to_owned();
    settings.service = "2000088002".to_owned();
    Ok(())
}

/// Walks the way and says where to look.
///
/// # Errors
/// A sentence that says which step failed.
pub async fn walk(app: Arc<App>) -> Result<(), String> {
    let step = |name: &str| {
        let name = name.to_owned();
        move |error: Error| {
            let why = error.issues().first().map_or(String::new(), |issue| issue.text.clone());
            format!("the demonstration stopped while {name}: {why}")
        }
    };
    let extract = DEMO.get_dir("emis").map_or_else(Vec::new, intake::embedded);
    let imported = intake::import_emis(&app, &extract).await?;
    say(&format!("  GP extract      {}", imported.summary()));
    let responses = responses().map_err(|error| format!("the demonstration's answers: {error}"))?;
    let (first, later): (Vec<Json>, Vec<Json>) =
        responses.into_iter().partition(|response| response.str_at(&["id"]).is_some_and(|id| id.ends_with("-baseline")));
    put(&app, &first).await.map_err(step("storing the answers"))?;
    say(&format!("  Answers         {} questionnaires stored and scored", first.len()));
    let confirmed = confirm(&app).await.map_err(step("confirming the matches"))?;
    say(&format!("  Matches         {confirmed} confirmed now"));
    deliver(&app).await.map_err(step("delivering the referrals"))?;
    put(&app, &later).await.map_err(step("storing the outcomes"))?;
    say(&format!("  Outcomes        {} later questionnaires stored and scored", later.len()));
    let bookings = app
        .facade
        .find(&Caller::System, "Appointment", &[("based-on:missing", "false")], MOST)
        .await
        .map_err(step("looking at the bookings"))?;
    say(&format!("  Bookings        {} appointments came back", bookings.len()));
    let root = app.facade.base().trim_end_matches("/fhir");
    say(&format!("Look at {root}/ for every referral, {root}/fhir/ServiceRequest for the resources."));
    Ok(())
}

/// The answers of `fixtures/demo/responses`, in the order of their names.
fn responses() -> Result<Vec<Json>, String> {
    let mut files: Vec<_> =
        DEMO.get_dir("responses").into_iter().flat_map(Dir::files).collect();
    files.sort_by_key(|file| file.path());
    files
        .into_iter()
        .map(|file| {
            Json::parse(file.contents()).map_err(|error| format!("{}: {error}", file.path().display()))
        })
        .collect()
}

async fn put(app: &App, responses: &[Json]) -> Result<(), Error> {
    for response in responses {
        app.facade.put(&Caller::System, std::slice::from_ref(response), &[]).await?;
    }
    Ok(())
}

/// Confirms every proposal, as a clinician would with an update.
async fn confirm(app: &App) -> Result<usize, Error> {
    let parameters = [("instantiates-canonical:missing", "false"), ("intent", "proposal"), ("status", "draft")];
    let proposals = app.facade.find(&Caller::System, "ServiceRequest", &parameters, MOST).await?;
    for proposal in &proposals {
        let mut order = proposal.clone();
        order.set("intent", "order");
        order.set("status", "active");
        app.facade.put(&Caller::System, &[order], &[]).await?;
    }
    Ok(proposals.len())
}

/// Waits until no job waits.
async fn deliver(app: &App) -> Result<(), Error> {
    let all_done = async {
        loop {
            let waiting = app.jobs.list(State::Waiting, 0, 1).await?;
            let running = app.jobs.list(State::Running, 0, 1).await?;
            if waiting.is_empty() && running.is_empty() {
                return Ok::<(), Error>(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(DELIVERY, all_done).await {
        Ok(result) => result,
        Err(_) => {
            say("  Deliveries      some are still waiting; the outbox goes on trying");
            Ok(())
        }
    }
}
