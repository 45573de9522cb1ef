//! Vital signs: <https://hl7.org/fhir/R4/observation-vitalsigns.html>.
//!
//! An Observation that has the LOINC code of a vital sign shall conform to the profile of that sign,
//! whether it claims to or not. The codes are those that the profiles themselves fix; the more
//! special ones that mean the same are not looked at.

use super::item::Item;
use super::{Place, Scope, Validator};
use crate::{Issue, IssueType, Json};

/// A code and its profile in each row.
const TABLE: &str = include_str!("../../../../../profiles/r4/vital-signs.tsv");
const LOINC: &str = "http://loinc.org";

/// The code and profile of the vital sign that an Observation is about.
fn sign(observation: &Json) -> Option<(&'static str, &'static str)> {
    let codings = observation.get("code")?.list("coding");
    let loinc = codings.iter().filter(|coding| coding.str_at(&["system"]) == Some(LOINC));
    let codes = loinc.filter_map(|coding| coding.str_at(&["code"]));
    let row = |code: &str| {
        let rows = TABLE.lines().skip(1).filter_map(|row| row.split_once('\t'));
        rows.into_iter().find(|(of, _)| *of == code)
    };
    codes.into_iter().find_map(row)
}

impl<'a> Validator<'a> {
    /// Holds an Observation against the profile of its vital sign, unless `claimed` or the caller
    /// names it anyway.
    pub(super) fn vital_sign(
        &mut self,
        item: Item<'a>,
        claimed: &[Json],
        place: &Place,
        scope: Scope<'a>,
    ) {
        let Some(world) = self.world.filter(|_| item.kind.name == "Observation") else { return };
        let Some((code, url)) = item.value.and_then(sign) else { return };
        let given = self.given.iter().filter(|_| place.depth == 0).copied();
        let mut named = claimed.iter().filter_map(Json::as_str).chain(given);
        if named.any(|named| named.split('|').next() == Some(url)) {
            return;
        }
        let Some(profile) = world.profiles.find(url) else { return };
        let found = self.tried(|this| this.apply(profile, item, place, scope));
        if found.iter().any(Issue::is_error) {
            let text = format!(
                "With the LOINC code {code} this is a vital sign, which R4 holds to the profile {url}."
            );
            self.push(place, Issue::information(IssueType::Informational, text).rule(url));
        }
        for mut issue in found {
            issue.severity = issue.severity.min(world.vital_signs);
            self.add(issue);
        }
    }
}
