//! The text forms under which values are indexed and looked for; see [`Condition`](super::Condition).

use rust_decimal::Decimal;

use super::condition::Bound;

/// Stands between the parts of a key; no FHIR string may contain it (R4 allows no characters
/// below U+0020 but tab, line feed and carriage return).
pub const SEPARATOR: char = '\u{1}';

/// Key of a token; `system` empty when the value has none.
pub fn token(system: &str, code: &str) -> String {
    join(code, system)
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

/// Bounds of the one key `key`.
pub fn equal_to(key: String) -> (Bound<String>, Bound<String>) {
    (Bound::Included(key.clone()), Bound::Included(key))
}

/// Text as R4 compares strings: without case, accents and runs of blanks.
///
/// Accents are taken off the letters of Latin-1 and Latin Extended-A and off combining marks,
/// which covers the names of Europe; other scripts are compared in lower case.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else if !('\u{300}'..='\u{36f}').contains(&character) {
            for lower in character.to_lowercase() {
                match base_letters(lower) {
                    Some(letters) => out.push_str(letters),
                    None if ('\u{300}'..='\u{36f}').contains(&lower) => {}
                    None => out.push(lower),
                }
            }
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The unaccented letters for a lower-case letter of Latin-1 or Latin Extended-A.
fn base_letters(letter: char) -> Option<&'static str> {
    Some(match letter {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => "a",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ĥ' | 'ħ' => "h",
        'ì' | 'í' | 'î' | 'ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => "i",
        'ĵ' => "j",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => "o",
        'ŕ' | 'ŗ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'ţ' | 'ť' | 'ŧ' | 'ț' => "t",
        'ù' | 'ú' | 'û' | 'ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => "u",
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
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
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        if !(-300..=300).contains(&exponent) {
            return None;
        }
        // Decimal refuses what is no plain number, such as "inf" or "0x1".
        let plain = Decimal::from_str_exact(mantissa).ok()?;
        // An exponent above zero says one digit less: 1e2 is known to tens.
        let places = plain.scale() + if exponent > 0 { 2 } else { 1 };
        let half = Decimal::try_new(5, places).ok()?;
        // Decimal, because 5.4 - 0.05 is more than 5.35 in binary.
        let float = |bound: Decimal| format!("{bound}e{exponent}").parse::<f64>().ok();
        let from = float(plain.checked_sub(half)?)?;
        let to = float(plain.checked_add(half)?)?;
        Some(Number { value: text.parse().ok()?, interval: (from, to) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_fold_case_accents_and_blanks() {
        assert_eq!(fold(" Wiśniewski\t  Zoë "), " wisniewski zoe");
        assert_eq!(fold("LÜDENSCHEID Straße"), "ludenscheid strasse");
        assert_eq!(fold("e\u{301}"), "e");
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
        assert_eq!(Number::parse("abc"), None);
        assert_eq!(Number::parse("1e999"), None);
        assert_eq!(Number::parse("inf"), None);
    }
}
