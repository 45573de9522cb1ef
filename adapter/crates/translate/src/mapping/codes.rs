//! Code translation: <https://hl7.org/fhir/R4/conceptmap.html>.
//!
//! A table `map,source,code,system,display,comment`: within a map, a source text stands for a code.
//! Texts are compared whole, without regard to case and to blanks at the ends, so that
//! "Non-urgent" is not "Urgent".

use std::collections::HashMap;

use lumbar_fhir::{Json, Object};

use crate::record::{TableError, lines};

/// All maps of a format.
#[derive(Debug, Default)]
pub struct Codes {
    maps: HashMap<String, HashMap<String, Translation>>,
}

/// What a source text stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The code.
    pub code: String,
    /// Its system; empty when the element needs none.
    pub system: String,
    /// Its display; empty when it has none.
    pub display: String,
}

impl Codes {
    /// Reads the table.
    ///
    /// # Errors
    /// The first line that cannot be understood, and a source text that stands twice in a map.
    pub fn parse(name: &str, text: &str) -> Result<Codes, TableError> {
        let mut codes = Codes::default();
        let header = &["map", "source", "code", "system", "display", "comment"];
        for (line, [map, source, code, system, display, _]) in lines(name, text, header)? {
            let old = codes
                .maps
                .entry(map)
                .or_default()
                .insert(source.to_lowercase(), Translation { code, system, display });
            if old.is_some() {
                let reason = format!("\"{source}\" stands twice");
                return Err(TableError { table: name.into(), line, reason });
            }
        }
        Ok(codes)
    }

    /// Whether there is a map of that name.
    pub fn has(&self, map: &str) -> bool {
        self.maps.contains_key(map)
    }

    /// What a text stands for in a map.
    pub fn translate(&self, map: &str, source: &str) -> Option<&Translation> {
        self.maps.get(map)?.get(&source.trim().to_lowercase())
    }
}

impl Translation {
    /// The code as a Coding.
    pub fn coding(&self) -> Json {
        let mut coding = Object::new();
        for (name, text) in
            [("system", &self.system), ("code", &self.code), ("display", &self.display)]
        {
            if !text.is_empty() {
                coding.set(name, text.as_str());
            }
        }
        Json::Object(coding)
    }
}
