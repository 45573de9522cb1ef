//! `serve --demo`: the demonstration practice walks the whole way.
//!
//! GP extract in, questionnaires answered, scores and matches derived, matches confirmed, referrals
//! and bookings exchanged with a booking system on loopback, outcomes back. Everything goes through
//! the same parts as in a clinic, and a second start changes nothing.

pub mod booking_system;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use include_dir::{Dir, include_dir};
use lumbar_fhir::Json;
use lumbar_fhir::datetime::{DateTime, Micros};
use lumbar_store::State;
use tokio::sync::watch;

use crate::app::App;
use crate::config::{Destination, Settings};
use crate::facade::{Error, Machine, Source};
use crate::intake;
use crate::security::Caller;
use crate::telemetry::say;

static DEMO: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../fixtures/demo");

/// How long the deliveries of the demonstration may take.
const DELIVERY: Duration = Duration::from_secs(30);
/// Most resources of one kind that the walk looks at.
const MOST: usize = 200;

/// The days on which the walk does its steps: the practice sends its extract on the first, and
/// patients answer again before the second and the third.
const DAYS: [&str; 3] = ["2026-06-09T08:00:00Z", "2026-07-22T08:00:00Z", "2026-09-02T08:00:00Z"];

/// A clock that can be put on another day. It shows the machine's time again after the walk.
#[derive(Debug, Default)]
pub struct Calendar {
    ahead: AtomicI64,
}

impl Calendar {
    fn turn_to(&self, day: &str) {
        let ahead = DateTime::parse(day).map_or(0, |day| day.bounds().0 - Machine.now());
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    fn turn_back(&self) {
        self.ahead.store(0, Ordering::Relaxed);
    }
}

impl Source for Calendar {
    fn now(&self) -> Micros {
        Machine.now() + self.ahead.load(Ordering::Relaxed)
    }

    fn id(&self) -> String {
        Machine.id()
    }
}

/// Starts the booking system and points the settings at it, where they say nothing else.
///
/// # Errors
/// A sentence: no port is free.
pub async fn prepare(
    settings: &mut Settings,
    calendar: &Calendar,
    stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    calendar.turn_to(DAYS[0]);
    if settings.booking.is_some() {
        return Ok(());
    }
    let root = booking_system::start(calendar.now(), stopped)
        .await
        .map_err(|error| format!("the demonstration's booking system cannot start: {error}"))?;
    settings.booking_list = Some(Destination::Http(format!("{root}/appointments.csv")));
    settings.booking = Some(Destination::Http(format!("{root}/FHIR/R4")));
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
pub async fn walk(app: &App, calendar: &Calendar) -> Result<(), String> {
    let result = steps(app, calendar).await;
    calendar.turn_back();
    result?;
    let root = app.facade.base().trim_end_matches("/fhir");
    say(&format!(
        "Look at {root}/ for every referral, {root}/fhir/ServiceRequest for the resources."
    ));
    Ok(())
}

async fn steps(app: &App, calendar: &Calendar) -> Result<(), String> {
    let step = |name: &str| {
        let name = name.to_owned();
        move |error: Error| {
            let why = error.issues().first().map_or(String::new(), |issue| issue.text.clone());
            format!("the demonstration stopped while {name}: {why}")
        }
    };
    let extract = DEMO.get_dir("emis").map_or_else(Vec::new, intake::embedded);
    let imported = intake::import_emis(app, &extract).await?;
    say(&format!("  GP extract   {}", imported.summary()));
    let responses = responses().map_err(|error| format!("the demonstration's answers: {error}"))?;
    let count = put(app, calendar, &responses).await.map_err(step("storing the answers"))?;
    say(&format!("  Answers      {count} questionnaires stored and scored"));
    let confirmed = confirm(app).await.map_err(step("confirming the matches"))?;
    say(&format!("  Matches      {confirmed} confirmed"));
    deliver(app).await.map_err(step("delivering the referrals"))?;
    let parameters = [("based-on:missing", "false")];
    let bookings = app.facade.find(&Caller::System, "Appointment", &parameters, MOST).await;
    let bookings = bookings.map_err(step("looking at the bookings"))?;
    say(&format!("  Bookings     {} appointments came back", bookings.len()));
    if let (Some(Destination::Http(booking)), Some(Destination::Http(list))) =
        (&app.settings.booking, &app.settings.booking_list)
    {
        say(&format!("  Sent to      {booking} and {list}"));
    }
    for day in &DAYS[1..] {
        calendar.turn_to(day);
        let count = put(app, calendar, &responses).await.map_err(step("storing the outcomes"))?;
        say(&format!("  Outcomes     {count} questionnaires on {}", &day[..10]));
    }
    Ok(())
}

/// The answers of `fixtures/demo/responses`, in the order of their names.
fn responses() -> Result<Vec<Json>, String> {
    let mut files: Vec<_> = DEMO.get_dir("responses").into_iter().flat_map(Dir::files).collect();
    files.sort_by_key(|file| file.path());
    files
        .into_iter()
        .map(|file| {
            Json::parse(file.contents())
                .map_err(|error| format!("{}: {error}", file.path().display()))
        })
        .collect()
}

/// Stores the answers that were given in the six weeks before the calendar's day; returns how many.
async fn put(app: &App, calendar: &Calendar, responses: &[Json]) -> Result<usize, Error> {
    const SIX_WEEKS: Micros = 42 * 86_400_000_000;
    let now = calendar.now();
    let mut count = 0;
    for response in responses {
        let authored = response.str_at(&["authored"]).and_then(DateTime::parse);
        if authored.is_some_and(|at| (now - SIX_WEEKS..now).contains(&at.bounds().0)) {
            app.facade.put(&Caller::System, std::slice::from_ref(response), &[]).await?;
            count += 1;
        }
    }
    Ok(count)
}

/// Confirms every proposal, as a clinician would with an update.
async fn confirm(app: &App) -> Result<usize, Error> {
    let parameters =
        [("instantiates-canonical:missing", "false"), ("intent", "proposal"), ("status", "draft")];
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
