//! The lexical forms of primitives: <https://hl7.org/fhir/R4/datatypes.html#primitive>.
//!
//! Dates that no calendar has are refused although R4's patterns let them pass.

use crate::datetime::{DateTime, Precision};
use crate::{IssueType, Json};

/// Most bytes that a string may have for sure; beyond it characters are counted.
const STRING_LIMIT: usize = 1024 * 1024;

/// What is wrong with a primitive value.
pub(super) struct Fault {
    pub code: IssueType,
    pub text: &'static str,
}

/// Holds a value against the form of a primitive type; a type of no known form has any string.
pub(super) fn check(of_type: &str, value: &Json) -> Option<Fault> {
    let (is_right, text) = match (form(of_type), value) {
        (_, Json::Null) => return kind("A value must not be null; leave the element out."),
        (_, Json::Array(_)) => return kind("The element occurs once; it is no array."),
        (Form::Boolean, Json::Bool(_)) => return None,
        (Form::Boolean, _) => return kind("A boolean is true or false without quotes."),
        (Form::Number(is_right, text), Json::Number(digits)) => (is_right(digits), text),
        (Form::Number(..), _) => return kind("The value is a JSON number without quotes."),
        (Form::Text(..), Json::String(text)) if text.is_empty() => {
            return kind("A string must not be empty; leave the element out.");
        }
        (Form::Text(is_right, rule), Json::String(text)) => (is_right(text), rule),
        (Form::Text(..), _) => return kind("The value is a JSON string."),
    };
    (!is_right).then_some(Fault { code: IssueType::Value, text })
}

fn kind(text: &'static str) -> Option<Fault> {
    Some(Fault { code: IssueType::Structure, text })
}

/// The JSON kind of a type, its test and the rule in words.
enum Form {
    Boolean,
    Number(fn(&str) -> bool, &'static str),
    Text(fn(&str) -> bool, &'static str),
}

fn form(of_type: &str) -> Form {
    match of_type {
        "boolean" => Form::Boolean,
        "integer" => Form::Number(
            |digits| whole(digits, i32::MIN),
            "An integer is a whole number from -2147483648 to 2147483647.",
        ),
        "unsignedInt" => Form::Number(
            |digits| whole(digits, 0) && !digits.starts_with('-'),
            "An unsignedInt is a whole number from 0 to 2147483647.",
        ),
        "positiveInt" => Form::Number(
            |digits| whole(digits, 1),
            "A positiveInt is a whole number from 1 to 2147483647.",
        ),
        "decimal" => Form::Number(is_decimal, "A decimal has no leading zeros and no plus sign."),
        "date" => {
            Form::Text(is_date, "A date is YYYY, YYYY-MM or YYYY-MM-DD and stands in the calendar.")
        }
        "dateTime" => Form::Text(
            is_date_time,
            "A dateTime is YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with Z or an offset; \
             a time needs seconds and a zone.",
        ),
        "instant" => {
            Form::Text(is_instant, "An instant is YYYY-MM-DDThh:mm:ss with Z or an offset.")
        }
        "time" => Form::Text(is_time, "A time is hh:mm:ss without a zone, up to 23:59:60."),
        "id" => Form::Text(is_id, "An id has 1 to 64 of the characters A-Z a-z 0-9 - and dot."),
        "oid" => {
            Form::Text(is_oid, "An oid is urn:oid: and numbers with dots, without leading zeros.")
        }
        "uuid" => Form::Text(is_uuid, "A uuid is urn:uuid: and a UUID in lower case."),
        "uri" | "url" | "canonical" => Form::Text(
            is_uri,
            "A uri has no blanks; after urn:uuid: stands a UUID in lower case, after urn:oid: an OID.",
        ),
        "code" => Form::Text(is_code, "A code has no blank at its ends and never two together."),
        "base64Binary" => Form::Text(
            is_base64,
            "Base64 is groups of four of A-Z a-z 0-9 + and /, the last one filled with =, as in QUI=.",
        ),
        ELEMENT_ID => {
            Form::Text(|text| !text.contains(char::is_whitespace), "An element's id has no blanks.")
        }
        "xhtml" => Form::Text(|_| true, ""),
        _ => Form::Text(
            is_string,
            "A string has no control characters but tab and line ends, and at most 1048576 characters.",
        ),
    }
}

/// Our name for the form of an element's id, which R4 types as a string.
pub(super) const ELEMENT_ID: &str = "element id";

fn all_digits(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
}

/// Digits without leading zeros.
fn is_natural(bytes: &[u8]) -> bool {
    all_digits(bytes) && (bytes.len() == 1 || bytes.first() != Some(&b'0'))
}

fn whole(text: &str, least: i32) -> bool {
    is_natural(text.strip_prefix('-').unwrap_or(text).as_bytes())
        && text.parse::<i32>().is_ok_and(|number| number >= least)
}

fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    is_natural(whole.as_bytes())
        && fraction.is_none_or(|digits| all_digits(digits.as_bytes()))
        && exponent
            .is_none_or(|text| all_digits(text.strip_prefix(['+', '-']).unwrap_or(text).as_bytes()))
}

fn is_date(text: &str) -> bool {
    text.len() <= 10 && DateTime::parse(text).is_some()
}

fn is_date_time(text: &str) -> bool {
    DateTime::parse(text).is_some_and(|value| {
        value.precision <= Precision::Day
            || value.precision >= Precision::Second && value.offset.is_some()
    })
}

fn is_instant(text: &str) -> bool {
    DateTime::parse(text)
        .is_some_and(|value| value.precision >= Precision::Second && value.offset.is_some())
}

fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let part = |at: usize, most: u8| match bytes.get(at..at + 2) {
        Some([tens @ b'0'..=b'9', ones @ b'0'..=b'9']) => {
            (tens - b'0') * 10 + (ones - b'0') <= most
        }
        _ => false,
    };
    let colon = |at: usize| bytes.get(at) == Some(&b':');
    let fraction = bytes.get(8..).unwrap_or_default();
    part(0, 23)
        && part(3, 59)
        && part(6, 60)
        && colon(2)
        && colon(5)
        && (fraction.is_empty() || fraction.strip_prefix(b".").is_some_and(all_digits))
}

