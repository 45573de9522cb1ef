//! The text forms under which values are indexed and looked for; see [`Condition`](super::Condition).

use std::borrow::Cow;

use rust_decimal::Decimal;
use unicode_normalization::UnicodeNormalization;

use super::condition::Bound;

/// Stands between the parts of a key; no FHIR string may contain it (R4 allows no characters
/// below U+0020 but tab, line feed and carriage return).
pub const SEPARATOR: char = '\u{1}';

/// Stands between the keys of the parts of a composite.
pub const PART: char = '\u{2}';

/// Key of a token; `system` empty when the value has none.
pub fn token(system: &str, code: &str) -> String {
    join(code, &shortened_system(system))
}

/// The end of the keys of all tokens of a system.
pub fn of_system(system: &str) -> String {
    join("", &shortened_system(system))
}

/// How systems begin that most codes have, and what stands for that in keys: a resource has its
/// systems in a dozen keys, and an index of half the size is read and written in half the time.
/// Raise [`INDEX_FORM`](super::INDEX_FORM) with any change.
const SYSTEMS: [(&str, &str); 12] = [
    ("http://snomed.info/sct", "!s"),
    ("http://loinc.org", "!l"),
    ("http://unitsofmeasure.org", "!u"),
    ("http://terminology.hl7.org/CodeSystem/", "!t"),
    ("http://hl7.org/fhir/", "!f"),
    ("https://fhir.hl7.org.uk/", "!k"),
    ("https://fhir.nhs.uk/", "!n"),
    ("https://lumbar.example/fhir/CodeSystem/", "!c"),
    ("https://lumbar.example/fhir/Id/", "!i"),
    ("http://read.info/", "!r"),
    ("urn:iso:std:iso:", "!o"),
    ("urn:oid:", "!d"),
];

/// A system as keys have it; different systems stay different.
fn shortened_system(system: &str) -> Cow<'_, str> {
    let short =
        |(begin, short): &(&str, &str)| Some(format!("{short}{}", system.strip_prefix(begin)?));
    if system.starts_with('!') {
        return Cow::Owned(format!("!{system}"));
    }
    SYSTEMS.iter().find_map(short).map_or(Cow::Borrowed(system), Cow::Owned)
}

/// Key of a string: the folded text, then the text as written.
pub fn string(text: &str) -> String {
    join(&fold(text), text)
}

/// Key of a canonical reference; `version` empty when it has none.
pub fn canonical(url: &str, version: &str) -> String {
    join(url, version)
}

fn join(first: &str, second: &str) -> String {
    let mut key = String::with_capacity(first.len() + second.len() + 1);
    key.push_str(first);
    key.push(SEPARATOR);
    key.push_str(second);
    key
}

/// Bounds of all keys that begin with `prefix`.
pub fn beginning_with(prefix: &str) -> (Bound<String>, Bound<String>) {
    // U+10FFFF sorts after every other character in UTF-8, and a key never begins with it.
    (Bound::Included(prefix.to_owned()), Bound::Excluded(format!("{prefix}\u{10ffff}")))
}

/// Key of the first part of a composite and that of what follows.
pub fn composite(first: &str, second: &str) -> String {
    format!("{first}{PART}{second}")
}

/// Bounds of the one key `key`.
pub fn equal_to(key: String) -> (Bound<String>, Bound<String>) {
    (Bound::Included(key.clone()), Bound::Included(key))
}

/// Text as R4 compares strings: without case, accents and runs of blanks.
///
/// Accents are the combining marks of Latin, Greek and Cyrillic (U+0300 to U+036F); the marks of
/// other scripts make other words and stay.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.nfd() {
        if character.is_whitespace() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else if !is_accent(character) {
            for lower in character.to_lowercase().filter(|lower| !is_accent(*lower)) {
                match base_letters(lower) {
                    Some(letters) => out.push_str(letters),
                    None => out.push(lower),
                }
            }
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn is_accent(character: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&character)
}

/// The plain letters for a lower-case letter of Latin that no decomposition takes apart.
fn base_letters(letter: char) -> Option<&'static str> {
    Some(match letter {
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'ı' => "i",
        'ŀ' | 'ł' => "l",
        'ø' => "o",
        'ŧ' => "t",
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        _ => return None,
    })
}

/// A number as a search compares it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// The value itself.
    pub value: f64,
    /// The interval that the written precision stands for: `100` means 99.5 to 100.5.
    pub interval: (f64, f64),
}

impl Number {
    /// Reads a decimal with optional exponent. Precision as in R4 3.1.1.4.2: `1e2` means 95 to 105.
    pub fn parse(text: &str) -> Option<Number> {
        Number::scaled(text, Decimal::ONE)
    }

