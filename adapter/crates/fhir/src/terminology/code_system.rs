//! Code systems: <https://hl7.org/fhir/R4/codesystem.html>.
//!
//! The hierarchy is made of nested concepts and of the properties `parent`, `child` and
//! `subsumedBy`, under whatever code the system declares them by their uri; every hierarchy counts
//! as is-a, as filters ask for nothing else.

use std::collections::{HashMap, HashSet};

use compact_str::{CompactString, ToCompactString};

use super::MAX_CONCEPTS;
use crate::{Issue, IssueType, Json};

/// A code system, ready for look-ups.
#[derive(Clone, Debug)]
pub struct CodeSystem {
    /// Canonical url.
    pub url: String,
    /// Business version.
    pub version: Option<String>,
    /// Name or title, or the url.
    pub name: String,
    /// Whether all its concepts are here: `content` is `complete`.
    pub is_complete: bool,
    /// Whether it only adds to another one: `content` is `supplement`.
    pub is_supplement: bool,
    pub(super) case_sensitive: bool,
    /// Codes of the declared properties, with the uri each stands for.
    declared: HashMap<CompactString, CompactString>,
    concepts: Vec<Concept>,
    places: HashMap<CompactString, u32>,
}

/// One concept.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names are those of CodeSystem.concept")]
pub struct Concept {
    pub code: CompactString,
    pub display: Option<CompactString>,
    pub definition: Option<CompactString>,
    /// Designations as they are written.
    pub designations: Vec<Json>,
    /// Properties as they are written.
    pub properties: Vec<Json>,
    /// Whether it only groups others.
    pub is_abstract: bool,
    /// Whether it is no longer to be used.
    pub inactive: bool,
    pub(super) parents: Vec<u32>,
    pub(super) children: Vec<u32>,
}

impl CodeSystem {
    /// Reads a CodeSystem resource.
    ///
    /// # Errors
    /// It has no url or too many concepts.
    pub fn read(resource: &Json) -> Result<CodeSystem, Issue> {
        let text = |name: &str| resource.str_at(&[name]).map(str::to_owned);
        let Some(url) = text("url") else {
            let issue = Issue::error(
                IssueType::Required,
                "The CodeSystem has no url, by which codes name it; add url.",
            );
            return Err(issue.at("CodeSystem.url"));
        };
        let mut system = CodeSystem::empty(&url, resource.str_at(&["version"]));
        system.name = text("title").or_else(|| text("name")).unwrap_or(url);
        system.is_complete = resource.str_at(&["content"]) == Some("complete");
        system.is_supplement = resource.str_at(&["content"]) == Some("supplement")
            || resource.get("supplements").is_some();
        system.case_sensitive =
            resource.get("caseSensitive").and_then(Json::as_bool) != Some(false);
        for property in resource.list("property") {
            let code = property.str_at(&["code"]).unwrap_or_default();
            let uri = property.str_at(&["uri"]).unwrap_or_default();
            system.declared.entry(code.into()).or_insert_with(|| uri.into());
        }
        let mut links: Vec<(CompactString, CompactString)> = Vec::new();
        let mut open: Vec<(&Json, Option<u32>)> =
            resource.list("concept").iter().rev().map(|concept| (concept, None)).collect();
        while let Some((json, parent)) = open.pop() {
            let Some(code) = json.str_at(&["code"]) else { continue };
            let concept = system.concept(json, code, &mut links);
            let place = system.add(concept, parent)?;
            open.extend(json.list("concept").iter().rev().map(|child| (child, Some(place))));
        }
        for (parent, child) in links {
            system.link(&parent, &child);
        }
        Ok(system.finished())
    }

    /// A complete system without concepts.
    pub(super) fn empty(url: &str, version: Option<&str>) -> CodeSystem {
        CodeSystem {
            url: url.to_owned(),
            version: version.filter(|version| !version.is_empty()).map(str::to_owned),
            name: url.to_owned(),
            is_complete: true,
            is_supplement: false,
            case_sensitive: true,
            declared: HashMap::new(),
            concepts: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Adds a concept below another; a code that is there already stays as it is.
    pub(super) fn add(&mut self, concept: Concept, parent: Option<u32>) -> Result<u32, Issue> {
        let key = self.key(&concept.code);
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                let next = u32::try_from(self.concepts.len()).ok();
                let Some(next) = next.filter(|_| self.concepts.len() < MAX_CONCEPTS) else {
                    return Err(Issue::error(
                        IssueType::TooCostly,
                        format!(
                            "The code system {} has more than {MAX_CONCEPTS} concepts; keep it on a terminology server.",
                            self.url
                        ),
                    ));
                };
                self.places.insert(key, next);
                self.concepts.push(concept);
                next
            }
        };
        if let Some(parent) = parent {
            self.join(parent, place);
        }
        Ok(place)
    }

