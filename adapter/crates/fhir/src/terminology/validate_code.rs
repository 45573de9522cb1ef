//! `$validate-code`: <https://hl7.org/fhir/R4/valueset-operation-validate-code.html> and
//! <https://hl7.org/fhir/R4/codesystem-operation-validate-code.html>.
//!
//! A set is not expanded for it: each code is held against the definition. Displays are compared
//! without case and accents. A version of the code is compared where the definition states one.

use std::collections::{BTreeSet, HashMap};

use super::expand::{Member, enter, members, spend, unknown_set, unknown_system, without_content};
use super::filter::Test;
use super::library::import_text;
use super::value_set::{Include, Listed};
use super::{
    Canonical, CodeSystem, Coding, Input, Library, Refusal, ValueSet, parameter, parameters, shown,
};
use crate::search::key::fold;
use crate::{IssueType, Json};

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct ValidateCode {
    /// The codes of which one must be right.
    pub codings: Vec<Coding>,
    /// Whether a code without a system is looked for in all of them.
    pub infer_system: bool,
    refuse_abstract: bool,
    language: Option<String>,
}

impl ValidateCode {
    /// Reads the parameters; `version` is the name of the one with the version of the system.
    ///
    /// # Errors
    /// One of them is missing or cannot be read.
    pub fn read(input: &Input, version: &str) -> Result<ValidateCode, Refusal> {
        input.not_offered(&["context"])?;
        Ok(ValidateCode {
            codings: input.codings(version)?,
            infer_system: input.flag("inferSystem")?.unwrap_or(false),
            refuse_abstract: input.flag("abstract")? == Some(false),
            language: input.text("displayLanguage")?.map(str::to_owned),
        })
    }

    /// Gives codes without a system the one in which the value set has them; all of its codes
    /// must be in the library.
    ///
    /// # Errors
    /// The set cannot be worked out, or several of its systems have the code.
    pub fn infer(&mut self, library: &Library, set: &ValueSet) -> Result<(), Refusal> {
        if self.codings.iter().all(|coding| coding.system.is_some()) {
            return Ok(());
        }
        let codes = members(library, set)?;
        for coding in self.codings.iter_mut().filter(|coding| coding.system.is_none()) {
            let same = codes.iter().filter(|member| member.code == coding.code);
            let systems: BTreeSet<&str> = same.map(|member| member.system).collect();
            if systems.len() > 1 {
                let text = format!(
                    "Several systems of the value set have the code {}: {}; name one with system.",
                    shown(&coding.code),
                    systems.into_iter().collect::<Vec<_>>().join(", ")
                );
                return Err(Refusal::unprocessable(IssueType::MultipleMatches, text));
            }
            let first = systems.into_iter().next();
            coding.system = Some(first.unwrap_or_default().to_owned());
        }
        Ok(())
    }

    /// Says what is wrong with a code that is there; nothing when all is well.
    fn fault(&self, coding: &Coding, member: &Member<'_>) -> Option<String> {
        let code = shown(&coding.code);
        if self.refuse_abstract && member.is_abstract {
            return Some(format!("The code {code} only groups others and cannot be used itself."));
        }
        let given = coding.display.as_deref()?;
        let own = member.concept.and_then(|concept| concept.display.as_deref());
        let designations = member.designations().filter_map(|d| d.str_at(&["value"]));
        let mut known = member.display.into_iter().chain(own).chain(designations).peekable();
        known.peek()?;
        let mut known = known.map(str::to_owned);
        let folded = fold(given);
        if known.any(|display| fold(&display) == folded) {
            return None;
        }
        let right = member.display(self.language.as_deref()).unwrap_or_default();
        Some(format!(
            "\"{}\" is not a display of the code {code}; it is \"{right}\".",
            shown(given)
        ))
    }

