use std::sync::Arc;

use super::*;
use crate::definitions::Definitions;

/// What a differential for `Patient` makes, with one extension that is known beside the types.
fn made(differential: Json) -> Result<Vec<Json>, Vec<Issue>> {
    made_of("Patient", differential)
}

fn made_of(base: &str, differential: Json) -> Result<Vec<Json>, Vec<Issue>> {
    let definition = json!({
        "resourceType": "StructureDefinition", "url": "https://lumbar.example/fhir/p",
        "type": base, "derivation": "constraint", "baseDefinition": (format!("{CORE}{base}")),
        "differential": {"element": differential}
    });
    let r4 = Definitions::r4();
    let base_of = |canonical: &str| -> Option<Arc<Json>> {
        of_type(&r4, canonical.strip_prefix(CORE)?).map(Arc::new)
    };
    let made = generate(&definition, &base_of)?;
    Ok(made.get("snapshot").unwrap().list("element").to_vec())
}

fn element<'a>(elements: &'a [Json], id: &str) -> &'a Json {
    let found = elements.iter().find(|element| element.str_at(&["id"]) == Some(id));
    found.unwrap_or_else(|| panic!("no {id}"))
}

fn ids<'a>(elements: &'a [Json], start: &str) -> Vec<&'a str> {
    let ids = elements.iter().filter_map(|element| element.str_at(&["id"]));
    ids.filter(|id| id.starts_with(start)).collect()
}

fn refused(differential: Json) -> Vec<(String, String)> {
    let issues = made(differential).unwrap_err();
    issues.into_iter().map(|issue| (issue.expression.unwrap_or_default(), issue.text)).collect()
}

#[test]
fn an_empty_differential_is_the_base() {
    let r4 = Definitions::r4();
    let base = of_type(&r4, "Patient").unwrap();
    let elements = made(json!([])).unwrap();
    assert_eq!(elements, base.get("snapshot").unwrap().list("element"));
}

#[test]
fn slices_are_inserted_and_walked_into() {
    let elements = made(json!([
        {"path": "Patient.identifier", "min": 1, "slicing": {
            "discriminator": [{"type": "value", "path": "system"}], "rules": "open"}},
        {"path": "Patient.identifier", "sliceName": "nhs", "max": "1"},
        {"path": "Patient.identifier.system", "min": 1, "fixedUri": "https://fhir.nhs.uk/Id/nhs-number"},
        {"path": "Patient.identifier", "sliceName": "local"},
        {"path": "Patient.identifier", "sliceName": "nhs/old", "min": 0}
    ]))
    .unwrap();
    assert_eq!(
        ids(&elements, "Patient.identifier"),
        [
            "Patient.identifier",
            "Patient.identifier:nhs",
            "Patient.identifier:nhs.id",
            "Patient.identifier:nhs.extension",
            "Patient.identifier:nhs.use",
            "Patient.identifier:nhs.type",
            "Patient.identifier:nhs.system",
            "Patient.identifier:nhs.value",
            "Patient.identifier:nhs.period",
            "Patient.identifier:nhs.assigner",
            "Patient.identifier:nhs/old",
            "Patient.identifier:nhs/old.id",
            "Patient.identifier:nhs/old.extension",
            "Patient.identifier:nhs/old.use",
            "Patient.identifier:nhs/old.type",
            "Patient.identifier:nhs/old.system",
            "Patient.identifier:nhs/old.value",
            "Patient.identifier:nhs/old.period",
            "Patient.identifier:nhs/old.assigner",
            "Patient.identifier:local",
        ]
    );
    let slice = element(&elements, "Patient.identifier:nhs");
    assert_eq!(slice.get("slicing"), None);
    assert_eq!((slice.get("min"), slice.str_at(&["max"])), (Some(&json!(0)), Some("1")));
    let system = element(&elements, "Patient.identifier:nhs.system");
    assert_eq!(system.str_at(&["path"]), Some("Patient.identifier.system"));
    assert_eq!(system.str_at(&["base", "path"]), Some("Identifier.system"));
    let again = element(&elements, "Patient.identifier:nhs/old.system");
    assert_eq!(again.get("fixedUri"), system.get("fixedUri"));
}

#[test]
fn an_id_says_the_place_whatever_the_order() {
    let elements = made(json!([
        {"id": "Patient.name.family", "path": "Patient.name.family", "min": 1},
        {"id": "Patient.active", "path": "Patient.active", "min": 1}
    ]))
    .unwrap();
    let position = |id| elements.iter().position(|element| element.str_at(&["id"]) == Some(id));
    assert!(position("Patient.active") < position("Patient.name.family"));
    let name = element(&elements, "Patient.name");
    assert_eq!(name.get("min"), Some(&json!(0)));
}

#[test]
fn a_choice_named_with_its_type_is_its_slice() {
    let elements = made(json!([{"path": "Patient.deceasedBoolean", "min": 1}])).unwrap();
    let choice = element(&elements, "Patient.deceased[x]");
    assert_eq!(choice.list("type"), [json!({"code": "boolean"})]);
    assert_eq!(choice.str_at(&["slicing", "discriminator", "type"]), Some("type"));
    let slice = element(&elements, "Patient.deceased[x]:deceasedBoolean");
    assert_eq!(slice.str_at(&["sliceName"]), Some("deceasedBoolean"));
    assert_eq!(slice.get("min"), Some(&json!(1)));
}

