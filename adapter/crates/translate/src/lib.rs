//! Other people's formats, both ways, with a report of every field.
//!
//! Bytes and rows in, values out: no files, no network, no clock, no randomness. What a format
//! means stands in tables under `profiles/mappings`; the readers here only take its grammar apart.

pub mod bars;
pub mod csv_list;
pub mod emis;
pub mod hl7v2;
pub mod identity;
pub mod local_time;
pub mod mapping;
mod profile;
pub mod record;
pub mod report;
pub mod text;