    fn found(&self, coding: &Coding, member: &Member<'_>) -> Json {
        let fault = self.fault(coding, member);
        let mut list = vec![parameter("result", "valueBoolean", fault.is_none())];
        list.extend(fault.map(|fault| parameter("message", "valueString", fault)));
        let display = member.display(self.language.as_deref());
        list.extend(display.map(|display| parameter("display", "valueString", display)));
        parameters(list)
    }

    fn absent(&self, place: &str) -> Json {
        let codes: Vec<String> = self
            .codings
            .iter()
            .map(|coding| {
                let code = shown(&coding.code);
                coding.system.as_ref().map_or(code.clone(), |s| format!("{}|{code}", shown(s)))
            })
            .collect();
        let (verb, codes) = (if codes.len() == 1 { "is" } else { "are" }, codes.join(", "));
        let message = format!("{codes} {verb} not in {place}.");
        parameters(vec![
            parameter("result", "valueBoolean", false),
            parameter("message", "valueString", message),
        ])
    }
}

/// Whether one of the codes is in a code system.
pub fn in_code_system(system: &CodeSystem, asked: &ValidateCode) -> Json {
    let of_system = asked
        .codings
        .iter()
        .filter(|coding| coding.system.as_deref().is_none_or(|url| url == system.url));
    let found = of_system.filter_map(|coding| Some((coding, system.get(&coding.code)?)));
    let mut found = found.map(|(coding, concept)| (coding, Member::new(&system.url, concept)));
    match found.next() {
        Some((coding, member)) => asked.found(coding, &member),
        None => asked.absent(&format!("the code system {}", shown(&system.url))),
    }
}

/// Whether one of the codes, which all have a system, is in a value set.
///
/// # Errors
/// What the set is made of is not known.
pub fn in_value_set(
    library: &Library,
    set: &ValueSet,
    asked: &ValidateCode,
) -> Result<Json, Refusal> {
    let mut refusal = None;
    for coding in &asked.codings {
        match Search::new(library, coding).set(set) {
            Ok(Some(member)) => return Ok(asked.found(coding, &member)),
            Ok(None) => {}
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(asked.absent(&format!("the value set {}", shown(set.name())))),
    }
}

/// Looks for one code.
struct Search<'l> {
    library: &'l Library,
    system: &'l str,
    version: Option<&'l str>,
    code: &'l str,
    /// Refusals, too: a set that cannot be worked out is not tried again each time it is imported.
    known: HashMap<&'l Canonical, Result<Option<Member<'l>>, Refusal>>,
    open: Vec<&'l Canonical>,
    work: usize,
}

impl<'l> Search<'l> {
    fn new(library: &'l Library, coding: &'l Coding) -> Self {
        Search {
            library,
            system: coding.system.as_deref().unwrap_or_default(),
            version: coding.version.as_deref(),
            code: &coding.code,
            known: HashMap::new(),
            open: Vec::new(),
            work: 0,
        }
    }

