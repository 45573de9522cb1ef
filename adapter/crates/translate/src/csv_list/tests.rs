use std::path::PathBuf;

use expect_test::expect_file;
use lumbar_fhir::{Json, json};
use proptest::prelude::*;

use super::*;

const SETTINGS: Settings<'_> = Settings {
    base: "https://adapter.example/fhir",
    source: "Z9P48",
    zone: "Europe/London",
    spreadsheet: false,
};

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", ".."].iter().collect()
}

fn fixture(name: &str) -> PathBuf {
    root().join("fixtures/translate/csv").join(name)
}

fn load(name: &str) -> Vec<u8> {
    let path = fixture(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn show(issue: &Issue) -> String {
    let Some(Locator::Cell { row, column, .. }) = issue.locator.as_deref() else {
        panic!("{issue:?}")
    };
    let text =
        format!("{} {} row {row} {column}", issue.severity.code(), issue.detail.unwrap_or("-"));
    text.trim_end().to_owned()
}

#[test]
fn lists_are_read_as_the_cases_say() {
    let cases = Json::parse(&load("read.json")).unwrap();
    let mut failures = Vec::new();
    for case in cases.as_array().unwrap() {
        let text = case.str_at(&["text"]).unwrap();
        let (bookings, issues) = read("list.csv", text.as_bytes(), &SETTINGS);
        let found: Vec<String> = issues.iter().map(show).collect();
        let expected: Vec<&str> = case.list("issues").iter().filter_map(Json::as_str).collect();
        let kept = case.get("kept").and_then(Json::as_i64).unwrap();
        if found != expected || i64::try_from(bookings.len()).unwrap() != kept {
            let name = case.str_at(&["name"]).unwrap();
            failures.push(format!(
                "{name}: {} kept, {found:?}, not {kept}, {expected:?}",
                bookings.len()
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_list_becomes_resources_and_the_same_list() {
    let bytes = load("list.csv");
    let (bookings, issues) = read("list.csv", &bytes, &SETTINGS);
    assert_eq!(issues, []);
    let all: Vec<Vec<Json>> = bookings.iter().map(|row| resources(row, &SETTINGS)).collect();
    let flat: Vec<Json> = all.concat();
    expect_file![fixture("list.json")].assert_eq(&format!("{}\n", Json::from(flat).to_pretty()));
    let again: Vec<Booking> = all.iter().map(|made| back(made, &SETTINGS)).collect();
    assert_eq!(write(&again, &SETTINGS).as_bytes(), bytes);
}

fn back(made: &[Json], settings: &Settings<'_>) -> Booking {
    let (appointment, found) = made.split_first().unwrap();
    booking(appointment, found, settings).unwrap()
}

#[test]
fn a_shared_list_comes_back_byte_for_byte() {
    let shared = std::env::var_os("LUMBAR_SHARED").map(PathBuf::from);
    let folder = shared.unwrap_or_else(|| root().join("../shared"));
    let path = folder.join("formats/samples/synthetic-booking/csv-lists/canonical.csv");
    let Ok(bytes) = std::fs::read(&path) else {
        println!("left out: no shared sample at {}", path.display());
        return;
    };
    let (bookings, issues) = read("canonical.csv", &bytes, &SETTINGS);
    assert_eq!((bookings.len(), issues), (3, vec![]));
    let again: Vec<Booking> =
        bookings.iter().map(|row| back(&resources(row, &SETTINGS), &SETTINGS)).collect();
    assert_eq!(write(&again, &SETTINGS).as_bytes(), bytes);
}

#[test]
fn an_appointment_of_another_origin_has_a_row() {
    let appointment = json!({
        "resourceType": "Appointment",
        "id": "apt1",
        "status": "booked",
        "serviceType": [{"coding": [{"display": "Physiotherapy service"}]}],
        "start": "2026-05-05T09:00:00Z",
        "basedOn": [{"reference": "ServiceRequest/sr1"}],
        "participant": [
            {"actor": {"reference": "Patient/p1"}, "status": "accepted"},
            {"actor": {"reference": "Practitioner/ph1"}, "status": "accepted"},
            {"actor": {"reference": "Location/l1"}, "status": "accepted"}
        ]
    });
    assert_eq!(
        needs(&appointment),
        ["Patient/p1", "Practitioner/ph1", "Location/l1", "ServiceRequest/sr1"]
    );
    let found = [
        json!({
            "resourceType": "Patient",
            "id": "p1",
            "meta": {"security": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
            ]},
            "name": [{"family": "Sandringworth", "given": ["Aurelio"]}],
            "telecom": [{"system": "phone", "value": "07700900482"}]
        }),
        json!({
            "resourceType": "Practitioner",
            "id": "ph1",
            "name": [{"family": "Brightwater", "given": ["Casimira"], "prefix": ["Ms"]}]
        }),
        json!({"resourceType": "Location", "id": "l1", "name": "Room 2"}),
        json!({
            "resourceType": "ServiceRequest",
            "id": "sr1",
            "identifier": [{"system": "https://fhir.nhs.uk/Id/UBRN", "value": "000091204810"}]
        }),
    ];
    let row = booking(&appointment, &found, &SETTINGS).unwrap();
    let written = write(&[row], &SETTINGS);
    assert_eq!(
        written.lines().last(),
        Some(
            "apt1,booked,2026-05-05T09:00:00Z,,,p1,,Sandringworth,Aurelio,,,,ph1,\
             Ms Casimira Brightwater,Room 2,Physiotherapy service,,,,000091204810,,"
        ),
        "a restricted patient's telephone stays out"
    );
    let mut timeless = appointment.clone();
    timeless.as_object_mut().unwrap().remove("start");
    assert_eq!(booking(&timeless, &found, &SETTINGS), None);
}

#[test]
fn formulas_are_text_in_a_spreadsheet() {
    let settings = Settings { spreadsheet: true, ..SETTINGS };
    let mut row = Booking::default();
    for (column, text) in
        [("appointment_id", "=1+1"), ("status", "booked"), ("start", "2026-05-05T09:00:00Z")]
    {
        row.set(column, text);
    }
    for text in ["-5", "@x", "+44", "'=already", "'plain", "\tx"] {
        row.set("notes", text);
        let written = write(&[row.clone()], &settings);
        assert!(written.contains("\r\n'=1+1,"), "{written}");
        let (read, issues) = read("list.csv", written.as_bytes(), &settings);
        assert_eq!((read, issues), (vec![row.clone()], vec![]));
    }
}

#[test]
fn a_list_that_lost_many_rows_needs_a_person() {
    let (bookings, _) = read("list.csv", &load("list.csv"), &SETTINGS);
    let ids = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let few = vanished(&ids(&["A-1", "A-2", "A-3", "A-0", "A-1"]), &bookings);
    assert_eq!(few, Vanished { ids: ids(&["A-0"]), needs_confirmation: false });
    let many = vanished(&ids(&["A-1", "A-2", "B-1"]), &bookings);
    assert!(many.needs_confirmation);
}

prop_compose! {
    fn any_booking()(
        texts in proptest::collection::vec("[ -~éñ\r\n]{1,12}", 11),
        gaps in proptest::collection::vec(any::<bool>(), 11),
        names in "([A-Z][a-z]{1,6} ){0,2}[A-Z][a-z]{1,6}",
        status in proptest::sample::select(&STATUSES[..]),
        seconds in 0i64..4_000_000_000,
        zone in proptest::sample::select(vec!["", "Europe/London", "America/New_York"]),
        year in 1900u16..2026,
        session in 1u32..99,
    ) -> Booking {
        let mut row = Booking::default();
        let columns = ["patient_id", "family_name", "phone", "email", "clinician_id",
            "clinician_name", "location", "service", "group_id", "referral_id", "notes"];
        for ((column, text), gap) in columns.iter().zip(texts).zip(gaps) {
            if !gap {
                row.set(column, text);
            }
        }
        row.set("appointment_id", format!("A{seconds}"));
        row.set("status", status);
        row.set("given_name", names);
        row.set("date_of_birth", year.to_string());
        row.set("nhs_number", "9994512021");
        row.set("session_no", session.to_string());
        let moment = jiff::Timestamp::from_second(seconds).unwrap();
        let start = if zone.is_empty() {
            format!("{moment:.0}")
        } else {
            let local = moment.to_zoned(local_time::zone(zone).unwrap());
            local.strftime("%Y-%m-%dT%H:%M:%S").to_string()
        };
        row.set("start", start);
        row.set("timezone", zone);
        row
    }
}

proptest! {
    #[test]
    fn a_row_survives_csv_and_resources(row in any_booking(), spreadsheet: bool) {
        let settings = Settings { spreadsheet, ..SETTINGS };
        let written = write(std::slice::from_ref(&row), &settings);
        let (bookings, issues) = read("list.csv", written.as_bytes(), &settings);
        prop_assert_eq!(&bookings, std::slice::from_ref(&row));
        prop_assert!(issues.iter().all(|issue| issue.detail == Some("BPA-TIME-002")));
        let made = resources(&row, &settings);
        prop_assert_eq!(back(&made, &settings), row);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in ".{0,80}") {
        let _ = read("list.csv", &bytes, &SETTINGS);
        let text = HEADER.join(",") + "\r\n" + &tail;
        let (bookings, _) = read("list.csv", text.as_bytes(), &SETTINGS);
        for row in &bookings {
            let _ = resources(row, &SETTINGS);
        }
    }
}
