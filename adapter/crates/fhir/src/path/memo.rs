//! Where a name leads, remembered from one evaluation to the next.
//!
//! An expression meets the same types again and again, so a step keeps the last type it met and
//! the element that its name meant there. A wrong guess costs one search, never a wrong result.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::definitions::{Definitions, Element, Type};

/// The last answer: the type's number and one, and the place of the element; 0 is none.
#[derive(Default)]
pub(crate) struct Memo(AtomicU64);

/// The place of an element that a type does not have.
const ABSENT: u64 = u32::MAX as u64;

impl Memo {
    /// The element `name` of a type.
    pub fn element<'a>(
        &self,
        definitions: &'a Definitions,
        kind: &'a Type,
        name: &str,
    ) -> Option<&'a Element> {
        let known = self.0.load(Ordering::Relaxed);
        if known >> 32 == u64::from(kind.index) + 1 {
            let (owner, place) = ((known >> 16) as u16, known as u16);
            match known & ABSENT {
                ABSENT => return None,
                _ => match definitions.element_at(owner, place) {
                    Some(element) if element.name == name => return Some(element),
                    _ => {}
                },
            }
        }
        let found = definitions.locate(kind, name);
        let place = found.map_or(ABSENT, |(owner, at)| u64::from(owner) << 16 | u64::from(at));
        self.0.store((u64::from(kind.index) + 1) << 32 | place, Ordering::Relaxed);
        found.and_then(|(owner, place)| definitions.element_at(owner, place))
    }

    /// The type `name`.
    pub fn kind<'a>(&self, definitions: &'a Definitions, name: &str) -> Option<&'a Type> {
        let known = self.0.load(Ordering::Relaxed);
        if let Some(index) = known.checked_sub(1).and_then(|index| u16::try_from(index).ok())
            && let Some(kind) = definitions.type_at(index).filter(|kind| kind.name == name)
        {
            return Some(kind);
        }
        let kind = definitions.type_of(name)?;
        self.0.store(u64::from(kind.index) + 1, Ordering::Relaxed);
        Some(kind)
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Memo(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// What is remembered is no part of an expression.
impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memo")
    }
}
