//! Rows of the list as FHIR and back: <https://hl7.org/fhir/R4/appointment.html>.
//!
//! A local time with its zone stays one: the zone is kept in the standard extension `tz-code`.

use jiff::tz::TimeZone;
use lumbar_fhir::datetime::{DateTime, Precision};
use lumbar_fhir::{Json, json};

use super::{Booking, Settings};
use crate::bars::confidential::is_restricted;
use crate::profile::claimed;
use crate::{identity, local_time};

const TIME_ZONE: &str = "http://hl7.org/fhir/StructureDefinition/tz-code";
const SESSION: &str = "https://lumbar.example/fhir/StructureDefinition/appointment-session";

/// Columns that name somebody or something by an id of the list's other side, and the word in the
/// id's system.
const IDS: [(&str, &str); 5] = [
    ("appointment_id", "appointment"),
    ("patient_id", "patient"),
    ("clinician_id", "clinician"),
    ("group_id", "group"),
    ("referral_id", "referral"),
];

impl Settings<'_> {
    /// System of the ids in a column; empty for a column that holds none.
    fn system(&self, column: &str) -> String {
        let word = IDS.iter().find(|(of, _)| *of == column).map_or("", |(_, word)| word);
        format!("{}/Id/csv/{}/{word}", self.base, self.source)
    }

    fn id(&self, column: &str, key: &str) -> String {
        identity::resource_id(&["csv", self.source, column, key])
    }
}

/// What [`booking`] needs besides the Appointment: references of its participants and of the
/// request it is based on.
pub fn needs(appointment: &Json) -> Vec<String> {
    let actors = appointment.list("participant").iter().filter_map(|p| p.get("actor"));
    let based_on = appointment.list("basedOn").iter();
    let references = actors.chain(based_on).filter_map(|r| r.str_at(&["reference"]));
    references.filter(|text| !text.starts_with('#')).map(str::to_owned).collect()
}

/// The row of an Appointment, with what [`needs`] asked for in `found`. Contact details of a
/// restricted patient, and the notes of a restricted Appointment, are left out.
///
/// `None` when the Appointment has no status or no start, without which there is no row.
pub fn booking(appointment: &Json, found: &[Json], settings: &Settings<'_>) -> Option<Booking> {
    let mut row = Booking::default();
    let id = identifier(appointment, &settings.system("appointment_id"));
    row.set("appointment_id", id.or_else(|| appointment.str_at(&["id"]))?);
    row.set("status", appointment.str_at(&["status"])?);
    times(&mut row, appointment)?;
    if let Some(patient) = participant(appointment, found, "Patient").and_then(|(_, found)| found) {
        person(&mut row, patient, settings);
    }
    let clinician = participant(appointment, found, "Practitioner");
    if let Some((reference, clinician)) = clinician {
        let by_list = clinician.and_then(|c| identifier(c, &settings.system("clinician_id")));
        let name = clinician.and_then(name).or_else(|| text_at(reference, &["display"]));
        let name = name.unwrap_or_default();
        let made = settings.id("clinician", &name);
        let id = by_list.or_else(|| clinician?.str_at(&["id"]).filter(|id| *id != made));
        row.set("clinician_id", id.unwrap_or_default());
        row.set("clinician_name", name);
    }
    if let Some((reference, location)) = participant(appointment, found, "Location") {
        let name = location.and_then(|location| text_at(location, &["name"]));
        let name = name.or_else(|| text_at(reference, &["display"]));
        row.set("location", name.unwrap_or_default());
    }
    row.set("service", appointment.list("serviceType").first().and_then(words).unwrap_or_default());
    let group = identifier(appointment, &settings.system("group_id"));
    row.set("group_id", group.unwrap_or_default());
    for (column, part) in [("session_no", "number"), ("sessions_total", "total")] {
        row.set(column, session(appointment, part).unwrap_or_default());
    }
    if let Some(reference) = appointment.list("basedOn").first() {
        let by_list = reference
            .get("identifier")
            .filter(|id| id.str_at(&["system"]) == Some(settings.system("referral_id").as_str()));
        let request = resolved(reference, found);
        let id = by_list
            .and_then(|id| id.str_at(&["value"]))
            .or_else(|| identifier(request?, &settings.system("referral_id")))
            .or_else(|| request?.str_at(&["identifier", "value"]))
            .or_else(|| request?.str_at(&["id"]));
        row.set("referral_id", id.unwrap_or_default());
    }
    let reason = appointment.get("cancelationReason").and_then(words);
    row.set("cancel_reason", reason.unwrap_or_default());
    if !is_restricted(appointment) {
        row.set("notes", text_at(appointment, &["comment"]).unwrap_or_default());
    }
    Some(row)
}

