//! The wire formats of FHIR: <https://hl7.org/fhir/R4/formats.html>.

pub mod json;
