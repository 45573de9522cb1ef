//! The start page: every referral with its stage, risk and reasons, booking and scores.

use std::collections::HashMap;
use std::fmt::Write;

use axum::response::Response;
use jiff::civil;
use lumbar_fhir::Json;
use lumbar_fhir::datetime::DateTime;

use crate::app::App;
use crate::config::zone;
use crate::facade::{Error, Facade};
use crate::rules::Rules;
use crate::security::Caller;

use super::chart::{Point, line_chart};
use super::html::Text;
use super::page;

/// Referrals on the page: the newest.
const REFERRALS: usize = 50;
/// Most resources of one kind that are read for them.
const MOST: usize = 1000;

/// The way of a referral.
const STAGES: [&str; 6] =
    ["Received", "Scored", "Match proposed", "Confirmed and sent", "Booked", "Outcome back"];

/// `GET /`.
///
/// # Errors
/// The store cannot be read.
pub async fn start(app: &App) -> Result<Response, Error> {
    let referrals = read(app).await?;
    Ok(page(render(app, &referrals)))
}

/// A referral with all that came of it.
struct Referral {
    request: Json,
    patient: Option<Json>,
    matched: Option<Json>,
    appointment: Option<Json>,
    /// The result that the match rests on.
    reason: Option<Json>,
    /// Risk Observations, oldest first.
    risks: Vec<Json>,
    /// Score Observations by their display, oldest first.
    scores: Vec<(String, Vec<Json>)>,
}