fn times(row: &mut Booking, appointment: &Json) -> Option<()> {
    let start = appointment.str_at(&["start"])?;
    let end = appointment.str_at(&["end"]).unwrap_or_default();
    let zone = appointment.get("_start").map(|start| start.list("extension")).unwrap_or_default();
    let zone = zone.iter().find(|extension| extension.str_at(&["url"]) == Some(TIME_ZONE));
    let zone = zone.and_then(|extension| extension.str_at(&["valueCode"]));
    let local = zone.and_then(|name| {
        let zone = local_time::zone(name)?;
        let end = if end.is_empty() { String::new() } else { local(end, &zone)? };
        Some((name, local(start, &zone)?, end))
    });
    // Where the local time would not give the moment back, the moment is told with its offset.
    let (zone, start, end) = local.unwrap_or(("", start.to_owned(), end.to_owned()));
    row.set("timezone", zone);
    row.set("start", start);
    row.set("end", end);
    Some(())
}

/// The moment as local time, if reading it back gives the same moment.
fn local(text: &str, zone: &TimeZone) -> Option<String> {
    let moment = DateTime::parse(text)?;
    let placed = moment.start.to_zoned(TimeZone::fixed(moment.offset?)).ok()?;
    let local = placed.timestamp().to_zoned(zone.clone());
    let back = local_time::place(local.datetime(), zone)?;
    let written = local.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let is_exact = back.moment.timestamp() == placed.timestamp();
    (is_exact && moment.precision < Precision::Fraction).then_some(written)
}

/// Key of the patient of a row that names none.
fn nameless(row: &Booking) -> String {
    format!("of {}", row.get("appointment_id"))
}

fn person(row: &mut Booking, patient: &Json, settings: &Settings<'_>) {
    let made = settings.id("patient", &nameless(row));
    let id = identifier(patient, &settings.system("patient_id"));
    let id = id.or_else(|| patient.str_at(&["id"]).filter(|id| *id != made));
    row.set("patient_id", id.unwrap_or_default());
    let number = identifier(patient, identity::NHS_NUMBER);
    row.set("nhs_number", number.unwrap_or_default());
    let names = patient.list("name");
    let is_official = |name: &&Json| name.str_at(&["use"]) == Some("official");
    if let Some(name) = names.iter().find(is_official).or(names.first()) {
        row.set("family_name", text_at(name, &["family"]).unwrap_or_default());
        row.set("given_name", join(name.list("given")));
    }
    row.set("date_of_birth", text_at(patient, &["birthDate"]).unwrap_or_default());
    if is_restricted(patient) {
        return;
    }
    for (column, system) in [("phone", "phone"), ("email", "email")] {
        let telecom = patient.list("telecom").iter();
        let mut telecom = telecom.filter(|point| point.str_at(&["system"]) == Some(system));
        let mobile = telecom.clone().find(|point| point.str_at(&["use"]) == Some("mobile"));
        let value = mobile.or_else(|| telecom.next()).and_then(|point| text_at(point, &["value"]));
        row.set(column, value.unwrap_or_default());
    }
}

fn participant<'a>(
    appointment: &'a Json,
    found: &'a [Json],
    name: &str,
) -> Option<(&'a Json, Option<&'a Json>)> {
    appointment.list("participant").iter().filter_map(|p| p.get("actor")).find_map(|actor| {
        let is_of_type = actor.str_at(&["type"]) == Some(name)
            || actor
                .str_at(&["reference"])
                .is_some_and(|text| text.rsplit('/').nth(1) == Some(name));
        is_of_type.then(|| (actor, resolved(actor, found)))
    })
}

