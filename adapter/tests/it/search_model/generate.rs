//! Random resources and searches that have something to do with each other: both take their values
//! from the same short lists.

use lumbar_fhir::{Json, json};
use proptest::prelude::*;
use proptest::sample::select;

use super::{UCUM, interval};
use crate::app::BASE;

fn one(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(of).prop_map(str::to_owned)
}

fn some(of: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    proptest::option::weighted(0.8, one(of))
}

const FAMILIES: &[&str] =
    &["Müller", "Muller", "muller", "Osei", "Ose", "Öse", "Ryan-Osei", "Élan", "Elan"];
const GIVENS: &[&str] = &["Ana", "ana", "Anaïs", "Ben", "Béla", "B"];
const DATES: &[&str] = &[
    "2026",
    "2026-03",
    "2026-03-01",
    "2026-02-28",
    "2025-12-31",
    "2026-03-01T00:00:00Z",
    "2026-03-01T10:30:00Z",
    "2026-03-01T10:30:00.500Z",
    "2026-03-01T00:30:00+01:00",
    "2026-02-28T23:59:59Z",
    "2025",
];
const CODES: &[&str] = &["a", "b", "ab", "A"];
const SYSTEMS: &[&str] = &["http://s.example/one", "http://s.example/two", ""];
const DISPLAYS: &[&str] = &["Back pain", "back", "Élan vital", ""];
const NUMBERS: &[&str] =
    &["1", "1.0", "1.04", "0.95", "0.5", "1000", "999.5", "1000.4", "100", "0.001", "5"];
const UNITS: &[&str] = &["g", "mg", "kg", "/min"];
const PEOPLE: &[&str] = &["1", "2", "3", "4"];
const URIS: &[&str] = &[
    "http://u.example/a",
    "http://u.example/a/b",
    "http://u.example/a/b/c",
    "http://u.example/d",
    "urn:oid:1.2.3",
];
const QUESTIONNAIRES: &[&str] = &[
    "http://q.example/one",
    "http://q.example/one|1",
    "http://q.example/one|2",
    "http://q.example/two",
];

fn coding() -> impl Strategy<Value = Json> {
    (one(SYSTEMS), one(CODES), one(DISPLAYS)).prop_map(|(system, code, display)| {
        let mut coding = json!({"code": (code)});
        for (name, value) in [("system", system), ("display", display)] {
            if !value.is_empty() {
                coding.set(name, value);
            }
        }
        coding
    })
}

fn quantity() -> impl Strategy<Value = Json> {
    (one(NUMBERS), some(UNITS)).prop_map(|(number, unit)| {
        let mut quantity = json!({});
        quantity.set("value", Json::parse(number.as_bytes()).unwrap());
        if let Some(unit) = unit {
            quantity.set("system", UCUM);
            quantity.set("code", unit);
        }
        quantity
    })
}

/// `effectiveDateTime` and the like, or a Period, which may be open.
fn when(prefix: &'static str) -> impl Strategy<Value = Option<(String, Json)>> {
    let period =
        (some(&DATES[..5]), some(&DATES[..5])).prop_filter_map("turned round", |(start, end)| {
            let (low, high) = (start.as_deref().map(interval), end.as_deref().map(interval));
            if low.zip(high).is_some_and(|(low, high)| low.0 > high.1)
                || (low.is_none() && high.is_none())
            {
                return None;
            }
            let mut period = json!({});
            if let Some(start) = start {
                period.set("start", start);
            }
            if let Some(end) = end {
                period.set("end", end);
            }
            Some(period)
        });
    prop_oneof![
        1 => Just(None),
        3 => one(DATES).prop_map(move |text| Some((format!("{prefix}DateTime"), Json::from(text)))),
        2 => period.prop_map(move |period| Some((format!("{prefix}Period"), period))),
    ]
}

