//! The kick-off request of `$export`:
//! <https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-kick-off-request>.
//!
//! Everything that can be refused is refused here, before the client waits.

use lumbar_fhir::datetime::{DateTime, Micros, Precision};
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::rest::{decode_pairs, encode_pairs};
use lumbar_fhir::search::Condition;
use lumbar_fhir::{Issue, IssueType};
use serde::{Deserialize, Serialize};

use super::export::{is_within, members};
use super::{EXPORT, new_id, refused, write};
use crate::facade::operation::Call;
use crate::facade::{Error, Facade, Reply};

/// Parameters of a search that say how an answer looks, which has no meaning here.
const SHAPING: [&str; 11] = [
    "_include",
    "_revinclude",
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_elements",
    "_cursor",
    "_format",
    "_pretty",
    "_contained",
];

/// Whose resources are exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// All.
    System,
    /// Those of all patients.
    Patient,
    /// Those of the members of the group with this id.
    Group(String),
}

/// What was asked for; it is kept with the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// URL of the request.
    pub(super) url: String,
    pub(super) level: Level,
    /// Empty for all.
    pub(super) types: Vec<String>,
    /// Type and query of each `_typeFilter`.
    pub(super) filters: Vec<(String, String)>,
    pub(super) since: Option<Micros>,
    pub(super) elements: Vec<String>,
    /// Ids of the patients that alone are wanted.
    pub(super) patients: Option<Vec<String>>,
    /// What was ignored, each a sentence and its place.
    pub(super) ignored: Vec<(String, String)>,
}

impl Facade {
    /// Takes an export on.
    pub(in crate::facade) async fn export(
        &self,
        call: &Call<'_>,
        level: Level,
    ) -> Result<Reply, Error> {
        let given = given(call)?;
        let asked = self.asked(call, level, given).await?;
        self.may_begin("export", call.prefer).await?;
        self.enqueue(&new_id(), EXPORT, &write(&asked)?).await
    }

    /// Reads the parameters: <https://hl7.org/fhir/uv/bulkdata/STU2/export.html#query-parameters>.
    async fn asked(
        &self,
        call: &Call<'_>,
        level: Level,
        given: Vec<Given>,
    ) -> Result<Asked, Error> {
        let path = match &level {
            Level::System => String::new(),
            Level::Patient => "Patient/".to_owned(),
            Level::Group(id) => format!("Group/{id}/"),
        };
        let query = encode_pairs(call.parameters);
        let mark = if query.is_empty() { "" } else { "?" };
        let mut asked = Asked {
            url: format!("{}/{path}$export{mark}{query}", self.base()),
            level,
            types: Vec::new(),
            filters: Vec::new(),
            since: None,
            elements: Vec::new(),
            patients: None,
            ignored: Vec::new(),
        };
        let definitions = self.definitions();
        for Given { name, value, place } in given {
            let parts = || value.split(',').map(str::trim).filter(|part| !part.is_empty());
            match name.as_str() {
                "_outputFormat" => check_format(&value, &place)?,
                "_since" => asked.since = Some(instant_of(&value, &place)?),
                "_type" => {
                    for part in parts() {
                        if !definitions.is_resource(part) {
                            return Err(refused(
                                IssueType::Value,
                                &place,
                                "_type names resource types of R4, separated by commas, as in Patient,Observation.",
                            ));
                        }
                        asked.types.push(part.to_owned());
                    }
                }
                "_typeFilter" => asked.filters.extend(
                    type_filters(&definitions, &value).ok_or_else(|| {
                        refused(
                            IssueType::Value,
                            &place,
                            "_typeFilter is a search, as in Observation?code=http://loinc.org|91351-7; encode & as %26.",
                        )
                    })?,
                ),
                "_elements" => asked.elements.extend(parts().map(str::to_owned)),
                "patient" if asked.level != Level::System && call.post => {
                    asked.patients.get_or_insert_default().push(patient_id(&value, &place)?);
                }
                "patient" => {
                    return Err(refused(
                        IssueType::NotSupported,
                        &place,
                        "patient is a parameter of a POST to Patient/$export or Group/[id]/$export.",
                    ));
                }
                "includeAssociatedData" | "organizeOutputBy" => {
                    return Err(refused(
                        IssueType::NotSupported,
                        &place,
                        format!("{name} is not offered; ask without it."),
                    ));
                }
                // These are about this answer, not about what is exported.
                "_format" | "_pretty" => {}
                _ if call.prefer.strict => {
                    return Err(refused(
                        IssueType::NotSupported,
                        &place,
                        "$export has no such parameter; it has _outputFormat, _since, _type, _typeFilter, _elements and patient.",
                    ));
                }
                _ => asked.ignored.push(("$export has no such parameter; it was ignored.".to_owned(), place)),
            }
        }
        asked.types.sort();
        asked.types.dedup();
        if asked.level != Level::System {
            let outside = |of: &String| !is_within(&definitions, of);
            for of in asked.types.iter().filter(|of| outside(of)) {
                let text = format!("Resources of the type {of} belong to no patient.");
                if call.prefer.strict {
                    return Err(refused(IssueType::NotSupported, "http._type", text));
                }
                asked.ignored.push((text, "http._type".to_owned()));
            }
            if !asked.types.is_empty() && asked.types.iter().all(outside) {
                return Err(refused(
                    IssueType::NotSupported,
                    "http._type",
                    "None of the types belongs to patients; ask for them with [base]/$export.",
                ));
            }
        }
        for (of, query) in &asked.filters {
            if !asked.types.is_empty() && !asked.types.contains(of) {
                return Err(refused(
                    IssueType::Invalid,
                    "http._typeFilter",
                    format!("_typeFilter is about {of}, which _type does not name; name it there."),
                ));
            }
            self.filter(of, query).await?;
        }
        self.check_patients(&asked).await?;
        Ok(asked)
    }

