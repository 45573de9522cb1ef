//! Pathways against cases: a form or a result, and what the searches find.

use lumbar_clinical::plan::{Applied, Inputs};
use lumbar_clinical::{Pathway, derive, plan};
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Json, Object, json};
use lumbar_testkit::root;

use crate::instruments::all;
use crate::{cases, list, name, read};

/// A moment after every `now` of the cases.
const LATER: &str = "2026-12-01T09:00:00Z";

fn pathway(id: &str) -> Pathway {
    let folder = root().join("profiles/pathways").join(id);
    let starting = |folder: &std::path::Path, prefix: &str| -> Vec<Json> {
        let files = list(folder);
        files.iter().filter(|path| name(path).starts_with(prefix)).map(|path| read(path)).collect()
    };
    let activities = starting(&folder, "ActivityDefinition-");
    let value_sets = starting(&root().join("profiles/terminology"), "ValueSet-");
    let plan = read(&folder.join("PlanDefinition.json"));
    Pathway::parse(&plan, &activities, &value_sets)
        .unwrap_or_else(|issue| panic!("{id}: {issue:?}"))
}

/// One case as the commit step would run it.
struct Case {
    response: Option<Json>,
    scores: Vec<Json>,
    result: Option<Json>,
    found: Vec<(String, Vec<Json>)>,
    now: String,
}

impl Case {
    fn read(input: &Json) -> Case {
        let found: Vec<(String, Vec<Json>)> =
            input.get("found").and_then(Json::as_object).map_or_else(Vec::new, |found| {
                found
                    .iter()
                    .map(|(name, _)| {
                        (name.to_owned(), input.get("found").unwrap().list(name).to_vec())
                    })
                    .collect()
            });
        let response = input.get("response").cloned();
        let mut scores = input.list("scores").to_vec();
        let mut result = None;
        if let Some(response) = &response {
            for instrument in all().iter().filter(|one| derive::concerns(one, response)) {
                let id = response.str_at(&["id"]).unwrap();
                result = Some(plan::result(instrument, response));
                // Answers that cannot be read give no scores, and still an alert.
                let Ok(derived) = derive::derive(instrument, response, id) else { continue };
                let stored = found.iter().flat_map(|(_, list)| list);
                let stored = stored.filter(|resource| {
                    derived.retracted.iter().any(|id| resource.str_at(&["id"]) == Some(id))
                });
                scores.extend(stored.map(derive::entered_in_error));
                scores.extend(derived.observations);
            }
        }
        let now = input.str_at(&["now"]).unwrap_or("2026-03-02T10:45:00Z").to_owned();
        Case { response, scores, result, found, now }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            response: self.response.as_ref(),
            scores: &self.scores,
            result: self.result.as_ref(),
            found: &self.found,
        }
    }

    fn apply(
        &self,
        pathway: &Pathway,
        definitions: &Definitions,
        now: &str,
    ) -> Result<Applied, String> {
        pathway.apply(definitions, &self.inputs(), now).map_err(|issue| issue.text)
    }

    /// Stores what followed, so that the next look finds it.
    fn store(&mut self, resources: &[Json]) {
        for resource in resources {
            let of = match resource.str_at(&["resourceType"]) {
                Some("ServiceRequest") => "requests",
                _ => "alerts",
            };
            let found = self.found.iter_mut().find(|(name, _)| name == of);
            let Some((_, requests)) = found else { continue };
            requests.retain(|other| other.get("id") != resource.get("id"));
            let mut stored = resource.clone();
            stored.set("meta", json!({"versionId": "1"}));
            requests.push(stored);
        }
    }
}

#[test]
fn own_cases() {
    let definitions = Definitions::r4();
    cases("pathways", |id, input| {
        let pathway = pathway(id);
        let mut case = Case::read(input);
        let needs = pathway.needs(&definitions, &case.inputs(), &case.now).unwrap();
        let applied = match case.apply(&pathway, &definitions, &case.now) {
            Ok(applied) => applied,
            Err(text) => return json!({"error": (text)}),
        };
        assert_eq!(case.apply(&pathway, &definitions, &case.now).unwrap(), applied);

        // Once stored, looking again at another time changes nothing.
        case.store(&applied.resources);
        let again = case.apply(&pathway, &definitions, LATER).unwrap();
        for resource in &applied.resources {
            if resource.str_at(&["status"]) == Some("draft") && resource.get("meta").is_none() {
                assert!(again.resources.contains(resource), "{resource}");
            }
        }

        let mut shown = Object::new();
        for need in &needs {
            shown.set(&need.name, need.search.as_str());
        }
        let reasons = applied.reasons.iter().map(|reason| {
            json!({"rule": (&reason.rule), "version": (&reason.version), "text": (&reason.text),
                "inputs": (reason.inputs.iter().map(Json::from).collect::<Vec<_>>())})
        });
        json!({"needs": (shown), "resources": (applied.resources),
            "reasons": (reasons.collect::<Vec<_>>())})
    });
}

#[test]
fn every_pathway_is_whole() {
    for folder in list(&root().join("profiles/pathways")).iter().filter(|path| path.is_dir()) {
        let id = name(folder);
        let plan = read(&folder.join("PlanDefinition.json"));
        assert_eq!(plan.str_at(&["id"]), Some(id));
        assert!(pathway(id).url.ends_with(&format!("/PlanDefinition/{id}")));
        assert!(folder.join("README.md").is_file(), "{id} has no README.md");
        for path in list(folder) {
            if let Some(activity) = name(&path).strip_prefix("ActivityDefinition-") {
                assert_eq!(read(&path).str_at(&["id"]), activity.strip_suffix(".json"));
            }
        }
    }
}

/// A broken artefact is found when it is read.
#[test]
fn faults_of_a_pathway_are_named() {
    let fault = |plan: Json| Pathway::parse(&plan, &[], &[]).unwrap_err().text;
    let with = |action: Json| json!({"url": "u", "version": "1", "action": [(action)]});
    let condition = |text: &str| {
        json!([{"kind": "applicability",
            "expression": {"language": "text/fhirpath", "expression": (text)}}])
    };
    assert!(fault(json!({"version": "1"})).contains("missing"));
    assert!(fault(with(json!({"title": "x"}))).contains("needs an id"));
    let broken = json!({"id": "a", "condition": (condition("1 +"))});
    assert!(fault(with(broken)).contains("does not work"));
    let unknown = json!({"id": "a", "definitionCanonical": "https://example.org/x"});
    assert!(fault(with(unknown)).contains("not at hand"));
}
