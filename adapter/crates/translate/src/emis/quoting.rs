//! Watches the quotes of a CSV stream: <https://www.rfc-editor.org/rfc/rfc4180>.
//!
//! CSV readers take a quoted field that never ends for a field that ends with the file, so a
//! truncated file looks whole. This one passes the bytes through and remembers where a quoted field
//! began that was not closed, or was followed by something else than a comma or a line end.

use std::io::{Error, Read, Result};

/// Longest record that is read, in bytes. The longest published column has 8,000 characters.
const MAX_RECORD: u64 = 8 << 20;

/// Where the quoting breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Offset of the opening quote.
    pub(super) at: u64,
    /// A sentence part.
    pub(super) reason: &'static str,
}

/// Passes bytes through.
pub(super) struct Quoting<R> {
    inner: R,
    state: State,
    offset: u64,
    record: u64,
    quote: u64,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    QuoteInQuoted,
}

impl<R> Quoting<R> {
    pub(super) fn new(inner: R) -> Self {
        Quoting { inner, state: State::FieldStart, offset: 0, record: 0, quote: 0, fault: None }
    }

    /// The first fault among the bytes that passed.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn watch(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = match (self.state, byte) {
                (State::Quoted, b'"') => State::QuoteInQuoted,
                (State::Quoted, _) => State::Quoted,
                (State::QuoteInQuoted, b'"') => State::Quoted,
                (State::FieldStart, b'"') => {
                    self.quote = self.offset;
                    State::Quoted
                }
                (_, b',') => State::FieldStart,
                (_, b'\r' | b'\n') => {
                    self.record = self.offset;
                    State::FieldStart
                }
                (State::QuoteInQuoted, _) => {
                    let reason = "something follows a closing quote";
                    self.fault.get_or_insert(Fault { at: self.quote, reason });
                    State::Plain
                }
                (State::FieldStart | State::Plain, _) => State::Plain,
            };
            self.offset += 1;
        }
    }
}

impl<R: Read> Read for Quoting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = self.inner.read(buffer)?;
        self.watch(buffer.get(..length).unwrap_or_default());
        if length == 0 && self.state == State::Quoted {
            let reason = "a quoted cell is not closed";
            self.fault.get_or_insert(Fault { at: self.quote, reason });
        }
        if self.offset - self.record > MAX_RECORD {
            return Err(Error::other("a row is longer than 8 MiB"));
        }
        Ok(length)
    }
}
