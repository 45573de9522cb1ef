use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

fn check(text: &str, expected: Expect) {
    let shown = match Json::parse(text.as_bytes()) {
        Ok(value) => value.to_string(),
        Err(error) => format!("{error} in {:?}", error.path),
    };
    expected.assert_eq(&shown);
}

#[test]
fn digits_order_and_unknown_members_survive() {
    check(
        r#"{"z": 1.00, "a": [1E+3, -0, 12345678901234567890.10], "ü": null}"#,
        expect![[r#"{"z":1.00,"a":[1E+3,-0,12345678901234567890.10],"ü":null}"#]],
    );
    check(r#""\u00e9\ud83d\ude00\/\n\u0001""#, expect![[r#""é😀/\n\u0001""#]]);
}

#[test]
fn faults_name_their_place() {
    check(
        "{\"name\": [{\"family\": \"A\",\n \"family\": \"B\"}]}",
        expect![[
            r#"the member "family" stands twice in one object at line 2, column 2 in "name[0]""#
        ]],
    );
    check(
        "{\"a\": 01}",
        expect![[r#"a number must not begin with a superfluous 0 at line 1, column 8 in "a""#]],
    );
    check(
        "{\"a\": \"\\ud800x\"}",
        expect![[r#"half a surrogate pair stands in a string at line 1, column 14 in "a""#]],
    );
    check(
        "",
        expect![[r#"the text ends where a JSON value was expected at line 1, column 1 in """#]],
    );
    check(
        "{} x",
        expect![[r#"there is text after the end of the JSON value at line 1, column 4 in """#]],
    );
    check(
        "[1,",
        expect![[r#"the text ends where a JSON value was expected at line 1, column 4 in "[1]""#]],
    );
    check(
        "{\"a\" 1}",
        expect![[r#"a colon was expected after the member name at line 1, column 6 in """#]],
    );
}

#[test]
fn bytes_that_are_not_utf8_are_located() {
    let error = Json::parse(b"{\"a\":\n \"\xff\"}").unwrap_err();
    assert_eq!(error.to_string(), "the bytes are not valid UTF-8 at line 2, column 3");
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(Json::parse(deep(MAX_DEPTH + 1).as_bytes()).is_ok());
    let error = Json::parse(deep(100_000).as_bytes()).unwrap_err();
    assert!(error.reason.contains("deeper"), "{error}");
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::from),
        (any::<i32>(), 0u32..100_000)
            .prop_map(|(a, b)| Json::Number(compact_str::format_compact!("{a}.{b}"))),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            prop::collection::vec((any::<String>(), inner), 0..6).prop_map(|members| {
                Json::Object(members.into_iter().map(|(n, v)| (n.into(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn written_text_reads_back(value in any_json()) {
        prop_assert_eq!(&Json::parse(value.to_string().as_bytes()).unwrap(), &value);
        prop_assert_eq!(&Json::parse(value.to_pretty().as_bytes()).unwrap(), &value);
    }

    #[test]
    fn another_reader_agrees(value in any_json()) {
        let text = value.to_string();
        let other: serde_json::Value = serde_json::from_str(&text).unwrap();
        let again = Json::parse(other.to_string().as_bytes()).unwrap();
        let third: serde_json::Value = serde_json::from_str(&again.to_string()).unwrap();
        prop_assert_eq!(other, third);
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Json::parse(&bytes);
    }

    #[test]
    fn accepts_what_another_reader_accepts(text in r#"[\[\]{}:,"0-9eE.+\-truefalsn \\u]{0,24}"#) {
        // Ours also refuses repeated members, which such short random text does not make.
        let other = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let repeated = matches!(Json::parse(text.as_bytes()), Err(e) if e.reason.contains("twice"));
        if !repeated {
            prop_assert_eq!(Json::parse(text.as_bytes()).is_ok(), other, "{}", text);
        }
    }
}
