//! JSON Pointer: <https://www.rfc-editor.org/rfc/rfc6901>.

use crate::Json;

/// A way into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// Reads a pointer; `None` when it is none.
    pub(super) fn parse(text: &str) -> Option<Pointer> {
        let tokens = match text.strip_prefix('/') {
            None if text.is_empty() => Vec::new(),
            None => return None,
            Some(rest) => rest.split('/').map(unescape).collect::<Option<_>>()?,
        };
        Some(Pointer { text: text.to_owned(), tokens })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// How deep it leads.
    pub(super) fn depth(&self) -> usize {
        self.tokens.len()
    }

    /// Whether `other` lies within the value that this one leads to.
    pub(super) fn contains(&self, other: &Pointer) -> bool {
        other.tokens.len() > self.tokens.len() && other.tokens.starts_with(&self.tokens)
    }

    /// The way to the value that holds the target, and the target's name in it; `None` for the
    /// whole tree.
    pub(super) fn split(&self) -> Option<(&[String], &str)> {
        self.tokens.split_last().map(|(last, before)| (before, last.as_str()))
    }

    /// The value that it leads to.
    pub(super) fn find<'t>(&self, tree: &'t Json) -> Option<&'t Json> {
        self.tokens.iter().try_fold(tree, |value, token| match value {
            Json::Object(object) => object.get(token),
            Json::Array(items) => items.get(index(token)?),
            _ => None,
        })
    }
}

/// The value that tokens lead to, for change.
pub(super) fn find_mut<'t>(tree: &'t mut Json, tokens: &[String]) -> Option<&'t mut Json> {
    tokens.iter().try_fold(tree, |value, token| match value {
        Json::Object(object) => object.get_mut(token),
        Json::Array(items) => items.get_mut(index(token)?),
        _ => None,
    })
}

/// An index of an array: digits without a leading zero.
pub(super) fn index(token: &str) -> Option<usize> {
    let is_index = token == "0"
        || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    is_index.then(|| token.parse().ok()).flatten()
}

fn unescape(token: &str) -> Option<String> {
    let mut out = String::with_capacity(token.len());
    let mut rest = token.chars();
    while let Some(character) = rest.next() {
        out.push(match character {
            '~' => match rest.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}
