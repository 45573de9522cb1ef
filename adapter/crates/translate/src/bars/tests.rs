use std::path::PathBuf;

use expect_test::expect_file;
use lumbar_fhir::Issue;

use super::*;

const SETTINGS: Settings<'_> = Settings {
    base: "https://adapter.example/fhir",
    now: "2026-04-14T09:06:00.000Z",
    software: "Lumbar",
    software_version: "0.1.0",
    sender: Party {
        dos_service_id: "2000088481",
        ods_code: "Z99481",
        name: "Marlbeck Surgery",
        phone: "01632960481",
    },
    receiver: Party {
        dos_service_id: "2000099481",
        ods_code: "Z9P48",
        name: "Marl Valley MSK",
        phone: "",
    },
    use_case: ("https://lumbar.example/fhir/CodeSystem/use-case", "gp-to-msk", "GP to MSK"),
    implied_consent: true,
};

const WINDOW: Window<'_> =
    Window { from: "2026-04-19T00:00:00+01:00", to: "2026-05-01T00:00:00+01:00" };

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", ".."].iter().collect()
}

fn fixture(name: &str) -> PathBuf {
    root().join("fixtures/translate/bars").join(name)
}

fn load(name: &str) -> Json {
    let path = fixture(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Json::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn request() -> (Json, Vec<Json>) {
    let request = load("request.json");
    (request.get("matched").unwrap().clone(), request.list("found").to_vec())
}

fn booking() -> Json {
    let (matched, found) = request();
    let picked = pick_slot(&load("slots.json"), WINDOW, "2000099481", &[]).unwrap();
    let parts = BookingParts { matched: &matched, found: &found, referral_there: None };
    booking_request(&parts, &picked, &SETTINGS)
}

fn receive_own(message: &Json) -> Incoming {
    let (matched, _) = request();
    let headers = headers(message.str_at(&["id"]).unwrap(), &matched, &SETTINGS);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    receive(&headers, message.to_string().as_bytes())
        .unwrap_or_else(|refusal| panic!("refused: {}", refusal.outcome))
}

fn own(focus_id: &'static str) -> Own<'static> {
    Own {
        base: "https://physio.example/FHIR/R4",
        now: "2026-04-14T09:06:01.000Z",
        name: "Marl Valley MSK",
        software: ("Lumbar", "0.1.0"),
        focus_id,
        encounter_id: "enc-77",
        case_number: ("https://physio.example/Id/case", "MV-77"),
    }
}

fn entry<'a>(bundle: &'a Json, name: &str) -> &'a Json {
    let mut resources = bundle.list("entry").iter().filter_map(|entry| entry.get("resource"));
    resources.find(|r| resource_type(r) == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn needs_are_asked_until_nothing_is_new() {
    let (matched, found) = request();
    let mut known: Vec<Json> = Vec::new();
    let mut asked: Vec<String> = Vec::new();
    for round in 0.. {
        assert!(round < 6, "needs do not end: {asked:?}");
        let mut needs = referral_needs(&matched, &known);
        needs.retain(|need| !asked.contains(need));
        if needs.is_empty() {
            break;
        }
        for need in &needs {
            let is_new = |r: &&Json| !known.contains(*r);
            let hit = |r: &&Json| match need.split_once('?') {
                None => key(r) == *need,
                Some(("Observation", _)) => r.get("derivedFrom").is_some(),
                Some((name, _)) => resource_type(r) == name,
            };
            let more: Vec<Json> = found.iter().filter(hit).filter(is_new).cloned().collect();
            known.extend(more);
        }
        asked.extend(needs);
    }
    asked.sort();
    expect_test::expect![[r#"
        [
            "AllergyIntolerance/a1",
            "Condition/c1",
            "Consent?patient=Patient/p1&status=active",
            "DiagnosticReport/imaging1",
            "Encounter/e1",
            "Observation/private1",
            "Observation/risk1",
            "Observation?derived-from=QuestionnaireResponse/qr1",
            "Organization/surgery",
            "Patient/p1",
            "Practitioner/gp",
            "PractitionerRole/gp1",
            "QuestionnaireResponse/qr1",
            "ServiceRequest/ref1",
            "Task?focus=ServiceRequest/mr1",
        ]
    "#]]
    .assert_debug_eq(&asked);
    assert_eq!(known.len(), found.len());
}

#[test]
fn a_referral_is_the_message_of_the_fixture() {
    let (matched, found) = request();
    let (message, issues) = referral_request(&matched, &found, &SETTINGS);
    let (again, _) = referral_request(&matched, &found, &SETTINGS);
    assert_eq!(message, again, "a retry must be the same bytes");
    let texts: Vec<Json> = issues.iter().map(Issue::to_json).collect();
    let all = json!({"issues": (texts), "message": (&message)});
    expect_file![fixture("referral.json")].assert_eq(&format!("{}\n", all.to_pretty()));
    no_dangling(&message);
}

#[test]
fn a_booking_is_the_message_of_the_fixture() {
    let message = booking();
    expect_file![fixture("booking.json")].assert_eq(&format!("{}\n", message.to_pretty()));
    no_dangling(&message);
}

fn no_dangling(message: &Json) {
    let urls: Vec<&str> =
        message.list("entry").iter().map(|entry| entry.str_at(&["fullUrl"]).unwrap()).collect();
    super::receive::visit_references(message, &mut |text| {
        if text.starts_with("urn:uuid:") {
            assert!(urls.contains(&text), "{text} is not in the message");
        } else {
            assert!(text.contains("://") || text == "Organization/unknown", "{text} is relative");
        }
    });
    let mut unique = urls.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), urls.len(), "fullUrls repeat");
}

#[test]
fn a_confidential_referral_goes_without_its_text() {
    let (mut matched, found) = request();
    super::confidential::restrict(&mut matched);
    let (message, issues) = referral_request(&matched, &found, &SETTINGS);
    assert!(issues.iter().all(|issue| !issue.is_error()), "{issues:?}");
    let text = message.to_string();
    for secret in ["Prefers mornings", "Works nights", "not for others", "Private matter"] {
        assert!(!text.contains(secret), "{secret} is sent");
    }
    assert!(confidential::is_restricted(entry(&message, "ServiceRequest")));
    let advice =
        entry(&message, "CarePlan").str_at(&["activity", "outcomeCodeableConcept", "text"]);
    assert_eq!(
        advice,
        Some("STarT Back risk level: High; STarT Back total: 7; STarT Back distress subscore: 4.")
    );
}

#[test]
fn a_confidential_patient_goes_without_address_and_telephone() {
    let (matched, mut found) = request();
    for resource in found.iter_mut().filter(|r| resource_type(r) == "Patient") {
        super::confidential::restrict(resource);
    }
    let (referral, _) = referral_request(&matched, &found, &SETTINGS);
    let picked = pick_slot(&load("slots.json"), WINDOW, "2000099481", &[]).unwrap();
    let parts = BookingParts { matched: &matched, found: &found, referral_there: None };
    let booking = booking_request(&parts, &picked, &SETTINGS);
    for message in [referral, booking] {
        let patient = entry(&message, "Patient");
        assert_eq!((patient.get("address"), patient.get("telecom")), (None, None));
        assert!(patient.get("birthDate").is_some());
    }
}

#[test]
fn a_referral_without_patient_or_not_active_is_not_sent() {
    let (mut matched, mut found) = request();
    found.retain(|r| resource_type(r) != "Patient");
    matched.set("status", "revoked");
    let (_, issues) = referral_request(&matched, &found, &SETTINGS);
    let errors: Vec<_> = issues.iter().filter(|i| i.is_error()).map(|i| i.detail).collect();
    assert_eq!(errors, [None, Some("BPA-REF-010")]);
}

#[test]
fn a_slot_search_is_encoded() {
    assert_eq!(
        slot_query("2000099481", WINDOW),
        "Slot?status=free&start=ge2026-04-19T00:00:00%2B01:00&start=le2026-05-01T00:00:00%2B01:00\
         &Schedule.actor:HealthcareService=2000099481&_include=Slot:schedule\
         &_include:iterate=Schedule:actor:HealthcareService\
         &_include:iterate=Schedule:actor:Practitioner\
         &_include:iterate=Schedule:actor:PractitionerRole\
         &_include:iterate=Schedule:actor:Location"
    );
}

#[test]
fn the_earliest_free_place_of_the_service_is_picked_and_then_the_next() {
    let slots = load("slots.json");
    let mut tried: Vec<String> = Vec::new();
    let mut starts = Vec::new();
    loop {
        let names: Vec<&str> = tried.iter().map(String::as_str).collect();
        let Some(picked) = pick_slot(&slots, WINDOW, "2000099481", &names) else { break };
        starts.push(picked.slot.str_at(&["start"]).unwrap().to_owned());
        tried.push(picked.full_url);
    }
    assert_eq!(starts, ["2026-04-20T13:30:00+00:00", "2026-04-21T09:30:00+01:00"]);
    let narrow = Window { from: "2026-04-22T00:00:00Z", ..WINDOW };
    assert_eq!(pick_slot(&slots, narrow, "2000099481", &[]), None);
    assert_eq!(pick_slot(&slots, Window { from: "soon", ..WINDOW }, "2000099481", &[]), None);
}

#[test]
fn a_retry_repeats_the_ids_and_another_request_does_not() {
    let (matched, _) = request();
    let first = headers("m1", &matched, &SETTINGS);
    assert_eq!(first, headers("m1", &matched, &SETTINGS));
    let second = headers("m2", &matched, &SETTINGS);
    assert_ne!(first[2], second[2], "X-Request-Id");
    assert_eq!(first[3], second[3], "X-Correlation-Id");
    let target = header::decoded(&first[4].1).unwrap();
    let expected = json!({"value": "2000099481", "system": (DOS_SERVICE_ID)});
    assert_eq!(target, expected);
}

#[test]
fn messages_are_received_or_refused_as_the_cases_say() {
    let (matched, found) = request();
    let (referral, _) = referral_request(&matched, &found, &SETTINGS);
    let booking = booking();
    let mut failures = Vec::new();
    for case in load("receive.json").as_array().unwrap() {
        let name = case.str_at(&["name"]).unwrap();
        let mut message = if case.str_at(&["message"]) == Some("booking") {
            booking.clone()
        } else {
            referral.clone()
        };
        for change in case.list("changes") {
            let to = change.get("to").unwrap();
            let to = match to.as_str().and_then(|text| text.strip_prefix('@')) {
                Some(from) => pointed(&message, from).clone(),
                None => to.clone(),
            };
            put(&mut message, change.str_at(&["at"]).unwrap(), to);
        }
        let mut sent = headers("m", &matched, &SETTINGS);
        if let Some(changes) = case.get("headers").and_then(Json::as_object) {
            for (header, value) in changes.iter() {
                sent.retain(|(name, _)| !name.eq_ignore_ascii_case(header));
                if let Some(value) = value.as_str() {
                    let known = REQUEST_HEADERS.iter().find(|h| h.eq_ignore_ascii_case(header));
                    sent.push((known.unwrap(), value.to_owned()));
                }
            }
        }
        let sent: Vec<(&str, &str)> = sent.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let body = case.str_at(&["body"]).map_or_else(|| message.to_string(), str::to_owned);
        let expected = case.get("expect").unwrap();
        let found = match receive(&sent, body.as_bytes()) {
            Ok(incoming) => {
                let wanted = expected.str_at(&["issue"]);
                let told = incoming.issues.iter().find(|i| Some(i.text.as_str()) == wanted);
                if let (Some(wanted), None) = (wanted, told) {
                    failures.push(format!("{name}: no issue {wanted:?} in {:?}", incoming.issues));
                }
                let mut found = json!({"action": (format!("{:?}", incoming.action))});
                if let Some(told) = told {
                    found.set("issue", told.text.as_str());
                }
                found
            }
            Err(refusal) => {
                let issue = refusal.outcome.at(&["issue"]).unwrap();
                json!({
                    "status": (refusal.status),
                    "code": (issue.str_at(&["details", "coding", "code"]).unwrap()),
                    "issue": (issue.str_at(&["code"]).unwrap())
                })
            }
        };
        if &found != expected {
            failures.push(format!("{name}: {found}, not {expected}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn pointed<'a>(tree: &'a Json, pointer: &str) -> &'a Json {
    pointer.split('/').skip(1).fold(tree, |value, step| match value {
        Json::Array(items) => &items[step.parse::<usize>().unwrap()],
        other => other.get(step).unwrap(),
    })
}

/// Sets what a JSON pointer means; null takes it out.
fn put(tree: &mut Json, pointer: &str, to: Json) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let parent = parent.split('/').skip(1).fold(tree, |value, step| match value {
        Json::Array(items) => &mut items[step.parse::<usize>().unwrap()],
        other => other.get_mut(step).unwrap(),
    });
    match (parent, to) {
        (Json::Array(items), Json::Null) => drop(items.remove(last.parse().unwrap())),
        (Json::Array(items), to) => items[last.parse::<usize>().unwrap()] = to,
        (Json::Object(object), Json::Null) => drop(object.remove(last)),
        (Json::Object(object), to) => object.set(last, to),
        _ => panic!("{pointer}"),
    }
}

#[test]
fn our_own_answer_to_a_referral_is_read_back() {
    let (matched, found) = request();
    let (message, _) = referral_request(&matched, &found, &SETTINGS);
    let incoming = receive_own(&message);
    assert_eq!((incoming.event, incoming.action), (Event::ServiceRequestRequest, Action::Create));
    let answered = answer(&incoming, &own("sr-there"));
    assert_eq!(answered, answer(&incoming, &own("sr-there")));
    no_dangling(&answered);
    let read = read_answer(&answered, &matched, found.first(), SETTINGS.base).unwrap();
    assert_eq!(read.decision, Decision::Accepted);
    assert_eq!(read.in_response_to.as_deref(), message.str_at(&["id"]));
    assert_eq!(read.referral_there.as_deref(), Some("ServiceRequest/sr-there"));
    assert!(read.is_tied);
    let told = json!({"identifiers": (read.identifiers), "resources": (read.resources)});
    expect_file![fixture("referral-answer.json")].assert_eq(&format!("{}\n", told.to_pretty()));
}

#[test]
fn our_own_answer_to_a_booking_is_read_back() {
    let (matched, found) = request();
    let incoming = receive_own(&booking());
    let answered = answer(&incoming, &own("apt-there"));
    let read = read_answer(&answered, &matched, found.first(), SETTINGS.base).unwrap();
    assert_eq!(read.focus, ("Appointment".to_owned(), "booked".to_owned()));
    assert!(read.is_tied);
    let told = json!({"resources": (read.resources)});
    expect_file![fixture("booking-answer.json")].assert_eq(&format!("{}\n", told.to_pretty()));
}

#[test]
fn a_repeated_request_is_an_answer_of_its_destination() {
    let (matched, found) = request();
    let message = booking();
    let read = read_answer(&message, &matched, found.first(), SETTINGS.base).unwrap();
    let slots = |answer: &Answer| {
        let slot = answer.resources.iter().find(|r| resource_type(r) == "Slot").unwrap();
        slot.str_at(&["id"]).unwrap().to_owned()
    };
    let answered = answer(&receive_own(&message), &own("apt-there"));
    let answered = read_answer(&answered, &matched, found.first(), SETTINGS.base).unwrap();
    assert!(read.is_tied);
    assert_eq!(slots(&read), slots(&answered), "the same place has the same id");
}

#[test]
fn an_answer_about_another_person_is_an_error() {
    let (matched, found) = request();
    let incoming = receive_own(&booking());
    let mut answered = answer(&incoming, &own("apt-there"));
    put(&mut answered, "/entry/2/resource/identifier/0/value", Json::from("9994512021"));
    let issues = read_answer(&answered, &matched, found.first(), SETTINGS.base).unwrap_err();
    assert_eq!(issues[0].detail, Some("BPA-ID-003"));
}

#[test]
fn statuses_are_read_as_the_cases_say() {
    for case in load("outcome.json").as_array().unwrap() {
        let status = u16::try_from(case.get("status").unwrap().as_i64().unwrap()).unwrap();
        let found = read_outcome(status, case.str_at(&["body"]).unwrap().as_bytes());
        let found = match found {
            Outcome::Accepted => "Accepted",
            Outcome::Duplicate => "Duplicate",
            Outcome::Conflict(_) => "Conflict",
            Outcome::Retry => "Retry",
            Outcome::Refused(_) => "Refused",
        };
        assert_eq!(Some(found), case.str_at(&["expect"]), "{:?}", case.str_at(&["name"]));
    }
}

/// The folder of shared samples; `None`, with a line that says so, when it is not there.
fn samples() -> Option<PathBuf> {
    let shared = std::env::var_os("LUMBAR_SHARED").map(PathBuf::from);
    let folder = shared.unwrap_or_else(|| root().join("../shared")).join("formats/samples");
    if !folder.is_dir() {
        println!("left out: shared samples are not at {}", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn shared_samples_are_received() {
    let Some(folder) = samples() else { return };
    let (matched, _) = request();
    let sent = headers("m", &matched, &SETTINGS);
    let sent: Vec<(&str, &str)> = sent.iter().map(|(n, v)| (*n, v.as_str())).collect();
    for (path, action, odd) in [
        ("synthetic-fhir/bars/referral-request-new.json", Action::Create, 0),
        ("synthetic-fhir/bars/referral-request-cancel-revoked.json", Action::Cancel, 0),
        ("synthetic-fhir/bars/referral-response-accepted.json", Action::Note, 0),
        ("synthetic-fhir/bars/booking-request-new.json", Action::Create, 0),
        ("synthetic-fhir/bars/booking-request-cancel.json", Action::Cancel, 0),
        ("synthetic-fhir/bars/odd/booking-request-with-known-oddities.json", Action::Create, 3),
        ("nhsdigital-bars-api/process_message/POST-body.json", Action::Create, 3),
        ("nhsdigital-bars-api/process_message/request/Booking_(POST).json", Action::Create, 3),
        (
            "nhsdigital-bars-api/process_message/request/ValidationResponse_(POST)_.json",
            Action::Note,
            2,
        ),
        (
            "nhsdigital-bars-api/process_message/response/Booking_(HTTP_Response)_.json",
            Action::Create,
            6,
        ),
    ] {
        let body = std::fs::read(folder.join(path)).unwrap();
        match receive(&sent, &body) {
            Ok(incoming) => {
                let texts: Vec<&str> = incoming.issues.iter().map(|i| i.text.as_str()).collect();
                assert_eq!((incoming.action, texts.len()), (action, odd), "{path}: {texts:#?}");
            }
            Err(refusal) => panic!("{path}: {}", refusal.outcome),
        }
    }
}

#[test]
fn shared_answers_and_outcomes_are_read() {
    let Some(folder) = samples() else { return };
    let bars = folder.join("synthetic-fhir/bars");
    let read = |name: &str| std::fs::read(bars.join(name)).unwrap();
    assert_eq!(read_outcome(409, &read("outcome-409-duplicate.json")), Outcome::Duplicate);
    assert!(matches!(read_outcome(409, &read("outcome-409-conflict.json")), Outcome::Conflict(_)));
    assert!(matches!(read_outcome(422, &read("outcome-422-too-costly.json")), Outcome::Refused(_)));
    let published = folder.join("nhsdigital-bars-api");
    let duplicate = std::fs::read(published.join("conflict.json")).unwrap();
    assert_eq!(read_outcome(409, &duplicate), Outcome::Duplicate);

    let (matched, _) = request();
    let accepted = Json::parse(&read("referral-response-accepted.json")).unwrap();
    let answer = read_answer(&accepted, &matched, None, SETTINGS.base).unwrap();
    assert_eq!((answer.decision, answer.is_tied), (Decision::Accepted, false));
    let case = answer
        .identifiers
        .iter()
        .find_map(|id| id.str_at(&["value"]).filter(|v| v.starts_with("PB")));
    assert_eq!(case, Some("PB-7781"));

    let published = published.join("process_message/response/Booking_(HTTP_Response)_.json");
    let booked = Json::parse(&std::fs::read(published).unwrap()).unwrap();
    let answer = read_answer(&booked, &matched, None, SETTINGS.base).unwrap();
    let appointment = answer.resources.first().unwrap();
    assert_eq!(appointment.str_at(&["basedOn", "reference"]), Some("ServiceRequest/mr1"));
    assert_eq!(references(appointment, "participant.actor"), ["Patient/p1"]);

    let slots = Json::parse(&read("slot-search-response.json")).unwrap();
    let window = Window { from: "2026-03-09T00:00:00Z", to: "2026-03-30T00:00:00Z" };
    let picked = pick_slot(&slots, window, "2000099001", &[]).unwrap();
    assert_eq!(picked.slot.str_at(&["start"]), Some("2026-03-12T14:00:00+00:00"));
    assert_eq!(
        picked.included.len(),
        6,
        "{:?}",
        picked.included.iter().map(key).collect::<Vec<_>>()
    );
}

proptest::proptest! {
    #[test]
    fn no_body_and_no_header_panics(body in ".{0,200}", header in ".{0,60}") {
        let headers = [("X-Request-Id", header.as_str()), ("NHSD-Target-Identifier", &header)];
        let _ = receive(&headers, body.as_bytes());
        let _ = header::decoded(&header);
        let _ = read_outcome(409, body.as_bytes());
    }
}

/// Any element taken out of a good message: refused or received, never a panic, and what is
/// received can be answered and the answer read.
#[test]
fn no_missing_element_panics() {
    let (matched, found) = request();
    let message = booking();
    let mut pointers = Vec::new();
    collect(&message, String::new(), &mut pointers);
    assert!(pointers.len() > 100);
    let sent = headers("m", &matched, &SETTINGS);
    let sent: Vec<(&str, &str)> = sent.iter().map(|(n, v)| (*n, v.as_str())).collect();
    for pointer in pointers {
        let mut changed = message.clone();
        put(&mut changed, &pointer, Json::Null);
        if let Ok(incoming) = receive(&sent, changed.to_string().as_bytes()) {
            let _ =
                read_answer(&answer(&incoming, &own("x")), &matched, found.first(), SETTINGS.base);
        }
    }
}

fn collect(value: &Json, at: String, pointers: &mut Vec<String>) {
    if !at.is_empty() {
        pointers.push(at.clone());
    }
    match value {
        Json::Object(object) => {
            object
                .iter()
                .for_each(|(name, member)| collect(member, format!("{at}/{name}"), pointers));
        }
        Json::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, item)| collect(item, format!("{at}/{index}"), pointers)),
        _ => {}
    }
}
