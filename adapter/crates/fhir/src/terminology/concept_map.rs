//! Concept maps: <https://hl7.org/fhir/R4/conceptmap.html>.

use std::collections::HashMap;

use crate::Json;

/// A concept map, its codes ready for look-ups.
#[derive(Clone, Debug)]
pub struct ConceptMap {
    pub(super) resource: Json,
    /// Group and element of each source code.
    sources: HashMap<String, Vec<(usize, usize)>>,
    /// Group, element and target of each target code.
    targets: HashMap<String, Vec<(usize, usize, usize)>>,
}

impl ConceptMap {
    /// Reads a ConceptMap resource.
    pub fn read(resource: &Json) -> ConceptMap {
        let mut sources: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        let mut targets: HashMap<String, Vec<(usize, usize, usize)>> = HashMap::new();
        for (g, group) in resource.list("group").iter().enumerate() {
            for (e, element) in group.list("element").iter().enumerate() {
                if let Some(code) = element.str_at(&["code"]) {
                    sources.entry(code.to_owned()).or_default().push((g, e));
                }
                for (t, target) in element.list("target").iter().enumerate() {
                    if let Some(code) = target.str_at(&["code"]) {
                        targets.entry(code.to_owned()).or_default().push((g, e, t));
                    }
                }
            }
        }
        ConceptMap { resource: resource.clone(), sources, targets }
    }

    /// Canonical url.
    pub fn url(&self) -> Option<&str> {
        self.resource.str_at(&["url"])
    }

    /// Business version.
    pub fn version(&self) -> Option<&str> {
        self.resource.str_at(&["version"])
    }

    /// The value set on a side: `source` or `target`.
    pub fn side(&self, name: &str) -> Option<&str> {
        let members = [format!("{name}Canonical"), format!("{name}Uri")];
        members.iter().find_map(|member| self.resource.str_at(&[member]))
    }

    pub(super) fn groups(&self) -> &[Json] {
        self.resource.list("group")
    }

    /// Group and element of the elements with this source code.
    pub(super) fn by_source(&self, code: &str) -> impl Iterator<Item = (&Json, &Json)> {
        let places = self.sources.get(code).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|(g, e)| {
            let group = self.groups().get(*g)?;
            Some((group, group.list("element").get(*e)?))
        })
    }

    /// Group, element and target of the targets with this code.
    pub(super) fn by_target(&self, code: &str) -> impl Iterator<Item = (&Json, &Json, &Json)> {
        let places = self.targets.get(code).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|(g, e, t)| {
            let group = self.groups().get(*g)?;
            let element = group.list("element").get(*e)?;
            Some((group, element, element.list("target").get(*t)?))
        })
    }
}
