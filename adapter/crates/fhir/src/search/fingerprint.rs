//! What a type's resources are found by, as a text that can be compared:
//! <https://hl7.org/fhir/R4/searchparameter.html>.
//!
//! A store keeps the text beside its index. Where the texts differ, so may the index rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::contained;
use crate::definitions::Definitions;

/// Changes with the form of the index rows: of keys, of intervals, of what is indexed at all.
pub const INDEX_FORM: u32 = 4;

/// A number for each search parameter of a type, by its code. It follows from what the rows of the
/// index follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<String, u64>);

impl Fingerprints {
    /// Those of a resource type.
    pub fn of(definitions: &Definitions, resource_type: &str) -> Fingerprints {
        // Contained resources are indexed by R4's own parameters. A site can take the place of some
        // or write others in their name, which this many, of this length, tells.
        let standard = definitions.all_search_parameters().filter(|one| contained::is_indexed(one));
        let (mut count, mut length) = (0, 0);
        for expression in standard.filter_map(|parameter| parameter.expression.as_ref()) {
            (count, length) = (count + 1, length + expression.text().len());
        }
        let contained = fnv(START, &format!("{INDEX_FORM} {count} {length}"));
        let mut all = BTreeMap::from([(contained::CODE.to_owned(), contained)]);
        for parameter in definitions.search_parameters(resource_type) {
            let Some(expression) = &parameter.expression else { continue };
            // Inherited parameters of the same code are indexed, too.
            let number = all
                .entry(parameter.code.clone())
                .or_insert_with(|| fnv(START, &INDEX_FORM.to_string()));
            *number = fnv(*number, parameter.kind.code());
            *number = fnv(*number, expression.text());
            for component in &parameter.components {
                *number = fnv(*number, &component.definition);
                *number = fnv(*number, component.expression.text());
            }
        }
        Fingerprints(all)
    }

    /// Reads what was written by `to_string`; a line that is none is left out.
    pub fn parse(text: &str) -> Fingerprints {
        let line = |line: &str| {
            let (code, number) = line.split_once(' ')?;
            Some((code.to_owned(), u64::from_str_radix(number, 16).ok()?))
        };
        Fingerprints(text.lines().filter_map(line).collect())
    }

    /// Those that are the same in both.
    pub fn common(&self, other: &Fingerprints) -> Fingerprints {
        let same = |(code, number): &(&String, &u64)| other.0.get(*code) == Some(*number);
        Fingerprints(self.0.iter().filter(same).map(|(code, n)| (code.clone(), *n)).collect())
    }

    /// Codes of those that the other has not, or has another number for.
    pub fn beyond(&self, other: &Fingerprints) -> BTreeSet<String> {
        let differs = |(code, number): &(&String, &u64)| other.0.get(*code) != Some(*number);
        self.0.iter().filter(differs).map(|(code, _)| code.clone()).collect()
    }
}

/// Lines of code and number.
impl fmt::Display for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(code, number)| writeln!(f, "{code} {number:x}"))
    }
}

const START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: <https://www.rfc-editor.org/rfc/rfc9923>; a NUL ends each text.
fn fnv(start: u64, text: &str) -> u64 {
    text.bytes()
        .chain([0])
        .fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn a_fingerprint_follows_the_definitions() {
        let mut definitions = Definitions::r4();
        let before = Fingerprints::of(&definitions, "Observation");
        assert_eq!(Fingerprints::parse(&before.to_string()), before);
        assert_eq!(before.beyond(&before), BTreeSet::new());
        for (code, expression, base) in [
            ("risk", "Observation.interpretation", "Observation"),
            ("code", "Observation.category", "Observation"),
            ("lang", "DomainResource.language", "DomainResource"),
        ] {
            let issues = definitions.add(&json!({
                "resourceType": "SearchParameter", "url": "https://lumbar.example/fhir/x",
                "code": (code), "base": [(base)], "type": "token", "expression": (expression)
            }));
            assert_eq!(issues, []);
        }
        let after = Fingerprints::of(&definitions, "Observation");
        let changed: Vec<String> = after.beyond(&before).into_iter().collect();
        // Another parameter stands where R4's code stood.
        assert_eq!(changed, ["_contained", "code", "lang", "risk"]);
        assert_eq!(before.common(&after).beyond(&before), BTreeSet::new());
        assert!(before.beyond(&before.common(&after)).contains("code"));
        let patient = Fingerprints::of(&definitions, "Patient");
        assert!(patient.beyond(&Fingerprints::default()).contains("lang"));
        assert!(!patient.beyond(&Fingerprints::default()).contains("risk"));
    }
}
