//! EMIS rows a second: translated in memory, and imported into SQLite.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lumbar::app::App;
use lumbar::config::Options;
use lumbar::facade::Machine;
use lumbar::intake::{self, Format};
use lumbar::serve;

/// How many findings the made-up practice has.
const OBSERVATIONS: usize = 20_000;

pub async fn measure(folder: &Path) {
    let extract = folder.join("extract");
    std::fs::create_dir_all(&extract).unwrap();
    let rows = write(&extract);
    println!("\n== EMIS extract of {rows} rows ==");

    let files = intake::read_files(std::slice::from_ref(&extract), "csv").unwrap();
    let begin = Instant::now();
    let converted = intake::convert(Format::Emis, Format::Fhir, "bench".to_owned(), files).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "convert: {:.0} rows a second ({} MB out)",
        rows as f64 / seconds,
        converted.output.len() >> 20
    );

    let settings =
        Options { base_url: Some("http://127.0.0.1/fhir".to_owned()), ..Options::default() };
    let settings = settings.settle().expect("default options");
    let (definitions, rules) = serve::definitions(&settings.profiles).unwrap();
    let store =
        serve::open(&format!("sqlite:{}", folder.join("import.db").display())).await.unwrap();
    let app = App::new(settings, &store, definitions, rules, Arc::new(Machine));
    for name in ["first", "again"] {
        let begin = Instant::now();
        let imported =
            intake::import(&app, Format::Emis, std::slice::from_ref(&extract)).await.unwrap();
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "import {name}: {:.0} rows a second, {} resources written",
            rows as f64 / seconds,
            imported.written
        );
    }
    store.close().await;
}

/// Writes a practice with one patient for every twenty findings; returns the number of rows.
fn write(folder: &Path) -> usize {
    let file = |number: usize, table: &str, text: String| {
        let name =
            format!("{number}_{table}_20260313221512_EC719A02-C946-5BE8-824A-394350B055B3.csv");
        std::fs::write(folder.join(name), text).unwrap();
    };
    let guid = |kind: u64, number: usize| format!("{{{kind:08X}-0000-4000-8000-{number:012X}}}");
    let practice = guid(1, 1);
    file(
        1,
        "Admin_Organisation",
        format!(
            "OrganisationGuid,CDB,OrganisationName,ODSCode,ParentOrganisationGuid,CCGOrganisationGuid,OrganisationType,OpenDate,CloseDate,MainLocationGuid,ProcessingId\r\n{practice},1,Bench Surgery,Z99903,,,General Practice,2001-04-01,,,1\r\n"
        ),
    );
    file(
        2,
        "Admin_UserInRole",
        format!(
            "UserInRoleGuid,OrganisationGuid,Title,GivenName,Surname,JobCategoryCode,JobCategoryName,ContractStartDate,ContractEndDate,RegistrationNumber,ProcessingId\r\n{},{practice},Dr,Amal,Brook,R0260,General Medical Practitioner,2012-08-01,,7999903,1\r\n",
            guid(2, 1)
        ),
    );
    let mut patients = String::from(
        "PatientGuid,OrganisationGuid,UsualGpUserInRoleGuid,Sex,DateOfBirth,DateOfDeath,Title,GivenName,MiddleNames,Surname,DateOfRegistration,NhsNumber,PatientNumber,PatientTypeDescription,DummyType,HouseNameFlatNumber,NumberAndStreet,Village,Town,County,Postcode,ResidentialInstituteCode,NHSNumberStatus,CarerName,CarerRelation,PersonGuid,DateofDeactivation,Deleted,SpineSensitive,IsConfidential,EmailAddress,HomePhone,MobilePhone,ExternalUsualGPGuid,ExternalUsualGP,ExternalUsualGPOrganisation,ContactComments,ProcessingId\r\n",
    );
    for number in 0..OBSERVATIONS / 20 {
        patients += &format!(
            "{},{practice},{},F,1968-03-14,,Mrs,Ada,,Brook{number},2011-04-01,,{number},Regular,FALSE,,{number} Mill Lane,,Daleford,,ZZ993CZ,,,,,{},,FALSE,FALSE,FALSE,,,,,,,,{number}\r\n",
            guid(3, number),
            guid(2, 1),
            guid(4, number)
        );
    }
    file(3, "Admin_Patient", patients);
    file(4, "Coding_ClinicalCode", "CodeId,Term,ReadTermId,SnomedCTConceptId,SnomedCTDescriptionId,NationalCode,NationalCodeCategory,NationalDescription,EmisCodeCategoryDescription,ParentCodeID,ProcessingId\r\n900000000000001011,Backache,16C2.,161891005,,,,,\"Symptoms, findings\",,1\r\n".to_owned());
    let mut findings = String::from(
        "ObservationGuid,PatientGuid,OrganisationGuid,EffectiveDate,EffectiveDatePrecision,EnteredDate,EnteredTime,ClinicianUserInRoleGuid,EnteredByUserInRoleGuid,ParentObservationGuid,CodeId,ProblemGuid,ConsultationGuid,Value,NumericUnit,ObservationType,NumericRangeLow,NumericRangeHigh,DocumentGuid,Qualifiers,Abnormal,AbnormalReason,Episode,Deleted,IsConfidential,ProcessingId\r\n",
    );
    for number in 0..OBSERVATIONS {
        findings += &format!(
            "{},{},{practice},2026-03-02,YMD,2026-03-02,10:42:00,{},{},,900000000000001011,,,{}.5,/10,Value,,,,,FALSE,,None,FALSE,FALSE,{number}\r\n",
            guid(5, number),
            guid(3, number / 20),
            guid(2, 1),
            guid(2, 1),
            number % 10
        );
    }
    file(5, "CareRecord_Observation", findings);
    OBSERVATIONS + OBSERVATIONS / 20 + 3
}
