//! Assembly of a modular form: <https://hl7.org/fhir/uv/sdc/STU3/modular.html>.
//!
//! Items that stand for other Questionnaires are replaced by these, and items take from the
//! elements that they are defined by what they do not say themselves. What is needed is handed in;
//! what is missing is told. A library of questions (`[url]#[linkId]`) is not drawn on.

mod data_element;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::environment::Surroundings;
use super::expression::{Bound, Formula, Setting};
use super::value::cut;
use super::{MAX_DEPTH, MAX_ITEMS, extension};
use crate::path::{Tally, Value};
use crate::validate::World;
use crate::{Issue, IssueType, Json, Object};

/// Most Questionnaires that one form is assembled from, each as often as it is named.
const MAX_PARTS: usize = 200;
/// Deepest nesting of Questionnaires.
const MAX_NESTING: usize = 10;
/// Longest linkId that a prefix may make.
const MAX_LINK_ID: usize = 1_000;

const ASSEMBLED_FROM: &str =
    "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-assembledFrom";
const MODULAR: &str = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-modular";

/// Questionnaires and StructureDefinitions by canonical; what was looked for and is not there is
/// known, too.
#[derive(Clone, Debug, Default)]
pub struct Parts(HashMap<Wanted, Option<Arc<Json>>>);

/// What an assembly needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// `Questionnaire` or `StructureDefinition`.
    pub resource_type: &'static str,
    /// Its canonical.
    pub canonical: String,
}

impl Parts {
    /// Answers what was wanted.
    pub fn put(&mut self, wanted: Wanted, found: Option<Arc<Json>>) {
        self.0.insert(wanted, found);
    }

    /// Whether it was answered.
    pub fn has(&self, wanted: &Wanted) -> bool {
        self.0.contains_key(wanted)
    }
}

/// What came of an assembly.
#[derive(Debug)]
pub struct Assembled {
    /// The Questionnaire, unless there is an error among the issues.
    pub questionnaire: Option<Json>,
    /// What there is to say.
    pub issues: Vec<Issue>,
    /// What would have to be known.
    pub wanted: Vec<Wanted>,
}

/// Assembles a Questionnaire.
pub fn assemble(world: &World<'_>, parts: &Parts, root: &Json) -> Assembled {
    let tally = Tally::new(world.limits.steps);
    let mut work = Work {
        world,
        parts,
        tally: &tally,
        language: root.str_at(&["language"]),
        issues: Vec::new(),
        wanted: Vec::new(),
        from: Vec::new(),
        contained: root.list("contained").to_vec(),
        extensions: Vec::new(),
        above: root.str_at(&["url"]).into_iter().map(str::to_owned).collect(),
        link_ids: HashSet::new(),
        items: 0,
        imports: 0,
    };
    let scope = Scope { names: names_of(root), prefix: None, link_prefix: String::new() };
    let mut own = root.list("extension").to_vec();
    let items = work.items(root, "Questionnaire", &scope, &mut own, 0);
    own.append(&mut work.extensions);
    own.retain(|one| extension::term(one) != Some("assemble-expectation"));
    own.extend(expectation(root));
    own.extend(
        work.from
            .iter()
            .map(|from| crate::json!({"url": (ASSEMBLED_FROM), "valueCanonical": (from)})),
    );
    let mut whole = root.clone();
    if let Some(object) = whole.as_object_mut() {
        // It is another text, and not the stored resource.
        for name in ["id", "text", "contained", "extension", "item"] {
            object.remove(name);
        }
    }
    without_profile(&mut whole);
    for (name, list) in [("item", items), ("extension", own), ("contained", work.contained)] {
        if !list.is_empty()
            && let Some(object) = whole.as_object_mut()
        {
            object.set_at(1, name, list);
        }
    }
    // Items stand at the end.
    if let Some(object) = whole.as_object_mut()
        && let Some(items) = object.remove("item")
    {
        object.set("item", items);
    }
    let is_usable = !work.issues.iter().any(Issue::is_error);
    Assembled {
        questionnaire: is_usable.then_some(whole),
        issues: work.issues,
        wanted: work.wanted,
    }
}

/// What is known where an item stands.
#[derive(Clone)]
struct Scope {
    /// Names of variables.
    names: Vec<Box<str>>,
    /// The value of `%linkIdPrefix`.
    prefix: Option<String>,
    /// What stands before the linkIds of the Questionnaire that the item comes from.
    link_prefix: String,
}

