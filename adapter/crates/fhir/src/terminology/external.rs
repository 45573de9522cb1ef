//! Code systems that others publish: <https://hl7.org/fhir/R4/terminologies-systems.html>.
//!
//! Their content is not here; what the form of a code tells is tested: check digits of SNOMED CT and
//! LOINC, the grammars of UCUM, BCP 47 and MIME types, and how codes of ISO 3166, ISO 4217 and
//! ICD-10 are written. Whether a code that is written well exists is not known. Of expressions in
//! SNOMED CT's grammar nothing is tested.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{r4, ucum};

/// How the codes of a system are written.
#[derive(Debug)]
pub(crate) struct Form {
    system: &'static str,
    /// Whether every code that is written so is one of the system's.
    pub(crate) is_grammar: bool,
    check: fn(&str) -> bool,
    rule: &'static str,
}

const SNOMED: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";
const UCUM: &str = "http://unitsofmeasure.org";
const ICD_10: &str = "http://hl7.org/fhir/sid/icd-10";

const SNOMED_RULE: &str = "A code of SNOMED CT is the id of a concept: 6 to 18 digits, the last of \
                           them the check digit, before it 00 or 10.";
const ICD_10_RULE: &str = "A code of ICD-10 is a letter, a digit and a digit or letter, and maybe \
                           a point and more, as in M54.5.";
const ISO_3166_RULE: &str = "A code of ISO 3166 is two or three capital letters or three digits, \
                             of a subdivision as in GB-SCT.";

static FORMS: [Form; 12] = [
    Form { system: SNOMED, is_grammar: false, check: is_snomed, rule: SNOMED_RULE },
    Form {
        system: LOINC,
        is_grammar: false,
        check: is_loinc,
        rule: "A code of LOINC is up to seven digits, a hyphen and the check digit, as in 91351-7.",
    },
    Form {
        system: UCUM,
        is_grammar: true,
        check: ucum::is_unit,
        rule: "A unit of UCUM is written as in mm[Hg], kg/m2, 10*9/L or {score}, without blanks.",
    },
    Form {
        system: "https://dmd.nhs.uk",
        is_grammar: false,
        check: is_snomed,
        rule: "A code of dm+d is the id of a concept of SNOMED CT: 6 to 18 digits, the last of \
               them the check digit, before it 00 or 10.",
    },
    Form { system: ICD_10, is_grammar: false, check: is_icd_10, rule: ICD_10_RULE },
    Form {
        system: "http://hl7.org/fhir/sid/icd-10-uk",
        is_grammar: false,
        check: is_icd_10,
        rule: ICD_10_RULE,
    },
    Form {
        system: "http://hl7.org/fhir/sid/icd-10-cm",
        is_grammar: false,
        check: is_icd_10,
        rule: ICD_10_RULE,
    },
    Form {
        system: "urn:ietf:bcp:47",
        is_grammar: true,
        check: is_language,
        rule: "A language is written as in en or en-GB (BCP 47).",
    },
    Form {
        system: "urn:ietf:bcp:13",
        is_grammar: true,
        check: is_mime_type,
        rule: "A MIME type is written as in text/plain or application/fhir+json; charset=utf-8.",
    },
    Form {
        system: "urn:iso:std:iso:3166",
        is_grammar: false,
        check: is_country,
        rule: ISO_3166_RULE,
    },
    Form {
        system: "urn:iso:std:iso:3166:-2",
        is_grammar: false,
        check: is_country,
        rule: ISO_3166_RULE,
    },
    Form {
        system: "urn:iso:std:iso:4217",
        is_grammar: false,
        check: |code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()),
        rule: "A currency is three capital letters, as in GBP (ISO 4217).",
    },
];

/// How the codes of a system are written, where that is known.
pub(crate) fn form(system: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.system == system)
}

impl Form {
    /// The rule that a code breaks.
    pub(crate) fn check(&self, code: &str) -> Option<&'static str> {
        (!(self.check)(code)).then_some(self.rule)
    }
}

