//! Jobs that speak BaRS: send the referral, find a place, book it.
//!
//! Each step ends with a commit of its results and of the next step's job. The place is chosen in
//! a step of its own, so that a crash after the booking was sent repeats the same booking and
//! never makes a second one.

use lumbar_fhir::datetime::{DateTime, instant};
use lumbar_fhir::{Issue, Json, json};
use lumbar_store::{Job, NewJob};
use lumbar_translate::bars::{
    self, BookingParts, Decision, Outcome, Party, PickedSlot, Settings, Window, referral_needs,
};

use super::Ending;
use crate::app::App;
use crate::config::{Destination, ID_BASE};
use crate::delivery::{Answer, Web, write_whole};
use crate::facade::Error;
use crate::facade::outbox::{self, BOOKING, LIST, SLOT};
use crate::security::Caller;

/// How far ahead a place is looked for when the request does not say, in microseconds: 28 days.
const WINDOW: i64 = 28 * 86_400_000_000;
/// Most places that are tried.
const MOST_TRIED: usize = 10;
/// Rounds of fetching what a message is made of.
const ROUNDS: usize = 6;
/// Most resources that one search brings into a message.
const MOST_FOUND: usize = 200;

/// Sends the referral message of a confirmed match.
pub async fn referral(app: &App, web: &Web, body: &Json) -> Ending {
    match try_referral(app, web, body).await {
        Ok(ending) | Err(ending) => ending,
    }
}

async fn try_referral(app: &App, web: &Web, body: &Json) -> Result<Ending, Ending> {
    let case = Case::load(app, body).await?;
    if let Some(reason) = case.held(app).await? {
        // Whoever clears the alert lets it go again.
        let task = outbox::delivery(&case.reference, &case.matched, "on-hold", Some(&reason));
        app.facade.put(&Caller::System, &[task], &[]).await?;
        return Ok(Ending::Done);
    }
    let settings = case.settings(app);
    let (message, issues) = bars::referral_request(&case.matched, &case.found, &settings);
    if let Some(error) = issues.iter().find(|issue| issue.is_error()) {
        return Ok(Ending::GiveUp(error.text.clone()));
    }
    let message_id = message.str_at(&["id"]).unwrap_or_default().to_owned();
    let Some(Destination::Http(url)) = &app.settings.booking else {
        return case.to_file(app, &message_id, &message);
    };
    let headers = bars::headers(&message_id, &case.matched, &settings);
    let url = format!("{url}/$process-message");
    let answer = web.post(&url, &headers, message.to_string()).await.map_err(Ending::Later)?;
    let read = match bars::read_outcome(answer.status, &answer.body) {
        Outcome::Accepted => Some(case.read(&answer)?),
        // Taken at an earlier attempt whose answer was lost.
        Outcome::Duplicate => None,
        Outcome::Retry => return Err(busy(&answer)),
        Outcome::Conflict(issues) | Outcome::Refused(issues) => return Err(refused(&issues)),
    };
    let there = read.as_ref().and_then(|answer| answer.referral_there.clone());
    if let Some(answer) = read.as_ref().filter(|answer| answer.decision == Decision::Refused) {
        return case.turned_down(app, answer).await;
    }
    let resources = read.map_or_else(Vec::new, |answer| answer.resources);
    let mut next = case.next(app);
    next.set("there", there.map_or(Json::Null, Json::from));
    next.set("tried", json!([]));
    let job = outbox::job(SLOT, &format!("{}:0", case.order), &next, app.facade.now());
    case.commit(app, &resources, "accepted", job).await
}

/// Finds a place, and leaves its booking to the next job.
pub async fn slot(app: &App, web: &Web, body: &Json) -> Ending {
    match try_slot(app, web, body).await {
        Ok(ending) | Err(ending) => ending,
    }
}

