//! The members of a JSON object that are strings, without reading what lies deeper.

/// What is looked for in a resource.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) resource_type: Option<String>,
    pub(super) id: Option<String>,
    pub(super) url: Option<String>,
    pub(super) version: Option<String>,
    pub(super) of_type: Option<String>,
    pub(super) kind: Option<String>,
}

/// Walks over the text of an object; `None` when it is none, or does not end. What lies deeper is
/// not looked at beyond its brackets and strings.
pub(super) fn read(text: &[u8]) -> Option<Head> {
    let mut head = Head::default();
    let mut depth = 0_usize;
    let mut name: Option<&[u8]> = None;
    let mut after_colon = false;
    let mut at = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if text.get(at..)?.starts_with(b"\xef\xbb\xbf") {
        at += 3;
        at += text.get(at..)?.iter().position(|byte| !byte.is_ascii_whitespace())?;
    }
    if text.get(at) != Some(&b'{') {
        return None;
    }
    loop {
        match text.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(head);
                }
            }
            b':' => after_colon = depth == 1,
            b',' => after_colon = false,
            b'"' => {
                let start = at + 1;
                at = end_of_string(text, start)?;
                if depth == 1 {
                    let string = text.get(start..at)?;
                    if !after_colon {
                        name = Some(string);
                    } else if let Some(name) = name.take() {
                        head.keep(name, string)?;
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The place of the quote that ends a string.
fn end_of_string(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

impl Head {
    /// The first of two members of one name counts; that there are two is told by whoever reads all.
    fn keep(&mut self, name: &[u8], string: &[u8]) -> Option<()> {
        let member = match name {
            b"resourceType" => &mut self.resource_type,
            b"id" => &mut self.id,
            b"url" => &mut self.url,
            b"version" => &mut self.version,
            b"type" => &mut self.of_type,
            b"kind" => &mut self.kind,
            _ => return Some(()),
        };
        if member.is_none() {
            *member = Some(plain(string)?);
        }
        Some(())
    }
}

fn plain(string: &[u8]) -> Option<String> {
    if !string.contains(&b'\\') {
        return String::from_utf8(string.to_vec()).ok();
    }
    let quoted = [b"\"", string, b"\""].concat();
    lumbar_fhir::Json::parse(&quoted).ok()?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_the_object_itself_are_read() {
        let text = br#" {"a":{"url":"no","b":["url",{"version":"no"}]},"resourceType":"ValueSet",
            "id":"v","url":"urn:\u0061","name":"version","version":"1","x":"}","kind":7,"type":"\\"}"#;
        let head = read(text).unwrap();
        assert_eq!(head.resource_type.as_deref(), Some("ValueSet"));
        assert_eq!((head.id.as_deref(), head.url.as_deref()), (Some("v"), Some("urn:a")));
        assert_eq!(head.version.as_deref(), Some("1"));
        assert_eq!((head.kind, head.of_type.as_deref()), (None, Some("\\")));
    }

    #[test]
    fn what_is_no_object_or_does_not_end_is_none() {
        for text in ["", "[]", "7", "{", r#"{"a":"#, r#"{"a":"b\"#, r#"{"a":"b\""#, "\u{feff}"] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read("\u{feff}{}".as_bytes()), Some(Head::default()));
    }
}