fn person(of: &'static str) -> impl Strategy<Value = Json> {
    let identifier = (one(SYSTEMS), one(CODES));
    let rest = (some(&["male", "female"]), some(&DATES[..5]), proptest::bool::ANY, some(PEOPLE));
    (some(FAMILIES), some(GIVENS), proptest::option::of(identifier), rest).prop_map(
        move |(family, given, identifier, (gender, born, active, doctor))| {
            let mut resource = json!({"resourceType": (of), "active": (active)});
            let mut name = json!({});
            if let Some(family) = family {
                name.set("family", family);
            }
            if let Some(given) = given {
                name.set("given", json!([(given)]));
            }
            resource.set("name", json!([(name)]));
            if let Some((system, value)) = identifier {
                let mut identifier = json!({"value": (value)});
                if !system.is_empty() {
                    identifier.set("system", system);
                }
                resource.set("identifier", json!([(identifier)]));
            }
            if let Some(gender) = gender {
                resource.set("gender", gender);
            }
            if let Some(born) = born {
                resource.set("birthDate", born);
            }
            if let Some(doctor) = doctor.filter(|_| of == "Patient") {
                let doctor = json!({"reference": (format!("Practitioner/{doctor}"))});
                resource.set("generalPractitioner", json!([(doctor)]));
            }
            resource
        },
    )
}

fn subject(resource: &mut Json, id: Option<String>) {
    if let Some(id) = id {
        resource.set("subject", json!({"reference": (format!("Patient/{id}"))}));
    }
}

fn observation() -> impl Strategy<Value = Json> {
    let value = prop_oneof![
        quantity().prop_map(|value| Some(("valueQuantity", value))),
        one(GIVENS).prop_map(|value| Some(("valueString", Json::from(value)))),
        Just(None),
    ];
    let components = proptest::collection::vec((coding(), quantity()), 0..3);
    (
        some(PEOPLE),
        proptest::collection::vec(coding(), 1..3),
        when("effective"),
        value,
        components,
        (proptest::option::of(coding()), proptest::option::of((one(SYSTEMS), one(CODES)))),
    )
        .prop_map(|(patient, codes, when, value, components, (tag, performer))| {
            let mut resource = json!({
                "resourceType": "Observation", "status": "final", "code": {"coding": (codes)}
            });
            subject(&mut resource, patient);
            if let Some((name, when)) = when {
                resource.set(&name, when);
            }
            if let Some((name, value)) = value {
                resource.set(name, value);
            }
            for (code, value) in components {
                resource.push(
                    "component",
                    json!({"code": {"coding": [(code)]}, "valueQuantity": (value)}),
                );
            }
            if let Some((system, value)) = performer {
                let mut identifier = json!({"value": (value)});
                if !system.is_empty() {
                    identifier.set("system", system);
                }
                resource.set("performer", json!([{"identifier": (identifier)}]));
            }
            if let Some(tag) = tag {
                resource.set("meta", json!({"tag": [(tag)]}));
            }
            resource
        })
}

fn resource() -> impl Strategy<Value = Json> {
    let risk =
        (some(PEOPLE), one(NUMBERS), when("occurrence")).prop_map(|(patient, number, when)| {
            let number = Json::parse(number.as_bytes()).unwrap();
            let mut resource = json!({
                "resourceType": "RiskAssessment", "status": "final",
                "prediction": [{"probabilityDecimal": (number)}]
            });
            subject(&mut resource, patient);
            if let Some((name, when)) = when {
                resource.set(&name, when);
            }
            resource
        });
    let value_set = one(URIS)
        .prop_map(|url| json!({"resourceType": "ValueSet", "status": "draft", "url": (url)}));
    let answers = (one(QUESTIONNAIRES), some(PEOPLE), some(DATES)).prop_map(|(form, patient, date)| {
        let mut resource = json!({
            "resourceType": "QuestionnaireResponse", "status": "in-progress", "questionnaire": (form)
        });
        subject(&mut resource, patient);
        if let Some(date) = date {
            resource.set("authored", date);
        }
        resource
    });
    prop_oneof![6 => observation(), 2 => risk, 1 => value_set, 2 => answers]
}

/// The resources of one case; shown as a person can read them.
#[derive(Clone)]
pub(super) struct World(pub(super) Vec<Json>);

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|resource| write!(f, "\n{resource}"))
    }
}