/// What is wrong with the value of an Identifier, and whether it cannot be one of its system at all.
pub(crate) fn identifier(system: &str, value: &str) -> Option<(bool, &'static str)> {
    let digits = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit());
    match system {
        "https://fhir.nhs.uk/Id/nhs-number" => match value.len() == 10 && digits(value) {
            false => Some((true, "An NHS number is ten digits without blanks, as in 9990548609.")),
            true if is_nhs_number(value) => None,
            true => Some((
                false,
                "The check digit of the NHS number is wrong; compare it with its source.",
            )),
        },
        "https://fhir.nhs.uk/Id/ods-organization-code" => {
            let is_right = (3..=12).contains(&value.len())
                && value.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            (!is_right).then_some((
                false,
                "An ODS code is three or more capital letters and digits, as in RJ1 or A81001.",
            ))
        }
        _ => None,
    }
}

/// Ten digits, of which the last follows from the others modulo 11.
fn is_nhs_number(value: &str) -> bool {
    let digits = value.bytes().map(|byte| u32::from(byte.wrapping_sub(b'0')));
    let sum: u32 = digits.zip((1..=10).rev()).map(|(digit, weight)| digit * weight).sum();
    sum.is_multiple_of(11)
}

/// An id of a concept with its check digit (Verhoeff), or an expression.
fn is_snomed(code: &str) -> bool {
    if code.contains([' ', ':', '|', '+', '=', '{', '(', '<']) {
        return true;
    }
    let bytes = code.as_bytes();
    let partition = bytes.len().checked_sub(3).and_then(|at| bytes.get(at..at + 2));
    (6..=18).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_digit)
        && bytes.first() != Some(&b'0')
        && matches!(partition, Some(b"00" | b"10"))
        && is_verhoeff(bytes)
}

/// Whether digits end with their check digit by Verhoeff's scheme: the sum over the group of the
/// symmetries of a pentagon is its neutral element.
fn is_verhoeff(digits: &[u8]) -> bool {
    /// The permutation that is applied once more at each place from the right.
    const STEP: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let mut sum = 0;
    for (place, digit) in digits.iter().rev().enumerate() {
        let mut value = digit.wrapping_sub(b'0');
        for _ in 0..place % 8 {
            value = STEP.get(usize::from(value)).copied().unwrap_or(0);
        }
        sum = pentagon(sum, value);
    }
    sum == 0
}

/// The product in the group of the symmetries of a pentagon: 0 to 4 turn, 5 to 9 mirror.
fn pentagon(one: u8, two: u8) -> u8 {
    match (one < 5, two < 5) {
        (true, true) => (one + two) % 5,
        (true, false) => 5 + (one + two) % 5,
        (false, true) => 5 + (one - two) % 5,
        (false, false) => (one + 5 - two) % 5,
    }
}

/// A number with its check digit (modulo 10), or the code of a part, an answer, a list or a group.
fn is_loinc(code: &str) -> bool {
    let Some((number, check)) = code.split_once('-') else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(number) = ["LP", "LA", "LL", "LG"].iter().find_map(|p| number.strip_prefix(p)) {
        return is_number(number) && is_number(check);
    }
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let digits = number.bytes().rev().map(|byte| byte.wrapping_sub(b'0')).enumerate();
    is_number(number)
        && number.len() <= 7
        && is_number(check)
        && check.len() == 1
        && digits
            .map(|(place, digit)| u32::from(if place % 2 == 0 { doubled(digit) } else { digit }))
            .chain(check.bytes().map(|byte| u32::from(byte - b'0')))
            .sum::<u32>()
            .is_multiple_of(10)
}

/// A category, a block (`M50-M54`) or a chapter (`XIII`).
fn is_icd_10(code: &str) -> bool {
    let is_category = |text: &str| {
        let bytes = text.as_bytes();
        let rest = bytes.get(3..).unwrap_or_default();
        let rest = rest.strip_prefix(b".").unwrap_or(rest);
        matches!(bytes, [b'A'..=b'Z', b'0'..=b'9', last, ..] if last.is_ascii_alphanumeric())
            && rest.len() <= 5
            && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"*+!-".contains(byte))
    };
    let is_block = || {
        code.split_once('-').is_some_and(|(from, to)| {
            from.len() == 3 && to.len() == 3 && is_category(from) && is_category(to)
        })
    };
    let is_chapter = || !code.is_empty() && code.bytes().all(|byte| b"IVX".contains(&byte));
    is_category(code) || is_block() || is_chapter()
}

