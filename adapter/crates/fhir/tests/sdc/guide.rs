//! The examples of the guide itself.

use std::path::PathBuf;
use std::sync::Arc;

use lumbar_fhir::questionnaire::{
    Form, Parts, Population, Searches, Sources, Wanted, assemble, populate,
};
use lumbar_fhir::{Issue, Json, json};
use lumbar_testkit::shared;

use super::{Given, NOW, R4, answers, print, read};

fn example(name: &str) -> Option<Json> {
    let path: PathBuf = shared()?.join("fhir/sdc/example").join(name);
    Some(read(&path))
}

fn patient() -> Json {
    json!({
        "resourceType": "Patient", "id": "p1", "birthDate": "1980-02-03",
        "identifier": [{"system": "http://ns.electronichealth.net.au/id/medicare-number", "value": "32"}],
        "name": [{"family": "Smith", "given": ["Ann", "Mary"]}],
        "telecom": [{"system": "phone", "use": "home", "value": "01"}]
    })
}

fn filled(form: &Json, searches: &Searches) -> String {
    let given = Given::new(NOW);
    let population = Population::read(Arc::new(Form::read(&R4, form).0));
    let user = json!({"resourceType": "Practitioner", "id": "d", "name": [{"family": "Doe", "given": ["Jo"]}]});
    let context = [
        ("patient".to_owned(), vec![Arc::new(patient())]),
        ("user".to_owned(), vec![Arc::new(user)]),
    ];
    let subject = json!({"reference": "Patient/p1"});
    let sources =
        Sources { subject: Some(&subject), context: &context, data: &[], searches: Some(searches) };
    let populated = populate(&population, &given.world(), &sources);
    let mut out = String::new();
    answers(&populated.response, "", &mut out);
    for wanted in populated.wanted {
        out.push_str(&format!("wanted {wanted}\n"));
    }
    out
}

#[test]
fn initial_expressions_of_the_guide() {
    let name = "Questionnaire-questionnaire-sdc-test-fhirpath-prepop-initialexpression.json";
    let Some(form) = example(name) else { return };
    let expected = "\
/grp/part-details/medicare-number valueString \"32\"
/grp/part-details/family-name valueString \"Smith\"
/grp/part-details/given-names valueString \"Ann\"
/grp/part-details/dob valueDate \"1980-02-03\"
/grp/part-details/contact-number valueString \"01\"
/grp/provider-details/date-consult valueDate \"2026-03-02\"
/grp/provider-details/provider-name valueString \"Jo Doe\"
";
    assert_eq!(filled(&form, &Searches::default()), expected);
}

#[test]
fn contexts_of_the_guide() {
    let Some(form) = example("Questionnaire-demographics.json") else { return };
    let search = "RelatedPerson?patient=p1";
    assert!(filled(&form, &Searches::default()).contains(&format!("wanted {search}\n")));
    let relative = json!({
        "resourceType": "RelatedPerson", "id": "r1",
        "relationship": [{"coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "MTH"}
        ]}],
        "name": [{"family": "Smith", "given": ["Eve"]}]
    });
    let found = json!({
        "resourceType": "Bundle", "type": "searchset", "entry": [{"resource": (relative)}]
    });
    let mut searches = Searches::default();
    searches.put(search.to_owned(), Ok(Arc::new(found)));
    let expected = "\
/patient.id valueString \"p1\"
/patient.birthDate valueDate \"1980-02-03\"
/patient.name/patient.name.family valueString \"Smith\"
/patient.name/patient.name.given valueString \"Ann\"
/patient.name/patient.name.given valueString \"Mary\"
/relative/relative.id valueString \"r1\"
/relative/relative.relationship valueCoding {\"system\":\"http://terminology.hl7.org/CodeSystem/v3-RoleCode\",\"code\":\"MTH\"}
/relative/relative.name/relative.name.family valueString \"Smith\"
/relative/relative.name/relative.name.given valueString \"Eve\"
";
    assert_eq!(filled(&form, &searches), expected);
}

/// The linkId, type, text and extensions' urls of every item.
fn outline(element: &Json, depth: usize, out: &mut Vec<String>) {
    for item in element.list("item") {
        let part = |name: &str| item.str_at(&[name]).unwrap_or("-").to_owned();
        out.push(format!("{depth} {} {}", part("linkId"), part("type")));
        outline(item, depth + 1, out);
    }
}

#[test]
fn the_modular_form_of_the_guide() {
    let Some(mut root) = example("Questionnaire-sdc-modular-root.json") else { return };
    let mut parts = Parts::default();
    let mut put = |of, canonical: &str, found: Option<Json>| {
        let wanted = Wanted { resource_type: of, canonical: canonical.to_owned() };
        parts.put(wanted, found.map(Arc::new));
    };
    for name in ["name", "contact"] {
        let canonical =
            format!("http://hl7.org/fhir/uv/sdc/Questionnaire/sdc-modular-{name}|3.0.0");
        let part = example(&format!("Questionnaire-sdc-modular-{name}.json"));
        put("Questionnaire", &canonical, part);
    }
    let library = shared().unwrap();
    let library =
        library.join("fhir/sdc/StructureDefinition/StructureDefinition-SdcQuestionLibrary.json");
    let url = "http://hl7.org/fhir/uv/sdc/StructureDefinition/SdcQuestionLibrary";
    put("StructureDefinition", url, Some(read(&library)));
    put("StructureDefinition", "http://example.org/StructureDefinition/non-existent-library", None);
    let given = Given::new(NOW);
    // As published, both groups give the same prefix, which makes linkIds twice.
    let done = assemble(&given.world(), &parts, &root);
    assert!(done.questionnaire.is_none());
    assert!(done.issues.iter().any(|issue| issue.text.contains("patientname.1")));
    let Some(Json::Array(items)) = root.get_mut("item") else { panic!("no items") };
    let Some(Json::Array(extensions)) = items[4].get_mut("extension") else { panic!("none") };
    extensions[1].set(
        "valueExpression",
        json!({"name": "linkIdPrefix", "language": "text/fhirpath", "expression": "'patientcontact.'"}),
    );
    let done = assemble(&given.world(), &parts, &root);
    let errors: Vec<Issue> = done.issues.iter().filter(|issue| issue.is_error()).cloned().collect();
    assert!(errors.is_empty(), "{}", print(&errors));
    let assembled = done.questionnaire.unwrap();
    let expected = example("Parameters-sdc-modular-root-assembled.json").unwrap();
    let expected = expected.list("parameter")[0].get("resource").unwrap().clone();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    outline(&assembled, 0, &mut one);
    outline(&expected, 0, &mut two);
    // The published outcome has the linkIds of an earlier rule, and its children of "4".
    let of_address = |line: &String| line.contains(" 4");
    one.retain(|line| !of_address(line));
    two.retain(|line| !of_address(line));
    assert_eq!(one, two);
    let texts = assembled.to_string();
    for text in ["\"text\":\"First\"", "\"maxLength\":100", "ValueSet/administrative-gender"] {
        assert!(texts.contains(text), "{text} is missing");
    }
}
