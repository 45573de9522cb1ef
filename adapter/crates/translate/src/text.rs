//! Free text as suppliers send it.
//!
//! Text is never read as markup, with one exception: the small XML of a qualifier list, which is
//! read without entities and without declarations. Whatever cannot be read stays as it came.

/// `text` without blanks at its ends and with every line end as LF.
pub fn tidy(text: &str) -> String {
    let text = text.trim();
    if text.contains('\r') {
        text.replace("\r\n", "\n").replace('\r', "\n")
    } else {
        text.to_string()
    }
}

/// A UK postcode in capitals with one blank before its last three characters; text that is too
/// short or too long for one is only tidied.
pub fn postcode(text: &str) -> String {
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    if !(5..=7).contains(&letters.len()) || !text.is_ascii() {
        return tidy(text);
    }
    let letters = letters.to_ascii_uppercase();
    let (outward, inward) = letters.split_at(letters.len() - 3);
    format!("{outward} {inward}")
}

/// The items of a qualifier list, `<qualifier><item><key>…</key><value>…</value></item></qualifier>`,
/// as `key: value`. `None` when the text is not exactly of that shape.
pub fn qualifiers(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim();
    rest = open(rest, "qualifier")?.1.trim_start();
    let mut items = Vec::new();
    while let Some((_, inside)) = open(rest, "item") {
        let (key, inside) = leaf(inside.trim_start(), "key")?;
        let (value, inside) = leaf(inside.trim_start(), "value")?;
        rest = inside.trim_start().strip_prefix("</item>")?.trim_start();
        items.push(format!("{key}: {value}"));
    }
    (rest.strip_prefix("</qualifier>")?.trim().is_empty() && !items.is_empty()).then_some(items)
}

/// Reads `<name …>` and gives its attributes and what follows.
fn open<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let inside = text.strip_prefix('<')?.strip_prefix(name)?;
    let (attributes, rest) = inside.split_once('>')?;
    let named = attributes.is_empty() || attributes.starts_with(char::is_whitespace);
    (named && !attributes.contains('<') && !attributes.ends_with('/')).then_some((attributes, rest))
}

/// Reads `<name …>text</name>` and gives the text and what follows.
fn leaf<'a>(text: &'a str, name: &str) -> Option<(String, &'a str)> {
    let (_, inside) = open(text, name)?;
    let (content, rest) = inside.split_once('<')?;
    let rest = rest.strip_prefix('/')?.strip_prefix(name)?.strip_prefix('>')?;
    Some((unescape(content)?, rest))
}

/// Resolves the five names of XML; any other entity is refused.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, after) = after.split_once(';')?;
        out.push_str(before);
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn postcodes_get_their_blank() {
        for (text, expected) in [
            ("ZZ999AB", "ZZ99 9AB"),
            ("zz99 9cd", "ZZ99 9CD"),
            ("ABROAD LONG", "ABROAD LONG"),
            ("", ""),
        ] {
            assert_eq!(postcode(text), expected);
        }
    }

    #[test]
    fn qualifier_lists() {
        let text = r#"<qualifier><item><key codeId="0">Tool</key><value>A &amp; B</value></item></qualifier>"#;
        assert_eq!(qualifiers(text), Some(vec!["Tool: A & B".to_string()]));
        for odd in [
            "",
            "<qualifier>",
            "<qualifier></qualifier>",
            "plain",
            "<qualifier><item><key>x</key><",
        ] {
            assert_eq!(qualifiers(odd), None, "{odd}");
        }
        assert_eq!(
            qualifiers("<qualifier><item><key>&x;</key><value>1</value></item></qualifier>"),
            None
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r"[<>/&;a-z é]{0,60}") {
            let _ = (qualifiers(&text), postcode(&text), tidy(&text));
        }
    }
}
