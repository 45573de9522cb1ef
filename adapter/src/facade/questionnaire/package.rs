//! `$questionnaire-package`: a form with all that it needs, for those who fill it in offline
//! (`profiles/structure/OperationDefinition-Questionnaire-questionnaire-package.json`). The
//! operation of the same name in <https://hl7.org/fhir/us/davinci-dtr/> is about coverage; this is
//! the part of it that is about the form.

use lumbar_fhir::datetime::instant;
use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::terminology::Input;
use lumbar_fhir::{Issue, IssueType, Json, json};

use crate::facade::operation::Call;
use crate::facade::{Error, Facade, Reply, Unit};

/// Most value sets and libraries of one form.
const MAX_PARTS: usize = 200;
const LIBRARY: &str = "http://hl7.org/fhir/StructureDefinition/cqf-library";

impl Facade {
    /// `$questionnaire-package`.
    ///
    /// # Errors
    /// The form is not here, or is made of too much.
    pub(in crate::facade) async fn questionnaire_package(
        &self,
        call: &Call<'_>,
    ) -> Result<Reply, Error> {
        self.begin().await?;
        let input = Input::read(call.parameters, call.body, "Questionnaire", "questionnaire")?;
        let mut unit = Unit::new(self);
        let form = self.form_of(call, &input, &mut unit).await?;
        let given = self.given(&input, &mut unit).await?;
        let (mut form, mut issues) = self.assembled(&mut unit, form).await?;
        let mut sets = Vec::new();
        value_sets(&form, &mut sets, 0);
        let libraries: Vec<String> = form
            .list("extension")
            .iter()
            .filter(|one| one.str_at(&["url"]) == Some(LIBRARY))
            .filter_map(|one| one.str_at(&["valueCanonical"]).map(str::to_owned))
            .collect();
        if sets.len() + libraries.len() > MAX_PARTS {
            let text = format!("The form needs more than {MAX_PARTS} value sets and libraries.");
            return Err(Error::Invalid(vec![Issue::error(IssueType::TooCostly, text)]));
        }
        self.expand_contained(call, &mut form, &mut issues).await?;
        let mut resources = Vec::new();
        for canonical in libraries {
            let packed = || self.rules.packages.resource("Library", &canonical);
            match self.canonical(&mut unit, "Library", &canonical).await?.or_else(packed) {
                Some(library) => resources.push(library),
                None => issues.push(absent("Library", &canonical)),
            }
        }
        for canonical in sets {
            let parameters = [("url".to_owned(), canonical.clone())];
            match self.expansion(call, &parameters, None).await? {
                Ok(set) => resources.push(set),
                Err(issue) => issues.push(issue),
            }
        }
        if given.subject.is_some() {
            let populated = self.populated(&mut unit, &input, form.clone(), given).await;
            match populated {
                Ok((response, more)) => {
                    resources.push(response);
                    issues.extend(more);
                }
                // The form is of use without a prepared response.
                Err(Error::Invalid(more)) => issues.extend(more),
                Err(error) => return Err(error),
            }
        }
        resources.insert(0, form);
        if !issues.is_empty() {
            resources.push(operation_outcome(&issues));
        }
        let entries: Vec<Json> = resources.into_iter().map(|one| self.packed(one)).collect();
        Ok(Reply::of(&json!({
            "resourceType": "Bundle",
            "type": "collection",
            "timestamp": (instant(self.source.now())),
            "entry": (entries)
        })))
    }

    fn packed(&self, resource: Json) -> Json {
        let of = resource.str_at(&["resourceType"]).unwrap_or_default();
        let url = match resource.str_at(&["id"]) {
            Some(id) => format!("{}/{of}/{id}", self.base),
            None => format!("urn:uuid:{}", self.source.id()),
        };
        json!({"fullUrl": (url), "resource": (resource)})
    }

    /// The expansion that `$expand` gives, or what is to be told instead.
    async fn expansion(
        &self,
        asked: &Call<'_>,
        parameters: &[(String, String)],
        body: Option<&Json>,
    ) -> Result<Result<Json, Issue>, Error> {
        let call = Call {
            name: "expand",
            resource_type: Some("ValueSet"),
            id: None,
            parameters,
            body,
            post: body.is_some(),
            prefer: asked.prefer,
            caller: asked.caller,
        };
        match self.expand(&call).await {
            Ok(reply) => {
                let body = reply.body.ok_or(Error::Internal)?;
                Json::parse(body.as_bytes()).map(Ok).map_err(|_| Error::Internal)
            }
            Err(
                error @ (Error::NotFound(_)
                | Error::Invalid(_)
                | Error::Unparseable(_)
                | Error::Unavailable(_)),
            ) => {
                let first = error.issues().into_iter().next().ok_or(Error::Internal)?;
                let name = parameters.first().map(|(_, url)| url.as_str());
                let name = name.unwrap_or("that the form contains");
                let text = format!("The value set {name} was not expanded: {}", first.text);
                Ok(Err(Issue::warning(first.code, text)))
            }
            Err(error) => Err(error),
        }
    }

    /// Expands the value sets that the form contains.
    async fn expand_contained(
        &self,
        call: &Call<'_>,
        form: &mut Json,
        issues: &mut Vec<Issue>,
    ) -> Result<(), Error> {
        let mut contained = form.list("contained").to_vec();
        for one in contained.iter_mut().take(MAX_PARTS) {
            let is_set = one.str_at(&["resourceType"]) == Some("ValueSet");
            if !is_set || one.get("expansion").is_some() {
                continue;
            }
            match self.expansion(call, &[], Some(one)).await? {
                Ok(set) => {
                    if let Some(expansion) = set.get("expansion") {
                        one.set("expansion", expansion.clone());
                    }
                }
                Err(issue) => issues.push(issue),
            }
        }
        if !contained.is_empty() {
            form.set("contained", contained);
        }
        Ok(())
    }
}

fn absent(of: &str, canonical: &str) -> Issue {
    let shown: String = canonical.chars().take(200).collect();
    let text = format!("The {of} {shown} is not here, so it is not in the package.");
    Issue::warning(IssueType::NotFound, text)
}

/// The canonicals of value sets that a form names.
fn value_sets(element: &Json, found: &mut Vec<String>, depth: usize) {
    const UNITS: &str = "http://hl7.org/fhir/StructureDefinition/questionnaire-unitValueSet";
    const SDC_UNITS: &str =
        "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-unitValueSet";
    if depth > 100 {
        return;
    }
    for item in element.list("item") {
        let units = item
            .list("extension")
            .iter()
            .filter(|one| one.str_at(&["url"]).is_some_and(|url| url == UNITS || url == SDC_UNITS));
        let units = units.filter_map(|one| one.str_at(&["valueCanonical"]));
        for set in item.str_at(&["answerValueSet"]).into_iter().chain(units) {
            if !set.starts_with('#') && !found.iter().any(|known| known == set) {
                found.push(set.to_owned());
            }
        }
        value_sets(item, found, depth + 1);
    }
}
