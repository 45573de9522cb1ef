//! Escapes in values: <https://hl7.org/fhir/R4/search.html#escaping>.

/// The parts of a value between separators that no backslash escapes; escapes stay.
pub(super) fn split(value: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, character) in value.char_indices() {
        if character == separator && !escaped {
            parts.push(&value[start..at]);
            start = at + separator.len_utf8();
        }
        escaped = character == '\\' && !escaped;
    }
    parts.push(&value[start..]);
    parts
}

/// Takes the backslashes off `\,` `\|` `\$` and `\\`.
pub(super) fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\\' && matches!(characters.peek(), Some(',' | '|' | '$' | '\\')) {
            out.extend(characters.next());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_separator_does_not_separate() {
        assert_eq!(split(r"a\,b,c\\,", ','), [r"a\,b", r"c\\", ""]);
        assert_eq!(split("", ','), [""]);
        assert_eq!(split("é|ü", '|'), ["é", "ü"]);
        assert_eq!(unescape(r"a\,b\|c\$d\\e\f"), r"a,b|c$d\e\f");
    }
}