    fn set(&mut self, set: &'l ValueSet) -> Result<Option<Member<'l>>, Refusal> {
        let stored = set.stored_expansion();
        if set.include.is_empty() {
            return match stored {
                Some(contains) => Ok(self.stored(contains)),
                None => Err(without_content(set)),
            };
        }
        match (self.composed(set), stored) {
            (Err(refusal), Some(contains)) if refusal.issue().code == IssueType::NotFound => {
                Ok(self.stored(contains))
            }
            (result, _) => result,
        }
    }

    fn composed(&mut self, set: &'l ValueSet) -> Result<Option<Member<'l>>, Refusal> {
        let mut found = None;
        let mut refusal = None;
        for part in &set.include {
            match self.part(part) {
                Ok(None) => {}
                Ok(Some(member)) => {
                    found = Some(member);
                    break;
                }
                Err(reason) => refusal = refusal.or(Some(reason)),
            }
        }
        match (found, refusal) {
            (None, Some(refusal)) => return Err(refusal),
            (None, None) => return Ok(None),
            (Some(member), _) if set.active_only && member.inactive => return Ok(None),
            (member, _) => found = member,
        }
        for part in &set.exclude {
            if self.part(part)?.is_some() {
                return Ok(None);
            }
        }
        Ok(found)
    }

    fn part(&mut self, part: &'l Include) -> Result<Option<Member<'l>>, Refusal> {
        let mut found = match &part.system {
            Some(canonical) => match self.of_system(part, canonical)? {
                Some(member) => Some(member),
                None => return Ok(None),
            },
            None => None,
        };
        for import in &part.value_sets {
            match self.import(import)? {
                Some(member) => found = found.or(Some(member)),
                None => return Ok(None),
            }
        }
        Ok(found)
    }

    fn import(&mut self, canonical: &'l Canonical) -> Result<Option<Member<'l>>, Refusal> {
        if let Some(known) = self.known.get(canonical) {
            return known.clone();
        }
        let found = match self.library.value_set(canonical) {
            Some(set) => {
                enter(&mut self.open, canonical)?;
                let found = self.set(set);
                self.open.pop();
                found
            }
            None => match self.elsewhere(&import_text(canonical)) {
                Some(is_member) => Ok(is_member.then(|| self.bare())),
                None => Err(unknown_set(canonical)),
            },
        };
        self.known.insert(canonical, found.clone());
        found
    }

    fn of_system(
        &mut self,
        part: &'l Include,
        canonical: &'l Canonical,
    ) -> Result<Option<Member<'l>>, Refusal> {
        let other_version = matches!(
            (self.version, canonical.version.as_deref()), (Some(one), Some(two)) if one != two
        );
        if canonical.url != self.system || other_version {
            return Ok(None);
        }
        let system = self.library.code_system(canonical);
        let concept = system.and_then(|system| system.get(self.code));
        if !part.concepts.is_empty() {
            let place = system.and_then(|system| system.find(self.code));
            let same = |listed: &&Listed| {
                let other = || system.and_then(|system| system.find(&listed.code));
                listed.code == self.code || (place.is_some() && other() == place)
            };
            let Some(listed) = part.concepts.iter().find(same) else { return Ok(None) };
            if concept.is_none() && self.library.complete(canonical).is_some() {
                return Ok(None);
            }
            let own = concept.map(|concept| Member::new(&canonical.url, concept));
            return Ok(Some(Member {
                display: listed.display.as_deref(),
                designations: &listed.designations,
                ..own.unwrap_or_else(|| self.bare())
            }));
        }
        let Some(system) = self.library.complete(canonical) else {
            return match self.elsewhere(&part.text) {
                Some(is_member) => Ok(is_member.then(|| self.bare())),
                None => Err(unknown_system(canonical)),
            };
        };
        let (Some(place), Some(concept)) = (system.find(self.code), concept) else {
            return Ok(None);
        };
        spend(&mut self.work, system.concepts().len().saturating_mul(part.filters.len()))?;
        for filter in &part.filters {
            if !Test::new(system, filter)?.accepts(system, place) {
                return Ok(None);
            }
        }
        Ok(Some(Member::new(&canonical.url, concept)))
    }

    fn elsewhere(&self, include: &str) -> Option<bool> {
        self.library.membership(include, self.system, self.code)
    }

    /// The code alone, of which nothing else is known.
    fn bare(&self) -> Member<'l> {
        Member {
            system: self.system,
            code: self.code,
            version: None,
            display: None,
            concept: None,
            designations: &[],
            is_abstract: false,
            inactive: false,
        }
    }

    fn stored(&self, items: &'l [Json]) -> Option<Member<'l>> {
        let mut open: Vec<&Json> = items.iter().collect();
        while let Some(item) = open.pop() {
            let found = Member::stored(item)
                .filter(|member| member.system == self.system && member.code == self.code);
            if found.is_some() {
                return found;
            }
            open.extend(item.list("contains"));
        }
        None
    }
}
