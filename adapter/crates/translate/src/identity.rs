//! Who and what a record is about: <https://hl7.org/fhir/R4/datatypes.html#Identifier>.
//!
//! Check digits of NHS numbers and SNOMED CT identifiers, GUIDs as suppliers write them, and the
//! deterministic ids that make the same record the same resource in every run. Nothing here
//! compares people; that is the work list's business.

use uuid::Uuid;

/// System of a valid NHS number, fixed by UK Core.
pub const NHS_NUMBER: &str = "https://fhir.nhs.uk/Id/nhs-number";
/// System of an organisation's ODS code, fixed by UK Core.
pub const ODS_ORGANIZATION: &str = "https://fhir.nhs.uk/Id/ods-organization-code";

/// Namespace of all ids below: the version 5 UUID of `https://lumbar.example/fhir` under the URL
/// namespace of RFC 9562.
const NAMESPACE: Uuid = Uuid::from_u128(0xa722_15db_f851_55fa_a809_00eb_490c_2264);

/// The id of the resource that stands for a source record: version 5 UUID of `parts` (source
/// system, organisation, table or segment role, key), in lower case with hyphens. The same parts
/// give the same id on every machine.
pub fn resource_id(parts: &[&str]) -> String {
    Uuid::new_v5(&NAMESPACE, parts.join("|").as_bytes()).hyphenated().to_string()
}

/// The ten digits of an NHS number whose check digit is right; blanks and hyphens between digits
/// are dropped. `None` for anything else.
///
/// Source: NHS Data Dictionary, NHS NUMBER: modulus 11 over the first nine digits, weights 10 to 2.
pub fn nhs_number(text: &str) -> Option<String> {
    let mut digits = String::with_capacity(10);
    for character in text.trim().chars() {
        match character {
            '0'..='9' => digits.push(character),
            ' ' | '-' => {}
            _ => return None,
        }
    }
    if digits.len() != 10 {
        return None;
    }
    let mut values = digits.bytes().map(|byte| u32::from(byte - b'0'));
    let sum: u32 =
        values.by_ref().take(9).zip((2..=10).rev()).map(|(digit, weight)| digit * weight).sum();
    let check = match 11 - sum % 11 {
        11 => 0,
        10 => return None,
        check => check,
    };
    (values.next() == Some(check)).then_some(digits)
}

/// Whether `text` is a SNOMED CT identifier of a concept: 6 to 18 digits, no leading zero, a right
/// Verhoeff check digit, and the partition of a concept (00 or 10).
///
/// Source: SNOMED CT Release File Specification, section 6 "SNOMED CT identifiers".
pub fn is_snomed_concept(text: &str) -> bool {
    is_snomed(text, b"00") || is_snomed(text, b"10")
}

/// Whether `text` is a SNOMED CT identifier of a description (partition 01 or 11).
pub fn is_snomed_description(text: &str) -> bool {
    is_snomed(text, b"01") || is_snomed(text, b"11")
}

fn is_snomed(text: &str, partition: &[u8; 2]) -> bool {
    let bytes = text.as_bytes();
    (6..=18).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_digit)
        && bytes.first() != Some(&b'0')
        && bytes.get(bytes.len() - 3..bytes.len() - 1) == Some(partition)
        && verhoeff(bytes)
}

/// The check of J. Verhoeff, "Error detecting decimal codes" (1969): digits combine in the
/// dihedral group of order 10 after a permutation that depends on their place.
fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTATION: [usize; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let sum = digits.iter().rev().enumerate().fold(0, |sum, (place, byte)| {
        let digit = usize::from(byte - b'0');
        let permuted = (0..place % 8).fold(digit, |digit, _| PERMUTATION[digit]);
        dihedral(sum, permuted)
    });
    sum == 0
}

/// Product in the dihedral group of order 10: 0 to 4 are turns, 5 to 9 are reflections.
fn dihedral(a: usize, b: usize) -> usize {
    match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b) % 5,
        (false, true) => 5 + (a - b % 5) % 5,
        (false, false) => (5 + a - b) % 5,
    }
}

/// A GUID in lower case without braces; braces on input are optional. `None` when it is none.
pub fn guid(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let shaped = text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    shaped.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_namespace_is_the_one_the_comment_says() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://lumbar.example/fhir"));
    }

    #[test]
    fn nhs_numbers() {
        assert_eq!(nhs_number("999 120-3001").as_deref(), Some("9991203001"));
        assert_eq!(nhs_number("9991203002"), None);
        assert_eq!(nhs_number("999120300"), None);
        assert_eq!(nhs_number("99912O3001"), None);
    }

    #[test]
    fn snomed_identifiers() {
        for good in ["279039007", "945601000000103", "308447003", "23056005"] {
            assert!(is_snomed_concept(good), "{good}");
        }
        for bad in ["45601000000103", "1777541000006110", "279039008", "2418721000000118", "", "12"]
        {
            assert!(!is_snomed_concept(bad), "{bad}");
        }
        assert!(is_snomed_description("2418721000000118"));
    }

    #[test]
    fn guids() {
        let plain = "46386b92-6643-55c5-9f24-de2554449d1e";
        assert_eq!(guid("{46386B92-6643-55C5-9F24-DE2554449D1E}").as_deref(), Some(plain));
        assert_eq!(guid(plain).as_deref(), Some(plain));
        assert_eq!(guid("not-a-guid"), None);
        assert_eq!(guid("{46386B92-6643-55C5-9F24-DE2554449D1E"), None);
    }

    proptest! {
        #[test]
        fn any_single_wrong_digit_is_found(place in 0usize..9, by in 1u8..10) {
            let mut digits = *b"279039007";
            digits[place] = b'0' + (digits[place] - b'0' + by) % 10;
            let text = String::from_utf8(digits.to_vec()).unwrap();
            prop_assert!(!is_snomed_concept(&text));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}") {
            let _ = (nhs_number(&text), guid(&text), is_snomed_concept(&text));
        }
    }
}
