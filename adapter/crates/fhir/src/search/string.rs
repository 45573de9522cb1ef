//! String parameters: <https://hl7.org/fhir/R4/search.html#string>.
//!
//! A value begins with what is looked for, without regard to case and accents. `:text`, whose
//! handling R4 leaves to the server, finds values that have every word somewhere. The parameters
//! called `phonetic` compare how words sound, by the American Soundex.

use std::borrow::Cow;

use crate::Json;
use crate::path::Value;

use super::condition::Condition;
use super::fault::Fault;
use super::key;
use super::query::{Asked, Reader};

/// The code of the parameters that compare by sound.
const PHONETIC: &str = "phonetic";

/// Keys of the texts of a value.
pub(super) fn keys(code: &str, value: &Value<'_>) -> Vec<String> {
    texts(value)
        .iter()
        .flat_map(|text| match code {
            PHONETIC => sounds(text).map(|sound| format!("{sound}{}", key::SEPARATOR)).collect(),
            _ => vec![key::string(text)],
        })
        .collect()
}

fn texts<'a>(value: &Value<'a>) -> Vec<Cow<'a, str>> {
    let Some(json) = value.json().filter(|json| json.as_object().is_some()) else {
        return value.as_str().into_iter().collect();
    };
    let parts: &[&str] = match value.type_name() {
        "HumanName" => &["family", "given", "prefix", "suffix", "text"],
        "Address" => &["line", "city", "district", "state", "postalCode", "country", "text"],
        _ => &["text", "display", "value"],
    };
    let texts = parts.iter().flat_map(|part| json.list(part)).filter_map(Json::as_str);
    texts.map(Cow::Borrowed).collect()
}

impl Reader<'_> {
    pub(super) fn string(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        let code = asked.code();
        let value = super::escape::unescape(value);
        let folded = key::fold(value.trim());
        if folded.is_empty() {
            return Err(asked.expected("a text such as Smith"));
        }
        Ok(match asked.modifier {
            None if code == PHONETIC => {
                let words = sounds(&value);
                Condition::All(
                    words
                        .map(|sound| Condition::key(code, format!("{sound}{}", key::SEPARATOR)))
                        .collect(),
                )
            }
            None => Condition::key_begins(code, &folded),
            Some("exact") if code != PHONETIC => Condition::key(code, key::string(&value)),
            Some("contains") if code != PHONETIC => Condition::KeyContains(code.to_owned(), folded),
            Some("text") if code != PHONETIC => Condition::All(
                folded
                    .split(' ')
                    .map(|word| Condition::KeyContains(code.to_owned(), word.to_owned()))
                    .collect(),
            ),
            Some(_) => return Err(asked.unknown_modifier("exact, contains, text and missing")),
        })
    }
}

/// How each word of a text sounds: <https://www.archives.gov/research/census/soundex>. A word
/// without Latin letters is its own sound.
fn sounds(text: &str) -> impl Iterator<Item = String> {
    let folded = key::fold(text);
    let words: Vec<String> = folded
        .split(|c: char| c.is_whitespace() || c == '-')
        .map(|word| word.chars().filter(|c| c.is_alphanumeric()).collect::<String>())
        .filter(|word| !word.is_empty())
        .map(|word| soundex(&word))
        .collect();
    words.into_iter()
}

fn soundex(word: &str) -> String {
    if !word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return word.to_owned();
    }
    let digit = |letter: char| match letter {
        'b' | 'f' | 'p' | 'v' => Some('1'),
        'c' | 'g' | 'j' | 'k' | 'q' | 's' | 'x' | 'z' => Some('2'),
        'd' | 't' => Some('3'),
        'l' => Some('4'),
        'm' | 'n' => Some('5'),
        'r' => Some('6'),
        _ => None,
    };
    let mut letters = word.chars();
    let Some(first) = letters.next() else { return String::new() };
    let mut sound = String::from(first);
    let mut last = digit(first);
    for letter in letters {
        // H and W do not part letters that sound alike; vowels do.
        if matches!(letter, 'h' | 'w') {
            continue;
        }
        let next = digit(letter);
        if next != last {
            sound.extend(next);
        }
        last = next;
        if sound.len() == 4 {
            break;
        }
    }
    format!("{sound:0<4}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_sound_as_the_census_says() {
        for (word, sound) in [
            ("robert", "r163"),
            ("rupert", "r163"),
            ("rubin", "r150"),
            ("ashcraft", "a261"),
            ("tymczak", "t522"),
            ("pfister", "p236"),
            ("lee", "l000"),
            ("müller", "m460"),
            ("李", "李"),
        ] {
            assert_eq!(sounds(word).collect::<Vec<_>>(), [sound], "{word}");
        }
        assert_eq!(sounds("Smith-Jones, Anna").collect::<Vec<_>>(), ["s530", "j520", "a500"]);
    }
}