async fn try_slot(app: &App, web: &Web, body: &Json) -> Result<Ending, Ending> {
    let case = Case::load(app, body).await?;
    if let Some(reason) = case.held(app).await? {
        return Err(Ending::Later(reason));
    }
    let settings = case.settings(app);
    let Some(Destination::Http(url)) = &app.settings.booking else {
        return Err(Ending::GiveUp("No booking endpoint is configured.".to_owned()));
    };
    let (from, to) = case.window(app.facade.now());
    let window = Window { from: &from, to: &to };
    let query = bars::slot_query(&app.settings.booking_service, window);
    let headers = bars::headers(&query, &case.matched, &settings);
    let answer = web.get(&format!("{url}/{query}"), &headers).await.map_err(Ending::Later)?;
    match bars::read_outcome(answer.status, &answer.body) {
        Outcome::Accepted => {}
        Outcome::Retry => return Err(busy(&answer)),
        Outcome::Duplicate => {
            return Err(Ending::Later("The slot search was refused as a repeat.".into()));
        }
        Outcome::Conflict(issues) | Outcome::Refused(issues) => return Err(refused(&issues)),
    }
    let searchset = Json::parse(&answer.body)
        .map_err(|_| Ending::GiveUp("The receiver's slots cannot be read.".to_owned()))?;
    let tried: Vec<&str> = body.list("tried").iter().filter_map(Json::as_str).collect();
    let Some(picked) = bars::pick_slot(&searchset, window, &app.settings.booking_service, &tried)
    else {
        return Err(Ending::GiveUp(
            "BPA-BOOK-001: the receiver has no free place in the time the referral allows."
                .to_owned(),
        ));
    };
    let mut next = case.next(app);
    next.set("there", body.get("there").cloned().unwrap_or(Json::Null));
    next.set("tried", tried.iter().map(|url| Json::from(*url)).collect::<Vec<_>>());
    next.set("full_url", picked.full_url.as_str());
    next.set("slot", picked.slot);
    next.set("included", picked.included);
    let key = format!("{}:{}", case.order, tried.len());
    let job = outbox::job(BOOKING, &key, &next, app.facade.now());
    app.jobs.enqueue(vec![job]).await.map_err(Error::from)?;
    Ok(Ending::Done)
}

/// Books the place that was found.
pub async fn booking(app: &App, web: &Web, body: &Json) -> Ending {
    match try_booking(app, web, body).await {
        Ok(ending) | Err(ending) => ending,
    }
}

async fn try_booking(app: &App, web: &Web, body: &Json) -> Result<Ending, Ending> {
    let case = Case::load(app, body).await?;
    if let Some(reason) = case.held(app).await? {
        return Err(Ending::Later(reason));
    }
    let settings = case.settings(app);
    let Some(Destination::Http(url)) = &app.settings.booking else {
        return Err(Ending::GiveUp("No booking endpoint is configured.".to_owned()));
    };
    let picked = PickedSlot {
        slot: body.get("slot").cloned().unwrap_or(Json::Null),
        full_url: body.str_at(&["full_url"]).unwrap_or_default().to_owned(),
        included: body.list("included").to_vec(),
    };
    let parts = BookingParts {
        matched: &case.matched,
        found: &case.found,
        referral_there: body.str_at(&["there"]),
    };
    let message = bars::booking_request(&parts, &picked, &settings);
    let message_id = message.str_at(&["id"]).unwrap_or_default().to_owned();
    let headers = bars::headers(&message_id, &case.matched, &settings);
    let url = format!("{url}/$process-message");
    let answer = web.post(&url, &headers, message.to_string()).await.map_err(Ending::Later)?;
    let read = match bars::read_outcome(answer.status, &answer.body) {
        Outcome::Accepted => case.read(&answer)?,
        // Booked at an earlier attempt whose answer was lost: what we asked for stands.
        Outcome::Duplicate => {
            let asked = Answer { status: 200, body: message.to_string().into_bytes() };
            case.read(&asked)?
        }
        Outcome::Conflict(_) => return next_place(app, body, &case, &picked).await,
        Outcome::Retry => return Err(busy(&answer)),
        Outcome::Refused(issues) => return Err(refused(&issues)),
    };
    if read.decision == Decision::Refused {
        return case.turned_down(app, &read).await;
    }
    if !read.resources.iter().any(|r| r.str_at(&["resourceType"]) == Some("Appointment")) {
        return Err(Ending::GiveUp("The receiver's answer holds no appointment.".to_owned()));
    }
    let job = outbox::job(LIST, &case.order, &json!({}), app.facade.now());
    case.commit(app, &read.resources, "completed", job).await
}

