//! Whether a code is in a value set: <https://hl7.org/fhir/R4/valueset.html#compose>.
//!
//! A set is worked out once and then asked many times, without an expansion. Where a part of it is
//! made of content that is not here, the answer is that it is not known, unless another part has
//! the code. The version that a Coding states is not compared.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use compact_str::CompactString;

use super::external::{self, Form};
use super::filter::Test;
use super::library::{Find, import_text};
use super::value_set::Include;
use super::{Canonical, CodeSystem, Library, MAX_IMPORTS, MAX_WORK, Need, ValueSet};
use crate::{Json, json};

/// Most value sets that are asked for one code, each as often as it is imported.
const MAX_ASKED: usize = 500;

/// Whether a code is in a value set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is.
    Member,
    /// It is not.
    NotMember,
    /// It takes content that is not here.
    Unknown,
}

impl Membership {
    fn of(is_member: bool) -> Membership {
        if is_member { Membership::Member } else { Membership::NotMember }
    }

    fn and(self, other: impl FnOnce() -> Membership) -> Membership {
        match self {
            Membership::Member => other(),
            Membership::NotMember => Membership::NotMember,
            Membership::Unknown => match other() {
                Membership::NotMember => Membership::NotMember,
                _ => Membership::Unknown,
            },
        }
    }

    fn or(self, other: impl FnOnce() -> Membership) -> Membership {
        match self {
            Membership::Member => Membership::Member,
            Membership::NotMember => other(),
            Membership::Unknown => match other() {
                Membership::Member => Membership::Member,
                _ => Membership::Unknown,
            },
        }
    }

    fn not(self) -> Membership {
        match self {
            Membership::Member => Membership::NotMember,
            Membership::NotMember => Membership::Member,
            Membership::Unknown => Membership::Unknown,
        }
    }
}

/// The codes of a value set as its definition names them.
#[derive(Debug)]
pub(super) struct Codes {
    include: Vec<Part>,
    exclude: Vec<Part>,
    active_only: bool,
    /// The codes of a stored expansion by their system.
    expansion: Option<HashMap<CompactString, HashSet<CompactString>>>,
}

#[derive(Debug)]
struct Part {
    system: Option<Own>,
    imports: Vec<Canonical>,
}

/// What an `include` takes from a system.
#[derive(Debug)]
struct Own {
    canonical: Canonical,
    system: Option<Arc<CodeSystem>>,
    codes: Taken,
}

#[derive(Debug)]
enum Taken {
    /// All codes of a system that is here.
    All,
    /// These places of a system that is here.
    Places(HashSet<u32>),
    /// These codes.
    Listed(HashSet<CompactString>),
    /// All codes of a system that is a grammar.
    Grammar(&'static Form),
    /// Content that is not here; the JSON text of the part.
    Elsewhere(String),
}

/// One question to a value set.
struct Question<'q> {
    library: &'q Library,
    system: Option<&'q str>,
    code: &'q str,
    note: &'q dyn Fn(Need),
    /// How many value sets were asked so far.
    asked: Cell<usize>,
    /// How many parts of them.
    work: &'q Cell<u64>,
}

impl Library {
    /// Whether a code is in the value set that a canonical names. Without a system the code may be
    /// of any. What would have to be here for an answer is noted.
    pub fn is_member(
        &self,
        value_set: &str,
        system: Option<&str>,
        code: &str,
        note: &dyn Fn(Need),
    ) -> Membership {
        self.is_member_within(value_set, system, code, note, &Cell::new(0))
    }

    /// The same; how many parts of value sets were asked is added to `work`.
    pub(crate) fn is_member_within(
        &self,
        value_set: &str,
        system: Option<&str>,
        code: &str,
        note: &dyn Fn(Need),
        work: &Cell<u64>,
    ) -> Membership {
        let question = Question { library: self, system, code, note, asked: Cell::new(0), work };
        let (url, version) = split(value_set);
        question.import(url, version, 0)
    }

    /// Whether somebody else found a code in a system whose content is not here.
    pub(crate) fn in_system_elsewhere(
        &self,
        system: &str,
        code: &str,
        note: &dyn Fn(Need),
    ) -> Membership {
        if !self.can_ask() {
            return Membership::Unknown;
        }
        let (asked, work) = (Cell::new(0), &Cell::new(0));
        let question = Question { library: self, system: Some(system), code, note, asked, work };
        question.elsewhere(&json!({"system": (system)}).to_string())
    }