fn resolved<'a>(reference: &Json, found: &'a [Json]) -> Option<&'a Json> {
    let text = reference.str_at(&["reference"])?;
    let (rest, id) = text.rsplit_once('/')?;
    let name = rest.rsplit('/').next()?;
    found.iter().find(|resource| {
        resource.str_at(&["resourceType"]) == Some(name) && resource.str_at(&["id"]) == Some(id)
    })
}

fn identifier<'a>(resource: &'a Json, system: &str) -> Option<&'a str> {
    let of_system = |id: &&Json| id.str_at(&["system"]) == Some(system);
    resource.list("identifier").iter().find(of_system)?.str_at(&["value"])
}

fn text_at(value: &Json, path: &[&str]) -> Option<String> {
    value.str_at(path).map(str::to_owned)
}

fn words(concept: &Json) -> Option<String> {
    let coding = concept.list("coding").iter().find_map(|coding| coding.str_at(&["display"]));
    concept.str_at(&["text"]).or(coding).map(str::to_owned)
}

fn join(items: &[Json]) -> String {
    items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(" ")
}

fn name(practitioner: &Json) -> Option<String> {
    let name = practitioner.list("name").first()?;
    if let Some(text) = name.str_at(&["text"]) {
        return Some(text.to_owned());
    }
    let family = name.str_at(&["family"]).unwrap_or_default();
    let parts = [join(name.list("prefix")), join(name.list("given")), family.to_owned()];
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
    Some(parts.join(" "))
}

fn session(appointment: &Json, part: &str) -> Option<String> {
    let of_url = |url: &'static str| move |e: &&Json| e.str_at(&["url"]) == Some(url);
    let session = appointment.list("extension").iter().find(of_url(SESSION))?;
    let part = session.list("extension").iter().find(|e| e.str_at(&["url"]) == Some(part))?;
    part.at(&["valuePositiveInt"])?.as_number().map(str::to_owned)
}

/// The Appointment of a row, then the Patient and Practitioner that it names by id. Ids are
/// deterministic, so the same list twice changes nothing; a patient or clinician without an id in
/// the list gets the row's. An NHS number that fails its check stands under
/// `{base}/Id/nhs-number-unverified`.
pub fn resources(row: &Booking, settings: &Settings<'_>) -> Vec<Json> {
    let mut appointment = json!({
        "resourceType": "Appointment",
        "id": (settings.id("appointment", row.get("appointment_id")))
    });
    if let Some(extension) = session_extension(row) {
        appointment.set("extension", json!([(extension)]));
    }
    for column in ["appointment_id", "group_id"] {
        if !row.get(column).is_empty() {
            let id = json!({"system": (settings.system(column)), "value": (row.get(column))});
            appointment.push("identifier", id);
        }
    }
    appointment.set("status", row.get("status"));
    if !row.get("cancel_reason").is_empty() {
        appointment.set("cancelationReason", json!({"text": (row.get("cancel_reason"))}));
    }
    if !row.get("service").is_empty() {
        appointment.set("serviceType", json!([{"text": (row.get("service"))}]));
    }
    for column in ["start", "end"] {
        if row.get(column).is_empty() {
            continue;
        }
        appointment.set(column, moment(row, column));
        if !row.get("timezone").is_empty() {
            let zone = json!({"url": (TIME_ZONE), "valueCode": (row.get("timezone"))});
            appointment.set(&format!("_{column}"), json!({"extension": [(zone)]}));
        }
    }
    if !row.get("notes").is_empty() {
        appointment.set("comment", row.get("notes"));
    }
    if !row.get("referral_id").is_empty() {
        let system = settings.system("referral_id");
        let id = json!({"system": (system), "value": (row.get("referral_id"))});
        appointment.set("basedOn", json!([{"type": "ServiceRequest", "identifier": (id)}]));
    }
    let mut others = Vec::new();
    let patient = patient(row, settings);
    let patient_id = patient.str_at(&["id"]).unwrap_or_default();
    let actor = json!({"reference": (format!("Patient/{patient_id}"))});
    appointment.push("participant", taking_part(row, actor));
    others.push(patient);
    if let Some(clinician) = clinician(row, settings) {
        let id = clinician.str_at(&["id"]).unwrap_or_default();
        let actor = json!({"reference": (format!("Practitioner/{id}"))});
        appointment.push("participant", taking_part(row, actor));
        others.push(clinician);
    }
    if !row.get("location").is_empty() {
        let actor = json!({"type": "Location", "display": (row.get("location"))});
        appointment.push("participant", taking_part(row, actor));
    }
    // Who waits for a place has no time yet, and a list may say no end.
    let has_time = appointment.get("start").is_some() && appointment.get("end").is_some();
    others.insert(
        0,
        if has_time { claimed(appointment, "back-pain-appointment") } else { appointment },
    );
    others
}

