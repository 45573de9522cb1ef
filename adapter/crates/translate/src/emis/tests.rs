use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use expect_test::expect;
use lumbar_fhir::definitions::Definitions;
use proptest::prelude::*;

use super::*;
use crate::local_time;

static MAPPING: LazyLock<Mapping> = LazyLock::new(|| mapping().unwrap());
static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

fn settings(base: &str, source: &str) -> Settings<'static> {
    Settings {
        base: base.into(),
        source: source.into(),
        zone: local_time::zone(local_time::LONDON).unwrap(),
        now: "2026-04-01T09:00:00+01:00".into(),
        software: "Lumbar".into(),
        provenance: true,
        wait: false,
        definitions: &DEFINITIONS,
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn shared() -> Option<PathBuf> {
    let place =
        std::env::var("LUMBAR_SHARED").map_or_else(|_| root().join("../shared"), PathBuf::from);
    if place.is_dir() {
        return Some(place);
    }
    println!("left out: the shared samples are not here (set LUMBAR_SHARED)");
    None
}

fn folder(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_string(), std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn run(files: &[(String, Vec<u8>)], settings: &Settings<'_>) -> (Json, Report) {
    let files = files.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect();
    let (bundle, report) = convert(&MAPPING, files, settings);
    assert!(report.is_balanced(), "{}", report.to_json().to_pretty());
    let broken = report.issues().iter().find(|issue| issue.detail == Some("BPA-MAP-001"));
    assert!(broken.is_none(), "a rule fails over data: {broken:?}");
    (bundle, report)
}

fn sample(name: &str) -> Option<(Json, Report)> {
    let samples = shared()?.join("formats/samples/synthetic-emis");
    Some(run(&folder(&samples.join(name)), &settings("https://adapter.example", name)))
}

/// Resources of a Bundle by `Type/id`.
fn resources(bundle: &Json) -> BTreeMap<&str, &Json> {
    let entries = bundle.list("entry").iter();
    entries.filter_map(|e| Some((e.str_at(&["request", "url"])?, e.get("resource")?))).collect()
}

/// The resource that carries an identifier value, of a type.
fn find<'a>(bundle: &'a Json, kind: &str, identifier: &str) -> Option<&'a Json> {
    resources(bundle).into_values().find(|resource| {
        resource.str_at(&["resourceType"]) == Some(kind)
            && resource.list("identifier").iter().any(|i| i.str_at(&["value"]) == Some(identifier))
    })
}

fn codes(report: &Report) -> Vec<String> {
    let show = |issue: &Issue| {
        let place = issue.locator.as_ref().map(ToString::to_string).unwrap_or_default();
        let place =
            place.split_once(", row").map_or(String::new(), |(_, row)| format!(" row{row}"));
        format!("{} {}{place}", issue.detail.unwrap_or(issue.code.code()), issue.severity.code())
    };
    report.issues().iter().map(show).collect()
}

/// Whether `actual` holds all of `expected`: numbers by value, references by shape, every item of a
/// list somewhere in the other. The first difference is the error.
fn holds(expected: &Json, actual: &Json, path: &str) -> Result<(), String> {
    match (expected, actual) {
        (Json::Object(expected), Json::Object(_)) => {
            for (name, value) in expected.iter() {
                let other = actual.get(name).ok_or_else(|| format!("{path}.{name} is missing"))?;
                if name == "reference" {
                    continue;
                }
                holds(value, other, &format!("{path}.{name}"))?;
            }
            Ok(())
        }
        (Json::Array(expected), Json::Array(actual)) => {
            for (index, item) in expected.iter().enumerate() {
                let tries: Vec<_> = actual
                    .iter()
                    .map(|other| holds(item, other, &format!("{path}[{index}]")))
                    .collect();
                if !tries.iter().any(Result::is_ok) {
                    let first = tries.into_iter().next().and_then(Result::err);
                    return Err(first.unwrap_or_else(|| format!("{path}[{index}] is missing")));
                }
            }
            Ok(())
        }
        (Json::Number(a), Json::Number(b)) if a.parse::<f64>() == b.parse::<f64>() => Ok(()),
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!("{path} is {b} and should be {a}")),
    }
}