struct Work<'a> {
    world: &'a World<'a>,
    parts: &'a Parts,
    tally: &'a Tally,
    language: Option<&'a str>,
    issues: Vec<Issue>,
    wanted: Vec<Wanted>,
    from: Vec<String>,
    contained: Vec<Json>,
    /// What parts add to the root.
    extensions: Vec<Json>,
    /// Urls of the Questionnaires around.
    above: Vec<String>,
    link_ids: HashSet<String>,
    items: usize,
    imports: usize,
}

impl Work<'_> {
    /// The items of a Questionnaire or of an item. `own` are the extensions of what they stand in.
    fn items(
        &mut self,
        parent: &Json,
        at: &str,
        scope: &Scope,
        own: &mut Vec<Json>,
        depth: usize,
    ) -> Vec<Json> {
        let mut made = Vec::new();
        let list = parent.list("item");
        if depth > MAX_DEPTH && !list.is_empty() {
            let text = format!("Items would be nested deeper than {MAX_DEPTH} levels.");
            self.error(IssueType::TooCostly, at, text);
            return made;
        }
        for (position, item) in list.iter().enumerate() {
            let at = format!("{at}.item[{position}]");
            self.items += 1;
            if self.items > MAX_ITEMS {
                if self.items == MAX_ITEMS + 1 {
                    let text = format!("The form would have more than {MAX_ITEMS} items.");
                    self.error(IssueType::TooCostly, &at, text);
                }
                return made;
            }
            let part = extension::values(item, "subQuestionnaire").next().and_then(Json::as_str);
            match part {
                Some(canonical) => match self.import(canonical, &at, scope, own, depth) {
                    Some(items) => made.extend(items),
                    None => made.push(self.item(item, &at, scope, depth)),
                },
                None => made.push(self.item(item, &at, scope, depth)),
            }
        }
        made
    }

    fn item(&mut self, item: &Json, at: &str, scope: &Scope, depth: usize) -> Json {
        let mut made = item.clone();
        let prefix = scope.link_prefix.as_str();
        if let Some(link_id) = item.str_at(&["linkId"]) {
            let link_id = format!("{prefix}{link_id}");
            if link_id.len() > MAX_LINK_ID {
                let text = "The prefixes make a linkId too long.".to_owned();
                self.error(IssueType::TooLong, at, text);
            } else if !self.link_ids.insert(link_id.clone()) {
                let text = format!(
                    "The linkId \"{}\" would be there twice; give each part another linkIdPrefix.",
                    cut(&link_id)
                );
                self.error(IssueType::Duplicate, at, text);
            }
            made.set("linkId", link_id);
        }
        if !prefix.is_empty()
            && let Some(Json::Array(conditions)) = made.get_mut("enableWhen")
        {
            for condition in conditions {
                if let Some(question) = condition.str_at(&["question"]) {
                    let question = format!("{prefix}{question}");
                    condition.set("question", question);
                }
            }
        }
        let inner = self.scope_of(item, at, scope);
        let mut own = item.list("extension").to_vec();
        if let Some(object) = made.as_object_mut() {
            object.remove("item");
            object.remove("extension");
        }
        if !prefix.is_empty() {
            prefix_contained(&mut made, prefix, 0);
            own.iter_mut().for_each(|one| prefix_contained(one, prefix, 0));
        }
        let mut items = self.items(item, at, &inner, &mut own, depth + 1);
        if item.get("definition").is_some() {
            self.define(&mut made, &mut own, &mut items, at);
        }
        if !own.is_empty()
            && let Some(object) = made.as_object_mut()
        {
            object.set_at(0, "extension", own);
        }
        if !items.is_empty() {
            made.set("item", items);
        }
        made
    }

    /// What is known below an item.
    fn scope_of(&mut self, item: &Json, at: &str, scope: &Scope) -> Scope {
        let mut inner = scope.clone();
        inner.names.extend(names_of(item));
        for value in extension::values(item, "variable") {
            if value.str_at(&["name"]) == Some("linkIdPrefix") {
                inner.prefix = self.prefix(value, at, scope);
            }
        }
        inner
    }

    /// The text that an expression gives for linkIds to begin with.
    fn prefix(&mut self, value: &Json, at: &str, scope: &Scope) -> Option<String> {
        let formula = Formula::read(value);
        let known = scope.prefix.as_deref().map(|text| Value::String(text.into()));
        let bound: Vec<Bound<'_>> = vec![("linkIdPrefix", known.into_iter().collect())];
        let setting = Setting {
            surroundings: &Surroundings { world: self.world },
            response: &Json::Null,
            now: None,
            tally: self.tally,
            bound: &bound,
        };
        let text = match setting.decide(&formula, &[]).as_deref() {
            Ok([value]) => value.as_str().map(std::borrow::Cow::into_owned),
            _ => None,
        };
        if text.is_none() {
            let text = "linkIdPrefix comes to no text that is known before the form is answered.";
            self.error(IssueType::Invalid, at, text.to_owned());
        }
        text
    }

    /// The items of a part, or nothing if it is not here.
    fn import(
        &mut self,
        canonical: &str,
        at: &str,
        scope: &Scope,
        own: &mut Vec<Json>,
        depth: usize,
    ) -> Option<Vec<Json>> {
        let name = cut(canonical);
        let parts = self.parts;
        let wanted = Wanted { resource_type: "Questionnaire", canonical: canonical.to_owned() };
        let found = match parts.0.get(&wanted) {
            None => {
                self.want(wanted);
                return None;
            }
            Some(found) => found.as_deref(),
        };
        let Some(part) = found else {
            let text = format!("The Questionnaire {name} is not here, so its items are missing.");
            let issue = Issue::warning(IssueType::NotFound, text).at(at);
            self.issues.push(issue.rule("subQuestionnaire"));
            return None;
        };
        let url = part.str_at(&["url"]).unwrap_or(canonical).to_owned();
        self.imports += 1;
        let fault = if self.above.contains(&url) {
            Some((IssueType::BusinessRule, "contains itself"))
        } else if self.imports > MAX_PARTS {
            Some((IssueType::TooCostly, "is one of too many parts"))
        } else if self.above.len() > MAX_NESTING {
            Some((IssueType::TooCostly, "is nested too deeply"))
        } else {
            self.unfit(part)
        };
        if let Some((code, fault)) = fault {
            self.error(code, at, format!("The Questionnaire {name} {fault}."));
            return Some(Vec::new());
        }
        for wanted in extension::values(part, "assembleContext").filter_map(Json::as_str) {
            let is_known = scope.names.iter().any(|name| name.as_ref() == wanted);
            if !is_known {
                let text = format!(
                    "The Questionnaire {name} needs the variable {}, which is not known here.",
                    cut(wanted)
                );
                self.error(IssueType::Required, at, text);
            }
        }
        let version = part.str_at(&["version"]);
        let from = version.map_or_else(|| url.clone(), |version| format!("{url}|{version}"));
        if !self.from.contains(&from) {
            self.from.push(from);
        }
        let link_prefix = scope.prefix.clone().unwrap_or_default();
        self.propagate(part, at, &link_prefix, own);
        let mut names = scope.names.clone();
        names.extend(names_of(part));
        let inner = Scope { names, prefix: scope.prefix.clone(), link_prefix };
        self.above.push(url);
        let items = self.items(part, at, &inner, own, depth);
        self.above.pop();
        Some(items)
    }

    /// Why a Questionnaire cannot be a part.
    fn unfit(&self, part: &Json) -> Option<(IssueType, &'static str)> {
        let is_adaptive = extension::values(part, "questionnaireAdaptive")
            .any(|value| value.as_bool() != Some(false));
        let is_root = extension::values(part, "assemble-expectation")
            .any(|value| value.as_str() == Some("assemble-root"));
        let language = part.str_at(&["language"]);
        if part.get("implicitRules").is_some() || part.get("modifierExtension").is_some() {
            Some((IssueType::BusinessRule, "has implicitRules or a modifierExtension"))
        } else if is_adaptive {
            Some((IssueType::BusinessRule, "is adaptive, which a part cannot be"))
        } else if is_root {
            Some((IssueType::BusinessRule, "says that it is no part of others"))
        } else if language.is_some() && self.language.is_some() && language != self.language {
            Some((IssueType::BusinessRule, "has another language"))
        } else {
            None
        }
    }

    /// Takes over what a part says besides its items.
    fn propagate(&mut self, part: &Json, at: &str, prefix: &str, own: &mut Vec<Json>) {
        for one in part.list("contained") {
            let mut one = one.clone();
            if !prefix.is_empty() {
                let id = format!("{prefix}{}", one.str_at(&["id"]).unwrap_or_default());
                one.set("id", id);
                prefix_contained(&mut one, prefix, 0);
            }
            let same = self.contained.iter().find(|other| other.get("id") == one.get("id"));
            match same {
                None => self.contained.push(one),
                Some(other) if *other == one => {}
                Some(_) => {
                    let text = "Two parts contain different resources with one id.".to_owned();
                    self.error(IssueType::Duplicate, at, text);
                }
            }
        }
        for one in part.list("extension") {
            let term = extension::term(one).unwrap_or_default();
            let name = |one: &Json| {
                extension::value(one).and_then(|value| value.str_at(&["name"])).map(str::to_owned)
            };
            match term {
                "cqf-library"
                | "launchContext"
                | "observationExtract"
                | "observationLinkPeriod" => {
                    let key = |one: &Json| {
                        let launch = extension::part(one, "name").cloned();
                        match term {
                            "launchContext" => {
                                launch.and_then(|name| name.str_at(&["code"]).map(str::to_owned))
                            }
                            "cqf-library" => {
                                extension::value(one).and_then(Json::as_str).map(str::to_owned)
                            }
                            _ => None,
                        }
                    };
                    let is_known = |list: &[Json]| {
                        list.iter().any(|other| {
                            extension::term(other) == Some(term) && key(other) == key(one)
                        })
                    };
                    if !is_known(&self.extensions) && !is_known(own) {
                        self.extensions.push(one.clone());
                    }
                }
                "variable" => {
                    let is_same = |other: &&Json| {
                        extension::term(other) == Some("variable") && name(other) == name(one)
                    };
                    match own.iter().find(is_same) {
                        None => own.push(one.clone()),
                        Some(other) if other == one => {}
                        Some(_) => {
                            let text = format!(
                                "The variable {} would be stated twice.",
                                cut(&name(one).unwrap_or_default())
                            );
                            self.error(IssueType::Duplicate, at, text);
                        }
                    }
                }
                "itemPopulationContext" | "itemExtractionContext" => {
                    if own.iter().any(|other| extension::term(other) == Some(term)) {
                        let text = format!("The item would have more than one {term}.");
                        self.error(IssueType::Duplicate, at, text);
                    } else {
                        own.push(one.clone());
                    }
                }
                "targetConstraint" | "constraint" if !own.contains(one) => own.push(one.clone()),
                _ => {}
            }
        }
    }

    fn want(&mut self, wanted: Wanted) {
        if self.wanted.len() < MAX_PARTS && !self.wanted.contains(&wanted) {
            self.wanted.push(wanted);
        }
    }

    fn error(&mut self, code: IssueType, at: &str, text: String) {
        if self.issues.len() < self.world.limits.issues {
            self.issues.push(Issue::error(code, text).at(at).rule("assemble"));
        }
    }
}

