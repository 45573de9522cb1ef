//! Rows per second of the EMIS translation, one core: `cargo bench -p lumbar-translate --bench emis`.
//!
//! An extract of one practice is made up in memory (rows as the first argument, 100,000 by default)
//! and taken through reading, joining and mapping.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fmt::Write as _;
use std::time::Instant;

use lumbar_fhir::definitions::Definitions;
use lumbar_translate::emis;
use lumbar_translate::local_time::{LONDON, zone};
use lumbar_translate::mapping::Settings;

const PRACTICE: &str = "{00000000-0000-5000-8000-00000000000A}";
const USER: &str = "{00000000-0000-5000-8000-00000000000B}";

fn guid(kind: u32, number: usize) -> String {
    format!("{{0000000{kind}-0000-5000-8000-{number:012X}}}")
}

fn main() {
    let rows = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(100_000);
    let definitions = Definitions::r4();
    let mapping = emis::mapping().unwrap();
    let settings = Settings {
        base: "https://lumbar.example/fhir".into(),
        source: "bench".into(),
        zone: zone(LONDON).unwrap(),
        now: "2026-04-01T09:00:00+01:00".into(),
        software: "Lumbar".into(),
        provenance: std::env::args().any(|text| text == "provenance"),
        wait: true,
        definitions: &definitions,
    };
    let files = extract(rows);
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    let start = Instant::now();
    let mut read = 0;
    for (name, text) in &files {
        read += emis::Reader::open(&mapping.layout, name, text.as_bytes()).unwrap().count();
    }
    let reading = start.elapsed();
    let start = Instant::now();
    let input = files.iter().map(|(name, text)| (name.clone(), text.as_bytes())).collect();
    let (bundle, report) = emis::convert(&mapping, input, &settings);
    let whole = start.elapsed();
    assert!(report.is_balanced());
    let per_second = |seconds: f64| (read as f64 / seconds).round();
    println!("{read} rows, {bytes} bytes, {} entries", bundle.list("entry").len());
    println!("read            {:>9} rows/s", per_second(reading.as_secs_f64()));
    println!("read, join, map {:>9} rows/s", per_second(whole.as_secs_f64()));
}

fn extract(rows: usize) -> Vec<(String, String)> {
    let mut patients = String::from(
        "PatientGuid,OrganisationGuid,Sex,DateOfBirth,GivenName,Surname,NhsNumber,Deleted\r\n",
    );
    for patient in 0..rows / 50 + 1 {
        let guid = guid(1, patient);
        let _ = write!(patients, "{guid},{PRACTICE},F,1970-01-01,Ada,Test{patient},,FALSE\r\n");
    }
    let mut observations = String::from(
        "ObservationGuid,PatientGuid,OrganisationGuid,EffectiveDate,EffectiveDatePrecision,EnteredDate,EnteredTime,ClinicianUserInRoleGuid,EnteredByUserInRoleGuid,ParentObservationGuid,CodeId,ProblemGuid,ConsultationGuid,Value,NumericUnit,ObservationType,NumericRangeLow,NumericRangeHigh,DocumentGuid,Qualifiers,Abnormal,AbnormalReason,Episode,Deleted,IsConfidential,ProcessingId\r\n",
    );
    for row in 0..rows {
        let (own, patient) = (guid(2, row), guid(1, row / 50));
        let (value, unit) = if row % 2 == 0 { ("7.500", "mmol/L") } else { ("", "") };
        let _ = write!(
            observations,
            "{own},{patient},{PRACTICE},2026-03-02,YMD,2026-03-02,10:42:00,{USER},{USER},,{},,,{value},{unit},Value,,,,,FALSE,,None,FALSE,FALSE,{row}\r\n",
            1 + row % 2
        );
    }
    let codes = "CodeId,Term,ReadTermId,SnomedCTConceptId,EmisCodeCategoryDescription\r\n1,Low back pain,N142.,279039007,\"Conditions, operations and procedures\"\r\n2,Backache,16C2.,161891005,\"Symptoms, findings\"\r\n";
    let practice =
        format!("OrganisationGuid,OrganisationName,ODSCode\r\n{PRACTICE},Bench Surgery,Z99999\r\n");
    let users = format!("UserInRoleGuid,OrganisationGuid,Surname\r\n{USER},{PRACTICE},Test\r\n");
    let name = |table: &str| format!("1_{table}_20260313221512_bench.csv");
    vec![
        (name("Admin_Organisation"), practice),
        (name("Admin_UserInRole"), users),
        (name("Coding_ClinicalCode"), codes.into()),
        (name("Admin_Patient"), patients),
        (name("CareRecord_Observation"), observations),
    ]
}
