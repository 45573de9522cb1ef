//! Codings: <https://hl7.org/fhir/R4/datatypes.html#Coding>.
//!
//! Whether the system is one, whether it has the code, and whether that is what the display says.
//! Of content that is not here only the form is tested; that the rest was not looked up is told
//! once for a resource.

use std::cell::{Cell, RefCell};
use std::sync::LazyLock;

use compact_str::CompactString;

use super::nearest::nearest;
use super::reference::has_scheme;
use super::world::{Missing, Need};
use super::{Place, Validator};
use crate::search::key::fold;
use crate::terminology::{
    self, Canonical, CodeSystem, Concept, Find, Library, Membership, form, mistaken,
};
use crate::{Issue, IssueType, Json, Object};

/// Most parts of value sets that are asked for codes.
const MAX_WORK: u64 = 10_000_000;
/// Most codes of one resource for which the nearest is looked for.
const MAX_SOUGHT: usize = 100;
/// Most systems and value sets that are named as not looked up.
const MAX_NAMED: usize = 8;
/// Longest of their names, in bytes.
const MAX_NAME: usize = 200;

/// What was found, and the element of the value that it is about; empty for the value itself.
pub(crate) type Finding = (&'static str, Issue);

/// What codes are held against in one run over a resource.
pub(crate) struct Terms<'a> {
    pub(super) library: &'a Library,
    /// `None` when only required bindings to sets of R4 are held, and nothing else of codes.
    missing: Option<&'a Missing>,
    /// Systems and value sets whose content would have been needed.
    unchecked: RefCell<Vec<CompactString>>,
    /// How often the nearest code was looked for.
    sought: Cell<usize>,
    /// Parts of value sets that were asked for a code.
    work: Cell<u64>,
}

/// What R4 itself defines.
pub(super) static R4: LazyLock<Library> = LazyLock::new(Library::r4);

impl<'a> Terms<'a> {
    /// Everything about codes; what would have been needed is noted.
    pub(crate) fn new(library: &'a Library, missing: &'a Missing) -> Terms<'a> {
        Terms { missing: Some(missing), ..Terms::required(library) }
    }

    /// Required bindings only.
    pub(crate) fn required(library: &'a Library) -> Terms<'a> {
        let (unchecked, sought, work) = Default::default();
        Terms { library, missing: None, unchecked, sought, work }
    }

    /// Whether more is looked at than required bindings.
    pub(super) fn looks_at_all(&self) -> bool {
        self.missing.is_some()
    }

    pub(super) fn note(&self, need: terminology::Need) {
        if let Some(missing) = self.missing {
            missing.note(Need::Terminology(need));
        }
    }

    /// Whether a code is in a value set.
    pub(super) fn membership(&self, set: &str, system: Option<&str>, code: &str) -> Membership {
        if self.work.get() > MAX_WORK {
            return Membership::Unknown;
        }
        self.library.is_member_within(set, system, code, &|need| self.note(need), &self.work)
    }

    /// Parts of value sets that were asked for a code, so far.
    pub(super) fn work(&self) -> &Cell<u64> {
        &self.work
    }

    /// Whether so much was asked that the rest was not.
    pub(super) fn is_spent(&self) -> bool {
        self.work.get() > MAX_WORK
    }

    /// Whether the nearest code may be looked for once more.
    pub(super) fn may_seek(&self) -> bool {
        let sought = self.sought.get();
        self.sought.set(sought.saturating_add(1));
        sought < MAX_SOUGHT
    }

    /// Remembers that something could not be looked up.
    pub(super) fn leave(&self, name: &str) {
        let mut unchecked = self.unchecked.borrow_mut();
        let is_name = name.len() <= MAX_NAME && !name.contains(char::is_whitespace);
        if is_name && unchecked.len() <= MAX_NAMED && !unchecked.iter().any(|known| known == name) {
            unchecked.push(name.into());
        }
    }

    /// What could not be looked up, once for all.
    pub(crate) fn unchecked(&self) -> Option<Issue> {
        let names = self.unchecked.take();
        if names.is_empty() || !self.looks_at_all() {
            return None;
        }
        let more = if names.len() > MAX_NAMED { " and others" } else { "" };
        let named: Vec<&str> = names.iter().take(MAX_NAMED).map(CompactString::as_str).collect();
        let text = format!(
            "Codes were not looked up in {}{more}, as the content is not here; load it, or name a terminology server with --terminology.",
            named.join(", ")
        );
        Some(Issue::information(IssueType::Incomplete, text))
    }

    /// A Coding, or the system and code of a Quantity.
    pub(crate) fn coding(&self, object: &Object, is_quantity: bool) -> Vec<Finding> {
        if !self.looks_at_all() {
            return Vec::new();
        }
        let text =
            |name: &str| object.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        let Some(system) = text("system") else {
            if is_quantity || text("code").is_none() {
                return Vec::new();
            }
            let text = "A code without a system has no meaning of its own; add the system.";
            return vec![("", Issue::warning(IssueType::CodeInvalid, text))];
        };
        if !has_scheme(system) {
            let text = "A system is an absolute URI, as in http://snomed.info/sct.";
            return vec![("system", Issue::error(IssueType::Value, text))];
        }
        // Whoever publishes a grammar publishes no content that could be loaded.
        if form(system).is_some_and(|form| form.is_grammar) {
            return self.elsewhere(system, text("code")).into_iter().collect();
        }
        let version = text("version").filter(|_| !is_quantity);
        let display = text("display").filter(|_| !is_quantity);
        match self.library.system(system, version) {
            Find::Here(known) if known.is_supplement => {
                let text = "This code system only adds to another one; name that one as system.";
                vec![("system", Issue::error(IssueType::NotFound, text))]
            }
            Find::Here(known) => match text("code") {
                None => Vec::new(),
                Some(code) => match known.get(code) {
                    Some(concept) => concept_findings(known, concept, code, display),
                    None if known.is_complete => vec![("code", self.unknown_code(known, code))],
                    None => self.elsewhere(system, Some(code)).into_iter().collect(),
                },
            },
            Find::Absent => self.elsewhere(system, text("code")).into_iter().collect(),
            Find::Missing => {
                self.note(terminology::Need::CodeSystem(Canonical::new(system, version)));
                self.elsewhere(system, text("code")).into_iter().collect()
            }
        }
    }

    /// What can be said of a code whose system is not here.
    fn elsewhere(&self, system: &str, code: Option<&str>) -> Option<Finding> {
        match form(system) {
            Some(form) => {
                let code = code?;
                if let Some(rule) = form.check(code) {
                    return Some(("code", with(Issue::error(IssueType::CodeInvalid, rule), code)));
                }
                if form.is_grammar {
                    return None;
                }
            }
            None => {
                if let Some(finding) = self.no_system(system) {
                    return Some(("system", with(finding, system)));
                }
            }
        }
        let code = code?;
        match self.library.in_system_elsewhere(system, code, &|need| self.note(need)) {
            Membership::Member => None,
            Membership::NotMember => {
                let text = "The terminology server has no such code in the system.";
                Some(("code", with(Issue::error(IssueType::CodeInvalid, text), code)))
            }
            Membership::Unknown => {
                self.leave(system);
                None
            }
        }
    }

    /// That a system, all of which is here, does not have a code.
    pub(super) fn unknown_code(&self, system: &CodeSystem, code: &str) -> Issue {
        let near = if self.may_seek() { near(system, code) } else { None };
        let text = match near {
            Some(near) => {
                format!("The code system {} has no such code; the nearest is {near}.", system.url)
            }
            None => format!("The code system {} has no such code.", system.url),
        };
        with(Issue::error(IssueType::CodeInvalid, text), code)
    }

    /// What is wrong with a system that is not known.
    pub(super) fn no_system(&self, system: &str) -> Option<Issue> {
        let is_set = matches!(self.library.set(system, None), Find::Here(_));
        if is_set || system.contains("/ValueSet/") {
            let text = match self.library.only_system(system) {
                Some(right) => format!("This is the url of a value set; its system is {right}."),
                None => "This is the url of a value set; name the code system.".to_owned(),
            };
            return Some(match is_set {
                true => Issue::error(IssueType::Value, text),
                false => Issue::warning(IssueType::Value, text),
            });
        }
        let right = mistaken(system).filter(|right| *right != system)?;
        let text = format!("The system that is meant is written {right}.");
        Some(Issue::warning(IssueType::Value, text))
    }
}

