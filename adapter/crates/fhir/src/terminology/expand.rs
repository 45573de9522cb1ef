//! `$expand`: <https://hl7.org/fhir/R4/valueset-operation-expand.html>.
//!
//! Expansions are flat: hierarchies are not shown. A text filter finds codes and words that begin
//! like each of its words.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::filter::Test;
use super::library::import_text;
use super::value_set::Include;
use super::{
    Canonical, CodeSystem, Concept, Input, Library, MAX_IMPORTS, MAX_WORK, Refusal, ValueSet,
    parameter, shown, speaks,
};
use crate::search::key::fold;
use crate::{Issue, IssueType, Json, Object};

/// Longest text filter, in bytes.
const MAX_FILTER_BYTES: usize = 1000;
/// How often a parameter that repeats may be given.
const MAX_REPEATED: usize = 100;

/// A code of a value set.
#[derive(Clone, Debug)]
pub struct Member<'l> {
    /// Its system.
    pub system: &'l str,
    /// Its code.
    pub code: &'l str,
    pub(super) version: Option<&'l str>,
    /// The display that the value set gives.
    pub(super) display: Option<&'l str>,
    pub(super) concept: Option<&'l Concept>,
    pub(super) designations: &'l [Json],
    pub(super) is_abstract: bool,
    pub(super) inactive: bool,
}

impl<'l> Member<'l> {
    pub(super) fn new(system: &'l str, concept: &'l Concept) -> Member<'l> {
        Member {
            system,
            code: &concept.code,
            version: None,
            display: None,
            concept: Some(concept),
            designations: &[],
            is_abstract: concept.is_abstract,
            inactive: concept.inactive,
        }
    }

    /// From an item of an expansion.
    pub(super) fn stored(item: &'l Json) -> Option<Member<'l>> {
        let flag = |name: &str| item.get(name).and_then(Json::as_bool) == Some(true);
        Some(Member {
            system: item.str_at(&["system"]).unwrap_or_default(),
            code: item.str_at(&["code"])?,
            version: item.str_at(&["version"]),
            display: item.str_at(&["display"]),
            concept: None,
            designations: item.list("designation"),
            is_abstract: flag("abstract"),
            inactive: flag("inactive"),
        })
    }

    /// The designations of the value set and of the code system.
    pub(super) fn designations(&self) -> impl Iterator<Item = &'l Json> {
        let own = self.concept.map_or(&[][..], |concept| concept.designations.as_slice());
        self.designations.iter().chain(own)
    }

    /// The display in a language, or else the one there is.
    pub(super) fn display(&self, language: Option<&str>) -> Option<&'l str> {
        let spoken = language.and_then(|wanted| {
            self.designations()
                .find(|d| d.str_at(&["language"]).is_some_and(|tag| speaks(tag, wanted)))
                .and_then(|d| d.str_at(&["value"]))
        });
        let own = || self.concept.and_then(|concept| concept.display.as_deref());
        spoken.or(self.display).or_else(own)
    }
}

/// What is asked of an expansion.
#[derive(Clone, Debug, Default)]
pub struct Expand {
    filter: Option<String>,
    offset: usize,
    count: Option<usize>,
    designations: bool,
    languages: Vec<String>,
    definition: bool,
    active_only: bool,
    not_for_ui: bool,
    display_language: Option<String>,
    exclude_systems: Vec<Canonical>,
    told: Vec<Json>,
}

impl Expand {
    /// Reads the parameters.
    ///
    /// # Errors
    /// One of them cannot be read or is not offered.
    pub fn read(input: &Input) -> Result<Expand, Refusal> {
        input.not_offered(&[
            "context",
            "contextDirection",
            "system-version",
            "check-system-version",
            "force-system-version",
        ])?;
        let text = |name: &str| Ok::<_, Refusal>(input.text(name)?.map(str::to_owned));
        if input.text("filter")?.is_some_and(|filter| filter.len() > MAX_FILTER_BYTES) {
            let fault = format!("is longer than {MAX_FILTER_BYTES} bytes; send a few words");
            return Err(input.refuse("filter", &fault));
        }
        for name in ["designation", "exclude-system"] {
            if input.all(name).nth(MAX_REPEATED).is_some() {
                let fault = format!("is given more than {MAX_REPEATED} times; send fewer");
                return Err(input.refuse(name, &fault));
            }
        }
        let mut expand = Expand {
            filter: text("filter")?,
            offset: input.number("offset")?.unwrap_or(0),
            count: input.number("count")?,
            designations: input.flag("includeDesignations")?.unwrap_or(false),
            languages: input
                .all("designation")
                .filter_map(Json::as_str)
                .filter_map(|token| token.strip_prefix("urn:ietf:bcp:47|"))
                .map(str::to_owned)
                .collect(),
            definition: input.flag("includeDefinition")?.unwrap_or(false),
            active_only: input.flag("activeOnly")?.unwrap_or(false),
            not_for_ui: input.flag("excludeNotForUI")?.unwrap_or(false),
            display_language: text("displayLanguage")?,
            exclude_systems: input
                .all("exclude-system")
                .filter_map(Json::as_str)
                .map(Canonical::parse)
                .collect(),
            told: Vec::new(),
        };
        input.flag("excludeNested")?;
        for name in ["filter", "displayLanguage"] {
            if let Some(value) = input.text(name)? {
                expand.told.push(parameter(name, "valueString", value));
            }
        }
        for name in ["offset", "count"] {
            if let Some(value) = input.number(name)? {
                expand.told.push(parameter(name, "valueInteger", value));
            }
        }
        for name in ["includeDesignations", "activeOnly", "excludeNested", "excludeNotForUI"] {
            if let Some(value) = input.flag(name)? {
                expand.told.push(parameter(name, "valueBoolean", value));
            }
        }
        Ok(expand)
    }
}