    /// Codes of a value set, up to a number, and whether these are all; `None` when they are not
    /// known.
    pub(crate) fn some_codes(&self, value_set: &str, limit: usize) -> Option<(Vec<&str>, bool)> {
        let (url, version) = split(value_set);
        let mut found = Vec::new();
        let mut asked = 0;
        let is_whole = self.gather(url, version, limit, &mut asked, &mut found);
        (!found.is_empty()).then_some((found, is_whole))
    }

    fn gather<'l>(
        &'l self,
        url: &str,
        version: Option<&str>,
        limit: usize,
        asked: &mut usize,
        found: &mut Vec<&'l str>,
    ) -> bool {
        let Find::Here(codes) = self.codes_of(url, version) else { return false };
        *asked += 1;
        let mut is_whole = codes.exclude.is_empty() && *asked < MAX_IMPORTS;
        for part in &codes.include {
            if found.len() > limit || !is_whole {
                return false;
            }
            let taken: Box<dyn Iterator<Item = &'l str>> = match &part.system {
                None => Box::new(std::iter::empty()),
                Some(own) => match own.codes() {
                    Some(codes) if part.imports.is_empty() => codes,
                    _ => return false,
                },
            };
            found.extend(taken.take(limit + 1));
            // Several imports are what they have in common.
            match part.imports.as_slice() {
                [] => {}
                [one] if part.system.is_none() => {
                    let version = one.version.as_deref();
                    is_whole &= self.gather(&one.url, version, limit, asked, found);
                }
                _ => return false,
            }
        }
        is_whole && found.len() <= limit
    }

    /// The one code system from which a value set takes its codes.
    pub(crate) fn only_system(&self, value_set: &str) -> Option<&str> {
        let (url, version) = split(value_set);
        let Find::Here(codes) = self.codes_of(url, version) else { return None };
        match codes.include.as_slice() {
            [Part { system: Some(own), .. }] => Some(&own.canonical.url),
            _ => None,
        }
    }
}

/// The url and the version of a canonical.
pub(crate) fn split(canonical: &str) -> (&str, Option<&str>) {
    match canonical.split_once('|') {
        Some((url, version)) => (url, Some(version).filter(|version| !version.is_empty())),
        None => (canonical, None),
    }
}

