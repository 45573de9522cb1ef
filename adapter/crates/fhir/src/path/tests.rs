use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::json;

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

fn evaluate(text: &str) -> Result<Vec<Json>, PathError> {
    let patient = json!({
        "resourceType": "Patient", "id": "p1", "birthDate": "1974-12-25",
        "name": [{"family": "Anning", "given": ["Mary", "J"]}, {"given": ["May"]}]
    });
    let expression = Expression::parse(text)?;
    let focus = [Value::node(&patient)];
    let context = Context {
        resource: focus.first().cloned(),
        now: Some("2026-03-02T10:42:00Z"),
        ..Context::new(&R4)
    };
    let items = expression.evaluate(&context, &focus)?;
    Ok(items.iter().map(Value::to_json).collect())
}

#[test]
fn a_check_finds_elements_that_cannot_exist() {
    let check = |focus: Option<&str>, text: &str| {
        let expression = Expression::parse(text).unwrap();
        expression.check(&R4, focus).err().map(|error| error.reason)
    };
    for (focus, text) in [
        (Some("Patient"), "name.given | Patient.birthDate"),
        (Some("Patient"), "contained.name.where(nothing)"),
        (Some("Patient.contact"), "name.family & %resource.name.family"),
        (Some("Observation"), "component.select(value as Quantity).value"),
        (None, "anything.at.all"),
        (None, "Patient.name"),
    ] {
        assert_eq!(check(focus, text), None, "{text}");
    }
    for (focus, text, reason) in [
        (Some("Patient"), "name.giben", "HumanName has no element giben"),
        (Some("Patient"), "name.where(giben = 'x')", "HumanName has no element giben"),
        (Some("Observation"), "valueQuantity", "Observation has no element valueQuantity"),
        (Some("Observation"), "Patient.name", "Observation has no element Patient"),
        (None, "Patient.names", "Patient has no element names"),
        (None, "children().first()", "first needs an order that the items do not have"),
    ] {
        assert_eq!(check(focus, text).as_deref(), Some(reason), "{text}");
    }
}

#[test]
fn a_regular_expression_that_is_kept_serves_every_item() {
    for (text, expected) in [
        ("name.given.select(replaceMatches('[aA].*', '_'))", json!(["M_", "J", "M_"])),
        ("name.given.where(matchesFull('M.y'))", json!(["May"])),
        ("name.given.where(matches('M.|J'))", json!(["Mary", "J", "May"])),
        ("name.given.select(replaceMatches('', '_'))", json!(["Mary", "J", "May"])),
    ] {
        assert_eq!(Json::Array(evaluate(text).unwrap()), expected, "{text}");
    }
    assert!(evaluate("name.given.where(matches('('))").is_err());
    assert_eq!(evaluate("photo.title.replaceMatches('(', '')"), Ok(Vec::new()));
}

#[test]
fn depth_is_bounded_before_the_stack_is() {
    let deep = [
        format!("{}1{}", "(".repeat(50_000 / 2), ")".repeat(50_000 / 2)),
        "-".repeat(60_000),
        format!("1{}", "+1".repeat(30_000)),
        format!("1{}", " is Integer".repeat(5_000)),
        format!("{}1{}", "iif(true,".repeat(7_000), ")".repeat(7_000)),
        format!("a{}", "[a".repeat(30_000)),
        " ".repeat(MAX_LENGTH + 1),
    ];
    for text in deep {
        assert!(Expression::parse(&text).is_err(), "{}…", &text[..20]);
    }
    // The deepest ones that are allowed are evaluated.
    let half = MAX_DEPTH - 1;
    let deepest = [
        format!("name{}", ".exists(name".repeat(half / 2) + &")".repeat(half / 2)),
        format!("{}true{}", "name.select(".repeat(half / 2), ")".repeat(half / 2)),
        (0..half / 2).fold("name".to_string(), |t, n| format!("{t}.defineVariable('v{n}')")),
        format!("{}1{}", "(".repeat(half), ")".repeat(half)),
        format!("1{}", "+1".repeat(half)),
        format!("{}true{}", "iif(true,".repeat(half / 2), ")".repeat(half / 2)),
        format!("name{}", ".where(true)".repeat(5_000)),
        format!("1{}", "|1".repeat(20_000)),
    ];
    for text in deepest {
        let found = evaluate(&text);
        assert!(found.is_ok(), "{}…: {found:?}", &text[..20]);
        let strict = Checks { focus: Some("Patient"), strict: true, ..Checks::default() };
        let _ = Expression::parse(&text).unwrap().check_with(&R4, &strict);
    }
    let defined = (0..1_000).fold("name".to_string(), |t, n| format!("{t}.defineVariable('v{n}')"));
    assert!(Expression::parse(&defined).is_err());
}