/// The value set with its expansion, as `identifier` and made at `timestamp`; at most `limit` codes.
///
/// # Errors
/// Its content cannot be worked out, or it has more codes than may be told.
pub fn expand(
    library: &Library,
    set: &ValueSet,
    asked: &Expand,
    limit: usize,
    (identifier, timestamp): (&str, &str),
) -> Result<Json, Refusal> {
    let mut expander = Expander::new(library);
    let mut found = expander.set(set)?;
    let language = asked.display_language.as_deref();
    let words: Vec<String> = asked
        .filter
        .iter()
        .flat_map(|text| text.split_whitespace())
        .map(fold)
        .filter(|word| !word.is_empty())
        .collect();
    found.retain(|member| {
        let excluded = asked.exclude_systems.iter().any(|excluded| {
            excluded.url == member.system
                && excluded.version.as_deref().is_none_or(|v| member.version == Some(v))
        });
        !(excluded
            || asked.active_only && member.inactive
            || asked.not_for_ui && member.is_abstract)
            && matches(member, &words)
    });
    let total = found.len();
    let page: Vec<&Member<'_>> =
        found.iter().skip(asked.offset).take(asked.count.unwrap_or(usize::MAX)).collect();
    if page.len() > limit {
        let text = format!(
            "The expansion of {} has {total} codes; at most {limit} are told at once. Ask for a part with count and offset, as in count={limit}, or with filter.",
            shown(set.name())
        );
        return Err(Refusal::unprocessable(IssueType::TooCostly, text));
    }

    let mut expansion = Object::new();
    expansion.set("identifier", identifier);
    expansion.set("timestamp", timestamp);
    expansion.set("total", total);
    if asked.count.is_some() || asked.offset > 0 {
        expansion.set("offset", asked.offset);
    }
    let mut told = asked.told.clone();
    for used in &expander.used {
        told.push(parameter("version", "valueUri", used));
    }
    for warning in &expander.warnings {
        told.push(parameter("warning", "valueString", warning));
    }
    if !told.is_empty() {
        expansion.set("parameter", told);
    }
    let contains: Vec<Json> =
        page.into_iter().map(|member| item(member, asked, language)).collect();
    if !contains.is_empty() {
        expansion.set("contains", contains);
    }
    Ok(with_expansion(set, asked.definition, expansion))
}

/// The codes of a value set.
///
/// # Errors
/// Its content cannot be worked out.
pub fn members<'l>(library: &'l Library, set: &'l ValueSet) -> Result<Vec<Member<'l>>, Refusal> {
    Expander::new(library).set(set)
}

fn with_expansion(set: &ValueSet, definition: bool, expansion: Object) -> Json {
    let mut out = Object::new();
    out.set("resourceType", "ValueSet");
    let head = ["id", "url", "identifier", "version", "name", "title", "status", "experimental"];
    for (name, value) in set.resource.as_object().into_iter().flat_map(Object::iter) {
        let of_definition = definition && !matches!(name, "expansion" | "text" | "meta");
        if head.contains(&name) || of_definition {
            out.set(name, value);
        }
    }
    if out.get("status").is_none() {
        out.set("status", "unknown");
    }
    out.set("expansion", expansion);
    Json::Object(out)
}

