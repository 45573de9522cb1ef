//! placeholder
use std::path::PathBuf;
use include_dir::Dir;
use lumbar_fhir::{Json, json};
use crate::app::App;
use crate::cli::Format;
use crate::facade::Error;
pub struct Converted { pub output: String, pub report: Json, pub fatal: bool }
pub struct Imported { pub report: Json, pub fatal: bool }
impl Imported { pub fn summary(&self) -> String { String::new() } }
pub fn read_files(_: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, String> { Ok(vec![]) }
pub fn convert(_: Format, _: Format, _: Vec<(String, Vec<u8>)>) -> Result<Converted, String> { Ok(Converted{output: String::new(), report: json!({}), fatal: false}) }
pub async fn import(_: &App, _: Format, _: &[PathBuf]) -> Result<Imported, String> { Err("no".into()) }
pub async fn import_embedded(_: &App, _: &str, _: &Dir<'_>, _: &str) -> Result<String, Error> { Ok("".into()) }