    /// The condition of a `_typeFilter`.
    pub(super) async fn filter(&self, of: &str, query: &str) -> Result<Condition, Error> {
        let parameters = decode_pairs(query)?;
        if let Some((name, _)) = parameters
            .iter()
            .find(|(name, _)| SHAPING.contains(&name.split(':').next().unwrap_or_default()))
        {
            return Err(refused(
                IssueType::NotSupported,
                "http._typeFilter",
                format!(
                    "_typeFilter says which resources are wanted; {name} has no meaning there."
                ),
            ));
        }
        match self.parse_search(of, &parameters, true).await {
            Ok(search) => Ok(search.query.condition),
            Err(Error::Unparseable(issues)) => Err(Error::Unparseable(
                issues.into_iter().map(|issue| issue.at("http._typeFilter")).collect(),
            )),
            Err(error) => Err(error),
        }
    }

    /// That the group and the patients are there.
    async fn check_patients(&self, asked: &Asked) -> Result<(), Error> {
        let members = match &asked.level {
            Level::Group(id) => {
                let body = self.read("Group", id).await?.body;
                Some(members(self.base(), body.as_deref().unwrap_or_default())?)
            }
            Level::System | Level::Patient => None,
        };
        for id in asked.patients.iter().flatten() {
            let there = match &members {
                Some(members) => members.contains(id),
                None => self.resources.read("Patient", id).await?.is_some_and(|p| p.body.is_some()),
            };
            if !there {
                return Err(Error::Invalid(vec![
                    Issue::error(
                        IssueType::NotFound,
                        "patient names a Patient that is not here, or is no member of the group.",
                    )
                    .at("Parameters.parameter.where(name = 'patient')"),
                ]));
            }
        }
        Ok(())
    }
}

/// A parameter as it was given.
struct Given {
    name: String,
    value: String,
    place: String,
}

/// The parameters of the query and of a Parameters resource in the body.
fn given(call: &Call<'_>) -> Result<Vec<Given>, Error> {
    let mut given: Vec<Given> = Vec::new();
    for (name, value) in call.parameters {
        let (name, value) = (name.clone(), value.clone());
        given.push(Given { place: format!("http.{name}"), name, value });
    }
    let Some(body) = call.body else { return Ok(given) };
    if body.str_at(&["resourceType"]) != Some("Parameters") {
        return Err(refused(
            IssueType::Structure,
            "resourceType",
            "The body of $export is a Parameters resource, as in {\"resourceType\": \"Parameters\", \"parameter\": [{\"name\": \"_type\", \"valueString\": \"Patient\"}]}.",
        ));
    }
    for (index, parameter) in body.list("parameter").iter().enumerate() {
        let place = format!("Parameters.parameter[{index}]");
        let members = parameter.as_object().into_iter().flat_map(|object| object.iter());
        let mut value = None;
        for (name, member) in members {
            if name.starts_with("value") {
                value = member.as_str().or_else(|| member.str_at(&["reference"]));
                if let Some(truth) = member.as_bool() {
                    value = Some(if truth { "true" } else { "false" });
                }
            }
        }
        let (Some(name), Some(value)) = (parameter.str_at(&["name"]), value) else {
            return Err(refused(
                IssueType::Structure,
                &place,
                "A parameter has a name and a value, as in {\"name\": \"_since\", \"valueInstant\": \"2026-03-01T00:00:00Z\"}.",
            ));
        };
        given.push(Given { name: name.to_owned(), value: value.to_owned(), place });
    }
    Ok(given)
}

fn check_format(value: &str, place: &str) -> Result<(), Error> {
    // A + that was not encoded has become a blank.
    match value.replace(' ', "+").as_str() {
        "application/fhir+ndjson" | "application/ndjson" | "ndjson" => Ok(()),
        _ => Err(refused(
            IssueType::NotSupported,
            place,
            "Exports are written as application/fhir+ndjson only; ask for that, or leave _outputFormat out.",
        )),
    }
}

fn instant_of(value: &str, place: &str) -> Result<Micros, Error> {
    let value = value.replace(' ', "+");
    let read = DateTime::parse(&value)
        .filter(|read| read.precision >= Precision::Second && read.offset.is_some());
    read.map(|read| read.bounds().0).ok_or_else(|| {
        refused(
            IssueType::Value,
            place,
            "_since is an instant with a time zone, as in 2026-03-01T00:00:00Z; encode + as %2B.",
        )
    })
}

/// Splits `Type?query`, several of them separated by commas as STU1 wrote them.
fn type_filters(definitions: &Definitions, value: &str) -> Option<Vec<(String, String)>> {
    let mut filters: Vec<(String, String)> = Vec::new();
    for part in value.split(',') {
        match part.split_once('?') {
            Some((of, query)) if definitions.is_resource(of.trim()) => {
                filters.push((of.trim().to_owned(), query.to_owned()));
            }
            // The comma belonged to a value.
            _ => {
                let (_, query) = filters.last_mut()?;
                query.push(',');
                query.push_str(part);
            }
        }
    }
    Some(filters)
}

fn patient_id(value: &str, place: &str) -> Result<String, Error> {
    let id = value.strip_prefix("Patient/").filter(|id| lumbar_fhir::rest::is_id(id));
    id.map(str::to_owned).ok_or_else(|| {
        refused(
            IssueType::Value,
            place,
            "patient is a reference to a Patient, as in {\"reference\": \"Patient/p1\"}.",
        )
    })
}