/// A few people with fixed ids and whatever else there is.
pub(super) fn world() -> impl Strategy<Value = World> {
    let people = |of| proptest::collection::vec(person(of), PEOPLE.len());
    let number = |mut resources: Vec<Json>| {
        for (number, resource) in resources.iter_mut().enumerate() {
            resource.set("id", (number + 1).to_string());
        }
        resources
    };
    let others = proptest::collection::vec(resource(), 5..40).prop_map(number);
    (people("Patient").prop_map(number), people("Practitioner").prop_map(number), others).prop_map(
        |(patients, practitioners, others)| World([patients, practitioners, others].concat()),
    )
}

/// A parameter and its value.
pub(super) type Pair = (String, String);
/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// `Type`, nothing for all types, or `Type/id/Type` and `Type/id/*` for a compartment.
    pub(super) scope: String,
    pub(super) pairs: Vec<Pair>,
    /// `_include` and `_revinclude`.
    pub(super) includes: Vec<Pair>,
    pub(super) sort: Option<&'static str>,
    pub(super) count: usize,
}

fn pair(name: &'static str, value: impl Strategy<Value = String>) -> impl Strategy<Value = Pair> {
    value.prop_map(move |value| (name.to_owned(), value))
}

fn modified(
    name: &'static str,
    modifiers: &'static [&'static str],
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = Pair> {
    (select(modifiers), value)
        .prop_map(move |(modifier, value)| (format!("{name}{modifier}"), value))
}

fn alternatives(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::collection::vec(value, 1..3).prop_map(|values| values.join(","))
}

fn prefixed(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let prefixes = select(&["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"][..]);
    (prefixes, value).prop_map(|(prefix, value)| format!("{prefix}{value}"))
}

fn token() -> impl Strategy<Value = String> {
    (one(SYSTEMS), one(CODES), 0..4).prop_map(|(system, code, form)| match form {
        0 => code,
        1 if !system.is_empty() => format!("{system}|"),
        _ => format!("{system}|{code}"),
    })
}

fn amount() -> impl Strategy<Value = String> {
    (prefixed(one(NUMBERS)), one(UNITS), 0..3).prop_map(|(number, unit, form)| match form {
        0 => number,
        1 => format!("{number}||{unit}"),
        _ => format!("{number}|{UCUM}|{unit}"),
    })
}

fn to_patient() -> impl Strategy<Value = String> {
    (one(PEOPLE), 0..3).prop_map(|(id, form)| match form {
        0 => id,
        1 => format!("Patient/{id}"),
        _ => format!("{BASE}/Patient/{id}"),
    })
}

fn truth() -> impl Strategy<Value = String> {
    one(&["true", "false"])
}

/// `token$amount`; a composite takes no `system|`, and `ne` of several is open.
fn token_and_amount() -> impl Strategy<Value = String> {
    let both = (token(), amount())
        .prop_filter("open", |(token, amount)| !token.ends_with('|') && !amount.starts_with("ne"));
    both.prop_map(|(token, amount)| format!("{token}${amount}"))
}

/// A `_filter` for patients.
fn filter() -> impl Strategy<Value = String> {
    let comparison = || {
        let name = (one(&["family", "given"]), one(&["eq", "co", "sw"]));
        prop_oneof![
            (name, prop_oneof![one(FAMILIES), one(GIVENS)])
                .prop_map(|((code, operator), text)| format!("{code} {operator} {text}")),
            one(&["male", "female"]).prop_map(|code| format!("gender eq {code}")),
            (one(&["eq", "gt", "lt", "ge", "le", "sa", "eb"]), one(&DATES[..5]))
                .prop_map(|(operator, date)| format!("birthdate {operator} {date}")),
        ]
    };
    (comparison(), comparison(), 0..4).prop_map(|(one, other, form)| match form {
        0 => one,
        1 => format!("{one} and {other}"),
        2 => format!("{one} or {other}"),
        _ => format!("not ({one} or {other})"),
    })
}

