//! Tokens of FHIRPath: <https://hl7.org/fhirpath/N1/#lexical-elements>.

use super::PathError;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name without quotes, keywords among them.
    Name,
    /// A name in backticks; the text is what stands between them, escapes as written.
    Delimited,
    /// A string; the text is what stands between the quotes, escapes as written.
    String,
    /// Digits only.
    Integer,
    /// Digits, a point, digits.
    Decimal,
    /// What follows `@`: a date, dateTime or `T` and a time.
    Temporal,
    /// What follows `%`, without quotes, escapes as written.
    Variable,
    /// What follows `$`.
    Special,
    /// An operator or bracket.
    Symbol,
    /// The end of the text.
    End,
}

/// One token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'t> {
    pub kind: Kind,
    pub text: &'t str,
    /// Where it begins and ends in the expression, in bytes.
    pub start: usize,
    pub end: usize,
}

/// Splits a text into tokens; the last one is always [`Kind::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, PathError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0 };
    let mut tokens = Vec::with_capacity(text.len() / 4 + 2);
    loop {
        let token = lexer.next()?;
        tokens.push(token);
        if token.kind == Kind::End {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
}

impl<'t> Lexer<'t> {
    fn next(&mut self) -> Result<Token<'t>, PathError> {
        self.blank()?;
        let start = self.at;
        let Some(&byte) = self.bytes.get(start) else {
            return Ok(self.token(Kind::End, start, start, start));
        };
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                self.name();
                Ok(self.token(Kind::Name, start, start, self.at))
            }
            b'0'..=b'9' => {
                self.digits();
                let mut kind = Kind::Integer;
                if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
                    self.at += 1;
                    self.digits();
                    kind = Kind::Decimal;
                }
                Ok(self.token(kind, start, start, self.at))
            }
            b'\'' => self.quoted(Kind::String, start),
            b'`' => self.quoted(Kind::Delimited, start),
            b'@' => {
                self.at += 1;
                self.temporal();
                Ok(self.token(Kind::Temporal, start, start + 1, self.at))
            }
            b'%' => {
                self.at += 1;
                if matches!(self.peek(0), b'`' | b'\'') {
                    return self.quoted(Kind::Variable, start);
                }
                self.named(Kind::Variable, start)
            }
            b'$' => {
                self.at += 1;
                self.named(Kind::Special, start)
            }
            b'<' | b'>' => self.symbol(1 + usize::from(self.peek(1) == b'=')),
            b'!' if matches!(self.peek(1), b'=' | b'~') => self.symbol(2),
            b'.' | b'[' | b']' | b'(' | b')' | b'{' | b'}' | b',' | b'+' | b'-' | b'*' | b'/'
            | b'&' | b'|' | b'=' | b'~' => self.symbol(1),
            _ => Err(PathError::at("this character has no meaning here", self.at)),
        }
    }

    /// White space and comments.
    fn blank(&mut self) -> Result<(), PathError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b' ' | b'\t' | b'\n' | b'\r', _) => self.at += 1,
                (b'/', b'/') => {
                    self.at += self.bytes[self.at..]
                        .iter()
                        .take_while(|byte| !matches!(byte, b'\n' | b'\r'))
                        .count();
                }
                (b'/', b'*') => match self.text[self.at..].find("*/") {
                    Some(length) => self.at += length + 2,
                    None => return Err(PathError::at("a comment is not closed", self.at)),
                },
                // A no-break space, as text copied from documents has it.
                (0xc2, 0xa0) => self.at += 2,
                _ => return Ok(()),
            }
        }
    }

    fn quoted(&mut self, kind: Kind, start: usize) -> Result<Token<'t>, PathError> {
        let quote = self.peek(0);
        self.at += 1;
        let from = self.at;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.at = (self.at + 1).min(self.bytes.len()),
                byte if byte == quote => return Ok(self.token(kind, start, from, self.at - 1)),
                _ => {}
            }
        }
        Err(PathError::at("a quote is not closed", start))
    }

    /// `YYYY[-MM[-DD]][T[time[zone]]]` or `Ttime`; what the digits mean is judged later.
    fn temporal(&mut self) {
        self.digits();
        while self.peek(0) == b'-' && self.peek(1).is_ascii_digit() {
            self.at += 1;
            self.digits();
        }
        let with_date = self.bytes[self.at - 1] != b'@';
        if self.peek(0) != b'T' {
            return;
        }
        self.at += 1;
        let time = self.at;
        self.digits();
        while matches!(self.peek(0), b':' | b'.') && self.peek(1).is_ascii_digit() {
            self.at += 1;
            self.digits();
        }
        if !with_date || self.at == time {
            return;
        }
        match self.peek(0) {
            b'Z' => self.at += 1,
            b'+' | b'-' if self.peek(1).is_ascii_digit() && self.peek(3) == b':' => {
                self.at += 4;
                self.digits();
            }
            _ => {}
        }
    }

    fn named(&mut self, kind: Kind, start: usize) -> Result<Token<'t>, PathError> {
        let from = self.at;
        self.name();
        if self.at == from {
            return Err(PathError::at("a name was expected", from));
        }
        Ok(self.token(kind, start, from, self.at))
    }

    fn symbol(&mut self, length: usize) -> Result<Token<'t>, PathError> {
        let start = self.at;
        self.at += length;
        Ok(self.token(Kind::Symbol, start, start, self.at))
    }

    fn token(&self, kind: Kind, start: usize, from: usize, to: usize) -> Token<'t> {
        Token { kind, text: self.text.get(from..to).unwrap_or_default(), start, end: self.at }
    }

    fn name(&mut self) {
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' {
            self.at += 1;
        }
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }
}

/// The text of a string or delimited name with its escapes resolved.
pub(crate) fn unescape(token: &Token) -> Result<String, PathError> {
    let fault = || PathError::at("an unknown escape stands in a string", token.start);
    let mut out = String::with_capacity(token.text.len());
    let mut rest = token.text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.chars().next().ok_or_else(fault)?;
        rest = &after[code.len_utf8()..];
        out.push(match code {
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = hex(rest).ok_or_else(fault)?;
                rest = &rest[4..];
                match unit {
                    // The other half of a character beyond the basic plane.
                    0xd800..=0xdbff => {
                        let low = rest.strip_prefix("\\u").and_then(hex).ok_or_else(fault)?;
                        rest = &rest[6..];
                        let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400);
                        let low = low.ok_or_else(fault)?;
                        char::from_u32(0x10000 + ((unit - 0xd800) << 10) + low)
                    }
                    _ => char::from_u32(unit),
                }
                .ok_or_else(fault)?
            }
            '\\' | '/' | '\'' | '"' | '`' => code,
            _ => return Err(fault()),
        });
    }
    out.push_str(rest);
    Ok(out)
}

fn hex(text: &str) -> Option<u32> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}