/// Subtags of letters and digits, the first of them a language, `x` or `i`.
fn is_language(code: &str) -> bool {
    let mut tags = code.split('-');
    let first = tags.next().unwrap_or_default();
    let is_private = matches!(first, "x" | "X" | "i" | "I");
    let is_first = (2..=8).contains(&first.len()) || is_private && first.len() < code.len();
    is_first
        && first.bytes().all(|byte| byte.is_ascii_alphabetic())
        && tags.all(|tag| {
            (1..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

/// `type/subtype` and parameters, or one of the short names of FHIR's formats.
fn is_mime_type(code: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-*'`|~%".contains(&b))
    };
    let mut parts = code.split(';');
    let kind = parts.next().unwrap_or_default().trim_end();
    let is_kind = match kind.split_once('/') {
        Some((kind, sub)) => token(kind) && token(sub),
        None => matches!(kind, "xml" | "json" | "ttl"),
    };
    is_kind && parts.all(|part| part.trim().split_once('=').is_some_and(|(name, _)| token(name)))
}

fn is_country(code: &str) -> bool {
    let (country, part) = match code.split_once('-') {
        Some((country, part)) => (country, Some(part)),
        None => (code, None),
    };
    let letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_country = matches!(country.len(), 2 | 3) && letters(country)
        || country.len() == 3 && country.bytes().all(|byte| byte.is_ascii_digit());
    let is_part = |part: &str| {
        (1..=3).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    is_country && part.is_none_or(is_part)
}

/// Other names that are seen for a system, in the form of [`bare`].
const MISTAKEN: [(&str, &str); 12] = [
    ("snomed.info", SNOMED),
    ("snomed.info/id", SNOMED),
    ("snomed.org", SNOMED),
    ("snomed.org/sct", SNOMED),
    ("urn:oid:2.16.840.1.113883.6.96", SNOMED),
    ("urn:oid:2.16.840.1.113883.6.1", LOINC),
    ("urn:oid:2.16.840.1.113883.6.8", UCUM),
    ("unitsofmeasure.org/ucum", UCUM),
    ("ucum.org", UCUM),
    ("urn:oid:2.16.840.1.113883.6.3", ICD_10),
    ("hl7.org/fhir/sid/icd10", ICD_10),
    ("who.int/icd-10", ICD_10),
];

/// The known systems by their uris in the form of [`bare`].
static BARE: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let systems = r4::code_systems().chain(FORMS.iter().map(|form| form.system));
    let mistaken = MISTAKEN.iter().map(|(text, system)| ((*text).to_owned(), *system));
    mistaken.chain(systems.map(|system| (bare(system), system))).collect()
});

/// A uri without scheme, `www.` and slashes at its end, in lower case.
fn bare(uri: &str) -> String {
    let uri = uri.trim().to_ascii_lowercase();
    let uri = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://")).unwrap_or(&uri);
    uri.strip_prefix("www.").unwrap_or(uri).trim_end_matches('/').to_owned()
}

/// The system that is meant by a uri that is not its own.
pub(crate) fn mistaken(uri: &str) -> Option<&'static str> {
    let uri = bare(uri);
    let known = |uri: &str| BARE.get(uri).copied();
    // Before R4 the tables of v2 and the systems of v3 had other urls.
    let older = || {
        let rest = uri.strip_prefix("hl7.org/fhir/")?;
        let name = rest.strip_prefix("v2/").map(|name| format!("v2-{name}"));
        let name = name.or_else(|| rest.strip_prefix("v3/").map(|name| format!("v3-{name}")));
        let name = name.unwrap_or_else(|| rest.to_owned());
        known(&format!("terminology.hl7.org/codesystem/{name}"))
    };
    known(&uri).or_else(older)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_as_their_publishers_say() {
        for (system, right, wrong) in [
            (
                SNOMED,
                "279039007 138875005 73211009 22298006 900000000000207008 999000041000001103 \
                 404684003 1104051000000101 46635009",
                "279039008 279039017 100022 12345 0279039007 27903900a 2790390007 \
                 751689013 1234567890123456789 back",
            ),
            (
                LOINC,
                "8480-6 85354-9 29463-7 2708-6 60591-5 72166-2 LA137-2 LP7751-3 LL379-9",
                "8480-7 8480 84806 8480-66 12345678-9 8480-a X8480-6 -6",
            ),
            ("https://dmd.nhs.uk", "322236009", "322236008 1 322236009a"),
            (
                ICD_10,
                "M54.5 C12 M545 M50-M54 XIII A00.0 B95.2* Z99 S72.00",
                "54.5 m54.5 M M5 back M54.5.5 M54_5 M54.1234567",
            ),
            (
                "urn:ietf:bcp:47",
                "en en-GB zh-Hans-CN x-own de-CH-1996 i-klingon sgn-BE-FR",
                "e en_GB en- 12 english-languages en--GB x",
            ),
            (
                "urn:ietf:bcp:13",
                "text/plain application/fhir+json json text/html;charset=utf-8 image/svg+xml",
                "plain text/ /plain text/pl/ain text/plain;charset text",
            ),
            ("urn:iso:std:iso:3166", "GB GBR 826 GB-SCT US-CA", "gb G GBRX GB- GB-ABCD 82"),
            ("urn:iso:std:iso:4217", "GBP EUR", "gbp £ GB"),
        ] {
            let form = form(system).unwrap();
            for code in right.split_whitespace() {
                assert_eq!(form.check(code), None, "{system} {code}");
            }
            for code in wrong.split_whitespace() {
                assert!(form.check(code).is_some(), "{system} {code}");
            }
        }
        let expression = "71388002 |Procedure| : 405815000 = 122456005";
        assert_eq!(form(SNOMED).unwrap().check(expression), None);
        assert_eq!(form("urn:ietf:bcp:13").unwrap().check("text/plain; charset=UTF-8"), None);
    }

    /// The examples of the published scheme, and every digit changed or swapped with its neighbour.
    #[test]
    fn check_digits_find_wrong_and_swapped_digits() {
        for right in ["2363", "123451", "1428570", "279039007", "900000000000207008"] {
            assert!(is_verhoeff(right.as_bytes()), "{right}");
            for place in 0..right.len() {
                let mut other = right.as_bytes().to_vec();
                for digit in b'0'..=b'9' {
                    other[place] = digit;
                    let same = other == right.as_bytes();
                    assert_eq!(is_verhoeff(&other), same, "{right} with {digit} at {place}");
                }
            }
            for place in 1..right.len() {
                let mut other = right.as_bytes().to_vec();
                other.swap(place - 1, place);
                assert_eq!(is_verhoeff(&other), other == right.as_bytes(), "{right} {place}");
            }
        }
        for (value, expected) in [
            ("9990548609", None),
            ("9434765919", None),
            ("9990548608", Some(false)),
            ("999 054 8609", Some(true)),
            ("99905486091", Some(true)),
            ("999054860X", Some(true)),
        ] {
            let found = identifier("https://fhir.nhs.uk/Id/nhs-number", value);
            assert_eq!(found.map(|(is_error, _)| is_error), expected, "{value}");
        }
        let ods = "https://fhir.nhs.uk/Id/ods-organization-code";
        assert!(identifier(ods, "A81001").is_none() && identifier(ods, "a81001").is_some());
    }

    #[test]
    fn other_names_of_systems_are_known() {
        for (uri, system) in [
            ("http://snomed.info", SNOMED),
            ("http://snomed.info/sct/", SNOMED),
            ("https://SNOMED.info/sct", SNOMED),
            ("http://www.loinc.org/", LOINC),
            ("urn:oid:2.16.840.1.113883.6.1", LOINC),
            ("https://unitsofmeasure.org", UCUM),
            ("http://dmd.nhs.uk", "https://dmd.nhs.uk"),
            ("http://hl7.org/fhir/v2/0203", "http://terminology.hl7.org/CodeSystem/v2-0203"),
            ("http://hl7.org/fhir/v3/ActCode", "http://terminology.hl7.org/CodeSystem/v3-ActCode"),
            (
                "http://hl7.org/fhir/observation-category",
                "http://terminology.hl7.org/CodeSystem/observation-category",
            ),
        ] {
            assert_eq!(mistaken(uri), Some(system), "{uri}");
        }
        assert_eq!(mistaken("http://example.org/cs"), None);
    }
}