impl Question<'_> {
    fn import(&self, url: &str, version: Option<&str>, depth: usize) -> Membership {
        let asked = self.asked.get();
        self.asked.set(asked + 1);
        if depth >= MAX_IMPORTS || asked >= MAX_ASKED {
            return Membership::Unknown;
        }
        match self.library.codes_of(url, version) {
            Find::Here(codes) => self.ask(codes, depth),
            Find::Missing => {
                (self.note)(Need::ValueSet(Canonical::new(url, version)));
                Membership::Unknown
            }
            Find::Absent => self.elsewhere(&import_text(&Canonical::new(url, version))),
        }
    }

    fn ask(&self, codes: &Codes, depth: usize) -> Membership {
        let parts = codes.include.len() + codes.exclude.len();
        let systems = codes.expansion.as_ref().map_or(0, HashMap::len);
        self.work.set(self.work.get().saturating_add((1 + parts + systems) as u64));
        let any = |parts: &[Part]| {
            let none = Membership::NotMember;
            parts.iter().fold(none, |so_far, part| so_far.or(|| self.part(part, depth)))
        };
        let included = any(&codes.include).and(|| any(&codes.exclude).not());
        match (included, &codes.expansion) {
            (Membership::Unknown, Some(expansion)) if self.is_listed(expansion) => {
                Membership::Member
            }
            // Nothing but the expansion says what the set is.
            (_, Some(expansion)) if codes.include.is_empty() => {
                Membership::of(self.is_listed(expansion))
            }
            (Membership::Member, _) if codes.active_only && self.is_inactive(&codes.include) => {
                Membership::NotMember
            }
            (included, _) => included,
        }
    }

    fn is_listed(&self, expansion: &HashMap<CompactString, HashSet<CompactString>>) -> bool {
        match self.system {
            Some(system) => expansion.get(system).is_some_and(|codes| codes.contains(self.code)),
            None => expansion.values().any(|codes| codes.contains(self.code)),
        }
    }

    fn is_inactive(&self, parts: &[Part]) -> bool {
        parts.iter().filter_map(|part| part.system.as_ref()).any(|own| {
            self.system.is_none_or(|system| system == own.canonical.url)
                && own.system.as_ref().is_some_and(|system| {
                    system.get(self.code).is_some_and(|concept| concept.inactive)
                })
        })
    }

    fn part(&self, part: &Part, depth: usize) -> Membership {
        let own = match &part.system {
            Some(own) => self.own(own),
            None => Membership::Member,
        };
        part.imports.iter().fold(own, |so_far, import| {
            so_far.and(|| self.import(&import.url, import.version.as_deref(), depth + 1))
        })
    }

    fn own(&self, own: &Own) -> Membership {
        if self.system.is_some_and(|system| system != own.canonical.url) {
            return Membership::NotMember;
        }
        let place = || own.system.as_ref().and_then(|system| system.find(self.code));
        match &own.codes {
            Taken::All => Membership::of(place().is_some()),
            Taken::Places(places) => {
                Membership::of(place().is_some_and(|place| places.contains(&place)))
            }
            Taken::Listed(codes) => Membership::of(match &own.system {
                Some(system) => codes.contains(&system.key(self.code)),
                None => codes.contains(self.code),
            }),
            Taken::Grammar(form) => Membership::of(form.check(self.code).is_none()),
            Taken::Elsewhere(include) => {
                let (url, version) = (&own.canonical.url, own.canonical.version.as_deref());
                if matches!(self.library.system(url, version), Find::Missing) {
                    (self.note)(Need::CodeSystem(own.canonical.clone()));
                    return Membership::Unknown;
                }
                self.elsewhere(include)
            }
        }
    }

    /// What somebody else said, or else that it is not known.
    fn elsewhere(&self, include: &str) -> Membership {
        let Some(system) = self.system.filter(|_| self.library.can_ask()) else {
            return Membership::Unknown;
        };
        match self.library.membership(include, system, self.code) {
            Some(is_member) => Membership::of(is_member),
            None => {
                if let Some(need) = self.library.to_ask(include, system, self.code) {
                    (self.note)(need);
                }
                Membership::Unknown
            }
        }
    }
}

impl Codes {
    /// Works out what can be with the code systems that are here.
    pub(super) fn new(library: &Library, set: &ValueSet) -> Codes {
        let mut work = 0_usize;
        let mut parts = |includes: &[Include]| -> Vec<Part> {
            let part = |include: &Include| Part {
                system: include
                    .system
                    .as_ref()
                    .map(|system| own(library, system, include, &mut work)),
                imports: include.value_sets.clone(),
            };
            includes.iter().map(part).collect()
        };
        let expansion = set.stored_expansion().map(|contains| {
            let mut codes: HashMap<CompactString, HashSet<CompactString>> = HashMap::new();
            let mut open: Vec<&Json> = contains.iter().collect();
            while let Some(item) = open.pop() {
                if let Some(code) = item.str_at(&["code"]) {
                    let system = item.str_at(&["system"]).unwrap_or_default();
                    codes.entry(system.into()).or_default().insert(code.into());
                }
                open.extend(item.list("contains"));
            }
            codes
        });
        Codes {
            include: parts(&set.include),
            exclude: parts(&set.exclude),
            active_only: set.active_only,
            expansion,
        }
    }
}

fn own(library: &Library, canonical: &Canonical, include: &Include, work: &mut usize) -> Own {
    let found = library.system(&canonical.url, canonical.version.as_deref()).here();
    let system = found.filter(|system| system.is_complete);
    let codes = if !include.concepts.is_empty() {
        // What the system does not have is not in the set, although it is listed.
        let listed = include.concepts.iter().filter_map(|listed| match system {
            Some(system) => system.get(&listed.code).map(|concept| system.key(&concept.code)),
            None => Some(CompactString::from(listed.code.as_str())),
        });
        Taken::Listed(listed.collect())
    } else {
        match (system, external::form(&canonical.url)) {
            (Some(system), _) => taken(system, include, work)
                .unwrap_or_else(|| Taken::Elsewhere(include.text.clone())),
            (None, Some(form)) if form.is_grammar && include.filters.is_empty() => {
                Taken::Grammar(form)
            }
            _ => Taken::Elsewhere(include.text.clone()),
        }
    };
    Own { canonical: canonical.clone(), system: system.cloned(), codes }
}

