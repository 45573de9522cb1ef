//! The operations of terminology: <https://hl7.org/fhir/R4/terminology-service.html>.
//!
//! What is asked about is looked for among the resources, then in R4's own tables, then on the
//! terminology server of the configuration, which is told urls, systems, codes and the text of a
//! filter, and nothing of a patient. `ConceptMap/$closure` is not offered.

mod content;
mod remote;

use std::collections::HashMap;
use std::sync::Arc;

use lumbar_fhir::datetime::instant;
use lumbar_fhir::terminology::{
    Canonical, CodeSystem, ConceptMap, Expand, Input, Library, Purpose, Refusal, Translate,
    ValidateCode, ValueSet, expand, in_code_system, in_value_set, lookup, other_maps, subsumes,
    translate, unknown_map,
};
use lumbar_fhir::{Issue, IssueType, Json};

use super::operation::Call;
use super::{Error, Facade, Reply};
use content::{Artefact, first};
pub(super) use content::{Cache, escape};

/// Longest chain of concept maps that name each other.
const MAX_MAPS: usize = 4;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(issue) => Error::Unparseable(vec![issue]),
            Refusal::Unknown(issue) => Error::NotFound(issue),
            Refusal::Unprocessable(issue) => Error::Invalid(vec![issue]),
        }
    }
}

/// What an operation is about.
enum Subject<T> {
    Known(Arc<T>),
    /// Known to nobody here.
    Unknown(Canonical),
    /// The request does not say.
    Unnamed,
}

impl Facade {
    /// `ValueSet/$expand`.
    pub(super) async fn expand(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let input = Input::read(call.parameters, call.body, "ValueSet", "valueSet")?;
        let asked = Expand::read(&input)?;
        let set =
            match self.subject::<ValueSet>(call, &input, "valueSet", "valueSetVersion").await? {
                Subject::Known(set) => set,
                Subject::Unnamed => return Err(no_value_set(&input).into()),
                Subject::Unknown(canonical) => {
                    let names = [
                        "url",
                        "valueSetVersion",
                        "filter",
                        "offset",
                        "count",
                        "includeDesignations",
                        "designation",
                        "includeDefinition",
                        "activeOnly",
                        "excludeNested",
                        "excludeNotForUI",
                        "displayLanguage",
                        "exclude-system",
                    ];
                    return match self.elsewhere("ValueSet/$expand", input.only(&names)).await? {
                        Some(reply) => Ok(reply),
                        None => Err(unknown("value set", &canonical)),
                    };
                }
            };
        let mut library = Library::default();
        let trouble = self.fill(&mut library, &set, Purpose::Codes).await?;
        let identifier = format!("urn:uuid:{}", self.source.id());
        let timestamp = instant(self.source.now());
        let limit = self.policy.limits.expansion;
        expand(&library, &set, &asked, limit, (&identifier, &timestamp))
            .map(|answer| Reply::of(&answer))
            .map_err(|refusal| first(trouble, refusal))
    }

    /// `ValueSet/$validate-code`.
    pub(super) async fn validate_in_set(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let input = Input::read(call.parameters, call.body, "ValueSet", "valueSet")?;
        let mut asked = ValidateCode::read(&input, "systemVersion")?;
        let with_system = asked.codings.iter().filter(|coding| coding.system.is_some()).count();
        if with_system == 0 && !asked.infer_system {
            return Err(input
                .required(
                    "system",
                    "A code needs its system, as in system=http://hl7.org/fhir/administrative-gender, or inferSystem=true.",
                )
                .into());
        }
        let subject = self.subject::<ValueSet>(call, &input, "valueSet", "valueSetVersion").await?;
        let set = match subject {
            Subject::Known(set) => set,
            Subject::Unnamed => return Err(no_value_set(&input).into()),
            Subject::Unknown(canonical) => {
                let only = input.only(&["url", "valueSetVersion", "displayLanguage", "abstract"]);
                let only = only.with_codings(&asked.codings);
                return match self.elsewhere("ValueSet/$validate-code", only).await? {
                    Some(reply) => Ok(reply),
                    None => Err(unknown("value set", &canonical)),
                };
            }
        };
        let mut library = Library::default();
        if asked.infer_system {
            let trouble = self.fill(&mut library, &set, Purpose::Codes).await?;
            asked.infer(&library, &set).map_err(|refusal| first(trouble, refusal))?;
        }
        asked.codings.retain(|coding| coding.system.is_some());
        let mut trouble = None;
        for coding in &asked.codings {
            let system = coding.system.as_deref().unwrap_or_default();
            let purpose = Purpose::Membership { system, code: &coding.code };
            trouble = trouble.or(self.fill(&mut library, &set, purpose).await?);
        }
        let answer = in_value_set(&library, &set, &asked);
        answer.map(|answer| Reply::of(&answer)).map_err(|refusal| first(trouble, refusal))
    }

