//! Mapping tables: <https://build.fhir.org/ig/HL7/v2-to-fhir/mapping_guidelines.html>.
//!
//! One row says: from these source cells, when this condition holds, this value, read as this type,
//! goes to that element. The columns are `source,condition,value,target,type,min,comment`.
//! Condition and value are FHIRPath over the record. A literal without a condition that stands
//! under a labelled item is written only when something else stands there.

use super::convert::Convert;
use super::expression::Compiled;
use super::target::{Slots, Target};
use crate::record::{TableError, lines};

/// One row of a mapping table.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Source cells, `Column` or `join.Column`; issues point at the first.
    pub(crate) source: Vec<String>,
    pub(crate) condition: Option<Compiled>,
    pub(crate) value: Compiled,
    pub(crate) target: Target,
    /// The element path as written, for messages.
    pub(crate) path: String,
    pub(crate) convert: Convert,
    /// Without a value there is no resource.
    pub(crate) required: bool,
    /// A literal that waits for its labelled item.
    pub(crate) deferred: bool,
}

/// A mapping table.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) slots: usize,
}

impl Rules {
    /// Reads a mapping table.
    ///
    /// # Errors
    /// The first line that cannot be understood.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Rules, TableError> {
        let header = &["source", "condition", "value", "target", "type", "min", "comment"];
        let mut slots = Slots::default();
        let mut rules = Vec::new();
        for (line, [source, condition, value, target, convert, min, _]) in
            lines(name, text, header)?
        {
            let fault = |reason: String| TableError { table: name.into(), line, reason };
            let parse = |text: &str| {
                Compiled::parse(text).map_err(|error| fault(format!("\"{text}\": {error}")))
            };
            let condition = match condition.as_str() {
                "" => None,
                text => Some(parse(text)?),
            };
            let value = parse(&value)?;
            let path = target;
            let target = slots.parse(&path).map_err(fault)?;
            let literal = matches!(value, Compiled::Literal(_));
            rules.push(Rule {
                source: source.split_whitespace().map(str::to_string).collect(),
                deferred: literal && condition.is_none() && target.slot.is_some(),
                condition,
                value,
                target,
                path,
                convert: Convert::parse(&convert).map_err(fault)?,
                required: min == "1",
            });
        }
        Ok(Rules { rules, slots: slots.len() })
    }
}