#[test]
fn work_is_bounded() {
    let many = "(name|1|2|3|4|5|6|7|8|9|10|11|12)";
    for text in [
        format!("{many}{}", format!(".select({many})").repeat(8)),
        format!("{many}{}", ".select($this.combine($this))".repeat(60)),
        format!("'{}'.toChars().aggregate($total & $total & 'x', 'x')", "x".repeat(99)),
        "1.repeat($this + 1)".to_string(),
    ] {
        assert!(evaluate(&text).is_err(), "{text}");
    }
}

#[test]
fn a_strict_check_finds_what_fails_with_some_data() {
    let check = |text: &str, strict: bool| {
        let checks = Checks {
            focus: Some("Patient"),
            variables: &["form"],
            condition: true,
            strict,
            ..Checks::default()
        };
        let checked = Expression::parse(text).unwrap().check_with(&R4, &checks);
        checked.err().map(|error| error.to_string())
    };
    for text in [
        "name.exists() and birthDate <= today()",
        "name.all(family.exists() or given.count() > 1)",
        "name.where(use = 'official').first().family.startsWith('A')",
        "multipleBirth.ofType(integer) > 1 or multipleBirth.ofType(boolean)",
        "%form.anything = %resource.id",
        "defineVariable('n', name.first()).select(%n.family = 'A').first()",
        "contact.name.family.distinct().count() = contact.count()",
        "extension('http://x').value.ofType(Quantity).exists(value > 1.5)",
        "telecom.select(iif(system = 'phone', value, '')).first() = ''",
    ] {
        assert_eq!(check(text, true), None, "{text}");
        assert_eq!(check(text, false), None, "{text}");
    }
    for (text, fault) in [
        (
            "name.family = 'A' and name",
            "a condition needs one item where there can be several at position 19",
        ),
        (
            "name.given.startsWith('A')",
            "startsWith() needs one item where there can be several at position 12",
        ),
        ("name.given + 'x' = 'Ax'", "+ needs one item where there can be several at position 12"),
        ("gender", "a boolean is needed and code is none"),
        ("name.where(family)", "a boolean is needed and string is none at position 6"),
        ("%unknown.exists()", "there is no variable %unknown at position 1"),
        ("(gender as Quantity).exists()", "code is never Quantity at position 12"),
        ("name is HumanName", "is needs one item where there can be several at position 9"),
    ] {
        assert_eq!(check(text, false), None, "{text}");
        assert_eq!(check(text, true).as_deref(), Some(fault), "{text}");
    }
    for (text, fault) in [
        ("birthDate > 'x'", "> does not take date and String at position 11"),
        ("birthDate + 7 = today()", "+ does not take date and Integer at position 11"),
        ("name.first().matches('x')", "matches() does not take HumanName at position 14"),
        ("'a'.toInteger().upper() = 'A'", "upper() does not take Integer at position 17"),
        ("gender.substring('a').exists()", "substring() does not take String at position 8"),
        ("name.ofType(Nothing).exists()", "there is no type Nothing at position 6"),
        ("active.exists() and nam.exists()", "Patient has no element nam at position 21"),
    ] {
        assert_eq!(check(text, false).as_deref(), Some(fault), "{text}");
    }
}

#[test]
fn a_fault_of_evaluation_says_where() {
    for (text, position) in [
        ("name.given.single()", 12),
        ("1 + 'a'", 3),
        ("name.where(given.single() = 'x')", 18),
        ("true and (name = name) and %nothing", 28),
        ("name.first() is Nothing", 17),
    ] {
        assert_eq!(evaluate(text).unwrap_err().position, Some(position - 1), "{text}");
    }
}