impl Validator<'_> {
    /// A Coding, or the system and code of a Quantity.
    pub(super) fn coding(&mut self, object: &Object, is_quantity: bool, place: &Place) {
        for (name, issue) in self.terms.coding(object, is_quantity) {
            match name {
                "" => self.push(place, issue),
                name => self.push(&place.child(name), issue),
            }
        }
    }
}

/// The issue with the value that it is about, which is not told unless asked for.
fn with(issue: Issue, value: &str) -> Issue {
    if value.len() <= 256 { issue.value(value) } else { issue }
}

/// The code that is meant, perhaps.
fn near<'s>(system: &'s CodeSystem, code: &str) -> Option<&'s str> {
    let concepts = || system.concepts().iter();
    let folded = fold(code);
    // Often the display was written for the code.
    let named = concepts()
        .find(|concept| concept.display.as_deref().is_some_and(|display| fold(display) == folded));
    named
        .map(|concept| concept.code.as_str())
        .or_else(|| nearest(code, concepts().map(|concept| concept.code.as_str())))
}

/// What is to be said of a code that the system has.
fn concept_findings(
    system: &CodeSystem,
    concept: &Concept,
    code: &str,
    display: Option<&str>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Or the code is one of a form, which has no display of its own.
    let is_itself = system.key(&concept.code) == system.key(code);
    if is_itself && concept.code != code {
        let text = format!("The code differs in case only; it is written {}.", concept.code);
        findings.push(("code", with(Issue::information(IssueType::CodeInvalid, text), code)));
    }
    if concept.is_abstract {
        let text = format!("{} only groups others; use one of those below it.", concept.code);
        findings.push(("code", Issue::warning(IssueType::CodeInvalid, text)));
    }
    if concept.inactive {
        let text = format!("{} is no longer to be used; use an active code.", concept.code);
        findings.push(("code", Issue::warning(IssueType::BusinessRule, text)));
    }
    if let Some((given, right)) = display.zip(concept.display.as_deref())
        && is_itself
        && !is_display(concept, given)
    {
        let text = format!("The display of {} in {} is \"{right}\".", concept.code, system.url);
        findings.push(("display", with(Issue::warning(IssueType::Value, text), given)));
    }
    findings
}

/// Whether a text is the display or a designation of a concept, but for case, accents and blanks.
fn is_display(concept: &Concept, given: &str) -> bool {
    if concept.display.as_deref() == Some(given) {
        return true;
    }
    let folded = fold(given.trim());
    let designations = concept.designations.iter().filter_map(|d| d.str_at(&["value"]));
    concept.display.as_deref().into_iter().chain(designations).any(|known| fold(known) == folded)
}