/// The place was taken meanwhile: look for another one.
async fn next_place(
    app: &App,
    body: &Json,
    case: &Case,
    picked: &PickedSlot,
) -> Result<Ending, Ending> {
    let mut tried = body.list("tried").to_vec();
    tried.push(picked.full_url.as_str().into());
    if tried.len() >= MOST_TRIED {
        return Err(Ending::GiveUp(
            "BPA-BOOK-001: every place that was tried was taken meanwhile.".to_owned(),
        ));
    }
    let key = format!("{}:{}", case.order, tried.len());
    let mut next = case.next(app);
    next.set("there", body.get("there").cloned().unwrap_or(Json::Null));
    next.set("tried", tried);
    let job = outbox::job(SLOT, &key, &next, app.facade.now());
    app.jobs.enqueue(vec![job]).await.map_err(Error::from)?;
    Ok(Ending::Done)
}

/// A confirmed match with everything that a message about it is made of.
struct Case {
    reference: String,
    /// Names the confirmation: the request and its version then. A request that is confirmed once
    /// more is another order.
    order: String,
    matched: Json,
    found: Vec<Json>,
    /// Instant of the message.
    now: String,
}

impl Case {
    async fn load(app: &App, body: &Json) -> Result<Case, Ending> {
        let reference = body.str_at(&["matched"]).unwrap_or_default().to_owned();
        let gone = || Ending::GiveUp("The matched request is not there any more.".to_owned());
        let (of, id) = reference.split_once('/').ok_or_else(gone)?;
        let matched = app.facade.get(&Caller::System, of, id).await?.ok_or_else(gone)?;
        let now = instant(body.get("now").and_then(Json::as_i64).unwrap_or_default());
        let mut found: Vec<Json> = Vec::new();
        let mut asked: Vec<String> = Vec::new();
        for _ in 0..ROUNDS {
            let mut needs = referral_needs(&matched, &found);
            needs.retain(|need| !asked.contains(need));
            if needs.is_empty() {
                break;
            }
            for need in &needs {
                found.extend(app.facade.fetch(&Caller::System, need, MOST_FOUND).await?);
            }
            asked.extend(needs);
        }
        // Our own Task says how the delivery goes, which is nobody else's matter.
        let own = outbox::delivery_id(&reference);
        found.retain(|resource| resource.str_at(&["id"]) != Some(&own));
        let order = body.str_at(&["order"]).unwrap_or(&reference).to_owned();
        Ok(Case { reference, order, matched, found, now })
    }

    /// Why nothing is booked for the person now.
    async fn held(&self, app: &App) -> Result<Option<String>, Ending> {
        match self.matched.str_at(&["subject", "reference"]) {
            Some(subject) => Ok(app.facade.held(subject).await?),
            None => Ok(None),
        }
    }

    /// The body of the next step's job.
    fn next(&self, app: &App) -> Json {
        json!({
            "matched": (self.reference.as_str()),
            "order": (self.order.as_str()),
            "now": (app.facade.now())
        })
    }

    /// The receiver said no: what it said is kept, and the Task shows it.
    async fn turned_down(&self, app: &App, answer: &bars::Answer) -> Result<Ending, Ending> {
        let reason = format!("The receiver answered with the status {}.", answer.focus.1);
        let mut resources = answer.resources.clone();
        app.facade.claim(&mut resources);
        resources.push(outbox::delivery(&self.reference, &self.matched, "rejected", Some(&reason)));
        app.facade.put(&Caller::System, &resources, &[]).await?;
        Ok(Ending::Done)
    }