#[test]
fn what_is_not_supported_is_said() {
    for (text, reason) in [
        ("Patient.name.slice('http://x', 'a')", "the function slice() is not supported"),
        ("elementDefinition()", "the function elementDefinition() is not supported"),
        ("name.nothing()", "there is no function nothing()"),
        ("name.where()", "where() does not take 0 arguments"),
        ("name.ofType(1)", "ofType() needs the name of a type"),
        ("is(string, code)", "is() does not take 2 arguments"),
    ] {
        assert_eq!(Expression::parse(text).unwrap_err().reason, reason, "{text}");
    }
}

/// A world that knows one organisation, one value set, one profile and one hierarchy.
struct World {
    organization: Json,
    shown: std::cell::RefCell<Vec<String>>,
}

impl<'a> Environment<'a> for &'a World {
    fn resolve(&self, reference: &str) -> Target<'a> {
        match reference {
            "Organization/o1" => Target::Found(&self.organization),
            "Organization/gone" => Target::Absent,
            _ => Target::Unknown,
        }
    }

    fn member_of(&self, value: &Value<'a>, value_set: &str) -> Option<bool> {
        (value_set == "http://hl7.org/fhir/ValueSet/administrative-gender")
            .then(|| value.as_str().is_some_and(|code| code == "female"))
    }

    fn conforms_to(&self, _: &Value<'a>, profile: &str) -> Option<bool> {
        (profile == "http://x/profile").then_some(true)
    }

    fn subsumes(&self, system: &str, ancestor: &str, code: &str) -> Option<bool> {
        (system == "http://x").then_some((ancestor, code) == ("pain", "back-pain"))
    }

    fn variable(&self, name: &str) -> Option<Vec<Value<'a>>> {
        (name == "answer").then(|| vec![Value::Integer(42)])
    }

    fn trace(&self, name: &str, items: &[Value<'a>]) {
        self.shown.borrow_mut().push(format!("{name}: {}", items.len()));
    }
}

#[test]
fn what_stands_outside_is_asked_for() {
    let patient = json!({
        "resourceType": "Patient", "gender": "female",
        "generalPractitioner": [
            {"reference": "Organization/o1"}, {"reference": "Organization/gone"},
            {"reference": "#p"}
        ],
        "contained": [{"resourceType": "Practitioner", "id": "p", "active": true}],
        "managingOrganization": {"reference": "Organization/other"},
        "maritalStatus": {"coding": [
            {"system": "http://x", "code": "pain"}, {"system": "http://y", "code": "pain"}
        ]},
        "communication": [{"language": {"coding": [{"system": "http://x", "code": "back-pain"}]}}]
    });
    let world = World {
        organization: json!({"resourceType": "Organization", "name": "Surgery"}),
        shown: Default::default(),
    };
    let world_at_hand = &world;
    let environment: &dyn Environment = &world_at_hand;
    let context = Context {
        resource: Some(Value::node(&patient)),
        environment: Some(environment),
        ..Context::new(&R4)
    };
    let tally = Tally::default();
    for (text, result, undecided) in [
        ("generalPractitioner.resolve().name", json!(["Surgery"]), false),
        ("generalPractitioner.resolve().active", json!([true]), false),
        ("generalPractitioner.resolve().ofType(Organization).count()", json!([1]), false),
        ("managingOrganization.resolve()", json!([]), true),
        ("managingOrganization.resolve() is Organization", json!([true]), false),
        ("managingOrganization.resolve().ofType(Patient).exists()", json!([false]), false),
        ("managingOrganization.resolve().ofType(Organization).exists()", json!([false]), true),
        ("'urn:uuid:1'.resolve().exists()", json!([false]), true),
        ("gender.memberOf(%`vs-administrative-gender`)", json!([true]), false),
        ("gender.memberOf('http://x/other')", json!([]), true),
        ("conformsTo('http://x/profile')", json!([true]), false),
        ("conformsTo('http://x/other')", json!([]), true),
        ("conformsTo('http://hl7.org/fhir/StructureDefinition/Patient')", json!([true]), false),
        ("maritalStatus.subsumes(communication.first().language)", json!([true]), false),
        ("maritalStatus.subsumedBy(communication.first().language)", json!([false]), false),
        ("maritalStatus.coding[0].subsumes(maritalStatus.coding[0])", json!([true]), false),
        ("maritalStatus.coding[0].subsumes(maritalStatus.coding[1])", json!([false]), false),
        ("%answer + 1", json!([43]), false),
        ("generalPractitioner.trace('gp', reference).count()", json!([3]), false),
    ] {
        let expression = Box::leak(Box::new(Expression::parse(text).unwrap()));
        let found = expression.evaluate_within(&tally, &context, &[Value::node(&patient)]);
        let found = found.map(|items| items.iter().map(Value::to_json).collect::<Vec<_>>());
        assert_eq!(found.map(Json::Array), Ok(result), "{text}");
        assert_eq!(tally.take_undecided(), undecided, "{text}");
    }
    assert_eq!(*world.shown.borrow(), ["gp: 3"]);
    assert!(tally.steps() > 50);
}