    /// `CodeSystem/$validate-code`.
    pub(super) async fn validate_in_system(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let input = Input::read(call.parameters, call.body, "CodeSystem", "codeSystem")?;
        let asked = ValidateCode::read(&input, "version")?;
        let named = asked.codings.iter().find_map(|coding| coding.system.clone());
        let input = match named {
            Some(system) if call.id.is_none() && input.get("codeSystem").is_none() => {
                input.or("url", system)
            }
            _ => input,
        };
        let (system, canonical) = match self
            .subject::<CodeSystem>(call, &input, "codeSystem", "version")
            .await?
        {
            Subject::Known(system) => {
                let canonical = Canonical::new(&system.url, system.version.as_deref());
                (Some(system), canonical)
            }
            Subject::Unknown(canonical) => (None, canonical),
            Subject::Unnamed => {
                return Err(input
                        .required(
                            "url",
                            "Say which code system is meant: url, codeSystem or coding, as in url=http://hl7.org/fhir/administrative-gender.",
                        )
                        .into());
            }
        };
        if let Some(system) = system {
            let has = |code: &str| system.get(code).is_some();
            if system.is_complete || asked.codings.iter().any(|coding| has(&coding.code)) {
                return Ok(Reply::of(&in_code_system(&system, &asked)));
            }
        }
        let only = input.only(&["url", "version", "displayLanguage", "abstract"]);
        let only = only.with_codings(&asked.codings);
        match self.elsewhere("CodeSystem/$validate-code", only).await? {
            Some(reply) => Ok(reply),
            None => Err(unknown("code system", &canonical)),
        }
    }

    /// `CodeSystem/$lookup`.
    pub(super) async fn look_up(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let input = Input::read(call.parameters, call.body, "CodeSystem", "codeSystem")?;
        if input.get("codeableConcept").is_some() {
            return Err(input.refuse("codeableConcept", "is none of $lookup; send coding").into());
        }
        let codings = input.codings("version")?;
        let Some((system, coding)) =
            codings.iter().find_map(|coding| Some((coding.system.as_deref()?, coding)))
        else {
            return Err(no_system(&input).into());
        };
        let canonical = Canonical::new(system, coding.version.as_deref());
        let language = input.text("displayLanguage")?;
        let wanted: Vec<&str> = input.all("property").filter_map(Json::as_str).collect();
        if let Some(system) = self.resolve::<CodeSystem>(&canonical).await?
            && (system.is_complete || system.get(&coding.code).is_some())
        {
            return Ok(Reply::of(&lookup(&system, &coding.code, &wanted, language)?));
        }
        let only = input.only(&["displayLanguage", "property"]).with_codings(&codings);
        match self.elsewhere("CodeSystem/$lookup", only).await? {
            Some(reply) => Ok(reply),
            None => Err(unknown("code system", &canonical)),
        }
    }

    /// `CodeSystem/$subsumes`.
    pub(super) async fn subsumes(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let input = Input::read(call.parameters, call.body, "CodeSystem", "codeSystem")?;
        let side = |code: &str, coding: &str| -> Result<(Option<String>, String), Error> {
            match (input.text(code)?, input.coding(coding)?) {
                (Some(code), None) => {
                    Ok((input.text("system")?.map(str::to_owned), code.to_owned()))
                }
                (None, Some(coding)) => Ok((coding.system, coding.code)),
                _ => Err(input
                    .required(code, &format!("Send {code} with system, or {coding}."))
                    .into()),
            }
        };
        let (system_a, a) = side("codeA", "codingA")?;
        let (system_b, b) = side("codeB", "codingB")?;
        if system_a != system_b {
            let text = "Codes of two systems cannot be compared; send codes of one system.";
            return Err(Error::Invalid(vec![Issue::error(IssueType::NotSupported, text)]));
        }
        let (system, canonical) = match (call.id, system_a) {
            (Some(id), _) => {
                let system = self.instance::<CodeSystem>(id).await?;
                let canonical = Canonical::new(&system.url, None);
                (Some(system), canonical)
            }
            (None, None) => return Err(no_system(&input).into()),
            (None, Some(system)) => {
                let canonical = Canonical::new(&system, input.text("version")?);
                (self.resolve::<CodeSystem>(&canonical).await?, canonical)
            }
        };
        if let Some(system) = system.filter(|system| system.is_complete) {
            return Ok(Reply::of(&subsumes(&system, &a, &b)?));
        }
        let only = input.only(&["version"]);
        let only = only.or("codeA", a).or("codeB", b).or("system", canonical.url.as_str());
        match self.elsewhere("CodeSystem/$subsumes", only).await? {
            Some(reply) => Ok(reply),
            None => Err(unknown("code system", &canonical)),
        }
    }

