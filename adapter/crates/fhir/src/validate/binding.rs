//! Required codes: <https://hl7.org/fhir/R4/terminologies.html#required>.
//!
//! Only value sets of R4 itself whose codes are all known; the codes are in `profiles/r4/codes.tsv`.
//! MIME types, UCUM units, and bindings that are not `required` are not checked.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::element::Member;
use super::{Place, Validator};
use crate::{Issue, IssueType, Json};

const CODES: &str = include_str!("../../../../../profiles/r4/codes.tsv");

/// The codes of a value set by their system.
type Codes = Vec<(&'static str, Vec<&'static str>)>;

static VALUE_SETS: LazyLock<HashMap<&'static str, Codes>> = LazyLock::new(|| {
    let mut sets: HashMap<&str, Codes> = HashMap::new();
    for line in CODES.lines().skip(1) {
        let mut fields = line.split('\t');
        if let (Some(url), Some(system), Some(codes)) =
            (fields.next(), fields.next(), fields.next())
        {
            sets.entry(url).or_default().push((system, codes.split(' ').collect()));
        }
    }
    sets
});

/// Whether a value set of R4 takes codes from a system.
pub(crate) fn is_system_of(value_set: &str, system: &str) -> bool {
    let url = value_set.split('|').next().unwrap_or_default();
    VALUE_SETS.get(url).is_some_and(|codes| codes.iter().any(|(of, _)| *of == system))
}

/// Most codes that an issue names.
const MAX_NAMED: usize = 12;

impl<'a> Validator<'a> {
    /// The codes of an element with a required binding: a code, a Coding or a CodeableConcept.
    pub(super) fn coded(&mut self, member: Member<'a>, value: &'a Json, at: &Place) {
        let Some(binding) = member.element.binding.filter(|binding| binding.strength == "required")
        else {
            return;
        };
        let url = binding.value_set.split('|').next().unwrap_or_default();
        let Some(codes) = VALUE_SETS.get(url) else { return };
        let is_coding = |coding: &Json| {
            let system = coding.str_at(&["system"]);
            coding.str_at(&["code"]).is_some_and(|code| contains(codes, system, code))
        };
        let is_right = match member.content.name {
            "code" => value
                .as_str()
                .is_some_and(|code| codes.iter().any(|(_, codes)| codes.contains(&code))),
            "Coding" => is_coding(value),
            "CodeableConcept" => value.list("coding").iter().any(is_coding),
            _ => true,
        };
        if is_right {
            return;
        }
        let named: Vec<&str> = codes.iter().flat_map(|(_, codes)| codes).copied().collect();
        let text = match named.len() <= MAX_NAMED {
            true => format!("{} needs one of the codes {}.", member.element.path, named.join(", ")),
            false => format!("{} needs a code of the value set {url}.", member.element.path),
        };
        let mut issue = Issue::error(IssueType::CodeInvalid, text);
        if let Some(code) = value.as_str().filter(|code| code.len() <= 256) {
            issue = issue.value(code);
        }
        self.push(at, issue);
    }
}

fn contains(codes: &Codes, system: Option<&str>, code: &str) -> bool {
    codes.iter().any(|(known, codes)| system == Some(*known) && codes.contains(&code))
}