fn item(member: &Member<'_>, asked: &Expand, language: Option<&str>) -> Json {
    let mut item = Object::new();
    if !member.system.is_empty() {
        item.set("system", member.system);
    }
    if member.is_abstract {
        item.set("abstract", true);
    }
    if member.inactive {
        item.set("inactive", true);
    }
    if let Some(version) = member.version {
        item.set("version", version);
    }
    item.set("code", member.code);
    if let Some(display) = member.display(language) {
        item.set("display", display);
    }
    if asked.designations {
        let wanted = |designation: &&Json| {
            let tag = designation.str_at(&["language"]).unwrap_or_default();
            asked.languages.is_empty() || asked.languages.iter().any(|wanted| speaks(tag, wanted))
        };
        let designations: Vec<Json> = member.designations().filter(wanted).cloned().collect();
        if !designations.is_empty() {
            item.set("designation", designations);
        }
    }
    Json::Object(item)
}

/// Whether every word begins a word of the display or of a designation, or the code.
fn matches(member: &Member<'_>, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let designations = member.designations().filter_map(|d| d.str_at(&["value"]));
    let own = member.concept.and_then(|concept| concept.display.as_deref());
    let texts = member.display.into_iter().chain(own).chain(designations);
    let texts: Vec<String> = texts.map(fold).collect();
    let code = fold(member.code);
    words.iter().all(|word| {
        let begins = |text: &String| {
            text.split(|c: char| !c.is_alphanumeric()).any(|part| part.starts_with(word.as_str()))
                || text.starts_with(word.as_str())
        };
        code.starts_with(word.as_str()) || texts.iter().any(begins)
    })
}

/// Works value sets out, each once.
struct Expander<'l> {
    library: &'l Library,
    known: HashMap<&'l Canonical, Rc<Vec<Member<'l>>>>,
    /// The value sets that are being worked out now.
    open: Vec<&'l Canonical>,
    work: usize,
    used: BTreeSet<String>,
    warnings: BTreeSet<String>,
}

impl<'l> Expander<'l> {
    fn new(library: &'l Library) -> Self {
        Expander {
            library,
            known: HashMap::new(),
            open: Vec::new(),
            work: 0,
            used: BTreeSet::new(),
            warnings: BTreeSet::new(),
        }
    }

