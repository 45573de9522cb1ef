//! The wire formats of FHIR: <https://hl7.org/fhir/R4/formats.html>.

mod expression;
pub mod json;
pub mod position;
pub mod xml;

/// Line and column, in characters and from 1, of the place after the bytes `before`.
fn line_and_column(before: &[u8]) -> (usize, usize) {
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    let column = before[start..].iter().filter(|byte| (**byte as i8) >= -0x40).count() + 1;
    (line, column)
}
