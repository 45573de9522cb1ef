//! `$json-schema`: the JSON Schema of a StructureDefinition, our own operation
//! (`profiles/structure/OperationDefinition-StructureDefinition-json-schema.json`).
//!
//! The answer is a Binary, so that whoever does not ask for FHIR has the schema itself:
//! <https://hl7.org/fhir/R4/binary.html#rest>. Value sets are those that are known from the start.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lumbar_fhir::json_schema::{MEDIA_TYPE, NoSchema, Sources, of_profile, of_type};
use lumbar_fhir::validate::Need;
use lumbar_fhir::{Issue, IssueType, Json, json};

use super::operation::Call;
use super::{Error, Facade, Reply, Unit};

/// Where the canonicals of R4's own types begin.
const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";
/// Most profiles that are made of each other.
const MAX_BASES: usize = 8;

impl Facade {
    /// The JSON Schema of the StructureDefinition that the call names by its id or its canonical.
    ///
    /// # Errors
    /// It is not known, or there is no JSON Schema of it.
    pub(super) async fn json_schema(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let canonical = match call.id {
            Some(id) => {
                let body = self.read("StructureDefinition", id).await?.body;
                let definition = body.and_then(|body| Json::parse(body.as_bytes()).ok());
                let definition = definition.ok_or(Error::Internal)?;
                let url = definition.str_at(&["url"]).unwrap_or_default();
                match definition.str_at(&["version"]) {
                    Some(version) => format!("{url}|{version}"),
                    None => url.to_owned(),
                }
            }
            None => in_query(call)?,
        };
        let definitions = self.definitions();
        let mut unit = Unit::new(self);
        let mut world = self.world(&unit);
        let mut needed = Some(canonical.clone());
        for _ in 0..MAX_BASES {
            let Some(name) = needed.take() else { break };
            if world.known.profiles.find(&name).is_none() {
                self.fetch_needs(&mut world, &mut unit, vec![Need::Profile(name.clone())]).await?;
            }
            let found = world.known.profiles.find(&name).and_then(|profile| profile.definition());
            let base = found.and_then(|definition| definition.str_at(&["baseDefinition"]));
            needed = base.filter(|base| core_type(base).is_none()).map(str::to_owned);
        }
        let known = self.keep(&mut unit, world);
        let make = move || {
            let sources = Sources {
                definitions: &definitions,
                profiles: &known.profiles,
                terminology: &known.terminology,
            };
            let made = match (known.profiles.find(&canonical), core_type(&canonical)) {
                (Some(profile), _) => of_profile(sources, profile),
                (None, Some(name)) if definitions.type_of(name).is_some() => of_type(sources, name),
                (None, _) => return None,
            };
            Some(made.map(|schema| schema.to_string()))
        };
        let Some(schema) = self.work.run(make).await? else {
            let text = "No StructureDefinition of that canonical is known here; store it, or start the service with --profiles.";
            return Err(Error::NotFound(Issue::error(IssueType::NotFound, text)));
        };
        let schema = schema.map_err(|error| {
            let code = match error {
                NoSchema::NoType => IssueType::NotSupported,
                NoSchema::TooLarge => IssueType::TooCostly,
            };
            let text = format!("There is no JSON Schema of this StructureDefinition: {error}.");
            Error::Invalid(vec![Issue::error(code, text)])
        })?;
        Ok(Reply::of(&json!({
            "resourceType": "Binary",
            "contentType": (MEDIA_TYPE),
            "data": (STANDARD.encode(schema))
        })))
    }
}

/// The canonical in the query.
fn in_query(call: &Call<'_>) -> Result<String, Error> {
    let found = call.parameters.iter().find(|(name, value)| name == "url" && !value.is_empty());
    found.map(|(_, value)| value.clone()).ok_or_else(|| {
        let text = "Say whose JSON Schema is wanted: StructureDefinition/[id]/$json-schema, or StructureDefinition/$json-schema?url= and a canonical.";
        Error::Unparseable(vec![Issue::error(IssueType::Required, text).at("http.url")])
    })
}

/// The name of a type of R4 that a canonical means.
fn core_type(canonical: &str) -> Option<&str> {
    let url = canonical.split('|').next().unwrap_or_default();
    url.strip_prefix(CORE).filter(|name| !name.contains('-'))
}