    fn set(&mut self, set: &'l ValueSet) -> Result<Vec<Member<'l>>, Refusal> {
        let stored = set.stored_expansion();
        if set.include.is_empty() {
            return match stored {
                Some(contains) => self.stored(contains),
                None => Err(without_content(set)),
            };
        }
        match (self.composed(set), stored) {
            (Err(refusal), Some(contains)) if refusal.issue().code == IssueType::NotFound => {
                self.warnings.insert(format!(
                    "{} was taken from its stored expansion: {}",
                    shown(set.name()),
                    refusal.issue().text
                ));
                self.stored(contains)
            }
            (result, _) => result,
        }
    }

    fn composed(&mut self, set: &'l ValueSet) -> Result<Vec<Member<'l>>, Refusal> {
        let mut found = Vec::new();
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        for part in &set.include {
            for member in self.part(part)? {
                if !(set.active_only && member.inactive)
                    && seen.insert((member.system, member.code))
                {
                    found.push(member);
                }
            }
        }
        for part in &set.exclude {
            let out: HashSet<(&str, &str)> =
                self.part(part)?.iter().map(|member| (member.system, member.code)).collect();
            self.spend(found.len())?;
            found.retain(|member| !out.contains(&(member.system, member.code)));
        }
        Ok(found)
    }

    fn part(&mut self, part: &'l Include) -> Result<Vec<Member<'l>>, Refusal> {
        let mut found = match &part.system {
            Some(canonical) => Some(self.system(part, canonical)?),
            None => None,
        };
        for import in &part.value_sets {
            let codes = self.import(import)?;
            // One that is known costs again, as its codes are copied or compared.
            self.spend(codes.len() + found.as_ref().map_or(0, Vec::len))?;
            found = Some(match found {
                None => codes.to_vec(),
                Some(mut found) => {
                    let both: HashSet<(&str, &str)> =
                        codes.iter().map(|member| (member.system, member.code)).collect();
                    found.retain(|member| both.contains(&(member.system, member.code)));
                    found
                }
            });
        }
        Ok(found.unwrap_or_default())
    }

    fn import(&mut self, canonical: &'l Canonical) -> Result<Rc<Vec<Member<'l>>>, Refusal> {
        if let Some(known) = self.known.get(canonical) {
            return Ok(known.clone());
        }
        let codes = match self.library.value_set(canonical) {
            Some(set) => {
                enter(&mut self.open, canonical)?;
                let codes = self.set(set);
                self.open.pop();
                codes?
            }
            None => match self.library.codes(&import_text(canonical)) {
                Some(items) => self.stored(items)?,
                None => return Err(unknown_set(canonical)),
            },
        };
        let codes = Rc::new(codes);
        self.known.insert(canonical, codes.clone());
        Ok(codes)
    }

    fn system(
        &mut self,
        part: &'l Include,
        canonical: &'l Canonical,
    ) -> Result<Vec<Member<'l>>, Refusal> {
        let system = self.library.code_system(canonical);
        if let Some(CodeSystem { version: Some(version), .. }) = system {
            self.used.insert(format!("{}|{version}", canonical.url));
        }
        let mut found = Vec::new();
        if !part.concepts.is_empty() {
            for listed in &part.concepts {
                let concept = system.and_then(|system| system.get(&listed.code));
                if concept.is_none() && self.library.complete(canonical).is_some() {
                    self.warnings.insert(format!(
                        "The code {} is not in {} and was left out.",
                        shown(&listed.code),
                        shown(&canonical.url)
                    ));
                    continue;
                }
                found.push(Member {
                    system: &canonical.url,
                    code: concept.map_or(&listed.code, |concept| &concept.code),
                    version: canonical.version.as_deref(),
                    display: listed.display.as_deref(),
                    concept,
                    designations: &listed.designations,
                    is_abstract: concept.is_some_and(|concept| concept.is_abstract),
                    inactive: concept.is_some_and(|concept| concept.inactive),
                });
            }
            self.spend(found.len())?;
            return Ok(found);
        }
        let Some(system) = self.library.complete(canonical) else {
            return match self.library.codes(&part.text) {
                Some(items) => self.stored(items),
                None => Err(unknown_system(canonical)),
            };
        };
        // Each filter looks at all concepts.
        let work: usize = part.filters.iter().map(Test::work).sum();
        self.spend(system.concepts().len().saturating_mul(1 + work))?;
        let tests = part.filters.iter().map(|filter| Test::new(system, filter));
        let tests = tests.collect::<Result<Vec<_>, _>>()?;
        for (place, concept) in (0..).zip(system.concepts()) {
            if tests.iter().all(|test| test.accepts(system, place)) {
                let member = Member::new(&canonical.url, concept);
                found.push(Member { version: canonical.version.as_deref(), ..member });
            }
        }
        Ok(found)
    }

    /// The items of an expansion, nested ones included.
    fn stored(&mut self, items: &'l [Json]) -> Result<Vec<Member<'l>>, Refusal> {
        let mut found = Vec::new();
        let mut open: Vec<&Json> = items.iter().rev().collect();
        while let Some(item) = open.pop() {
            found.extend(Member::stored(item));
            open.extend(item.list("contains").iter().rev());
        }
        self.spend(found.len())?;
        Ok(found)
    }

    fn spend(&mut self, work: usize) -> Result<(), Refusal> {
        spend(&mut self.work, work)
    }
}

/// Adds to the work that was done so far.
pub(super) fn spend(done: &mut usize, work: usize) -> Result<(), Refusal> {
    *done = done.saturating_add(work);
    if *done > MAX_WORK {
        let text = format!("More than {MAX_WORK} codes are to be looked at; narrow the value set.");
        return Err(Refusal::unprocessable(IssueType::TooCostly, text));
    }
    Ok(())
}

/// Begins with a value set that another one imports.
pub(super) fn enter<'l>(
    open: &mut Vec<&'l Canonical>,
    canonical: &'l Canonical,
) -> Result<(), Refusal> {
    let name = shown(&canonical.to_string());
    if open.contains(&canonical) {
        let text = format!("The value set {name} imports itself, directly or through others.");
        return Err(Refusal::unprocessable(IssueType::BusinessRule, text));
    }
    if open.len() >= MAX_IMPORTS {
        let text = format!("The value set {name} is imported over more than {MAX_IMPORTS} others.");
        return Err(Refusal::unprocessable(IssueType::TooCostly, text));
    }
    open.push(canonical);
    Ok(())
}

pub(super) fn unknown_system(canonical: &Canonical) -> Refusal {
    let text = format!(
        "The code system {} is not known here with all its codes; load it as a CodeSystem, or name a terminology server with --terminology.",
        shown(&canonical.to_string())
    );
    Refusal::Unprocessable(Issue::error(IssueType::NotFound, text))
}

pub(super) fn unknown_set(canonical: &Canonical) -> Refusal {
    let text = format!(
        "The value set {} is not known here; load it as a ValueSet, or name a terminology server with --terminology.",
        shown(&canonical.to_string())
    );
    Refusal::Unprocessable(Issue::error(IssueType::NotFound, text))
}

pub(super) fn without_content(set: &ValueSet) -> Refusal {
    let text = format!(
        "The value set {} has neither a definition (compose.include) nor a whole expansion.",
        shown(set.name())
    );
    let issue = Issue::error(IssueType::NotFound, text);
    Refusal::Unprocessable(issue.at("ValueSet.compose"))
}
