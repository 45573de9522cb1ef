//! Rows and cells: <https://www.rfc-editor.org/rfc/rfc4180#section-2>.
//!
//! Stricter than most readers: a quote that opens and never closes, or text around a quoted cell,
//! is a fault, because a list that was cut must not pass for a complete one.

/// Adds one row with CRLF; only cells that need quotes get them.
pub(super) fn write_row(out: &mut String, cells: impl Iterator<Item = impl AsRef<str>>) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.push(',');
        }
        let cell = cell.as_ref();
        if cell.contains([',', '"', '\r', '\n']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push_str("\r\n");
}

/// The rows of a text; a fault ends them. Rows end with CRLF, LF or CR outside quotes.
pub(super) fn rows(text: &str) -> Rows<'_> {
    Rows { rest: text, is_over: false }
}

pub(super) struct Rows<'a> {
    rest: &'a str,
    is_over: bool,
}

impl Iterator for Rows<'_> {
    type Item = Result<Vec<String>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over || self.rest.is_empty() {
            return None;
        }
        let mut cells = Vec::new();
        loop {
            let cell = match self.cell() {
                Ok(cell) => cell,
                Err(fault) => {
                    self.is_over = true;
                    return Some(Err(fault));
                }
            };
            cells.push(cell);
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        self.rest = ["\r\n", "\n", "\r"]
            .iter()
            .find_map(|end| self.rest.strip_prefix(end))
            .unwrap_or(self.rest);
        Some(Ok(cells))
    }
}

impl Rows<'_> {
    fn cell(&mut self) -> Result<String, &'static str> {
        let Some(mut rest) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\r', '\n', '"']).unwrap_or(self.rest.len());
            let (cell, rest) = self.rest.split_at(end);
            if rest.starts_with('"') {
                return Err("A quote stands inside a cell that is not quoted.");
            }
            self.rest = rest;
            return Ok(cell.to_owned());
        };
        let mut cell = String::new();
        loop {
            let Some((part, after)) = rest.split_once('"') else {
                return Err("The list ends inside a quoted cell: it is cut off.");
            };
            cell.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => {
                    cell.push('"');
                    rest = after;
                }
                None if after.is_empty() || after.starts_with([',', '\r', '\n']) => {
                    self.rest = after;
                    return Ok(cell);
                }
                None => return Err("Text stands after the end of a quoted cell."),
            }
        }
    }
}
