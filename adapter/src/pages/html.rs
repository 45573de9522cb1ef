//! Text as HTML: <https://html.spec.whatwg.org/#escapingString>.

use std::fmt;

/// A text that prints with `&`, `<`, `>` and quotes escaped, safe in content and in quoted
/// attributes.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut run = 0;
        for (index, byte) in self.0.bytes().enumerate() {
            let entity = match byte {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                b'\'' => "&#39;",
                _ => continue,
            };
            f.write_str(&self.0[run..index])?;
            f.write_str(entity)?;
            run = index + 1;
        }
        f.write_str(&self.0[run..])
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(Text("<a href='x'>&é\"").to_string(), "&lt;a href=&#39;x&#39;&gt;&amp;é&quot;");
    }
}