    /// Puts `child` below `parent`; codes that are not there are left out.
    pub(super) fn link(&mut self, parent: &str, child: &str) {
        if let (Some(parent), Some(child)) = (self.find(parent), self.find(child)) {
            self.join(parent, child);
        }
    }

    fn join(&mut self, parent: u32, child: u32) {
        if parent == child {
            return;
        }
        if let Some(concept) = self.concepts.get_mut(child as usize) {
            concept.parents.push(parent);
        }
        if let Some(concept) = self.concepts.get_mut(parent as usize) {
            concept.children.push(child);
        }
    }

    /// The system when all is added; a link that was stated twice is one.
    pub(super) fn finished(mut self) -> CodeSystem {
        for concept in &mut self.concepts {
            for places in [&mut concept.parents, &mut concept.children] {
                places.sort_unstable();
                places.dedup();
            }
        }
        self
    }

    /// The concept of `json`; what it says of its parents and children goes to `links`.
    fn concept(
        &self,
        json: &Json,
        code: &str,
        links: &mut Vec<(CompactString, CompactString)>,
    ) -> Concept {
        let mut concept = Concept {
            code: code.into(),
            display: json.str_at(&["display"]).map(CompactString::from),
            definition: json.str_at(&["definition"]).map(CompactString::from),
            designations: json.list("designation").to_vec(),
            properties: json.list("property").to_vec(),
            ..Concept::default()
        };
        for property in &concept.properties {
            let Some(value) = property_value(property) else { continue };
            match self.meaning(property.str_at(&["code"]).unwrap_or_default()) {
                "parent" | "subsumedBy" => links.push((value, code.into())),
                "child" => links.push((code.into(), value)),
                "notSelectable" | "abstract" => concept.is_abstract |= value == "true",
                "inactive" => concept.inactive |= value == "true",
                "status" => concept.inactive |= matches!(value.as_str(), "retired" | "inactive"),
                _ => {}
            }
        }
        concept
    }

    /// The standard's name of a property that the system may call otherwise:
    /// <https://hl7.org/fhir/R4/codesystem-concept-properties.html>.
    pub(super) fn meaning<'a>(&'a self, property: &'a str) -> &'a str {
        let declared = self.declared.get(property);
        declared
            .and_then(|uri| uri.strip_prefix("http://hl7.org/fhir/concept-properties#"))
            .unwrap_or(property)
    }

    /// A code as it is compared.
    pub(crate) fn key(&self, code: &str) -> CompactString {
        if self.case_sensitive { code.into() } else { code.to_lowercase().into() }
    }

    /// The place of a code. One that is only a form, as `NNxxx` of HL7's identifier types with a
    /// country for `xxx`, is that of all codes of the form.
    pub fn find(&self, code: &str) -> Option<u32> {
        let place = |code: &str| self.places.get(&self.key(code)).copied();
        place(code).or_else(|| {
            let (stem, country) = code.split_at_checked(2)?;
            let is_country = country.len() == 3 && country.bytes().all(|b| b.is_ascii_uppercase());
            if is_country && stem == "NN" { place("NNxxx") } else { None }
        })
    }

    /// The concept of a code.
    pub fn get(&self, code: &str) -> Option<&Concept> {
        self.concepts.get(self.find(code)? as usize)
    }

    /// The concept at a place that [`CodeSystem::find`] gave.
    pub(super) fn concept_at(&self, place: u32) -> &Concept {
        static NONE: std::sync::LazyLock<Concept> = std::sync::LazyLock::new(Concept::default);
        self.concepts.get(place as usize).unwrap_or(&NONE)
    }

    /// The concepts in order.
    pub fn concepts(&self) -> &[Concept] {
        &self.concepts
    }

    /// Everything that is below `root` or, upwards, above it; `root` itself only by a circle.
    pub(super) fn closure(&self, root: u32, upwards: bool) -> HashSet<u32> {
        let next = |place: u32| {
            let concept = self.concept_at(place);
            if upwards { &concept.parents } else { &concept.children }
        };
        let mut found = HashSet::new();
        let mut open = next(root).clone();
        while let Some(place) = open.pop() {
            if found.insert(place) {
                open.extend(next(place));
            }
        }
        found
    }