#[test]
fn a_bundle_resolves_its_own_references() {
    let bundle = json!({"resourceType": "Bundle", "entry": [
        {"fullUrl": "http://a/Patient/1", "resource": {"resourceType": "Patient", "id": "1",
            "meta": {"versionId": "2"}, "birthDate": "1970"}},
        {"fullUrl": "http://b/Patient/1", "resource": {"resourceType": "Patient", "id": "1",
            "birthDate": "1980"}},
        {"fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "resource": {
            "resourceType": "Practitioner", "gender": "male"}},
        {"fullUrl": "http://b/Observation/1", "resource": {"resourceType": "Observation",
            "subject": {"reference": "Patient/1"}, "performer": [
                {"reference": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"},
                {"reference": "http://a/Patient/1/_history/2"},
                {"reference": "http://a/Patient/1/_history/1"}, {"reference": "#x"}],
            "contained": [{"resourceType": "Organization", "id": "x", "name": "B"}]}},
        {"fullUrl": "urn:uuid:d757873d-ec9a-4326-a141-556f43239520", "resource": {
            "resourceType": "Observation", "subject": {"reference": "Patient/1"},
            "contained": [{"resourceType": "Organization", "id": "x", "name": "C"}],
            "performer": [{"reference": "#x"}]}}
    ]});
    for (text, result) in [
        ("entry[3].resource.subject.resolve().birthDate", json!(["1980"])),
        ("entry[3].resource.performer.resolve().birthDate", json!(["1970"])),
        ("entry[3].resource.performer.resolve().gender", json!(["male"])),
        ("entry.resource.performer.resolve().name", json!(["B", "C"])),
        ("entry[4].resource.subject.resolve()", json!([])),
        ("entry[4].resource.subject.resolve() is Patient", json!([true])),
        ("'http://a/Patient/1'.resolve().birthDate", json!(["1970"])),
    ] {
        let expression = Expression::parse(text).unwrap();
        let focus = [Value::node(&bundle)];
        let context = Context { resource: focus.first().cloned(), ..Context::new(&R4) };
        let found = expression.evaluate(&context, &focus).unwrap();
        assert_eq!(Json::Array(found.iter().map(Value::to_json).collect()), result, "{text}");
    }
    // An entry's resource is evaluated by itself, with the Bundle at hand.
    let entry = bundle.list("entry")[3].get("resource").unwrap();
    let context =
        Context { resource: Some(Value::node(entry)), bundle: Some(&bundle), ..Context::new(&R4) };
    let expression = Expression::parse("subject.resolve().birthDate = @1980").unwrap();
    let tally = Tally::default();
    assert_eq!(expression.holds(&tally, &context, &[Value::node(entry)]), Ok(Some(true)));
    assert!(!tally.take_undecided());
}

