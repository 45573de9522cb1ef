use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::format::json::MAX_DEPTH;
use crate::{Object, json};

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

fn patched(patch: &Json, resource: &Json) -> Result<Json, PatchError> {
    Patch::read(&R4, "Patient", patch)?.apply(&R4, resource)
}

/// The operations that make `two` of `one`.
fn difference(one: &Json, two: &Json, path: &str, out: &mut Vec<Json>) {
    match (one, two) {
        (one, two) if one == two => {}
        (Json::Object(old), Json::Object(new)) => {
            let inner =
                |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
            for (name, _) in old.iter().filter(|(name, _)| new.get(name).is_none()) {
                out.push(json!({"op": "remove", "path": (inner(name))}));
            }
            for (name, value) in new.iter() {
                match old.get(name) {
                    Some(before) => difference(before, value, &inner(name), out),
                    None => out.push(json!({"op": "add", "path": (inner(name)), "value": (value)})),
                }
            }
        }
        (Json::Array(old), Json::Array(new)) => {
            for index in (new.len()..old.len()).rev() {
                out.push(json!({"op": "remove", "path": (format!("{path}/{index}"))}));
            }
            for (index, value) in new.iter().enumerate() {
                match old.get(index) {
                    Some(before) => difference(before, value, &format!("{path}/{index}"), out),
                    None => out.push(
                        json!({"op": "add", "path": (format!("{path}/-")), "value": (value)}),
                    ),
                }
            }
        }
        (_, two) => out.push(json!({"op": "replace", "path": (path), "value": (two)})),
    }
}

fn tree() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        "-?[1-9][0-9]{0,2}(\\.[0-9]{1,3})?".prop_map(|digits| Json::Number(digits.into())),
        "[a-c~/]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            proptest::collection::vec(("[a-c~/]{0,2}", inner), 0..4).prop_map(|members| {
                Json::Object(
                    members.into_iter().map(|(name, value)| (name.into(), value)).collect(),
                )
            }),
        ]
    })
}

proptest! {
    /// The order of members is not part of an object's value, so it is not compared.
    #[test]
    fn a_difference_applies(one in tree(), two in tree()) {
        let mut operations = Vec::new();
        difference(&one, &two, "", &mut operations);
        let after = patched(&Json::Array(operations), &one).unwrap();
        prop_assert!(json_patch::same(&after, &two), "{after} is not {two}");
    }

    #[test]
    fn no_json_patch_panics(
        tree in tree(),
        operations in proptest::collection::vec(
            (0..6_usize, "(/([a-c~/0-3]|-){0,2}){0,3}", "(/[a-c0-3]{0,1}){0,3}", tree()), 0..5)
    ) {
        let names = ["add", "remove", "replace", "move", "copy", "test"];
        let operations = operations.into_iter().map(|(op, path, from, value)| {
            json!({"op": (names[op]), "path": (path), "from": (from), "value": (value)})
        });
        let _ = patched(&Json::Array(operations.collect()), &tree);
    }

    #[test]
    fn no_fhirpath_patch_panics(
        operations in proptest::collection::vec(
            (0..5_usize, 0..PATHS.len(), 0..NAMES.len(), 0..4_i64, 0..4_i64, 0..5_usize), 0..6)
    ) {
        let resource = json!({
            "resourceType": "Patient", "birthDate": "1974", "_birthDate": {"id": "b"},
            "name": [{"given": ["A", "B"], "_given": [null, {"id": "g"}]}, {"family": "C"}],
            "contained": [{"resourceType": "Organization", "id": "o"}], "deceasedBoolean": true
        });
        let types = ["add", "insert", "delete", "replace", "move"];
        let values = [
            json!({"name": "value", "valueString": "x"}),
            json!({"name": "value", "valueHumanName": {"family": "D"}}),
            json!({"name": "value", "part": [{"name": "family", "valueString": "E"}]}),
            json!({"name": "value", "_valueString": {"id": "i"}}),
            json!({"name": "value", "resource": {"resourceType": "Basic"}}),
        ];
        let operations = operations.into_iter().map(|(of, path, name, one, two, value)| {
            json!({"name": "operation", "part": [
                {"name": "type", "valueCode": (types[of])},
                {"name": "path", "valueString": (PATHS[path])},
                {"name": "name", "valueString": (NAMES[name])},
                {"name": "index", "valueInteger": (one)},
                {"name": "source", "valueInteger": (one)},
                {"name": "destination", "valueInteger": (two)},
                (values[value].clone())
            ]})
        });
        let list: Vec<Json> = operations.collect();
        let patch = json!({"resourceType": "Parameters", "parameter": (list)});
        let _ = patched(&patch, &resource);
    }
}

const PATHS: &[&str] = &[
    "Patient",
    "Patient.name",
    "Patient.name[0]",
    "Patient.name.given",
    "Patient.name[0].given",
    "Patient.name[0].given[1]",
    "Patient.birthDate",
    "Patient.birthDate.id",
    "Patient.deceased",
    "Patient.contained[0]",
    "Patient.contained[0].name",
    "Patient.descendants()",
    "Patient.text",
    "Patient.name.first() | Patient.birthDate",
];
const NAMES: &[&str] = &["name", "given", "birthDate", "id", "extension", "deceased", "contained"];

#[test]
fn work_is_bounded() {
    let add = json!({"op": "add", "path": "/a", "value": 1});
    let many = Json::Array(vec![add; MAX_OPERATIONS + 1]);
    assert!(matches!(patched(&many, &json!({})), Err(PatchError::Malformed(_))));
    // Doubling itself: too deep, or too much.
    let deeper = json!({"op": "copy", "from": "/a", "path": "/a/b"});
    let wider = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    for (resource, operation) in [(json!({"a": {}}), deeper), (json!({"a": [1]}), wider)] {
        let patch = Json::Array(vec![operation; 200]);
        let error = patched(&patch, &resource).unwrap_err();
        let PatchError::NotApplicable(issue) = error else { panic!("{error:?}") };
        assert_eq!(issue.code, IssueType::TooCostly);
    }
    let mut deepest = Json::Null;
    for _ in 0..MAX_DEPTH {
        deepest = Json::Array(vec![deepest]);
    }
    let patch = Json::Array(vec![json!({"op": "add", "path": "/a", "value": (deepest)})]);
    assert!(patched(&patch, &Json::Object(Object::new())).is_err());
}