/// What the filters let pass; `None` when they cannot be worked out.
fn taken(system: &Arc<CodeSystem>, include: &Include, work: &mut usize) -> Option<Taken> {
    if include.filters.is_empty() {
        return Some(Taken::All);
    }
    let each: usize = include.filters.iter().map(Test::work).sum();
    *work = work.saturating_add(system.concepts().len().saturating_mul(1 + each));
    if *work > MAX_WORK {
        return None;
    }
    let tests = include.filters.iter().map(|filter| Test::new(system, filter));
    let tests = tests.collect::<Result<Vec<_>, _>>().ok()?;
    let places = (0..).zip(system.concepts()).map(|(place, _)| place);
    let passes = |place: &u32| tests.iter().all(|test| test.accepts(system, *place));
    Some(Taken::Places(places.filter(passes).collect()))
}

impl Own {
    /// The codes that are taken; `None` when they are not here.
    fn codes(&self) -> Option<Box<dyn Iterator<Item = &str> + '_>> {
        Some(match (&self.codes, &self.system) {
            (Taken::Listed(codes), _) => {
                let mut codes: Vec<&str> = codes.iter().map(CompactString::as_str).collect();
                codes.sort_unstable();
                Box::new(codes.into_iter())
            }
            (Taken::All, Some(system)) => {
                Box::new(system.concepts().iter().map(|concept| concept.code.as_str()))
            }
            (Taken::Places(places), Some(system)) => {
                let concepts = (0..).zip(system.concepts());
                let passes = concepts.filter(|(place, _)| places.contains(place));
                Box::new(passes.map(|(_, concept)| concept.code.as_str()))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn ask(library: &Library, set: &str, system: Option<&str>, code: &str) -> (Membership, usize) {
        let needs = RefCell::new(Vec::new());
        let answer = library.is_member(set, system, code, &|need| needs.borrow_mut().push(need));
        (answer, needs.into_inner().len())
    }

    fn set(url: &str, include: Json, exclude: Json) -> Json {
        json!({"resourceType": "ValueSet", "url": (url), "status": "active",
            "compose": {"include": (include), "exclude": (exclude)}})
    }

    #[test]
    fn sets_of_r4_are_at_hand() {
        let library = Library::r4();
        let gender = "http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1";
        let system = Some("http://hl7.org/fhir/administrative-gender");
        assert_eq!(ask(&library, gender, system, "male"), (Membership::Member, 0));
        assert_eq!(ask(&library, gender, None, "male"), (Membership::Member, 0));
        assert_eq!(ask(&library, gender, Some("http://x.test"), "male").0, Membership::NotMember);
        assert_eq!(ask(&library, gender, None, "Male").0, Membership::NotMember);
        let units = "http://hl7.org/fhir/ValueSet/units-of-time";
        assert_eq!(ask(&library, units, None, "wk"), (Membership::Member, 0));
        let mime = "http://hl7.org/fhir/ValueSet/mimetypes";
        assert_eq!(ask(&library, mime, None, "text/plain"), (Membership::Member, 0));
        assert_eq!(ask(&Library::default(), gender, None, "male"), (Membership::Unknown, 1));
    }

    #[test]
    fn what_is_not_here_is_not_guessed() {
        let mut library = Library::r4();
        let far = json!([
            {"system": "http://far.test/cs", "concept": [{"code": "a"}]},
            {"system": "http://far.test/cs", "filter": [{"property": "x", "op": "=", "value": "y"}]}
        ]);
        library.add(&set("http://x.test/far", far, json!([]))).unwrap();
        let listed = json!([{"system": "http://far.test/cs", "concept": [{"code": "a"}]}]);
        let both = json!([{"valueSet": ["http://x.test/far", "http://x.test/near"]}]);
        library.add(&set("http://x.test/near", listed.clone(), json!([]))).unwrap();
        library.add(&set("http://x.test/both", both, listed)).unwrap();
        let system = Some("http://far.test/cs");
        assert_eq!(ask(&library, "http://x.test/far", system, "a"), (Membership::Member, 0));
        assert_eq!(ask(&library, "http://x.test/far", system, "b"), (Membership::Unknown, 1));
        assert_eq!(ask(&library, "http://x.test/near", system, "b"), (Membership::NotMember, 0));
        assert_eq!(ask(&library, "http://x.test/both", system, "a"), (Membership::NotMember, 0));
        assert_eq!(ask(&library, "http://x.test/both", system, "b").0, Membership::NotMember);
        let other = Some("http://other.test/cs");
        assert_eq!(ask(&library, "http://x.test/far", other, "b"), (Membership::NotMember, 0));

        library.put_code_system(Canonical::parse("http://far.test/cs"), None);
        assert_eq!(ask(&library, "http://x.test/far", system, "b"), (Membership::Unknown, 0));
        let mut asking = library.clone().asking(true);
        assert_eq!(ask(&asking, "http://x.test/far", system, "b"), (Membership::Unknown, 1));
        let include = asking.value_set(&Canonical::parse("http://x.test/far")).unwrap();
        let key = (include.include[1].text.clone(), "http://far.test/cs".into(), "b".into());
        asking.put_membership(key, Some(true));
        assert_eq!(ask(&asking, "http://x.test/far", system, "b"), (Membership::Member, 0));

        let complete = json!({"resourceType": "CodeSystem", "url": "http://far.test/cs",
            "content": "complete", "property": [{"code": "x"}], "concept": [
                {"code": "b", "property": [{"code": "x", "valueCode": "y"}]}, {"code": "c"}]});
        library.add(&complete).unwrap();
        assert_eq!(ask(&library, "http://x.test/far", system, "a"), (Membership::NotMember, 0));
        assert_eq!(ask(&library, "http://x.test/far", system, "b"), (Membership::Member, 0));
        assert_eq!(ask(&library, "http://x.test/far", system, "c"), (Membership::NotMember, 0));
    }

    #[test]
    fn an_expansion_confirms_and_denies_only_where_nothing_else_is_said() {
        let mut library = Library::r4();
        let contains = json!([{"system": "http://far.test/cs", "code": "a"}]);
        library
            .add(&json!({"resourceType": "ValueSet", "url": "http://x.test/only",
                "expansion": {"contains": (contains.clone())}}))
            .unwrap();
        library
            .add(&json!({"resourceType": "ValueSet", "url": "http://x.test/also",
                "compose": {"include": [{"system": "http://far.test/cs"}]},
                "expansion": {"contains": (contains)}}))
            .unwrap();
        library.put_code_system(Canonical::parse("http://far.test/cs"), None);
        let system = Some("http://far.test/cs");
        assert_eq!(ask(&library, "http://x.test/only", system, "a").0, Membership::Member);
        assert_eq!(ask(&library, "http://x.test/only", system, "b").0, Membership::NotMember);
        assert_eq!(ask(&library, "http://x.test/also", system, "a").0, Membership::Member);
        assert_eq!(ask(&library, "http://x.test/also", system, "b").0, Membership::Unknown);
    }

    #[test]
    fn circles_and_crowds_of_imports_end() {
        let mut library = Library::r4();
        for at in 0..40 {
            let next = format!("http://x.test/{}", (at + 1) % 40);
            let import = json!({"valueSet": [(next)]});
            let include = json!([(import.clone()), (import.clone()), (import)]);
            library.add(&set(&format!("http://x.test/{at}"), include, json!([]))).unwrap();
        }
        assert_eq!(ask(&library, "http://x.test/0", None, "a").0, Membership::Unknown);
        assert_eq!(library.some_codes("http://x.test/0", 10), None);
    }

    #[test]
    fn few_codes_can_be_named() {
        let library = Library::r4();
        let gender = "http://hl7.org/fhir/ValueSet/administrative-gender";
        let (codes, is_whole) = library.some_codes(gender, 12).unwrap();
        assert_eq!((codes.join(" ").as_str(), is_whole), ("male female other unknown", true));
        let (codes, is_whole) =
            library.some_codes("http://hl7.org/fhir/ValueSet/all-types", 3).unwrap();
        assert!(!is_whole && codes.len() > 3);
    }
}