    fn settings<'a>(&'a self, app: &'a App) -> Settings<'a> {
        let settings = &app.settings;
        Settings {
            // Ids and X-Request-Ids follow from it, so it must not change with the address.
            base: ID_BASE,
            now: &self.now,
            software: "Lumbar",
            software_version: env!("CARGO_PKG_VERSION"),
            sender: Party {
                dos_service_id: &settings.service,
                ods_code: &settings.ods_code,
                name: &settings.organisation,
                phone: "",
            },
            receiver: Party {
                dos_service_id: &settings.booking_service,
                ods_code: &settings.booking_ods_code,
                name: &settings.booking_organisation,
                phone: "",
            },
            use_case: (
                "https://lumbar.example/fhir/CodeSystem/use-case",
                "gp-to-msk",
                "GP to musculoskeletal physiotherapy",
            ),
            implied_consent: true,
        }
    }

    /// From when to when a place may start.
    fn window(&self, now: i64) -> (String, String) {
        let bound = |name| DateTime::parse(self.matched.str_at(&["occurrencePeriod", name])?);
        let from = bound("start").map_or(now, |start| start.bounds().0.max(now));
        let to = bound("end").map_or(from + WINDOW, |end| end.bounds().1);
        (instant(from), instant(to))
    }

    fn read(&self, answer: &Answer) -> Result<bars::Answer, Ending> {
        let unreadable = |issues: &[Issue]| {
            let why = issues.first().map_or("", |issue| issue.text.as_str());
            Ending::GiveUp(format!("The receiver's answer cannot be used. {why}"))
        };
        let bundle = Json::parse(&answer.body).map_err(|_| unreadable(&[]))?;
        let patient = self.found.iter().find(|r| r.str_at(&["resourceType"]) == Some("Patient"));
        bars::read_answer(&bundle, &self.matched, patient, ID_BASE)
            .map_err(|issues| unreadable(&issues))
    }

    /// Stores an answer's resources, the Task's new status and the next job at once.
    async fn commit(
        &self,
        app: &App,
        resources: &[Json],
        status: &str,
        job: NewJob,
    ) -> Result<Ending, Ending> {
        let mut resources = resources.to_vec();
        app.facade.claim(&mut resources);
        resources.push(outbox::delivery(&self.reference, &self.matched, status, None));
        app.facade.put(&Caller::System, &resources, &[job]).await?;
        Ok(Ending::Done)
    }

    fn to_file(&self, app: &App, message_id: &str, message: &Json) -> Result<Ending, Ending> {
        let Some(Destination::File(folder)) = &app.settings.booking else {
            return Err(Ending::GiveUp(
                "No destination is configured; set --booking and confirm the match again."
                    .to_owned(),
            ));
        };
        let path = folder.join(format!("{message_id}.json"));
        write_whole(&path, message.to_pretty().as_bytes()).map_err(|error| {
            Ending::Later(format!("The message's file cannot be written: {error}"))
        })?;
        Ok(Ending::Done)
    }
}

/// Shows a delivery that was given up as a failed Task.
///
/// # Errors
/// The Task cannot be stored.
pub async fn fail(app: &App, job: &Job, reason: &str) -> Result<(), Error> {
    let Some(reference) = super::body(job).and_then(|b| b.str_at(&["matched"]).map(str::to_owned))
    else {
        return Ok(());
    };
    match app.facade.fetch(&Caller::System, &reference, 1).await?.first() {
        Some(matched) => {
            let task = outbox::delivery(&reference, matched, "failed", Some(reason));
            app.facade.put(&Caller::System, &[task], &[]).await.map(|_| ())
        }
        None => Ok(()),
    }
}

fn busy(answer: &Answer) -> Ending {
    Ending::Later(format!("The receiver answered {} and asks to try again.", answer.status))
}

fn refused(issues: &[Issue]) -> Ending {
    Ending::GiveUp(
        issues.first().map_or_else(
            || "The receiver refused the message.".to_owned(),
            |issue| issue.text.clone(),
        ),
    )
}