#[test]
fn a_contained_resource_has_a_root() {
    let patient = json!({"resourceType": "Patient", "id": "root",
        "contained": [{"resourceType": "Practitioner", "id": "a"},
            {"resourceType": "PractitionerRole", "id": "b", "practitioner": {"reference": "#a"}}]});
    let role = &patient.list("contained")[1];
    let context = Context {
        resource: Some(Value::node(role)),
        root_resource: Some(Value::node(&patient)),
        ..Context::new(&R4)
    };
    let expression = Expression::parse(
        "practitioner.resolve().id = 'a' and %rootResource.id = 'root' and %resource.id = 'b'",
    );
    let expression = expression.unwrap();
    let found = expression.holds(&Tally::default(), &context, &[Value::node(role)]);
    assert_eq!(found, Ok(Some(true)));
}

#[test]
fn weights_come_from_the_answer_or_from_the_form() {
    let weight = "http://hl7.org/fhir/StructureDefinition/itemWeight";
    let form = json!({"resourceType": "Questionnaire",
    "contained": [{"resourceType": "ValueSet", "id": "v", "compose": {"include": [
        {"system": "http://x", "concept": [{"code": "a", "extension": [
            {"url": (weight), "valueDecimal": 7}]}]}]}}],
    "item": [
        {"linkId": "1", "answerOption": [{"valueCoding": {"system": "http://x", "code": "a"},
            "extension": [{"url": (weight), "valueDecimal": (Json::Number("1.5".into()))}]}]},
        {"linkId": "g", "item": [{"linkId": "2", "answerOption": [
            {"valueCoding": {"system": "http://x", "code": "a"},
            "extension": [{"url": (weight), "valueDecimal": 2}]}]}]},
        {"linkId": "3", "answerValueSet": "#v"}
    ]});
    let coding = json!({"system": "http://x", "code": "a"});
    let response = json!({"resourceType": "QuestionnaireResponse", "item": [
        {"linkId": "1", "answer": [{"valueCoding": (&coding)}]},
        {"linkId": "g", "item": [{"linkId": "2", "answer": [{"valueCoding": (&coding)}]}]},
        {"linkId": "3", "answer": [{"valueCoding": (&coding)}]},
        {"linkId": "4", "answer": [{"valueCoding": {"code": "z", "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/ordinalValue", "valueDecimal": 10}]},
            "item": [{"linkId": "5", "answer": [{"valueInteger": 3}]}]}]}
    ]});
    let variables = [("questionnaire", vec![Value::node(&form)])];
    for (text, result) in [
        ("answers().weight()", "[1.5,2,7,10]"),
        ("answers().value.ordinal().sum()", "[20.5]"),
        ("item.where(linkId = 'g').answers().value.code", "[\"a\"]"),
        ("answers().count()", "[5]"),
        ("item.where(linkId = 'none').answers().weight().sum()", "[]"),
    ] {
        let expression = Expression::parse(text).unwrap();
        let focus = [Value::node(&response)];
        let context = Context {
            resource: focus.first().cloned(),
            variables: &variables,
            ..Context::new(&R4)
        };
        let found = expression.evaluate(&context, &focus).unwrap();
        let found = Json::Array(found.iter().map(Value::to_json).collect());
        assert_eq!(found.to_string(), result, "{text}");
    }
}

#[test]
fn the_caller_may_allow_fewer_steps() {
    let expression = Expression::parse("(1|2|3|4).select($this + 1)").unwrap();
    let context = Context::new(&R4);
    let error = expression.evaluate_within(&Tally::new(10), &context, &[]).unwrap_err();
    assert_eq!(error.reason, "the evaluation takes too many steps");
    assert!(expression.evaluate_within(&Tally::new(100), &context, &[]).is_ok());
}

/// The tokens of a text with a blank between them, which must mean the same.
fn spaced(text: &str) -> Option<String> {
    let tokens = lexer::tokens(text).ok()?;
    let mut out = String::new();
    for pair in tokens.windows(2) {
        out.push_str(text.get(pair[0].start..pair[0].end)?);
        out.push_str(" /* */ ");
    }
    Some(out)
}