/// The names that expressions below an element may use.
fn names_of(element: &Json) -> Vec<Box<str>> {
    let mut names = Vec::new();
    for one in element.list("extension") {
        let name = match extension::term(one) {
            Some("launchContext") => {
                extension::part(one, "name").and_then(|name| name.str_at(&["code"]))
            }
            Some(_) => extension::value(one)
                .filter(|value| {
                    value.get("expression").is_some() || value.get("language").is_some()
                })
                .and_then(|value| value.str_at(&["name"])),
            None => None,
        };
        names.extend(name.map(Into::into));
    }
    names
}

/// What the assembled form is expected to be used as.
fn expectation(root: &Json) -> Option<Json> {
    let mut list = root.list("extension").iter();
    let one = list.find(|one| extension::term(one) == Some("assemble-expectation"))?;
    let code = extension::value(one)?.as_str()?;
    let code = match code.strip_prefix("assemble-") {
        Some("root") => return None,
        Some(rest) => format!("independent-{rest}"),
        None => code.to_owned(),
    };
    let mut changed = one.clone();
    changed.set("valueCode", code);
    Some(changed)
}

/// Takes out what only the modular form claims.
fn without_profile(whole: &mut Json) {
    let Some(meta) = whole.get_mut("meta") else { return };
    if let Some(Json::Array(profiles)) = meta.get_mut("profile") {
        profiles.retain(|profile| profile.as_str() != Some(MODULAR));
    }
    let is_empty = meta.list("profile").is_empty();
    if let Some(meta) = meta.as_object_mut() {
        if is_empty {
            meta.remove("profile");
        }
        meta.remove("versionId");
        meta.remove("lastUpdated");
    }
    let is_empty = whole.get("meta").and_then(Json::as_object).is_some_and(Object::is_empty);
    if is_empty && let Some(object) = whole.as_object_mut() {
        object.remove("meta");
    }
}

/// Puts a prefix before the ids of contained resources that an element refers to.
fn prefix_contained(json: &mut Json, prefix: &str, depth: usize) {
    const NAMES: [&str; 4] = ["reference", "answerValueSet", "valueCanonical", "valueUri"];
    if depth > 2 * MAX_DEPTH {
        return;
    }
    match json {
        Json::Object(object) => {
            for (name, value) in object.iter_mut() {
                let is_reference = NAMES.contains(&name);
                match value.as_str().and_then(|text| text.strip_prefix('#')) {
                    Some(id) if is_reference => *value = Json::from(format!("#{prefix}{id}")),
                    _ => prefix_contained(value, prefix, depth + 1),
                }
            }
        }
        Json::Array(list) => {
            list.iter_mut().for_each(|one| prefix_contained(one, prefix, depth + 1));
        }
        _ => {}
    }
}