#[test]
fn extensions_are_sliced_by_url_without_saying_so() {
    let elements = made(json!([{
        "path": "Patient.extension", "sliceName": "race", "max": "1",
        "type": [{"code": "Extension", "profile": ["https://lumbar.example/fhir/e"]}]
    }]))
    .unwrap();
    let slicing = element(&elements, "Patient.extension").get("slicing").unwrap();
    assert_eq!(slicing.str_at(&["discriminator", "path"]), Some("url"));
    assert_eq!(element(&elements, "Patient.extension:race").str_at(&["max"]), Some("1"));
}

#[test]
fn a_content_reference_is_unfolded_where_it_is_walked_into() {
    let walked = json!([{"path": "Questionnaire.item.item.text", "min": 1}]);
    let elements = made_of("Questionnaire", walked).unwrap();
    let item = element(&elements, "Questionnaire.item.item");
    assert_eq!(item.get("contentReference"), None);
    assert_eq!(item.list("type"), [json!({"code": "BackboneElement"})]);
    let inner = element(&elements, "Questionnaire.item.item.item");
    assert_eq!(inner.str_at(&["contentReference"]), Some("#Questionnaire.item"));
}

#[test]
fn texts_lists_and_choices_are_merged() {
    let definition = |base: &str, element: Json| {
        json!({
            "resourceType": "StructureDefinition", "url": (format!("https://lumbar.example/{base}1")),
            "type": "Patient", "derivation": "constraint", "baseDefinition": base,
            "differential": {"element": [element]}
        })
    };
    let r4 = Definitions::r4();
    let patient = Arc::new(of_type(&r4, "Patient").unwrap());
    let first = definition(
        "a",
        json!({
            "path": "Patient.gender", "definition": "One.", "fixedCode": "male", "alias": ["sex"],
            "constraint": [{"key": "a-1", "severity": "error", "expression": "true"}],
            "binding": {"strength": "required", "description": "kept"}
        }),
    );
    let first = Arc::new(generate(&first, &|_| Some(patient.clone())).unwrap());
    let second = definition(
        "b",
        json!({
            "path": "Patient.gender", "definition": "...Two.", "patternCode": "female",
            "alias": ["sex", "g"], "fixedString": "x",
            "constraint": [
                {"key": "b-1", "severity": "warning", "expression": "false", "source": "urn:b"}],
            "binding": {"strength": "required", "valueSet": "urn:v"}
        }),
    );
    let second = generate(&second, &|_| Some(first.clone())).unwrap();
    let gender = element(second.get("snapshot").unwrap().list("element"), "Patient.gender");
    assert_eq!(gender.str_at(&["definition"]), Some("One.\r\nTwo."));
    assert_eq!(gender.get("fixedCode"), None);
    assert_eq!(gender.str_at(&["fixedString"]), Some("x"));
    assert_eq!(gender.str_at(&["patternCode"]), Some("female"));
    assert_eq!(gender.list("alias").len(), 2);
    let sources: Vec<_> = gender.list("constraint").iter().map(|c| c.str_at(&["source"])).collect();
    let element = format!("{CORE}Element");
    assert_eq!(sources, [Some(element.as_str()), Some("https://lumbar.example/a1"), Some("urn:b")]);
    assert_eq!(
        gender.get("binding"),
        Some(&json!({"strength": "required", "valueSet": "urn:v", "description": "kept"}))
    );
}

#[test]
fn what_cannot_be_placed_is_named() {
    let at = |differential: Json| refused(differential).into_iter().map(|(at, _)| at).next();
    let place = |text: &str| Some(text.to_owned());
    assert_eq!(at(json!([{"path": "Patient.nickname"}])), place("Patient.nickname"));
    assert_eq!(at(json!([{"path": "Observation.code"}])), place("Observation.code"));
    assert_eq!(at(json!([{"path": "Patient.birthDate.x"}])), place("Patient.birthDate.x"));
    assert_eq!(at(json!([{"path": "Patient..name"}])), place("Patient..name"));
    assert_eq!(at(json!([{"id": "Patient.name"}])), place("Patient.name"));
    let child_first = json!([
        {"path": "Patient.name", "slicing": {"rules": "open"}},
        {"id": "Patient.name:a.family", "path": "Patient.name.family"}
    ]);
    assert_eq!(at(child_first), place("Patient.name:a.family"));
    let two = refused(json!([
        {"path": "Patient.name", "sliceName": "a"}, {"path": "Patient.name", "sliceName": "b"}
    ]));
    assert!(two[0].1.contains("slicing"), "{two:?}");
    let names = refused(json!([{"path": "Patient.contact.nmae"}]));
    assert!(names[0].1.contains("relationship, name, telecom"), "{names:?}");
}

#[test]
fn a_snapshot_is_bounded() {
    let deep = format!("Patient{}", ".extension".repeat(200));
    assert!(refused(json!([{"path": deep}]))[0].1.contains("50"));
    // Slices of slices of slices.
    let mut elements = Vec::new();
    for path in ["Patient.contact", "Patient.contact.telecom"] {
        elements.push(json!({"path": path, "slicing": {"rules": "open"}}));
    }
    for round in 0..200 {
        let inner = format!("a{round}");
        elements.push(json!({"id": (format!("Patient.contact.telecom:{inner}")),
            "path": "Patient.contact.telecom", "sliceName": (inner.as_str())}));
        elements.push(json!({"id": (format!("Patient.contact:{inner}")),
            "path": "Patient.contact", "sliceName": (inner.as_str())}));
    }
    let told = refused(Json::Array(elements));
    assert!(told.last().unwrap().1.contains("20000"), "{told:?}");
    let nothing = generate(&json!({"url": "urn:x", "baseDefinition": "urn:y"}), &|_| None);
    assert!(nothing.unwrap_err()[0].text.contains("urn:y"));
}