/// What each resource has.
fn common_pairs() -> BoxedStrategy<Pair> {
    let when = prefixed(one(&["2020", "2020-06-01T10:00:00Z", "2199-12"]));
    prop_oneof![
        pair("_id", alternatives(one(PEOPLE))),
        modified("_tag", &["", ":not", ":missing"], one(CODES)).prop_map(|(name, value)| {
            let value = if name.ends_with("missing") { "true".to_owned() } else { value };
            (name, value)
        }),
        pair("_lastUpdated", when),
    ]
    .boxed()
}

fn person_pairs() -> BoxedStrategy<Pair> {
    let part = || one(&["m", "Mu", "mü", "OSE", "an", "e", "É", "Ana", "Béla", "b"]);
    prop_oneof![
        modified(
            "family",
            &["", ":exact", ":contains"],
            alternatives(prop_oneof![part(), one(FAMILIES)])
        ),
        modified("given", &["", ":exact", ":contains"], part()),
        modified("name", &["", ":contains"], part()),
        pair("family:missing", truth()),
    ]
    .boxed()
}

fn patient_pairs() -> BoxedStrategy<Pair> {
    prop_oneof![
        person_pairs(),
        modified("gender", &["", ":not"], one(&["male", "female"])),
        pair("active", truth()),
        pair("birthdate", alternatives(prefixed(one(&DATES[..5])))),
        modified("identifier", &["", ":not"], alternatives(token())),
        modified("general-practitioner.family", &["", ":exact"], one(FAMILIES)),
        pair("general-practitioner:missing", truth()),
        pair("_has:Observation:subject:code", token()),
        pair("_has:Observation:patient:date", prefixed(one(DATES))),
        pair("_has:Observation:subject:code-value-quantity", token_and_amount()),
        common_pairs(),
        pair("_filter", filter()),
    ]
    .boxed()
}

fn practitioner_pairs() -> BoxedStrategy<Pair> {
    prop_oneof![
        person_pairs(),
        pair("_has:Patient:general-practitioner:family", one(FAMILIES)),
        pair("_has:Patient:general-practitioner:_has:Observation:subject:code", token()),
        pair("_has:Patient:general-practitioner:_has:RiskAssessment:patient:date", one(DATES)),
    ]
    .boxed()
}

fn observation_pairs() -> BoxedStrategy<Pair> {
    prop_oneof![
        modified("code", &["", ":not"], alternatives(token())),
        pair("code:text", one(&["ba", "BACK", "el", "pain"])),
        modified("_tag", &["", ":not"], token()),
        pair("_tag:missing", truth()),
        modified("subject", &["", ":Patient"], alternatives(one(PEOPLE))),
        pair("patient", to_patient()),
        pair("date", alternatives(prefixed(one(DATES)))),
        pair("date:missing", truth()),
        pair("value-quantity", alternatives(amount())),
        // Of several values R4 does not say whether one or all must differ.
        pair(
            "component-value-quantity",
            amount().prop_filter("open", |text| !text.starts_with("ne"))
        ),
        modified("value-string", &["", ":exact", ":contains"], one(GIVENS)),
        modified("subject:Patient.family", &["", ":contains"], one(FAMILIES)),
        pair("patient.general-practitioner.given", one(GIVENS)),
        pair("subject.birthdate", prefixed(one(&DATES[..5]))),
        pair("code-value-quantity", token_and_amount()),
        pair("component-code-value-quantity", token_and_amount()),
        pair("combo-code-value-quantity", token_and_amount()),
        pair(
            "code-value-string",
            (one(CODES), one(GIVENS)).prop_map(|(code, text)| format!("{code}${text}"))
        ),
        pair("performer:identifier", token()),
        common_pairs(),
    ]
    .boxed()
}

const TO_PATIENT: &[(&str, &str)] = &[
    ("_include", "Observation:subject"),
    ("_include", "Observation:patient"),
    ("_include", "Observation:subject:Patient"),
    ("_include", "Observation:subject:Group"),
    ("_include", "Observation:*"),
    ("_include:iterate", "Patient:general-practitioner"),
    ("_revinclude:iterate", "RiskAssessment:subject:Patient"),
];
const FROM_PATIENT: &[(&str, &str)] = &[
    ("_include", "Patient:general-practitioner"),
    ("_include", "Patient:*"),
    ("_revinclude", "Observation:subject"),
    ("_revinclude", "RiskAssessment:*"),
    ("_revinclude", "QuestionnaireResponse:subject:Patient"),
    ("_revinclude:iterate", "Patient:general-practitioner:Practitioner"),
];

