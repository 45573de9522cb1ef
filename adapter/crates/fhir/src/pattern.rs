//! Regular expressions that come with data, with what they cost: those of FHIRPath
//! (<https://hl7.org/fhirpath/N1/#string-manipulation>) and of Questionnaires. Look-around and
//! back-references are not known.
//!
//! To read one and to look through a text with it takes, at worst, time in proportion to the size
//! of the automaton that it becomes, and a few letters (`\w{99}`) can make a large one. So both
//! are told in steps before they are done.

use regex::{Regex, RegexBuilder};

/// Sizes of automata, in bytes; larger ones are refused.
const SIZES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// Longest regular expression.
const MAX_LENGTH: usize = 16 << 10;

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    size: u64,
}

impl Pattern {
    /// Reads a text, as `builder` has it. `work` takes the steps of the reading and may stop it;
    /// `None` for what cannot be understood, or is too large.
    pub fn read<E>(
        length: usize,
        builder: &mut RegexBuilder,
        mut work: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Option<Pattern>, E> {
        if length > MAX_LENGTH {
            return Ok(None);
        }
        for size in SIZES {
            work((size / 16 + length) as u64)?;
            if let Ok(regex) = builder.size_limit(size).dfa_size_limit(1 << 20).build() {
                return Ok(Some(Pattern { regex, size: size as u64 }));
            }
        }
        Ok(None)
    }

    /// The steps of looking through a text.
    pub fn steps(&self, text: &str) -> u64 {
        (text.len() as u64).saturating_mul(self.size / SIZES[0] as u64).saturating_add(1)
    }

    /// The expression itself.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}