    /// The same, times `factor`.
    pub fn scaled(text: &str, factor: Decimal) -> Option<Number> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        // Decimal knows more forms, such as 1_000.
        let digits = mantissa.strip_prefix('-').unwrap_or(mantissa);
        if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return None;
        }
        // An exponent above zero says one digit less: 1e2 is known to tens.
        let lost = if exponent > 0 { 2 } else { 1 };
        let (mantissa, shift) = shortened(mantissa, digits);
        let exponent = exponent.checked_add(shift)?;
        if !(-300..=300).contains(&exponent) {
            return None;
        }
        let plain = Decimal::from_str_exact(&mantissa).ok()?;
        let places = plain.scale() + lost;
        let half = Decimal::try_new(5, places).ok()?;
        // Decimal, because 5.4 - 0.05 is more than 5.35 in binary.
        let float = |value: Decimal| {
            let scaled = value.checked_mul(factor)?;
            if scaled.is_zero() != value.is_zero() {
                return None;
            }
            format!("{scaled}e{exponent}").parse::<f64>().ok()
        };
        let value = float(plain)?;
        let (from, to) = (float(plain.checked_sub(half)?)?, float(plain.checked_add(half)?)?);
        // Of more digits than a double holds the interval would be empty.
        Some(Number { value, interval: (from, to.max(value.next_up())) })
    }
}

/// Most digits that are looked at: more than a double can tell apart, and few enough to be
/// multiplied.
const MAX_DIGITS: usize = 20;

/// A number of many digits as one of few, and the exponent that belongs to it.
fn shortened<'t>(number: &'t str, digits: &str) -> (Cow<'t, str>, i32) {
    if digits.len() <= MAX_DIGITS {
        return (Cow::Borrowed(number), 0);
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let (first, rest) = match significant.split_at_checked(1) {
        Some((first, rest)) => (first, rest.get(..MAX_DIGITS).unwrap_or(rest)),
        None => ("0", all.get(..MAX_DIGITS).unwrap_or_default()),
    };
    let sign = if number.starts_with('-') { "-" } else { "" };
    let point = if rest.is_empty() { "" } else { "." };
    // Beyond what an exponent can be, the caller refuses it.
    let place = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
    let exponent = match first {
        "0" => 0,
        _ => place(whole.len()).saturating_sub(place(all.len() - significant.len() + 1)),
    };
    (Cow::Owned(format!("{sign}{first}{point}{rest}")), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_fold_case_accents_and_blanks() {
        assert_eq!(fold(" Wiśniewski\t  Zoë "), "wisniewski zoe");
        assert_eq!(fold("LÜDENSCHEID Straße"), "ludenscheid strasse");
        assert_eq!(fold("e\u{301}"), "e");
        assert_eq!(fold("NGUYỄN Łukasz Þór Ðan Øre"), "nguyen lukasz thor dan ore");
        assert_eq!(fold("Ἀθήνα Йод"), "αθηνα иод");
        assert_eq!(fold("हिन्दी"), "हिन्दी");
    }

    #[test]
    fn systems_are_short_and_stay_different() {
        assert_eq!(token("http://loinc.org", "91351-7"), "91351-7\u{1}!l");
        assert_eq!(token("urn:oid:1.2.3", "a"), "a\u{1}!d1.2.3");
        assert_eq!(token("http://example.org", "a"), "a\u{1}http://example.org");
        assert_eq!(token("!l", "a"), "a\u{1}!!l");
        assert_eq!(token("", "a"), "a\u{1}");
        assert!(token("http://loinc.org", "a").ends_with(&of_system("http://loinc.org")));
        assert!(!token("http://x.org/!l", "a").ends_with(&of_system("http://loinc.org")));
        for (index, (begin, short)) in SYSTEMS.iter().enumerate() {
            let others = SYSTEMS.iter().enumerate().filter(|(other, _)| *other != index);
            for (_, (other, letter)) in others {
                assert!(!begin.starts_with(other) && short != letter, "{begin}");
            }
        }
    }

    #[test]
    fn numbers_have_the_interval_of_their_precision() {
        let interval = |text| {
            let number = Number::parse(text).unwrap();
            number.interval
        };
        assert_eq!(interval("100"), (99.5, 100.5));
        assert_eq!(interval("100.00"), (99.995, 100.005));
        assert_eq!(interval("1e2"), (95.0, 105.0));
        assert_eq!(interval("5.4"), (5.35, 5.45));
        assert_eq!(interval("1.5e-3"), (0.00145, 0.00155));
        let milligrams = Number::scaled("5.4", Decimal::try_new(1, 3).unwrap()).unwrap();
        assert_eq!((milligrams.value, milligrams.interval), (0.0054, (0.00535, 0.00545)));
        assert_eq!(interval("-5"), (-5.5, -4.5));
        for no in ["abc", "1_000", "+5", "", "-", ".", "1.2.3", "--1", "1e", "1e5.0", "1e-400"] {
            assert_eq!(Number::parse(no), None, "{no}");
        }
        for (long, value) in [
            ("0.00000000000000000000000000000000000000000000000002", 2e-50),
            ("-123456789012345678901234567890.123456789", -1.234_567_890_123_456_8e29),
            ("1000000000000000000000000000000000", 1e33),
            ("0.0000000000000000000000000000000000", 0.0),
            ("0.10000000000000000000000000000000000001e1", 1.0),
        ] {
            let Number { value: read, interval: (low, high) } = Number::parse(long).unwrap();
            assert_eq!(read, value, "{long}");
            assert!(low <= value && value < high, "{long}: {low} {high}");
        }
        assert_eq!(interval("0.00000000000000000000000000000000000000000000000002").0, 1.5e-50);
        assert_eq!(Number::parse("1e999"), None);
        assert_eq!(Number::parse("inf"), None);
    }
}