/// A search, of a type or more.
pub(super) fn search() -> impl Strategy<Value = Search> {
    fn of(
        scope: impl Strategy<Value = String> + 'static,
        pair: BoxedStrategy<Pair>,
        includes: &'static [(&'static str, &'static str)],
        sorts: &'static [&'static str],
    ) -> BoxedStrategy<Search> {
        let include = proptest::sample::subsequence(includes, 0..=includes.len().min(3));
        let sort = proptest::option::of(select(sorts));
        (scope, proptest::collection::vec(pair, 0..4), include, sort, 1..6_usize)
            .prop_map(|(scope, pairs, includes, sort, count)| {
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                let includes = includes.into_iter().map(owned).collect();
                Search { scope, pairs, includes, sort, count }
            })
            .boxed()
    }
    fn of_type(
        name: &'static str,
        pair: BoxedStrategy<Pair>,
        includes: &'static [(&'static str, &'static str)],
        sorts: &'static [&'static str],
    ) -> BoxedStrategy<Search> {
        of(Just(name.to_owned()), pair, includes, sorts)
    }
    fn of_types(
        names: &'static str,
        pair: BoxedStrategy<Pair>,
        includes: &'static [(&'static str, &'static str)],
    ) -> BoxedStrategy<Search> {
        let add = move |mut search: Search| {
            search.pairs.insert(0, ("_type".to_owned(), names.to_owned()));
            search
        };
        of(Just(String::new()), pair, includes, &["_id", "-_id"]).prop_map(add).boxed()
    }
    let within = |owner: &'static str, of: &'static str| {
        one(PEOPLE).prop_map(move |id| format!("{owner}/{id}/{of}"))
    };
    let risk = prop_oneof![
        pair("probability", alternatives(prefixed(one(NUMBERS)))),
        pair("date", prefixed(one(DATES))),
        pair("patient", to_patient()),
    ];
    let both = prop_oneof![
        pair("date", prefixed(one(DATES))),
        pair("patient", to_patient()),
        pair("patient.family", one(FAMILIES)),
        common_pairs(),
    ];
    let uris = modified("url", &["", ":below", ":above"], one(&URIS[..4]));
    let forms = prop_oneof![
        pair("questionnaire", alternatives(one(QUESTIONNAIRES))),
        pair("authored", prefixed(one(DATES))),
        pair("subject", to_patient()),
    ];
    let people = &["family", "-family", "birthdate", "-birthdate", "_id", "-_id"];
    let observations = &["date", "-date", "value-quantity", "-value-quantity", "-_id"];
    prop_oneof![
        3 => of_type("Patient", patient_pairs(), FROM_PATIENT, people),
        1 => of_type("Practitioner", practitioner_pairs(), &[], &["family", "-_lastUpdated"]),
        6 => of_type("Observation", observation_pairs(), TO_PATIENT, observations),
        2 => of_type("RiskAssessment", risk.boxed(), &[], &["probability", "-probability", "date"]),
        1 => of_type("ValueSet", uris.boxed(), &[], &["_id"]),
        1 => of_type("QuestionnaireResponse", forms.boxed(), &[], &["authored", "-authored"]),
        1 => of_types("Practitioner,Patient", person_pairs(), FROM_PATIENT),
        1 => of_types("Observation,RiskAssessment", both.boxed(), TO_PATIENT),
        1 => of_types("Observation,Patient,Practitioner", common_pairs(), TO_PATIENT),
        2 => of(within("Patient", "Observation"), observation_pairs(), TO_PATIENT, observations),
        1 => of(within("Patient", "*"), common_pairs(), FROM_PATIENT, &["_id", "-_id"]),
        1 => of(within("Practitioner", "Patient"), patient_pairs(), FROM_PATIENT, people),
        1 => of(within("Practitioner", "*"), common_pairs(), &[], &["_id"]),
    ]
}
