//! Value sets that a site supplies, such as those of EQ-5D: one file, held against its schema.

use std::path::Path;

use lumbar_clinical::ValueSets;
use lumbar_fhir::Json;

use crate::rules::Rules;
use crate::schema;

/// Gives the instruments the value sets of a file; none without one. Returns them.
///
/// # Errors
/// A sentence that says what of the file cannot be used.
pub fn supply(rules: &mut Rules, path: Option<&Path>) -> Result<ValueSets, String> {
    let sets = path.map_or_else(|| Ok(ValueSets::default()), read)?;
    rules.instruments.iter_mut().for_each(|instrument| instrument.supply(&sets));
    Ok(sets)
}

fn read(path: &Path) -> Result<ValueSets, String> {
    let told =
        |fault: &str| format!("the value sets in {} cannot be used: {fault}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(&error.to_string()))?;
    if let Some(fault) = schema::faults("value-sets", &text).first() {
        return Err(told(fault));
    }
    let json = Json::parse(text.as_bytes()).map_err(|error| told(&error.to_string()))?;
    ValueSets::parse(&json).map_err(|issue| told(&issue.text))
}