/// Also the form of a resource's logical id.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn is_oid(text: &str) -> bool {
    let mut parts = text.strip_prefix("urn:oid:").unwrap_or_default().split('.');
    let first = parts.next();
    let mut rest = parts.peekable();
    matches!(first, Some("0" | "1" | "2"))
        && rest.peek().is_some()
        && rest.all(|part| is_natural(part.as_bytes()))
}

fn is_uuid(text: &str) -> bool {
    let Some(uuid) = text.strip_prefix("urn:uuid:") else { return false };
    uuid.len() == 36
        && uuid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn is_uri(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_whitespace() || byte == 0x0b)
        && (!text.starts_with("urn:uuid:") || is_uuid(text.split('#').next().unwrap_or(text)))
        && (!text.starts_with("urn:oid:") || is_oid(text))
}

fn is_code(text: &str) -> bool {
    let is_blank = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let mut before = true;
    for byte in text.bytes() {
        let blank = is_blank(byte);
        if blank && before {
            return false;
        }
        before = blank;
    }
    !before && is_string(text)
}

/// Groups of four characters, blanks anywhere, padding at the end only.
fn is_base64(text: &str) -> bool {
    let (mut count, mut padding) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            // The pattern of R4 has blanks between groups of four, not within them.
            _ if byte.is_ascii_whitespace() && count % 4 == 0 => continue,
            _ => return false,
        }
        count += 1;
    }
    count > 0 && count % 4 == 0 && padding <= 2
}