    /// The codes below `code`, or above it, without itself; `None` when the system has no such code.
    pub fn related(&self, code: &str, upwards: bool) -> Option<Vec<&str>> {
        let root = self.find(code)?;
        let mut places: Vec<u32> = self.closure(root, upwards).into_iter().collect();
        places.retain(|place| *place != root);
        places.sort_unstable();
        Some(places.into_iter().map(|place| self.concept_at(place).code.as_str()).collect())
    }

    /// Whether the system knows a property of this code.
    pub(super) fn has_property(&self, property: &str) -> bool {
        let carried = |concept: &Concept| {
            concept.properties.iter().any(|p| p.str_at(&["code"]) == Some(property))
        };
        self.declared.contains_key(property) || self.concepts.iter().any(carried)
    }

    /// The values of a property as text.
    pub(super) fn values(&self, place: u32, property: &str) -> Vec<CompactString> {
        let concept = self.concept_at(place);
        let codes = |places: &[u32]| {
            places.iter().map(|place| self.concept_at(*place).code.clone()).collect()
        };
        let carried = || -> Vec<CompactString> {
            let of_name =
                concept.properties.iter().filter(|p| p.str_at(&["code"]) == Some(property));
            of_name.filter_map(property_value).collect()
        };
        match self.meaning(property) {
            "concept" | "code" => vec![concept.code.clone()],
            "display" => concept.display.iter().cloned().collect(),
            "definition" => concept.definition.iter().cloned().collect(),
            "parent" | "subsumedBy" => codes(&concept.parents),
            "child" => codes(&concept.children),
            "inactive" => vec![concept.inactive.to_compact_string()],
            "notSelectable" | "abstract" => vec![concept.is_abstract.to_compact_string()],
            _ => carried(),
        }
    }
}

/// The value of a property as text; of a Coding its code.
fn property_value(property: &Json) -> Option<CompactString> {
    let (_, value) = property.as_object()?.iter().find(|(name, _)| name.starts_with("value"))?;
    match value {
        Json::String(text) | Json::Number(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_compact_string()),
        other => other.str_at(&["code"]).map(CompactString::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn circles_in_the_hierarchy_end() {
        let system = CodeSystem::read(&json!({
            "resourceType": "CodeSystem", "url": "http://x.test/c", "content": "complete",
            "concept": [
                {"code": "a", "property": [{"code": "parent", "valueCode": "b"}]},
                {"code": "b", "property": [{"code": "parent", "valueCode": "a"}]},
                {"code": "c", "property": [{"code": "parent", "valueCode": "c"}]}
            ]
        }))
        .unwrap();
        assert_eq!(system.related("a", false).unwrap(), ["b"]);
        assert_eq!(system.related("c", true).unwrap(), [] as [&str; 0]);
        assert_eq!(system.related("d", true), None);
    }

    #[test]
    fn a_national_number_has_a_country() {
        let types = crate::terminology::Library::r4();
        let url = "http://terminology.hl7.org/CodeSystem/v2-0203";
        let types = types.system(url, None).here().unwrap();
        assert_eq!(types.get("NNGBR").unwrap().code, "NNxxx");
        assert!(types.get("NNG").is_none() && types.get("NNgbr").is_none());
        assert!(types.get("XXGBR").is_none() && types.get("NHGBR").is_none());
    }

    #[test]
    fn what_supplements_another_is_a_supplement_whatever_its_content() {
        let system = CodeSystem::read(&json!({
            "resourceType": "CodeSystem", "url": "http://x.test/c", "content": "complete",
            "supplements": "http://x.test/base", "concept": [{"code": "a"}]
        }))
        .unwrap();
        assert!(system.is_supplement);
    }

    #[test]
    fn a_property_is_known_by_its_uri() {
        let system = CodeSystem::read(&json!({
            "resourceType": "CodeSystem", "url": "http://x.test/c", "caseSensitive": false,
            "property": [{"code": "up", "uri": "http://hl7.org/fhir/concept-properties#parent"}],
            "concept": [{"code": "A"}, {"code": "B", "property": [{"code": "up", "valueCode": "a"}]}]
        }))
        .unwrap();
        assert_eq!(system.related("a", false).unwrap(), ["B"]);
        assert_eq!(system.get("b").unwrap().code, "B");
    }
}