    /// `ConceptMap/$translate`.
    pub(super) async fn translate(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let input = Input::read(call.parameters, call.body, "ConceptMap", "conceptMap")?;
        let asked = Translate::read(&input)?;
        let subject =
            self.subject::<ConceptMap>(call, &input, "conceptMap", "conceptMapVersion").await?;
        let (maps, unknown) = match subject {
            Subject::Known(map) => (vec![map], None),
            Subject::Unknown(canonical) => (Vec::new(), Some(canonical)),
            Subject::Unnamed => {
                let mut maps = self.maps_for(&asked).await?;
                maps.retain(|map| asked.concerns(map));
                (maps, None)
            }
        };
        if maps.is_empty() {
            let names = ["url", "conceptMapVersion", "source", "target", "targetsystem", "reverse"];
            let only = input.only(&names).with_codings(&asked.codings);
            if let Some(reply) = self.elsewhere("ConceptMap/$translate", only).await? {
                return Ok(reply);
            }
            if let Some(canonical) = unknown {
                return Err(unknown_map(&canonical).into());
            }
        }
        let others = self.others(&maps).await?;
        let maps: Vec<&ConceptMap> = maps.iter().map(Arc::as_ref).collect();
        let other = |url: &str| others.get(url).map(Arc::as_ref);
        Ok(Reply::of(&translate(&maps, &asked, &other)))
    }

    /// The maps that maps name for the codes they lack.
    async fn others(
        &self,
        maps: &[Arc<ConceptMap>],
    ) -> Result<HashMap<String, Arc<ConceptMap>>, Error> {
        let mut others: HashMap<String, Arc<ConceptMap>> = HashMap::new();
        let mut open = maps.to_vec();
        for _ in 0..MAX_MAPS {
            let urls: Vec<String> =
                open.iter().flat_map(|map| other_maps(map)).map(str::to_owned).collect();
            open.clear();
            for url in urls {
                if !others.contains_key(&url)
                    && let Some(map) = self.resolve::<ConceptMap>(&Canonical::parse(&url)).await?
                {
                    others.insert(url, map.clone());
                    open.push(map);
                }
            }
        }
        Ok(others)
    }

    /// What the instance, the parameter `resource` or the parameter `url` names.
    async fn subject<T: Artefact>(
        &self,
        call: &Call<'_>,
        input: &Input,
        resource: &str,
        version: &str,
    ) -> Result<Subject<T>, Error> {
        if let Some(id) = call.id {
            return Ok(Subject::Known(self.instance(id).await?));
        }
        if let Some(resource) = input.get(resource) {
            let read = T::read(resource).map_err(|issue| Error::Invalid(vec![issue]))?;
            return Ok(Subject::Known(Arc::new(read)));
        }
        let Some(url) = input.text("url")? else { return Ok(Subject::Unnamed) };
        let mut canonical = Canonical::parse(url);
        if let Some(version) = input.text(version)? {
            canonical.version = Some(version.to_owned());
        }
        Ok(match self.resolve(&canonical).await? {
            Some(found) => Subject::Known(found),
            None => Subject::Unknown(canonical),
        })
    }
}

fn no_value_set(input: &Input) -> Refusal {
    input.required(
        "url",
        "Say which value set is meant: url, valueSet or the instance, as in url=http://hl7.org/fhir/ValueSet/administrative-gender.",
    )
}

fn no_system(input: &Input) -> Refusal {
    input.required(
        "system",
        "A code needs its system, as in system=http://hl7.org/fhir/administrative-gender.",
    )
}

/// Something that nobody knows.
fn unknown(what: &str, canonical: &Canonical) -> Error {
    let shown: String = canonical.to_string().chars().take(200).collect();
    Error::NotFound(Issue::error(
        IssueType::NotFound,
        format!(
            "The {what} {shown} is not known here; load it, or name a terminology server with --terminology."
        ),
    ))
}