fn is_string(text: &str) -> bool {
    !text.bytes().any(|byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r'))
        && (text.len() <= STRING_LIMIT || text.chars().nth(STRING_LIMIT).is_none())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::definitions::Definitions;

    fn is_right(of_type: &str, text: &str) -> bool {
        let value = match form(of_type) {
            Form::Number(..) => Json::Number(text.into()),
            _ => Json::from(text),
        };
        check(of_type, &value).is_none()
    }

    #[test]
    fn forms_are_those_of_the_standard() {
        for (of_type, right, wrong) in [
            (
                "date",
                "1974 1974-12 1974-12-25 2024-02-29",
                "74 1974-13 1974-1-2 2023-02-29 1974-12-25T00:00:00Z 0000",
            ),
            (
                "dateTime",
                "1974 1974-12-25T10:00:00Z 1974-12-25T10:00:00.123+01:00 2016-12-31T23:59:60Z",
                "1974-12-25T10:00 1974-12-25T10:00Z 1974-12-25T10:00:00 1974-12-25T24:00:00Z 1974-12-25T10:00:00+15:00",
            ),
            ("instant", "1974-12-25T10:00:00Z", "1974-12-25 1974-12-25T10:00:00 1974-12-25T10:00Z"),
            ("time", "10:00:00 23:59:60 10:00:00.5", "10:00 24:00:00 10:00:00Z 10:00:00. 1:00:00"),
            ("decimal", "0 -0.10 1e10 1.5E-3 100", "01 +1 .5 1. 1e 0x1"),
            ("integer", "0 -1 2147483647 -2147483648", "2147483648 1.0 01 1e2 -2147483649"),
            ("positiveInt", "1 2147483647", "0 -1 01 1.5 2147483648"),
            ("unsignedInt", "0 1", "-1 -0 00 2147483648"),
            ("id", "a A-1.b", "a_b é a/b"),
            (
                "oid",
                "urn:oid:1.2.3 urn:oid:2.16.840",
                "1.2.3 urn:oid:3.1 urn:oid:1.02 urn:oid:1 urn:oid:",
            ),
            (
                "uuid",
                "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
                "urn:uuid:C757873D-ec9a-4326-a141-556f43239520 c757873d-ec9a-4326-a141-556f43239520 urn:uuid:x",
            ),
            ("uri", "http://a.b/c#d urn:x a ./b", "urn:uuid:X urn:oid:9"),
            ("base64Binary", "QUJD QUI= QQ==", "QUJ QU=D ==== QUJD= Q*JD"),
        ] {
            for text in right.split(' ') {
                assert!(is_right(of_type, text), "{of_type} {text}");
            }
            for text in wrong.split(' ') {
                assert!(!is_right(of_type, text), "{of_type} {text}");
            }
        }
        for (of_type, text, expected) in [
            ("code", "a b", true),
            ("code", " a", false),
            ("code", "a  b", false),
            ("code", "a ", false),
            ("uri", "http://a b", false),
            ("base64Binary", "QUJD\nQUJD", true),
            ("base64Binary", "QU JDQUJD", false),
            ("string", " a\tb\r\n", true),
            ("string", "a\u{1}", false),
            ("string", "", false),
            ("markdown", "", false),
            (ELEMENT_ID, "a b", false),
        ] {
            assert_eq!(is_right(of_type, text), expected, "{of_type} {text:?}");
        }
        let long = "é".repeat(STRING_LIMIT);
        assert!(is_right("string", &long) && !is_right("string", &format!("{long}x")));
        assert!(is_right("id", &"x".repeat(64)) && !is_right("id", &"x".repeat(65)));
    }

    const PATTERNED: [&str; 12] = [
        "date",
        "dateTime",
        "instant",
        "time",
        "decimal",
        "integer",
        "positiveInt",
        "unsignedInt",
        "id",
        "oid",
        "code",
        "base64Binary",
    ];

    static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        let definitions = Definitions::r4();
        let pattern = |of_type: &&str| {
            let pattern = definitions.child(of_type, "value").and_then(|value| value.regex);
            Regex::new(&format!("^(?:{})$", pattern.unwrap())).unwrap()
        };
        PATTERNED.iter().map(pattern).collect()
    });

    proptest! {
        #[test]
        fn what_is_accepted_matches_the_pattern(
            which in 0_usize..12,
            text in "[0-9]{4}(-[01][0-9](-[0-3][0-9](T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,3})?(Z|[+-][01][0-9]:[0-5][0-9])?)?)?)?|[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]?)?|-?[0-9]{1,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]?)?|[a-c =/+]{0,12}|urn:oid:[0-9.]{1,8}"
        ) {
            let of_type = PATTERNED[which];
            let expected = PATTERNS[which].is_match(&text);
            // The patterns know no calendar and treat padding loosely.
            if is_right(of_type, &text) {
                prop_assert!(expected, "{of_type} {text}");
            } else if expected && !["date", "dateTime", "instant", "base64Binary"].contains(&of_type) {
                prop_assert!(false, "{of_type} {text} matches the pattern");
            }
        }
    }
}