#[test]
fn the_mapping_ships_whole() {
    assert_eq!(MAPPING.format, "emis");
}

#[test]
fn a_silent_column_is_refused() {
    let tables =
        SOURCE.tables.replacen("CloseDate,,date,,mapped,", "CloseDate,,date,,carried,because", 1);
    let error = Mapping::parse(&Source { tables: &tables, ..SOURCE }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "columns with a wrong disposition: Admin_Organisation.CloseDate is mapped"
    );
}

#[test]
fn the_first_patient_of_the_shared_sample_is_as_expected() {
    let Some((bundle, _)) = sample("bulk-v8.2") else { return };
    let name = "formats/samples/expected/emis_bulk-v8.2_patient1_referral.expected.json";
    let expected = std::fs::read(shared().unwrap().join(name)).unwrap();
    let expected = Json::parse(&expected).unwrap();
    let made = resources(&bundle);
    let mut faults = Vec::new();
    for entry in expected.list("entry") {
        let resource = entry.get("resource").unwrap();
        let tries: Vec<_> = made
            .values()
            .filter(|other| other.get("resourceType") == resource.get("resourceType"))
            .map(|other| holds(resource, other, ""))
            .collect();
        if !tries.iter().any(Result::is_ok) {
            faults.push(format!("{}: {tries:?}", resource.str_at(&["resourceType"]).unwrap()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn references_lead_somewhere() {
    let Some((bundle, _)) = sample("bulk-v8.2") else { return };
    let made = resources(&bundle);
    fn walk(value: &Json, out: &mut Vec<String>) {
        if let Some(reference) = value.get("reference").and_then(Json::as_str) {
            out.push(reference.to_string());
        }
        match value {
            Json::Object(object) => object.iter().for_each(|(_, value)| walk(value, out)),
            Json::Array(items) => items.iter().for_each(|value| walk(value, out)),
            _ => {}
        }
    }
    let mut references = Vec::new();
    walk(&bundle, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        assert!(made.contains_key(reference.as_str()), "{reference} leads nowhere");
    }
}

#[test]
fn issues_of_the_shared_bulk() {
    let Some((_, report)) = sample("bulk-v8.2") else { return };
    expect![[r#"
        business-rule information row 3, column SpineSensitive
        BPA-ID-003 warning row 7, column PatientGuid
        business-rule warning row 2, column ParentObservationGuid
        BPA-REF-014 warning row 2, column ReferralTargetOrganisationGuid
        BPA-REF-012 warning row 9, column ObservationGuid
        BPA-CODE-001 information row 11, column CodeId
        BPA-REF-012 warning row 3
        BPA-TIME-002 information
    "#]]
    .assert_eq(&lines(codes(&report)));
}

#[test]
fn the_shared_delta_after_the_bulk() {
    let Some(shared) = shared() else { return };
    let samples = shared.join("formats/samples/synthetic-emis");
    let mut files = folder(&samples.join("bulk-v8.2"));
    files.extend(folder(&samples.join("delta-v8.2")));
    let (bundle, report) = run(&files, &settings("https://adapter.example", "both"));
    let show = |kind: &str, identifier: &str, path: &[&str]| {
        let found = find(&bundle, kind, identifier).unwrap();
        found.at(path).map_or("-".to_string(), ToString::to_string)
    };
    let mut shown = vec![
        format!(
            "referral {}",
            show("ServiceRequest", "2f504cf8-d329-5008-b916-09f74e66c366", &["status"])
        ),
        format!(
            "urgency {}",
            show("ServiceRequest", "2f504cf8-d329-5008-b916-09f74e66c366", &["priority"])
        ),
        format!(
            "problem {}",
            show("Condition", "aad0f5ef-902b-5504-bc9d-478b72bf4d9f", &["category"])
        ),
        format!("deceased {}", show("Patient", "9991204113", &["active"])),
        format!(
            "mobile {}",
            find(&bundle, "Patient", "9991203001").unwrap().list("telecom").last().unwrap()
        ),
        format!("slot {}", show("Slot", "bc30c259-5295-503c-abd0-11559cc3b7e8", &["status"])),
    ];
    let slot = "b073dcba-3c12-5f28-b746-105da6483896";
    for resource in resources(&bundle).into_values() {
        if resource.str_at(&["resourceType"]) == Some("Appointment")
            && resource.str_at(&["identifier", "value"]) == Some(slot)
        {
            shown.push(format!("rebooked {}", resource.str_at(&["status"]).unwrap()));
        }
    }
    shown.sort();
    shown.extend(codes(&report).into_iter().filter(|code| code.contains("ID-002")));
    expect![[r#"
        deceased false
        mobile {"system":"phone","use":"mobile","value":"07700900199"}
        problem -
        rebooked booked
        rebooked cancelled
        referral "entered-in-error"
        slot "entered-in-error"
        urgency "urgent"
    "#]]
    .assert_eq(&lines(shown));
}

#[test]
fn the_shared_bad_files() {
    let Some((bundle, report)) = sample("bad") else { return };
    let patient = find(&bundle, "Patient", "9991203002").unwrap();
    assert_eq!(
        patient.str_at(&["identifier", "system"]),
        Some("https://adapter.example/Id/nhs-number-unverified")
    );
    assert_eq!(patient.get("birthDate"), None);
    assert!(find(&bundle, "Observation", "aad0f5ef-902b-5504-bc9d-478b72bf4d9f").is_some());
    expect![[r#"
        BPA-TIME-001 warning row 1, column DateOfBirth
        BPA-ID-001 error row 1, column NhsNumber
        BPA-ID-002 error row 2, column PatientGuid
        BPA-FILE-002 fatal row 2
        BPA-FILE-001 fatal row 0
        BPA-CODE-001 information row 1, column CodeId
        BPA-TIME-002 information
    "#]]
    .assert_eq(&lines(codes(&report)));
}

#[test]
fn the_shared_extract_of_an_older_version() {
    let Some((bundle, report)) = sample("bulk-v5.4") else { return };
    let referral = find(&bundle, "ServiceRequest", "2f504cf8-d329-5008-b916-09f74e66c366").unwrap();
    let notes: Vec<_> =
        referral.list("note").iter().filter_map(|note| note.str_at(&["text"])).collect();
    assert!(notes.contains(&"Please see; STarT Back high (7/9, distress 4/5)"), "{notes:?}");
    let problem = find(&bundle, "Condition", "aad0f5ef-902b-5504-bc9d-478b72bf4d9f").unwrap();
    assert!(problem.to_string().contains("happy"), "{problem}");
    assert!(problem.to_string().contains("Flare after lifting"), "{problem}");
    assert!(!codes(&report).iter().any(|code| code.contains("FILE")), "{:?}", codes(&report));
}

#[test]
fn headers_of_other_versions_are_known() {
    let columns = |table: &str, header: &str| {
        let table = MAPPING.layout.table(table).unwrap();
        let name = |index: usize| table.columns[index].name.clone();
        header
            .split(',')
            .map(|cell| table.position(cell).map_or("?".to_string(), name))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        columns(
            "Admin_Patient",
            "PersonGUID,DateofDeactivation,ExternalUsusalGP,ResidentialInstituteCode *,AgreementGuid"
        ),
        [
            "PersonGuid",
            "DateOfDeactivation",
            "ExternalUsualGP",
            "ResidentialInstituteCode",
            "AgreementGuid"
        ]
    );
    assert_eq!(columns("Coding_ClinicalCode", "ParentCodeID,Colour"), ["ParentCodeId", "?"]);
    assert_eq!(columns("CareRecord_Observation", "Episodicity"), ["Episode"]);
    assert_eq!(
        columns("Prescribing_IssueRecord", "ClinicanUserInRoleGuid"),
        ["ClinicianUserInRoleGuid"]
    );
}

#[test]
fn a_table_is_known_by_its_header_when_the_name_says_nothing() {
    let table = |file: &str, header: &str| {
        let header: Vec<String> = header.split(',').map(str::to_string).collect();
        MAPPING.layout.recognise(file, &header).map(|table| table.name.to_string())
    };
    let problem = "ObservationGuid,PatientGuid,OrganisationGuid,EndDate,ProblemStatusDescription";
    assert_eq!(table("export.csv", problem).as_deref(), Some("CareRecord_Problem"));
    let session = "SessionGuid,UserInRoleGuid,Deleted,ProcessingId";
    assert_eq!(
        table("1_Appointment_SessionUser_x.csv", session).as_deref(),
        Some("Appointment_SessionUser")
    );
    assert_eq!(table("1_Admin_Patient_x.csv", session), None);
    assert_eq!(table("x.csv", "SessionGuid,UserInRoleGuid,A,B,C"), None);
}

#[test]
fn the_order_in_which_files_come_does_not_matter() {
    let mut files = folder(&root().join("fixtures/translate/emis/rebooking"));
    let settings = settings("https://lumbar.example/fhir", "x");
    let (one, _) = run(&files, &settings);
    files.reverse();
    let (other, _) = run(&files, &settings);
    assert_eq!(one.to_string(), other.to_string());
}

fn lines(list: Vec<String>) -> String {
    list.into_iter().map(|line| line + "\n").collect()
}

/// Every folder under `fixtures/translate/emis` is an extract; `expected.json` and `report.json`
/// stand beside the files. `UPDATE_EXPECT=1` writes them anew.
#[test]
fn cases() {
    let root = root().join("fixtures/translate/emis");
    let mut failed = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(&root).unwrap() {
        let place = entry.unwrap().path();
        let name = place.file_name().unwrap().to_str().unwrap().to_string();
        if !place.is_dir() || std::env::var("CASE").is_ok_and(|case| case != name) {
            continue;
        }
        count += 1;
        let settings =
            Settings { provenance: false, ..settings("https://lumbar.example/fhir", &name) };
        let files = folder(&place);
        let (bundle, report) = run(&files, &settings);
        let (again, _) = run(&files, &settings);
        assert_eq!(
            bundle.to_string(),
            again.to_string(),
            "{name} gives other bytes the second time"
        );
        for (file, json) in [("expected.json", bundle), ("report.json", report.to_json())] {
            let text = json.to_pretty() + "\n";
            let path = place.join(file);
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                std::fs::write(&path, text).unwrap();
            } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
                failed.push(path);
            }
        }
    }
    assert!(count > 0 && failed.is_empty(), "differ: {failed:?}");
}

/// An importer that keeps rows and asks for what it needs makes the same of an extract as one that
/// has everything in memory.
#[test]
fn answering_needs_is_the_same_as_having_everything() {
    let files = folder(&root().join("fixtures/demo/emis"));
    let settings = Settings { wait: true, ..settings("https://lumbar.example/fhir", "demo") };
    let (bundle, _) = run(&files, &settings);
    let mut landed: BTreeMap<RowKey, Row> = BTreeMap::new();
    let mut links: BTreeMap<crate::record::Link, Vec<RowKey>> = BTreeMap::new();
    for (name, bytes) in &files {
        for item in Reader::open(&MAPPING.layout, name, bytes.as_slice()).unwrap() {
            let Item::Row(row, _) = item else { continue };
            for link in MAPPING.links(&row) {
                links.entry(link).or_default().push(row.key.clone());
            }
            landed.insert(row.key.clone(), *row);
        }
    }
    let mut entries = BTreeMap::new();
    for root in landed.values().filter(|row| MAPPING.is_root(&row.key.table)) {
        let mut rows = RowSet::new();
        rows.insert(root.clone(), MAPPING.joined_links(root));
        let mut rounds = 0;
        loop {
            let needs = MAPPING.needs(root, &rows);
            if needs.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds < 8, "{root:?} keeps asking: {needs:?}");
            for need in needs {
                let keys = match &need {
                    crate::record::Need::Row(key) => vec![key.clone()],
                    crate::record::Need::Linked(link) => {
                        links.get(link).cloned().unwrap_or_default()
                    }
                };
                for row in keys.iter().filter_map(|key| landed.get(key)) {
                    rows.insert(row.clone(), MAPPING.joined_links(row));
                }
                rows.answer(need);
            }
        }
        for entry in MAPPING.map(root, &rows, &settings).entries {
            entries.insert(entry.url, entry.resource);
        }
    }
    for (url, resource) in resources(&bundle) {
        assert_eq!(entries.get(url), Some(resource), "{url}");
    }
    assert_eq!(entries.len(), resources(&bundle).len());
}

#[test]
fn what_a_changed_row_changes() {
    let files = folder(&root().join("fixtures/demo/emis"));
    let mut shown = Vec::new();
    let mut seen = HashSet::new();
    for (name, bytes) in &files {
        for item in Reader::open(&MAPPING.layout, name, bytes.as_slice()).unwrap() {
            let Item::Row(row, _) = item else { continue };
            if !seen.insert(row.key.table.clone()) {
                continue;
            }
            for find in MAPPING.affected(&row) {
                let start = match &find.need {
                    crate::record::Need::Row(key) => key.table.to_string(),
                    crate::record::Need::Linked(link) => {
                        format!("{} by {}", link.table, link.column)
                    }
                };
                let then: String = find
                    .then
                    .iter()
                    .map(|(table, column)| format!(", then {table} by {column}"))
                    .collect();
                shown.push(format!("{}: {start}{then}", row.key.table));
            }
        }
    }
    shown.sort();
    expect![[r#"
        Admin_Location: Admin_Location
        Admin_Organisation: Admin_Organisation
        Admin_OrganisationLocation: Admin_Location
        Admin_Patient: Admin_Patient
        Admin_Patient: Appointment_Slot by PatientGuid
        Admin_Patient: CareRecord_Consultation by PatientGuid
        Admin_Patient: CareRecord_Observation by PatientGuid
        Admin_UserInRole: Admin_UserInRole
        Appointment_Session: Appointment_Session
        Appointment_Session: Appointment_Slot by SessionGuid
        Appointment_SessionUser: Appointment_Session
        Appointment_SessionUser: Appointment_Session, then Appointment_Slot by SessionGuid
        Appointment_Slot: Appointment_Slot
        CareRecord_Consultation: CareRecord_Consultation
        CareRecord_Observation: CareRecord_Observation
        CareRecord_Observation: CareRecord_Observation by ProblemGuid
        CareRecord_ObservationReferral: CareRecord_Observation
        CareRecord_Problem: CareRecord_Observation
        Coding_ClinicalCode: CareRecord_Consultation by ConsultationSourceCodeId
        Coding_ClinicalCode: CareRecord_Observation by CodeId
    "#]]
    .assert_eq(&lines(shown));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in the cells: nothing panics, and every row that came in became something.
    #[test]
    fn rows_balance(
        table in 0usize..9,
        cells in prop::collection::vec(prop::collection::vec(0usize..14, 40), 0..12),
        cut in 0usize..400,
    ) {
        let words = [
            "", "TRUE", "FALSE", "{46386B92-6643-55C5-9F24-DE2554449D1E}",
            "{A2770177-0672-5671-9CFE-883C014FF635}", "2026-03-29", "01:30:00", "31/02/1968", "44537",
            "9991203001", "\"a \"\"b\"\",\nc\"", "Dummy", "900000000000001001", "x",
        ];
        let tables: Vec<&Table> = MAPPING.layout.tables().iter().filter(|t| MAPPING.is_root(&t.name)).collect();
        let table = tables[table % tables.len()];
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let mut text = names.join(",") + "\r\n";
        for row in cells {
            let cells: Vec<&str> = row.iter().take(names.len()).map(|word| words[*word]).collect();
            text.push_str(&(cells.join(",") + "\r\n"));
        }
        let keep = text.len().saturating_sub(cut.saturating_sub(300));
        let file = (format!("1_{}_x.csv", table.name), text.as_bytes()[..keep].to_vec());
        run(&[file], &settings("https://lumbar.example/fhir", "p"));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut file = b"SlotGuid,OrganisationGuid,AppointmentDate\r\n".to_vec();
        file.extend(bytes);
        run(&[("Appointment_Slot.csv".to_string(), file)], &settings("https://lumbar.example/fhir", "p"));
    }
}
