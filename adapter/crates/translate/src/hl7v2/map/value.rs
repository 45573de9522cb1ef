//! What a field's type says about its values, added to the tree before any table reads it.

use jiff::tz::TimeZone;
use lumbar_fhir::{Issue, IssueType, Json, Locator};

use crate::hl7v2::read_time;
use crate::identity;
use crate::local_time::Oddity;

/// Adds `time` to a time that can be read.
pub(super) fn time(repetition: &mut Json, zone: &TimeZone, issues: &mut Vec<Issue>) {
    let Some(text) = repetition.str_at(&["c1"]).map(str::to_owned) else { return };
    let at = Locator::Segment(repetition.str_at(&["at"]).unwrap_or_default().to_owned());
    let Some(moment) = read_time(&text, zone) else {
        let sentence = "The time cannot be read; the element is left out.";
        let issue = Issue::warning(IssueType::Value, sentence).detail("BPA-TIME-001").value(text);
        issues.push(issue.located(at));
        return;
    };
    if moment.is_zone_assumed || moment.is_cut {
        let sentence = if moment.is_cut {
            "An hour without minutes has no place in FHIR; the day is kept."
        } else {
            "The time has no offset; that of the connection's zone is taken."
        };
        let issue = Issue::information(IssueType::Value, sentence).detail("BPA-TIME-002");
        issues.push(issue.located(at.clone()));
    }
    if let Some(oddity) = moment.oddity {
        let sentence = match oddity {
            Oddity::Gap => {
                "The time was skipped when clocks went forward; it is read one hour later."
            }
            Oddity::Overlap => "The time came twice when clocks went back; the first one is taken.",
        };
        let issue = Issue::warning(IssueType::Value, sentence).detail("BPA-TIME-003");
        issues.push(issue.located(at));
    }
    repetition.set("time", moment.text);
}

/// Takes damaged SNOMED CT codes out of a coded value.
pub(super) fn snomed(repetition: &mut Json, issues: &mut Vec<Issue>) {
    for (code, system) in [("c1", "c3"), ("c4", "c6")] {
        let is_snomed = matches!(repetition.str_at(&[system]), Some("SCT" | "SNOMED-CT"));
        let Some(text) = repetition.str_at(&[code]).filter(|_| is_snomed) else { continue };
        if identity::is_snomed_concept(text) {
            continue;
        }
        let sentence = "The SNOMED CT code fails its check; the words are kept.";
        let at = repetition.str_at(&["at"]).unwrap_or_default().to_owned();
        let issue = Issue::warning(IssueType::CodeInvalid, sentence).detail("BPA-CODE-002");
        issues.push(issue.value(text).located(Locator::Segment(at)));
        if let Some(object) = repetition.as_object_mut() {
            object.remove(code);
            object.remove(system);
        }
    }
}

/// Which of a patient's identifiers is the NHS number: ten digits under one of the names that are
/// in use for its authority or type.
pub(super) fn patient_number(repetition: &mut Json, issues: &mut Vec<Issue>) {
    const NAMES: [&str; 5] = ["NHS", "NHSNBR", "NH", "NHSNMBR", "2.16.840.1.113883.2.1.4.1"];
    let named = ["c4", "c4s2", "c5"]
        .iter()
        .any(|part| repetition.str_at(&[part]).is_some_and(|name| NAMES.contains(&name)));
    let Some(text) = repetition.str_at(&["c1"]).filter(|_| named).map(str::to_owned) else {
        return;
    };
    match identity::nhs_number(&text) {
        Some(number) => repetition.set("nhs", number),
        None => {
            let sentence = "The NHS number fails its check; the person is not matched by it.";
            let at = repetition.str_at(&["at"]).unwrap_or_default().to_owned();
            let issue = Issue::error(IssueType::Value, sentence).detail("BPA-ID-001").value(&text);
            issues.push(issue.located(Locator::Segment(at)));
            repetition.set("unverified", text);
        }
    }
}