/// The tree without the places in the text.
fn shape(text: &str) -> Option<String> {
    let tree = format!("{:?}", parser::parse(text).ok()?);
    let places = regex::Regex::new(r"at: \d+|\), \d+\)|\}, \d+\)|\d+\)").unwrap();
    Some(places.replace_all(&tree, "").into_owned())
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,60}") {
        let _ = evaluate(&text);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = evaluate(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn the_tokens_are_all_there_is(
        tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 1..14)
    ) {
        let text = tokens.join(" ");
        if let (Some(spaced), Some(tree)) = (spaced(&text), shape(&text)) {
            prop_assert_eq!(shape(&spaced), Some(tree), "{}", spaced);
        }
    }

    #[test]
    fn no_check_panics(
        tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 1..14),
        strict in any::<bool>()
    ) {
        if let Ok(expression) = Expression::parse(&tokens.join(" ")) {
            for focus in [None, Some("Patient"), Some("Observation.component")] {
                let checks = Checks { focus, strict, condition: strict, ..Checks::default() };
                let _ = expression.check_with(&R4, &checks);
            }
        }
    }

    #[test]
    fn no_sequence_of_tokens_panics(
        tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 1..14)
    ) {
        let _ = evaluate(&tokens.join(" "));
        let _ = evaluate(&tokens.concat());
    }

    #[test]
    fn no_call_panics(
        focus in proptest::sample::select(VALUES),
        function in 0..functions::names().len(),
        arguments in proptest::collection::vec(proptest::sample::select(VALUES), 0..3)
    ) {
        let name = functions::names()[function];
        let _ = evaluate(&format!("({focus}).{name}({})", arguments.join(", ")));
    }

    #[test]
    fn no_operation_panics(
        left in proptest::sample::select(VALUES),
        operator in proptest::sample::select(OPERATORS),
        right in proptest::sample::select(VALUES)
    ) {
        let _ = evaluate(&format!("({left}) {operator} ({right})"));
    }

    #[test]
    fn a_unit_never_panics(unit in "[a-zA-Z0-9./()\\[\\]{}%*+-]{0,12}") {
        let quantity = Quantity { value: rust_decimal::Decimal::TEN, unit: unit.into() };
        let _ = units::base(&quantity);
    }

    #[test]
    fn adding_and_taking_away_days_returns(days in -700_000_i64..700_000) {
        let start = Temporal::parse_date("2026-03-02").unwrap();
        if let Some(moved) = start.add(days.into(), "day") {
            prop_assert_eq!(moved.add((-days).into(), "day"), Some(start));
            prop_assert_eq!(Temporal::parse_date(&moved.to_string()), Some(moved));
        }
    }
}

const OPERATORS: &[&str] = &[
    "*", "/", "div", "mod", "+", "-", "&", "|", "<", "<=", ">", ">=", "=", "!=", "~", "!~", "in",
    "contains", "and", "or", "xor", "implies",
];
const VALUES: &[&str] = &[
    "{}",
    "true",
    "-1",
    "0",
    "9223372036854775807",
    "79228162514264337593543950335.0",
    "0.1",
    "1.0000000000000000000000000001",
    "'a'",
    "'é\u{0}'",
    "''",
    "'1'",
    "'('",
    "@2026-02-28",
    "@0001",
    "@9999-12-31T23:59:59.999Z",
    "@2026-01-01T00+14:00",
    "@T23:59",
    "4 days",
    "1 'mg'",
    "1 'cm/(s2.kg)'",
    "99999999999999999999999999 years",
    "-1 'Cel'",
    "name",
    "name.given",
    "birthDate",
    "$this",
    "%resource",
    "Patient",
    "FHIR.string",
    "(1|2|3)",
];
const TOKENS: &[&str] = &[
    "name",
    "Patient",
    "given",
    ".",
    "(",
    ")",
    "[",
    "]",
    "0",
    "1.5",
    "'x'",
    "where",
    "first()",
    "is",
    "as",
    "and",
    "=",
    "|",
    "-",
    "{}",
    "@2026",
    "@T10:00",
    "%resource",
    "$this",
    "$index",
    ",",
    "true",
    "contains",
    "in",
    "div",
    "4 days",
    "`given`",
    "extension",
    "ofType(string)",
    "//",
    "/*",
    "*/",
    "~",
    "!",
    "select(",
    "iif(",
    "resolve()",
    "defineVariable('x')",
    "%x",
    "memberOf('x')",
    "exists()",
    "empty()",
];