async fn read(app: &App) -> Result<Vec<Referral>, Error> {
    let facade = &app.facade;
    let requests = find(
        facade,
        "ServiceRequest",
        &[("instantiates-canonical:missing", "true"), ("_sort", "-authored"), ("_count", "50")],
    )
    .await?;
    let patients: Vec<String> = {
        let mut ids: Vec<String> =
            requests.iter().filter_map(|request| subject(request).map(str::to_owned)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    if patients.is_empty() {
        return Ok(Vec::new());
    }
    let some = patients.join(",");
    let ids = some.replace("Patient/", "");
    let people = find(facade, "Patient", &[("_id", &ids)]).await?;
    let matched = find(
        facade,
        "ServiceRequest",
        &[("subject", &some), ("instantiates-canonical:missing", "false")],
    )
    .await?;
    let appointments = find(facade, "Appointment", &[("patient", &some)]).await?;
    let observations = find(
        facade,
        "Observation",
        &[("subject", &some), ("derived-from:missing", "false"), ("_sort", "date")],
    )
    .await?;
    // The result that a match rests on may be one that the GP recorded.
    let reasons: Vec<&str> = matched
        .iter()
        .flat_map(|matched| matched.list("reasonReference"))
        .filter_map(|link| link.str_at(&["reference"])?.strip_prefix("Observation/"))
        .collect();
    let reasons = if reasons.is_empty() {
        Vec::new()
    } else {
        find(facade, "Observation", &[("_id", &reasons.join(","))]).await?
    };
    let by_reference: HashMap<String, Json> =
        people.into_iter().map(|person| (reference(&person), person)).collect();
    let mut referrals: Vec<Referral> = Vec::new();
    for request in requests.into_iter().take(REFERRALS) {
        let own = reference(&request);
        let patient = subject(&request).unwrap_or_default().to_owned();
        let matched = matched.iter().find(|matched| points_at(matched, "basedOn", &own)).cloned();
        let appointment = matched.as_ref().map(reference).and_then(|matched| {
            appointments.iter().rfind(|booking| points_at(booking, "basedOn", &matched)).cloned()
        });
        let reason = matched.as_ref().and_then(|matched| {
            reasons.iter().find(|reason| points_at(matched, "reasonReference", &reference(reason)))
        });
        let mut referral = Referral {
            request,
            reason: reason.cloned(),
            patient: by_reference.get(&patient).cloned(),
            matched,
            appointment,
            risks: Vec::new(),
            scores: Vec::new(),
        };
        for observation in &observations {
            let entered_in_error = observation.str_at(&["status"]) == Some("entered-in-error");
            if subject(observation) != Some(patient.as_str()) || entered_in_error {
                continue;
            }
            if observation.get("valueCodeableConcept").is_some() {
                referral.risks.push(observation.clone());
            } else if observation.get("valueQuantity").is_some() {
                let name = concept(observation.get("code")).unwrap_or("Score").to_owned();
                match referral.scores.iter_mut().find(|(other, _)| *other == name) {
                    Some((_, series)) => series.push(observation.clone()),
                    None => referral.scores.push((name, vec![observation.clone()])),
                }
            }
        }
        referrals.push(referral);
    }
    Ok(referrals)
}

async fn find(
    facade: &Facade,
    resource_type: &str,
    parameters: &[(&str, &str)],
) -> Result<Vec<Json>, Error> {
    facade.find(&Caller::Open, resource_type, parameters, MOST).await
}

impl Referral {
    /// The result that decides: the one the match rests on, else the first of the episode. Later
    /// ones are shown as scores over time.
    fn risk(&self) -> Option<&Json> {
        self.reason.as_ref().or(self.risks.first())
    }

    /// Index of the last stage that was reached.
    fn stage(&self) -> usize {
        let booked = self.appointment.as_ref().and_then(|booking| day(booking, "start"));
        let later = |observation: &Json| {
            day(observation, "effectiveDateTime").zip(booked).is_some_and(|(d, b)| d >= b)
        };
        if booked.is_some() && self.risks.iter().any(later) {
            5
        } else if self.appointment.is_some() {
            4
        } else if self.matched.as_ref().and_then(|m| m.str_at(&["intent"])) == Some("order") {
            3
        } else if self.matched.is_some() {
            2
        } else if self.risk().is_some() {
            1
        } else {
            0
        }
    }
}

fn render(app: &App, referrals: &[Referral]) -> String {
    let mut out = String::with_capacity(4096 + referrals.len() * 4096);
    out.push_str(concat!(
        "<!doctype html>\n<html lang=\"en-GB\"><head><meta charset=\"utf-8\">",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
        "<title>Lumbar: referrals for back pain</title>",
        "<link rel=\"stylesheet\" href=\"/lumbar.css\"></head><body>",
        "<a class=\"skip\" href=\"#referrals\">Skip to the referrals</a>",
        "<header><div class=\"frame\"><h1>Lumbar</h1>",
        "<p>From the GP’s computer to the right physiotherapy appointment, and the outcome back: ",
        "nothing typed twice, nothing lost.</p></div></header><main class=\"frame\">",
    ));
    if app.settings.demo {
        out.push_str(concat!(
            "<p><strong>Demonstration.</strong> All people here are invented. The scores come from ",
            "own-word labels: a clinic loads the official wording before it asks patients.</p>",
        ));
    }
    let reached = |stage: usize| referrals.iter().filter(|r| r.stage() >= stage).count();
    let _ = write!(
        out,
        "<ul class=\"figures\"><li><strong>{}</strong> referrals</li><li><strong>{}</strong> scored</li><li><strong>{}</strong> matched</li><li><strong>{}</strong> booked</li><li><strong>{}</strong> with an outcome</li></ul>",
        referrals.len(),
        referrals.iter().filter(|r| r.risk().is_some()).count(),
        referrals.iter().filter(|r| r.matched.is_some()).count(),
        referrals.iter().filter(|r| r.appointment.is_some()).count(),
        reached(5),
    );
    out.push_str("<section id=\"referrals\" aria-label=\"Referrals\">");
    if referrals.is_empty() {
        out.push_str("<p>There are no referrals yet. Import an extract with <code>lumbar import --from emis FOLDER</code>, or post to <code>/fhir</code>.</p>");
    }
    for referral in referrals {
        render_referral(&mut out, &app.rules, referral);
    }
    let _ = write!(
        out,
        "</section></main><footer class=\"frame\">Newest {REFERRALS} referrals. FHIR service: <a href=\"/fhir/metadata\">{}</a></footer></body></html>",
        Text(app.facade.base()),
    );
    out
}

fn render_referral(out: &mut String, rules: &Rules, referral: &Referral) {
    let request = &referral.request;
    let name = referral.patient.as_ref().map_or_else(|| "Unknown patient".to_owned(), person);
    let _ = write!(
        out,
        "<article class=\"referral\"><h2>{}</h2><p class=\"about\">{}, referred {}</p><ol class=\"stages\" aria-label=\"Stages\">",
        Text(&name),
        Text(concept(request.get("code")).unwrap_or("Referral")),
        Text(&long_date(request, "authoredOn").unwrap_or_else(|| "on an unknown day".to_owned())),
    );
    let stage = referral.stage();
    for (index, title) in STAGES.iter().enumerate() {
        let class = match index {
            index if index < stage => " class=\"done\"",
            index if index == stage => " class=\"now\" aria-current=\"step\"",
            _ => "",
        };
        let _ = write!(out, "<li{class}>{title}</li>");
    }
    out.push_str("</ol><div class=\"facts\"><div><h3>Risk</h3>");
    render_risk(out, referral);
    out.push_str("</div><div><h3>Booking</h3>");
    render_booking(out, referral);
    out.push_str("</div>");
    for (title, series) in &referral.scores {
        render_scores(out, rules, title, series);
    }
    out.push_str("</div><p class=\"links\">FHIR: ");
    link(out, request, "referral");
    for (resource, word) in [
        (&referral.patient, "patient"),
        (&referral.matched, "matched request"),
        (&referral.appointment, "appointment"),
    ] {
        if let Some(resource) = resource {
            out.push_str(" · ");
            link(out, resource, word);
        }
    }
    out.push_str("</p></article>");
}

fn render_risk(out: &mut String, referral: &Referral) {
    match referral.risk() {
        Some(risk) => {
            // A GP's record may say the level by its code instead of a value.
            let value = risk.get("valueCodeableConcept").or_else(|| risk.get("code"));
            let text = concept(value).unwrap_or("unknown");
            let words = text.to_lowercase();
            let class = ["low", "medium", "high"].into_iter().find(|word| words.contains(word));
            let level = class.unwrap_or(text);
            let _ = write!(
                out,
                "<p><span class=\"risk {}\">{}</span> ",
                class.unwrap_or_default(),
                Text(level),
            );
            link(out, risk, "observation");
            out.push_str("</p>");
        }
        None => out.push_str("<p class=\"quiet\">Not scored: no complete questionnaire yet.</p>"),
    }
    if let Some(matched) = &referral.matched {
        let _ = write!(out, "<p>{}</p>", Text(concept(matched.get("code")).unwrap_or("Matched")));
        for note in matched.list("note") {
            if let Some(text) = note.str_at(&["text"]) {
                let _ = write!(out, "<p class=\"reason\">{}</p>", Text(text));
            }
        }
    }
}

fn render_booking(out: &mut String, referral: &Referral) {
    match &referral.appointment {
        Some(booking) => {
            let start = local(booking, "start").map(|start| start.strftime("%H:%M").to_string());
            let _ = write!(
                out,
                "<p><strong>{}</strong>, {}</p><p>{}</p>",
                Text(&long_date(booking, "start").unwrap_or_default()),
                Text(start.as_deref().unwrap_or("time unknown")),
                Text(
                    booking
                        .str_at(&["description"])
                        .or_else(|| booking
                            .list("serviceType")
                            .first()
                            .and_then(|s| concept(Some(s))))
                        .unwrap_or("Physiotherapy"),
                ),
            );
            out.push_str("<p class=\"quiet\">Status: ");
            let _ = write!(out, "{} ", Text(booking.str_at(&["status"]).unwrap_or("unknown")));
            link(out, booking, "appointment");
            out.push_str("</p>");
        }
        None if referral.matched.is_some() => {
            out.push_str("<p class=\"quiet\">Not booked yet.</p>");
        }
        None => out.push_str("<p class=\"quiet\">Nothing to book before a match.</p>"),
    }
}

fn render_scores(out: &mut String, rules: &Rules, title: &str, series: &[Json]) {
    let points: Vec<Point> = series
        .iter()
        .filter_map(|observation| {
            Some(Point {
                day: day(observation, "effectiveDateTime")?,
                date: long_date(observation, "effectiveDateTime")?,
                value: observation.at(&["valueQuantity", "value"])?.as_number()?.parse().ok()?,
            })
        })
        .collect();
    let tops = series.iter().filter_map(|observation| rules.top(observation));
    let top = tops.chain(points.iter().map(|point| point.value)).fold(1.0, f64::max);
    let _ = write!(out, "<div><h3>{}</h3>{}", Text(title), line_chart(title, &points, top));
    out.push_str("<p class=\"links\">");
    for (index, observation) in series.iter().enumerate() {
        if index > 0 {
            out.push_str(" · ");
        }
        link(out, observation, &long_date(observation, "effectiveDateTime").unwrap_or_default());
    }
    out.push_str("</p></div>");
}

/// A link to a resource of the FHIR service.
fn link(out: &mut String, resource: &Json, word: &str) {
    let _ = write!(out, "<a href=\"/fhir/{}\">{}</a>", Text(&reference(resource)), Text(word));
}

fn reference(resource: &Json) -> String {
    format!(
        "{}/{}",
        resource.str_at(&["resourceType"]).unwrap_or_default(),
        resource.str_at(&["id"]).unwrap_or_default()
    )
}

fn subject(resource: &Json) -> Option<&str> {
    resource.str_at(&["subject", "reference"])
}

fn points_at(resource: &Json, member: &str, target: &str) -> bool {
    resource.list(member).iter().any(|link| link.str_at(&["reference"]) == Some(target))
}

/// Text of a CodeableConcept: its own, or the display of its first coding that has one.
fn concept(concept: Option<&Json>) -> Option<&str> {
    let concept = concept?;
    concept
        .str_at(&["text"])
        .or_else(|| concept.list("coding").iter().find_map(|coding| coding.str_at(&["display"])))
}

fn person(patient: &Json) -> String {
    let Some(name) = patient.list("name").first() else { return "Name withheld".to_owned() };
    let mut words: Vec<&str> = Vec::new();
    words.extend(name.list("given").iter().filter_map(Json::as_str));
    words.extend(name.str_at(&["family"]));
    if words.is_empty() {
        name.str_at(&["text"]).unwrap_or("Name withheld").to_owned()
    } else {
        words.join(" ")
    }
}

/// The moment at which a date begins, on the clock of the clinic.
fn local(resource: &Json, member: &str) -> Option<civil::DateTime> {
    let moment = DateTime::parse(resource.str_at(&[member])?)?;
    // A date without a zone is a day of the calendar, wherever that was.
    let Some(offset) = moment.offset else { return Some(moment.start) };
    Some(offset.to_timestamp(moment.start).ok()?.to_zoned(zone()).datetime())
}

fn day(resource: &Json, member: &str) -> Option<i64> {
    let gone = local(resource, member)?.date().since(civil::date(1970, 1, 1)).ok()?;
    Some(i64::from(gone.get_days()))
}

/// The day of a date as people in Britain write it: `2 March 2026`; less when less is known.
fn long_date(resource: &Json, member: &str) -> Option<String> {
    let date = local(resource, member)?;
    Some(match resource.str_at(&[member])?.len() {
        4 => date.strftime("%Y").to_string(),
        7 => date.strftime("%B %Y").to_string(),
        _ => date.strftime("%-d %B %Y").to_string(),
    })
}