fn taking_part(row: &Booking, actor: Json) -> Json {
    let status = match row.get("status") {
        "proposed" | "pending" | "waitlist" => "needs-action",
        _ => "accepted",
    };
    json!({"actor": (actor), "status": (status)})
}

fn moment(row: &Booking, column: &str) -> String {
    let text = row.get(column);
    let zone = local_time::zone(row.get("timezone"));
    let moment = DateTime::parse(text).filter(|moment| moment.offset.is_none());
    let placed = moment.and_then(|moment| local_time::place(moment.start, &zone?));
    placed.map_or_else(|| text.to_owned(), |placed| local_time::text(&placed.moment))
}

fn session_extension(row: &Booking) -> Option<Json> {
    let mut extension = json!({"url": (SESSION)});
    for (column, part) in [("session_no", "number"), ("sessions_total", "total")] {
        if let Some(number) = row.get(column).parse::<u32>().ok().filter(|number| *number > 0) {
            extension.push("extension", json!({"url": (part), "valuePositiveInt": (number)}));
        }
    }
    extension.get("extension").is_some().then_some(extension)
}

fn patient(row: &Booking, settings: &Settings<'_>) -> Json {
    let key = match row.get("patient_id") {
        "" => nameless(row),
        id => id.to_owned(),
    };
    let mut patient = json!({"resourceType": "Patient", "id": (settings.id("patient", &key))});
    if !row.get("patient_id").is_empty() {
        let id =
            json!({"system": (settings.system("patient_id")), "value": (row.get("patient_id"))});
        patient.push("identifier", id);
    }
    let number = row.get("nhs_number");
    if let Some(valid) = identity::nhs_number(number) {
        let id = json!({"system": (identity::NHS_NUMBER), "value": (valid)});
        patient.push("identifier", id);
    } else if !number.is_empty() {
        let system = format!("{}/Id/nhs-number-unverified", settings.base);
        patient.push("identifier", json!({"system": (system), "value": (number)}));
    }
    let mut name = json!({});
    if !row.get("family_name").is_empty() {
        name.set("family", row.get("family_name"));
    }
    let given: Vec<Json> = row.get("given_name").split_whitespace().map(Json::from).collect();
    if !given.is_empty() {
        name.set("given", given);
    }
    if name.as_object().is_some_and(|name| !name.is_empty()) {
        patient.set("name", json!([(name)]));
    }
    for (column, system) in [("phone", "phone"), ("email", "email")] {
        if !row.get(column).is_empty() {
            patient.push("telecom", json!({"system": (system), "value": (row.get(column))}));
        }
    }
    let birth = DateTime::parse(row.get("date_of_birth"));
    if birth.is_some_and(|birth| birth.precision <= Precision::Day) {
        patient.set("birthDate", row.get("date_of_birth"));
    }
    patient
}

fn clinician(row: &Booking, settings: &Settings<'_>) -> Option<Json> {
    let (id, name) = (row.get("clinician_id"), row.get("clinician_name"));
    if id.is_empty() && name.is_empty() {
        return None;
    }
    let key = if id.is_empty() { name } else { id };
    let mut clinician =
        json!({"resourceType": "Practitioner", "id": (settings.id("clinician", key))});
    if !id.is_empty() {
        let identifier = json!({"system": (settings.system("clinician_id")), "value": (id)});
        clinician.push("identifier", identifier);
    }
    if name.is_empty() {
        return Some(clinician);
    }
    clinician.set("name", json!([{"text": (name)}]));
    Some(claimed(clinician, "back-pain-practitioner"))
}
