//! JSON that is no FHIR, held against its schema in `profiles/schema`:
//! <https://json-schema.org/draft/2020-12>.

use serde_json::Value;

use crate::rules;

/// What a text breaks of a schema of `profiles/schema`, named without its ending; nothing if it is
/// valid.
pub fn faults(schema: &str, text: &str) -> Vec<String> {
    match serde_json::from_str(text) {
        Ok(value) => faults_of(schema, &value),
        Err(error) => vec![error.to_string()],
    }
}

/// The same of a value, each with its place in it.
pub fn faults_of(schema: &str, value: &Value) -> Vec<String> {
    told(schema, value, |error| error.to_string())
}

/// The same without telling what the value holds.
pub fn masked_faults_of(schema: &str, value: &Value) -> Vec<String> {
    told(schema, value, |error| error.masked().to_string())
}

fn told(
    schema: &str,
    value: &Value,
    tell: impl Fn(&jsonschema::ValidationError<'_>) -> String,
) -> Vec<String> {
    let validator = match validator(schema) {
        Ok(validator) => validator,
        Err(error) => return vec![format!("the schema {schema} cannot be used: {error}")],
    };
    let told = |error: jsonschema::ValidationError<'_>| {
        let (place, text) = (error.instance_path().to_string(), tell(&error));
        if place.is_empty() { text } else { format!("{place}: {text}") }
    };
    validator.iter_errors(value).map(told).collect()
}

fn validator(schema: &str) -> Result<jsonschema::Validator, String> {
    let text = rules::schema(schema).ok_or("there is none of that name")?;
    let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    jsonschema::validator_for(&schema).map_err(|error| error.to_string())
}
