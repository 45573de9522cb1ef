//! What an expression may ask of the world around its resource:
//! <https://hl7.org/fhir/R4/fhirpath.html#functions>.

use std::cell::{Cell, RefCell};

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::path::{Environment, Target, Value};
use lumbar_fhir::terminology::{Canonical, Membership, Need as TerminologyNeed};
use lumbar_fhir::validate::{Found, Limits, Missing, Need};
use lumbar_fhir::{Issue, IssueType, Json};

use super::answer::parts;
use crate::facade::validation::{Asked, Known};

/// Most questions whether something conforms to a profile.
const MAX_CONFORMS: usize = 100;
/// Most calls of `trace()` that are told, and most items of one.
const MAX_TRACES: usize = 1_000;
const MAX_TRACED: usize = 100;
/// Where R4's own types have their StructureDefinitions.
const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";

/// What is known, what was missing, and what `trace()` showed.
pub(super) struct Around<'k> {
    definitions: &'k Definitions,
    known: &'k Known,
    found: &'k Found,
    now: Micros,
    missing: Missing,
    traces: RefCell<Vec<(String, Vec<Json>)>>,
    conforms: Cell<usize>,
}

impl<'k> Around<'k> {
    pub(super) fn new(
        definitions: &'k Definitions,
        known: &'k Known,
        found: &'k Found,
        now: Micros,
    ) -> Self {
        Around {
            definitions,
            known,
            found,
            now,
            missing: Missing::default(),
            traces: RefCell::default(),
            conforms: Cell::new(0),
        }
    }

    /// What was missing.
    pub(super) fn needs(&self) -> Vec<Need> {
        self.missing.take()
    }

    /// What was shown since the last call.
    pub(super) fn traces(&self) -> Vec<(String, Vec<Json>)> {
        self.traces.take()
    }

    /// Whether something was not looked at, because it was too much.
    pub(super) fn is_too_costly(&self) -> bool {
        self.conforms.get() > MAX_CONFORMS
    }

    fn is_member(&self, value_set: &str, system: Option<&str>, code: &str) -> Option<bool> {
        let note = |need| self.missing.note(Need::Terminology(need));
        match self.known.terminology.is_member(value_set, system, code, &note) {
            Membership::Member => Some(true),
            Membership::NotMember => Some(false),
            Membership::Unknown => None,
        }
    }
}

impl<'k> Environment<'k> for Around<'k> {
    fn resolve(&self, reference: &str) -> Target<'k> {
        match self.found.find(reference) {
            Some(Some(json)) => Target::Found(json),
            Some(None) => Target::Absent,
            None => {
                self.missing.note(Need::Resource(reference.to_owned()));
                Target::Unknown
            }
        }
    }

    fn member_of(&self, value: &Value<'k>, value_set: &str) -> Option<bool> {
        if let Some(code) = value.as_str() {
            return self.is_member(value_set, None, &code);
        }
        let json = value.json()?;
        let codings = match json.get("code") {
            Some(_) => std::slice::from_ref(json),
            None => json.list("coding"),
        };
        let mut is_known = true;
        for coding in codings {
            let Some(code) = coding.str_at(&["code"]) else { continue };
            match self.is_member(value_set, coding.str_at(&["system"]), code) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => is_known = false,
            }
        }
        is_known.then_some(false)
    }

    fn conforms_to(&self, value: &Value<'k>, profile: &str) -> Option<bool> {
        let json = value.json()?;
        let of = json.str_at(&["resourceType"])?;
        if self.known.profiles.find(profile).is_none() {
            if let Some(name) = profile.strip_prefix(CORE)
                && self.definitions.type_of(name).is_some()
            {
                return Some(self.definitions.is_a(of, name));
            }
            self.missing.note(Need::Profile(profile.to_owned()));
            return None;
        }
        self.conforms.set(self.conforms.get().saturating_add(1));
        if self.is_too_costly() {
            return None;
        }
        let profiles = [profile.to_owned()];
        let asked = Asked::of(&profiles);
        // All of them together may take what one validation may.
        let all = Limits::default();
        let share = MAX_CONFORMS as u64;
        let limits = Limits { steps: all.steps / share, work: all.work / share, ..all };
        let (issues, needs) =
            self.known.look(self.definitions, self.found, json, asked, limits, self.now);
        if issues.iter().any(|issue| issue.code == IssueType::TooCostly) {
            self.conforms.set(usize::MAX);
            return None;
        }
        needs.into_iter().for_each(|need| self.missing.note(need));
        Some(!issues.iter().any(Issue::is_error))
    }

    fn subsumes(&self, system: &str, ancestor: &str, code: &str) -> Option<bool> {
        let canonical = Canonical::parse(system);
        let Some(found) = self.known.terminology.code_system(&canonical) else {
            self.missing.note(Need::Terminology(TerminologyNeed::CodeSystem(canonical)));
            return None;
        };
        if !found.is_complete {
            return None;
        }
        Some(ancestor == code || found.related(code, true)?.contains(&ancestor))
    }

    fn trace(&self, name: &str, items: &[Value<'k>]) {
        let mut traces = self.traces.borrow_mut();
        if traces.len() < MAX_TRACES {
            let items = items.get(..MAX_TRACED).unwrap_or(items);
            traces.push((name.to_owned(), parts(self.definitions, items)));
        }
    }
}
