//! Value sets: <https://hl7.org/fhir/R4/valueset.html>.

use super::Canonical;
use crate::{Issue, IssueType, Json, Object};

/// A value set, its definition taken apart.
#[derive(Clone, Debug)]
pub struct ValueSet {
    /// The resource.
    pub(super) resource: Json,
    pub(super) include: Vec<Include>,
    pub(super) exclude: Vec<Include>,
    /// `compose.inactive` is false: codes that are not to be used are left out.
    pub(super) active_only: bool,
}

/// What one `include` or `exclude` names.
#[derive(Clone, Debug)]
pub(super) struct Include {
    pub(super) system: Option<Canonical>,
    pub(super) concepts: Vec<Listed>,
    pub(super) filters: Vec<Filter>,
    pub(super) value_sets: Vec<Canonical>,
    /// The part about the system as JSON text, by which it is asked for elsewhere.
    pub(super) text: String,
}

/// An enumerated code.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) code: String,
    pub(super) display: Option<String>,
    pub(super) designations: Vec<Json>,
}

/// A condition on the concepts of a system.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) property: String,
    pub(super) op: String,
    pub(super) value: String,
}

impl ValueSet {
    /// Reads a ValueSet resource.
    ///
    /// # Errors
    /// A part of its definition names nothing, or breaks a rule of R4.
    pub fn read(resource: &Json) -> Result<ValueSet, Issue> {
        let read = |name: &str| -> Result<Vec<Include>, Issue> {
            let parts = resource.get("compose").map_or(&[][..], |compose| compose.list(name));
            let part = |(index, part)| {
                include(part).map_err(|text| {
                    let at = format!("ValueSet.compose.{name}[{index}]");
                    Issue::error(IssueType::Invariant, text).at(at)
                })
            };
            parts.iter().enumerate().map(part).collect()
        };
        let active_only =
            resource.at(&["compose", "inactive"]).and_then(Json::as_bool) == Some(false);
        Ok(ValueSet {
            include: read("include")?,
            exclude: read("exclude")?,
            resource: resource.clone(),
            active_only,
        })
    }

    /// Canonical url.
    pub fn url(&self) -> Option<&str> {
        self.resource.str_at(&["url"])
    }

    /// Business version.
    pub fn version(&self) -> Option<&str> {
        self.resource.str_at(&["version"])
    }

    /// The url, or what stands for it in a sentence.
    pub(super) fn name(&self) -> &str {
        self.url().unwrap_or("the value set of the request")
    }

    /// The codes of an expansion that is stored with it and is whole.
    pub(super) fn stored_expansion(&self) -> Option<&[Json]> {
        let expansion = self.resource.get("expansion")?;
        let contains = expansion.list("contains");
        let is_part = expansion.get("offset").and_then(Json::as_i64).is_some_and(|at| at > 0)
            || expansion
                .get("total")
                .and_then(Json::as_i64)
                .is_some_and(|total| usize::try_from(total).is_ok_and(|n| n > count(contains)));
        (!is_part).then_some(contains)
    }
}

/// How many codes an expansion has, nested ones included.
fn count(contains: &[Json]) -> usize {
    let mut open: Vec<&Json> = contains.iter().collect();
    let mut count = 0;
    while let Some(item) = open.pop() {
        count += usize::from(item.get("code").is_some());
        open.extend(item.list("contains"));
    }
    count
}

fn include(part: &Json) -> Result<Include, String> {
    let text = |value: &Json, name: &str| value.str_at(&[name]).map(str::to_owned);
    let system = text(part, "system").map(|url| Canonical {
        url,
        version: text(part, "version").filter(|version| !version.is_empty()),
    });
    let concepts: Vec<Listed> = part
        .list("concept")
        .iter()
        .filter_map(|concept| {
            Some(Listed {
                code: text(concept, "code")?,
                display: text(concept, "display"),
                designations: concept.list("designation").to_vec(),
            })
        })
        .collect();
    let filters = part.list("filter").iter().map(|filter| {
        Some(Filter {
            property: text(filter, "property")?,
            op: text(filter, "op")?,
            value: text(filter, "value")?,
        })
    });
    let filters: Option<Vec<Filter>> = filters.collect();
    let filters = filters.ok_or("A filter needs property, op and value.")?;
    let value_sets: Vec<Canonical> =
        part.list("valueSet").iter().filter_map(Json::as_str).map(Canonical::parse).collect();
    if system.is_none() && value_sets.is_empty() {
        return Err("It needs a system or a valueSet (vsd-1).".to_owned());
    }
    if system.is_none() && !(concepts.is_empty() && filters.is_empty()) {
        return Err("With concept or filter it needs a system (vsd-2).".to_owned());
    }
    if !concepts.is_empty() && !filters.is_empty() {
        return Err("It cannot have both concept and filter (vsd-3).".to_owned());
    }
    let mut asked = Object::new();
    for name in ["system", "version", "filter"] {
        if let Some(value) = part.get(name) {
            asked.set(name, value);
        }
    }
    let text = Json::Object(asked).to_string();
    Ok(Include { system, concepts, filters, value_sets, text })
}
